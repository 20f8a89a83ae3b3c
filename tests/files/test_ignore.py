"""ignore: random patterns, read by us and by git.

Left out, because pathspec reads them otherwise, and nobody writes them: two asterisks next to anything but a slash
(`a**`, to git sometimes `a/**`); a bracket that holds a slash, a backslash or a class (`[[:alpha:]]`), or that is negated
where a slash could be (`[!a]` matches one); and `?` for a character of several bytes, of which it matches one to git, and
all to pathspec. The other known difference takes two files: below a directory that a nested .gitignore brings back by
name, what a farther one ignores by name is kept.
"""

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from ampify import project

PIECES = ["a", "b", "ab", "*", "?", "/", "/", "/**/", "[ab]", "[a-c]", "[]a]", "\\*"]
ENDINGS = ["", "", ".py", "*.py", "/", "//", "/**", " ", "[", "\\"]
DIFFERS = re.compile(r"[^/!]\*\*|\*\*[^/]")
NAMES = [
    *(
        "a.py",
        "b.py",
        "ab.py",
        "abc.py",
        "a/a.py",
        "a/b.py",
        "a/b/a.py",
        "a/b/ab.py",
        "b/a.py",
        "b/a/b/c.py",
        "ab/a/b.py",
    ),
    *("c/a.py", "c/c/a.py", "*/a.py", "]/a.py", "a b/a.py", "-/a.py", "ab/c/b.py"),
]


def _pattern(chance: random.Random) -> str:
    while True:
        body = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 5)))
        pattern = body + chance.choice(ENDINGS)
        if not DIFFERS.search(pattern):
            return chance.choice(["", "", "", "!"]) + pattern


@pytest.mark.parametrize("seed", range(30))
def test_random_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    for name in NAMES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for _ in range(4):
        patterns = [_pattern(chance) for _ in range(chance.randint(1, 6))]
        Path(".gitignore").write_text("\n".join(patterns))
        listed = subprocess.run(
            ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
        )
        expected = {name for name in os.fsdecode(listed.stdout).split("\0") if name.endswith(".py")}
        assert {path for path, _ in project.discover(["."])} == expected, patterns
