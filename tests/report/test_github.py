"""report.github: commands that a runner reads back as they were meant, whatever is in names and messages."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ampify.convert import AppliedEdit, Result
from ampify.diagnostics import Diagnostic
from ampify.job import Outcome
from ampify.report import github
from tests.conftest import Ampify

COMMAND = re.compile(r"::(error|warning|notice) ([^\r\n]*?)::([^\r\n]*)")


def _read(report: bytes) -> tuple[list[tuple[str, dict[str, str], str]], list[str]]:
    """What a runner makes of the lines: commands with their properties and messages, and lines that are none."""
    commands, plain = [], []
    for line in report.decode("utf-8", "surrogateescape").rstrip("\n").split("\n"):
        if not line.startswith("::"):
            plain.append(line)
            continue
        found = COMMAND.fullmatch(line)
        assert found, line
        properties = dict(pair.split("=", 1) for pair in found[2].split(","))
        commands.append((found[1], {k: _unescaped(v) for k, v in properties.items()}, _unescaped(found[3])))
    return commands, plain


def _unescaped(text: str) -> str:
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text


def _render(*outcomes: Outcome, done: bool = False) -> bytes:
    return b"".join(github.render(outcomes, done=done))


def _converted(path: str, lines: Sequence[tuple[int, int]], message: str = "does something") -> Outcome:
    edits = tuple(AppliedEdit(f"AMP10{n}", first, last, message) for n, (first, last) in enumerate(lines, 1))
    return Outcome(path, b"", Result("converted", b"", edits))


def test_edits_that_stand_together_share_an_annotation() -> None:
    commands, plain = _read(_render(_converted("train.py", [(3, 3), (10, 14), (12, 12), (17, 17), (21, 21)])))
    assert [(level, p["line"], p["endLine"], p["title"]) for level, p, _ in commands] == [
        ("notice", "3", "3", "would convert: AMP101"),
        ("notice", "10", "17", "would convert: AMP102, AMP103, AMP104"),
        ("notice", "21", "21", "would convert: AMP105"),
    ]
    assert commands[1][2].splitlines() == [
        f"line {n}: {c} does something" for n, c in ((10, "AMP102"), (12, "AMP103"), (17, "AMP104"))
    ]
    assert {p["file"] for _, p, _ in commands} == {os.path.abspath("train.py")}
    assert plain == ["ampify: 1 file would be converted."]


def test_severities_are_levels() -> None:
    found = tuple(Diagnostic("AMP901", s, 4, 9, "a reason", "a remedy") for s in ("error", "warning", "info"))
    commands, plain = _read(_render(Outcome("x.py", b"", Result("refused", b"", (), found)), done=True))
    assert [(level, message) for level, _, message in commands] == [
        (level, "a reason\na remedy") for level in ("error", "warning", "notice")
    ]
    assert commands[0][1] == {"file": os.path.abspath("x.py"), "line": "4", "endLine": "4", "title": "AMP901"}
    assert plain == ["ampify: 1 file refused."]


HOSTILE = [
    "100%0A::error::x",
    "a:b,c=d.py",
    "new\nline::set-output name=x::y",
    "\r\n::stop-commands::",
    "é\u2028\u202e.py",
    "\x1b[31m.py",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_names_and_messages_stay_in_their_place(text: str) -> None:
    outcome = Outcome(text, b"", Result("refused", b"", (), (Diagnostic("AMP901", "error", 1, 1, text, text),)))
    report = _render(outcome, _converted(text, [(1, 1)], text))
    assert report.count(b"\n") == 3
    commands, plain = _read(report)
    assert len(commands) == 2
    assert len(plain) == 1
    for _, properties, message in commands:
        assert properties["file"] == os.path.abspath(text.replace("\x1b", "\\x1b").replace("\u2028\u202e", "\\u2028\\u202e"))
        assert "\x1b" not in message
        assert "\u202e" not in message


def test_a_name_that_is_no_text_keeps_its_bytes() -> None:
    assert b"\xff.py,line" in _render(_converted("\udcff.py", [(1, 1)]))


def test_the_command(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    (tmp_path / "broken.py").write_bytes(b"this is no Python\n")
    done = ampify("--check", "--format", "github", ".")
    assert (done.returncode, done.stderr) == (3, b"")
    commands, plain = _read(done.stdout)
    assert {os.path.basename(p["file"]): level for level, p, _ in commands} == {"train.py": "notice", "broken.py": "error"}
    assert plain == ["ampify: 1 file would be converted, 1 file would fail."]
    assert (tmp_path / "train.py").read_bytes() == training_script
    done = ampify("--format", "github", "train.py")
    assert done.returncode == 0
    assert _read(done.stdout)[1] == ["ampify: 1 file converted."]
    assert b"autocast" in (tmp_path / "train.py").read_bytes()
