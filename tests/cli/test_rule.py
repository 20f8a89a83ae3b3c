"""`ampify rule`: the manual on the command line, and its overview among the rules."""

from pathlib import Path

import pytest

from ampify import manual
from ampify.cli import main
from ampify.diagnostics import EDITS, NOTES, PRAGMAS, REFUSALS
from ampify.doctor.pages import PAGES
from ampify.plan.rules import RULES

OVERVIEW = Path(__file__).parents[2] / "ampify" / "plan" / "rules" / "README.md"
PARTS = ("What it finds:", "Why it matters:", "Before", "After", "Safety:", "Source:")


def test_the_overview_is_current() -> None:
    assert OVERVIEW.read_text() == manual.overview(), "python -m ampify.manual > ampify/plan/rules/README.md"


@pytest.mark.parametrize("code", [*PAGES, *(rule.code for rule in RULES)])
def test_every_rule_has_a_whole_page(code: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", code]) == 0
    text = capfd.readouterr().out
    assert text.startswith(code)
    places = [text.find(part) for part in PARTS if part in text or part not in ("Before", "After")]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("code", [*EDITS, *NOTES, *PRAGMAS, *REFUSALS])
def test_every_other_code_has_a_page(code: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", code.lower()]) == 0
    assert capfd.readouterr().out.startswith(code)


@pytest.mark.parametrize("code", REFUSALS)
def test_every_refusal_teaches(code: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", code]) == 0
    text = capfd.readouterr().out
    parts = ("What was seen:", "Why it is left alone:", "What helps:", "Before, refused:", "After, converted:", "Source:")
    changed = [part for part in parts if part in text or "By hand:" not in text]
    places = [text.find(part) for part in changed]
    assert -1 not in places
    assert places == sorted(places)
    assert all(len(line) <= 110 for line in text.splitlines())


def test_the_list_has_all_codes_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rule"]) == 0
    codes = [line.split()[0] for line in capfd.readouterr().out.splitlines()]
    assert sorted(codes) == sorted([*EDITS, *NOTES, *PRAGMAS, *REFUSALS, *PAGES, *(rule.code for rule in RULES)])


def test_an_unknown_code_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["rule", "AMP000"]) == 2
    assert "`ampify rule` lists all codes" in capfd.readouterr().err


def test_a_file_called_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rule").write_text("x = 1\n")
    assert main(["./rule"]) == 0
    assert "1 file left unchanged" in capfd.readouterr().err


def test_choosing_rules(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text("x = 1\n")
    assert main(["--skip", "AMP210", str(script)]) == 0
    assert main(["--only", "AMP101", str(script)]) == 2
    assert "AMP101 is none of the rules that can be chosen" in capfd.readouterr().err
