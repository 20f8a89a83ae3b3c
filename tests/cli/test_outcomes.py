"""Exit codes and their precedence, and the text about each kind of outcome; the conversions are made up."""

from pathlib import Path
from typing import NamedTuple

import pytest

from ampify import job, project
from ampify.cli import main
from ampify.convert import AppliedEdit, Options, Result
from ampify.diagnostics import Diagnostic


def _file(kind: str) -> str:
    """A file with what makes ampify look for a training step."""
    return f"# backward {kind}\n"


REFUSAL = Diagnostic("AMP901", "error", 41, 8, "a reason", "a remedy")
MISTAKE = Diagnostic("AMP301", "error", 3, 1, "a mistake")
HINT = Diagnostic("AMP302", "warning", 4, 1, "a hint")
FAILURE = Diagnostic("AMP999", "error", 1, 1, "the proof failed")


def _convert(source: bytes, options: Options = Options(), *_: object) -> Result:
    """What the file's contents ask for."""
    edit = AppliedEdit("AMP101", 2, 3, "the forward pass runs under autocast")
    match source.decode().split()[-1]:
        case "converted":
            return Result("converted", b"output\n", (edit,))
        case "refused":
            return Result("refused", source, (), (REFUSAL,))
        case "mistake":
            return Result("already", source, (), (MISTAKE,))
        case "hint":
            return Result("already", source, (), (HINT,))
        case "error":
            return Result("error", source, (), (Diagnostic("AMP980", "error", 2, 5, "does not parse"),))
        case "bug":
            return Result("refused", source, (), (FAILURE,), bug=True)
        case "raise":
            raise RuntimeError("unforeseen\x1b[31m")
        case _:
            return Result("unchanged", source)


@pytest.fixture(autouse=True)
def _made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "convert", _convert)
    monkeypatch.chdir(tmp_path)
    for kind in ("converted", "refused", "mistake", "hint", "error", "bug", "raise", "unchanged"):
        Path(f"{kind}.py").write_text(_file(kind))


class Case(NamedTuple):
    kinds: str
    plain: int
    check: int
    allow_refused: int
    check_allow_refused: int


CASES = [
    Case("unchanged", 0, 0, 0, 0),
    Case("hint", 0, 0, 0, 0),
    Case("mistake", 0, 1, 0, 1),
    Case("converted", 0, 1, 0, 1),
    Case("refused", 3, 3, 0, 0),
    Case("error", 3, 3, 3, 3),
    Case("missing", 3, 3, 3, 3),
    Case("bug", 123, 123, 123, 123),
    Case("raise", 123, 123, 123, 123),
    Case("converted refused", 3, 3, 0, 1),
    Case("refused converted unchanged", 3, 3, 0, 1),
    Case("converted error refused", 3, 3, 3, 3),
    Case("error bug converted", 123, 123, 123, 123),
    Case("raise missing refused", 123, 123, 123, 123),
]


@pytest.mark.parametrize("report", [[], ["--format", "json"], ["--format", "github"], ["--format", "sarif"], ["-q"], ["-v"]])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kinds.replace(" ", "-"))
def test_exit_codes(case: Case, report: list[str]) -> None:
    paths = [*report, *(f"{kind}.py" for kind in case.kinds.split())]
    # --check first: it writes nothing.
    assert main(["--check", *paths]) == case.check
    assert main(["--check", "--allow-refused", *paths]) == case.check_allow_refused
    if "--format" not in report:
        assert main(["--diff", *paths]) == case.plain
        assert main(["--diff", "--check", *paths]) == case.check
    assert Path("converted.py").read_text() == _file("converted")
    assert main([*paths]) == case.plain
    Path("converted.py").write_text(_file("converted"))
    assert main(["--allow-refused", *paths]) == case.allow_refused


def test_one_bad_file_never_stops_the_others() -> None:
    Path("last.py").write_text(_file("converted"))
    assert main(["raise.py", "missing.py", "error.py", "refused.py", "bug.py", "last.py"]) == 123
    assert Path("last.py").read_text() == "output\n"


def test_the_lines_about_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    main(["converted.py", "refused.py", "mistake.py", "error.py", "missing.py", "unchanged.py", "bug.py"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "converted converted.py: 1 edit",
        "refused.py:41:8: AMP901 a reason",
        "  a remedy",
        "mistake.py:3:1: AMP301 a mistake",
        "error.py:2:5: AMP980 does not parse",
        "missing.py: AMP990 cannot be read: No such file or directory",
        "bug.py: AMP999 the proof failed",
        "1 file converted, 1 file already in mixed precision, 1 file left unchanged, 2 files refused, 2 files failed.",
    ]


def test_quiet_keeps_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    main(["-q", "converted.py", "refused.py", "mistake.py", "error.py", "unchanged.py", "bug.py"])
    assert capsys.readouterr().err.splitlines() == [
        "error.py:2:5: AMP980 does not parse",
        "bug.py: AMP999 the proof failed",
    ]


def test_an_exception_is_one_line_to_report_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raise.py"]) == 123
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("raise.py: AMP999 ampify itself failed; please report this: RuntimeError: unforeseen\\x1b[31m")
    assert Path("raise.py").read_text() == _file("raise")


def test_a_mistake_of_the_command_line_itself_is_123_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(project, "run", broken)
    assert main(["unchanged.py"]) == 123
    assert capsys.readouterr().err.startswith("ampify: ampify itself failed; please report this: RuntimeError")


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(source: bytes, *_: object) -> Result:
        if source == _file("unchanged").encode():
            raise KeyboardInterrupt
        return _convert(source)

    monkeypatch.setattr(job, "convert", interrupted)
    assert main(["converted.py", "unchanged.py", "refused.py"]) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert Path("converted.py").read_text() == "output\n"


@pytest.mark.parametrize(
    ("source", "code", "echoed"),
    [
        (b"converted\n", 0, b"output\n"),
        (b"unchanged\n", 0, b"unchanged\n"),
        (b"refused\n", 3, b"refused\n"),
        (b"error\n", 3, b""),
        (b"bug\n", 123, b"bug\n"),
        (b"raise\n", 123, b""),
    ],
)
def test_what_standard_input_gives(
    source: bytes, code: int, echoed: bytes, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from ampify.report import streams

    monkeypatch.setattr(streams, "read_input", lambda: source)
    assert main(["-"]) == code
    assert capfdbinary.readouterr().out == echoed


def test_a_file_that_changes_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def slow(source: bytes, *_: object) -> Result:
        if source == _file("converted").encode():
            Path("converted.py").write_text("edited meanwhile\n")
        return _convert(source)

    monkeypatch.setattr(job, "convert", slow)
    assert main(["converted.py", "unchanged.py"]) == 3
    assert Path("converted.py").read_text() == "edited meanwhile\n"
    assert capsys.readouterr().err.splitlines() == [
        "converted.py: AMP993 it changed while ampify was working on it, so it was left as it is: run ampify again",
        "1 file left unchanged, 1 file failed.",
    ]
