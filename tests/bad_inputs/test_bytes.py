"""Files whose bytes are unusual: converted with every other byte kept, or left alone with one clear line."""

from pathlib import Path

import pytest

from ampify.convert import convert
from tests.conftest import TRAINING_SCRIPT, Ampify

SCRIPT = TRAINING_SCRIPT.encode()

CONVERTED = {
    "byte order mark": b"\xef\xbb\xbf" + SCRIPT,
    "latin-1 cookie": b"# coding: latin-1\n# caf\xe9\n" + SCRIPT,
    "cp1252 cookie": b"# -*- coding: cp1252 -*-\nprice = '\x80'\n" + SCRIPT,
    "cookie behind a shebang": b"#!/usr/bin/env python\n# coding: latin-1\nname = '\xe9'\n" + SCRIPT,
    "crlf": SCRIPT.replace(b"\n", b"\r\n"),
    "no final newline": SCRIPT.rstrip(b"\n"),
    "form feed": b"x = 1\n\x0c\n" + SCRIPT,
    "tabs": SCRIPT.replace(b"    ", b"\t"),
    "tabs and crlf": SCRIPT.replace(b"    ", b"\t").replace(b"\n", b"\r\n"),
    "two spaces": SCRIPT.replace(b"    ", b"  "),
    "spaces at the end": SCRIPT + b"    ",
    "a tab at the end": SCRIPT + b"\t",
    "a tab, then spaces": SCRIPT + b"if 1:\n\tif 2:\n\t    z = 1\n",
    "spaces, then a tab": SCRIPT + b"if 1:\n        if 2:\n        \tz = 1\n",
    "a comment out of line": SCRIPT + b"if 1:\n\tz = 1\n        # here\n\ty = 2\n",
    "a megabyte": SCRIPT + b"# long\n" * 150_000,
    "a long list": SCRIPT + b"numbers = [" + b"1, " * 100_000 + b"]\n",
}

# What is wrong with the file is said, and what is a training step stays as it is.
LEFT_ALONE = {
    "carriage returns only": SCRIPT.replace(b"\n", b"\r"),
    "bad utf-8": SCRIPT + b"# caf\xe9\n",
    "unknown cookie": b"# coding: klingon\n" + SCRIPT,
    "utf-16": SCRIPT.decode().encode("utf-16"),
    "nul": SCRIPT + b"\x00",
    "conflict markers": b"<<<<<<< ours\n" + SCRIPT + b"=======\n>>>>>>> theirs\n",
    "python 2": b"print 'hello'\n" + SCRIPT,
    "newer syntax": b"lazy import json\n" + SCRIPT,  # of Python 3.15
    "tabs in a block of spaces": SCRIPT.replace(b"    loss.backward()", b"\tloss.backward()"),
    "a form feed in the indentation": SCRIPT + b"if 1:\n\x0c    z = 1\n    y = 2\n",  # libcst reads it otherwise
    "a carriage return in a string": SCRIPT + b"z = 'a\\\rb'\n",
    "magics": b"%matplotlib inline\n!ls\n" + SCRIPT,
    "3,000 parentheses": SCRIPT + b"x = " + b"(" * 3000 + b")" * 3000 + b"\n",
    "3,000 strings": SCRIPT + b"x = (\n" + b"'a' +\n" * 3000 + b"'')\n",  # Python itself does not compile it
}

# No training step: nothing to say, whatever the bytes.
UNTOUCHED = {
    "empty": b"",
    "one newline": b"\n",
    "byte order mark only": b"\xef\xbb\xbf",
    "comment without newline": b"# torch backward step",
    "spaces at the end": b"x = 1\n    ",
    "one megabyte": b"x = 1\n" * 170_000,
    "1,500 elifs": b"import torch\nif x == 0:\n    pass\n" + b"".join(b"elif x == %d:\n    pass\n" % n for n in range(1500)),
}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A healthy script that is named last: it is converted whatever comes before it."""
    path = tmp_path / "zz.py"
    path.write_bytes(SCRIPT)
    return path


@pytest.mark.parametrize("case", CONVERTED)
def test_converted_with_every_other_byte_kept(ampify: Ampify, tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(CONVERTED[case])
    done = ampify("x.py")
    assert done.returncode == 0, done.stderr
    after = path.read_bytes()
    assert b"ampify_runtime" in after
    newline = b"\r\n" if b"\r\n" in CONVERTED[case] else b"\n"
    # Every line that was not part of an edit is there still, in its order; indentation may grow under `with`.
    rest = iter(line.strip(b" \t") for line in after.split(newline))
    kept = [line for line in CONVERTED[case].split(newline) if b"backward" not in line and b"step" not in line]
    assert all(line.strip(b" \t") in rest for line in kept)
    assert after.count(b"\n") == after.count(newline)
    assert after.endswith(b"\n") == CONVERTED[case].endswith(b"\n")
    assert ampify("--check", "x.py").returncode == 0


@pytest.mark.parametrize("line", range(1, SCRIPT.count(b"\n") + 1))
def test_one_line_that_ends_otherwise(line: int) -> None:
    """With mixed line ends every line that is not edited keeps its own."""
    lines = SCRIPT.splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"\n", b"\r\n")
    result = convert(b"".join(lines))
    if result.status != "converted":
        assert [d.code for d in result.diagnostics] == ["AMP920"]
        return
    ends = {text.strip(): text.endswith(b"\r\n") for text in result.output.splitlines(keepends=True)}
    for text in lines:
        assert ends.get(text.strip(), text.endswith(b"\r\n")) == text.endswith(b"\r\n")


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone_with_one_clear_line(ampify: Ampify, tmp_path: Path, other: Path, case: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(LEFT_ALONE[case])
    done = ampify("x.py", "zz.py")
    assert done.returncode == 3
    first, *rest = done.stderr.decode().splitlines()
    assert first.startswith("x.py:")
    assert " AMP9" in first
    assert len(first) < 300
    assert "Traceback" not in done.stderr.decode()
    assert next(line for line in rest if not line.startswith("  ")).startswith("converted zz.py")
    assert path.read_bytes() == LEFT_ALONE[case]
    assert other.read_bytes() != SCRIPT


@pytest.mark.parametrize("case", UNTOUCHED)
def test_untouched_without_a_word(ampify: Ampify, tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(UNTOUCHED[case])
    done = ampify("x.py")
    assert (done.returncode, done.stderr) == (0, b"1 file left unchanged.\n")
    assert path.read_bytes() == UNTOUCHED[case]


def test_warnings_of_the_compiler_are_not_passed_on(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes(SCRIPT + b"if loss is 1:\n    print('\\d')\nassert (loss, 'always true')\n")
    done = ampify("x.py")
    assert done.returncode == 0
    assert b"Warning" not in done.stderr
