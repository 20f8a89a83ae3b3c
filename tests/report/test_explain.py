"""--diff --explain: the reasons stand above the hunks that they are for, and what is left without them is the diff for git."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ampify.convert import AppliedEdit, Result
from ampify.job import Outcome
from ampify.report import colour, diff
from tests.conftest import Ampify

ROOT = Path(__file__).parents[2]
LINES = [b"line %d\n" % n for n in range(1, 61)]
ESCAPE = re.compile(rb"\x1b\[\d+m")


def _edited(*numbers: int, **inserted: bytes) -> bytes:
    return b"".join(b"new\n" if n in numbers else inserted.get(f"at_{n}", b"") + line for n, line in enumerate(LINES, 1))


def _explained(new: bytes, *edits: tuple[int, int], old: bytes = b"".join(LINES)) -> list[list[int]]:
    """The lines of the edits that are named above each hunk, in the order of the hunks."""
    applied = tuple(AppliedEdit("AMP101", first, last, "does something") for first, last in edits)
    outcome = Outcome("x.py", old, Result("converted", new, applied))
    text = diff.render(outcome, explain=True)
    assert _without_reasons(text) == diff.render(outcome)
    found: list[list[int]] = [[]]
    for line in text.split(b"\n"):
        if line.startswith(b"#"):
            found[-1].append(int(re.match(rb"# AMP101 lines? (\d+)", line)[1]))  # type: ignore[index]
        elif line.startswith(b"@@"):
            found.append([])
    assert found.pop() == []
    return found


def _without_reasons(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))


def test_each_reason_is_above_its_hunk() -> None:
    assert _explained(_edited(5, 30, 31, 55), (5, 5), (30, 31), (31, 31), (55, 55)) == [[5], [30, 31], [55]]


def test_an_insertion_is_named_with_the_hunk_that_it_is_in() -> None:
    assert _explained(_edited(5, at_40=b"more\n"), (5, 5), (40, 40)) == [[5], [40]]


def test_of_an_edit_of_many_lines_what_counts_is_where_it_changes_any() -> None:
    assert _explained(_edited(5, 30), (5, 5), (9, 30)) == [[5], [9]]


def test_new_lines_are_not_counted_as_the_original_s() -> None:
    assert _explained(_edited(14, at_5=b"more\n" * 12), (5, 5), (14, 14)) == [[5], [14]]


def test_what_is_inserted_behind_the_last_line() -> None:
    assert _explained(_edited(5) + b"more\n", (5, 5), (61, 61)) == [[5], [61]]
    assert _explained(_edited(at_1=b"more\n"), (1, 1)) == [[1]]
    assert _explained(b"a\nb\n", (2, 2), old=b"a") == [[2]]


def test_lines_are_named_as_one_or_as_several() -> None:
    edits = (AppliedEdit("AMP101", 5, 5, "one\x1b[31m"), AppliedEdit("AMP210", 5, 7, "several"))
    text = diff.render(Outcome("x.py", b"".join(LINES), Result("converted", _edited(5, 7), edits)), explain=True)
    assert text.split(b"\n")[2:4] == [b"# AMP101 line 5: one\\x1b[31m", b"# AMP210 lines 5-7: several"]


def test_without_the_reasons_git_takes_it(ampify: Ampify, tmp_path: Path) -> None:
    script = (ROOT / "fixtures/readme/train.in.py").read_bytes()
    (tmp_path / "train.py").write_bytes(script)
    explained = ampify("--diff", "--explain", "train.py").stdout
    assert explained.count(b"\n# AMP") == 9
    assert explained != _without_reasons(explained) == ampify("--diff", "train.py").stdout
    refused = subprocess.run(["git", "apply"], input=explained, cwd=tmp_path, capture_output=True, check=False)
    assert refused.returncode, "with the reasons between the hunks git takes no more than the first of them"
    assert (tmp_path / "train.py").read_bytes() == script
    subprocess.run(["git", "apply"], input=_without_reasons(explained), cwd=tmp_path, check=True)
    assert (tmp_path / "train.py").read_bytes() == (ROOT / "fixtures/readme/train.out.py").read_bytes()


def test_the_runtime_beside_a_script_has_no_reasons(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    text = ampify("--diff", "--explain", "--runtime", "vendor", "train.py").stdout
    assert b"\n# AMP101 " in text.partition(b"--- /dev/null")[0]
    assert b"\n# AMP" not in text.partition(b"--- /dev/null")[2]


# colours --------------------------------------------------------------------------------------------------


def test_colours_are_there_if_asked_for(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    plain = ampify("--diff", "--explain", "train.py").stdout
    assert b"\x1b" not in plain
    coloured = ampify("--diff", "--explain", "--color", "always", "train.py", env={"NO_COLOR": "1"}).stdout
    assert ESCAPE.sub(b"", coloured) == plain
    assert b"\x1b[32m+from ampify_runtime import autocast, scaler\x1b[0m\n" in coloured
    assert b"\x1b[31m-    loss.backward()\x1b[0m\n" in coloured
    assert b"\x1b[36m@@ " in coloured
    assert b"\x1b[1m--- a/train.py\x1b[0m\n" in coloured
    assert b"# AMP102\x1b[0m" in coloured


def test_a_line_that_looks_like_a_header_is_none() -> None:
    text = ["--- a/x", "+++ b/x", "@@ -1,2 +1,2 @@", " one", "--- two", "+++ three", "\\ No newline at end of file", "--- a/y"]
    painted = [ESCAPE.match(line.encode()) for line in colour.paint(text)]
    assert [found and found[0].decode() for found in painted] == [
        *("\x1b[1m", "\x1b[1m", "\x1b[36m", None, "\x1b[31m", "\x1b[32m", None, "\x1b[1m"),
    ]


def test_what_is_taken_out_behind_what_is_put_in_is_no_header() -> None:
    text = ["@@ -1,2 +1,2 @@", "+one", "+two", "--- three", "--- four", "--- a/y", "@@ -1 +1 @@", "--- b", "+++ b", "+++ b/z"]
    painted = [ESCAPE.match(line.encode()) for line in colour.paint(text)]
    cyan, green, red, bold = "\x1b[36m", "\x1b[32m", "\x1b[31m", "\x1b[1m"
    assert [found and found[0].decode() for found in painted] == [cyan, green, green, red, red, bold, cyan, red, green, bold]


def _on_a_terminal(directory: Path, *arguments: str, **environment: str) -> bytes:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    program = "import sys; from ampify.cli import run; run()"
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=directory, stdout=theirs, stderr=subprocess.DEVNULL, env=environ
    ):
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(ours)
    return shown


@pytest.mark.parametrize(
    ("arguments", "environment", "coloured"),
    [
        ([], {}, True),
        (["--color", "never"], {}, False),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        ([], {"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_is_coloured_unless_somebody_says_no(
    tmp_path: Path, training_script: bytes, arguments: list[str], environment: dict[str, str], coloured: bool
) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    shown = _on_a_terminal(tmp_path, "--diff", *arguments, "train.py", **environment)
    assert b"scaler.scale(loss).backward()" in shown
    assert (b"\x1b[" in shown) == coloured


def test_what_is_coloured_is_harmless(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    hostile = training_script.replace(b"loss.backward()", b"loss.backward()  # \x1b[2J\xe2\x80\xae \xff".replace(b"\xff", b""))
    (tmp_path / "train.py").write_bytes(hostile)
    shown = ampify("--diff", "--color", "always", "train.py").stdout
    assert b"\\x1b[2J\\u202e" in shown
    assert b"\x1b" not in ESCAPE.sub(b"", shown)
