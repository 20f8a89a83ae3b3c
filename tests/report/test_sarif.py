"""report.sarif: logs that the schema of SARIF takes, and whose fixes make the converted files."""

import json
from pathlib import Path
from typing import Any

import pytest

from ampify.convert import AppliedEdit, Result
from ampify.diagnostics import Diagnostic
from ampify.job import Outcome
from ampify.report import sarif
from tests.conftest import TRAINING_SCRIPT, Ampify
from tests.report import logs

ROOT = Path(__file__).parents[2]
SCHEMA = logs.SCHEMAS / "sarif-2.1.0-rtm.5.json"
EDIT = AppliedEdit("AMP102", 3, 3, "scales the loss")

OLD = "import torch\n" + "".join(f"line {n}\n" for n in range(40)) + "end = 1\n"
NEW = OLD.replace("line 5\n", "line five\n    more\n").replace("line 30\n", "").replace("line 38\n", "line 38\nbehind\n")
CODING = "# -*- coding: {} -*-\n"
CONTENTS: dict[str, tuple[bytes, bytes]] = {
    "plain": (OLD.encode(), NEW.encode()),
    "crlf": (OLD.replace("\n", "\r\n").encode(), NEW.replace("\n", "\r\n").encode()),
    "lone cr": (OLD.replace("\n", "\r").encode(), NEW.replace("\n", "\r").encode()),
    "mixed newlines": (OLD.replace("line 4\n", "line 4\r\n").encode(), NEW.replace("line 4\n", "line 4\r\n").encode()),
    "form feed and others": (
        OLD.replace("line", "\x0c\x1c\x85\u2028").encode(),
        NEW.replace("line", "\x0c\x1c\x85\u2028").encode(),
    ),
    "beyond the basic plane": (OLD.replace("line", "𝕏é").encode(), NEW.replace("line", "𝕏é").encode()),
    "byte order mark": (b"\xef\xbb\xbf" + OLD.encode(), b"\xef\xbb\xbf# new\n" + NEW.encode()),
    "latin-1": tuple((CODING.format("latin-1") + text.replace("line", "é")).encode("latin-1") for text in (OLD, NEW)),  # type: ignore[dict-item]
    "shift_jis": tuple((CODING.format("shift_jis") + text.replace("line", "線")).encode("shift_jis") for text in (OLD, NEW)),  # type: ignore[dict-item]
    "no final newline": (OLD.rstrip().encode(), NEW.rstrip().encode()),
    "final newline gained": (OLD.rstrip().encode(), OLD.encode()),
    "appended": (OLD.encode(), OLD.encode() + b"more\n"),
    "in front": (OLD.encode(), b"more\n" + OLD.encode()),
}


def _log(*outcomes: Outcome, done: bool = False) -> Any:
    log = json.loads(b"".join(sarif.render(outcomes, done=done)))
    logs.check(log, SCHEMA)
    return log


@pytest.mark.parametrize("content", CONTENTS)
def test_fixes_make_the_new_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = CONTENTS[content]
    Path("a x%é.py").write_bytes(old)
    log = _log(Outcome("a x%é.py", old, Result("converted", new, (EDIT,))))
    assert log["runs"][0]["artifacts"][0]["location"]["uri"] == "a%20x%25%C3%A9.py"
    logs.apply(log, tmp_path)
    assert Path("a x%é.py").read_bytes() == new


@pytest.mark.parametrize(
    "name", ["a:b.py", "não/ü.py", "\udcff.py", "quo'te\".py", "a#b?c.py", "new\nline.py", "../up.py", "<stdin>"]
)
def test_names_are_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    location = _log(Outcome(name, b"a\n", Result("converted", b"b\n", (EDIT,))))["runs"][0]["artifacts"][0]["location"]
    assert location["uri"].isascii()
    assert logs.place(location, tmp_path / "here").resolve() == (tmp_path / "here" / name).resolve()


def test_every_severity_place_and_remedy() -> None:
    said = tuple(Diagnostic("AMP905", s, 2, 5, "see [a](b)", "do this") for s in ("error", "warning", "info"))
    found = logs.results(_log(Outcome("<stdin>", b"one\n  two\n", Result("refused", b"", (), said))))
    assert [each["level"] for each in found] == ["error", "warning", "note"]
    assert found[0]["message"]["text"] == "see \\[a\\](b)\ndo this"
    assert found[0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2, "startColumn": 5}
    assert len({each["partialFingerprints"]["codeAndLine/v1"] for each in found}) == 3


def test_columns_are_characters(ampify: Ampify) -> None:
    script = TRAINING_SCRIPT.replace("loss.backward()", "é = '𝕏é'; loss.backward(create_graph=True)")
    (found,) = logs.results(json.loads(ampify("--check", "--format", "sarif", "-", stdin=script.encode()).stdout))
    region = found["locations"][0]["physicalLocation"]["region"]
    assert script.splitlines()[region["startLine"] - 1][region["startColumn"] - 1 :] == "loss.backward(create_graph=True)"
    (found,) = logs.results(json.loads(ampify("--check", "--format", "sarif", "-", stdin="é = '𝕏é'; x = (1 2".encode()).stdout))
    assert found["ruleId"] == "AMP992"
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


def test_a_mark_stays_when_lines_move() -> None:
    def mark(source: bytes, line: int) -> str:
        told = Diagnostic("AMP905", "error", line, 1, "a reason")
        return str(logs.results(_log(Outcome("x.py", source, Result("refused", b"", (), (told,)))))[0]["partialFingerprints"])

    assert mark(b"a\nb\n", 2) == mark(b"# new\na\n    b\n", 3) != mark(b"a\nc\n", 2)


def test_what_is_written_is_information_without_fixes() -> None:
    (found,) = logs.results(_log(Outcome("x.py", b"a\n", Result("converted", b"b\n", (EDIT,))), done=True))
    assert (found["level"], found["kind"]) == ("none", "informational")
    assert "fixes" not in found


def test_an_edit_behind_the_last_line_is_at_that() -> None:
    (found,) = logs.results(_log(Outcome("x.py", b"a\n", Result("converted", b"a\nb\n", (EDIT,)))))
    assert found["locations"][0]["physicalLocation"]["region"] == {"startLine": 1, "endLine": 1}


def test_a_failure_of_ampify_itself_is_told() -> None:
    bug = Diagnostic("AMP999", "error", 1, 1, "ampify failed")
    log = _log(Outcome("gone.py", b"", Result("error", b"", (), (bug,), bug=True)))
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": False}]


def test_files_that_need_each_other_are_one_fix(ampify: Ampify, tmp_path: Path) -> None:
    script = TRAINING_SCRIPT.replace("import torch\n", "import torch\nfrom masks import hide\n", 1)
    (tmp_path / "train.py").write_text(script.replace("F.mse_loss(model(x), y)", "F.mse_loss(hide(model(x), y), y)"))
    (tmp_path / "masks.py").write_text(
        "import torch\n\n\ndef hide(scores, mask):\n    return scores.masked_fill(mask == 0, -1e9)\n"
    )
    (tmp_path / "alone.py").write_text(TRAINING_SCRIPT)
    log = json.loads(ampify("--check", "--format", "sarif", ".").stdout)
    touched = [[change["artifactLocation"]["uri"] for change in fix["artifactChanges"]] for fix in logs.fixes(log)]
    assert touched == [["alone.py"], ["masks.py", "train.py"]]


@pytest.mark.parametrize("runtime", ["import", "vendor", "torch"])
def test_the_fixes_of_the_fixtures_are_what_ampify_writes(ampify: Ampify, tmp_path: Path, runtime: str) -> None:
    for way in ("fixed", "written"):
        (tmp_path / way).mkdir()
        for family in ("basic", "checkpoints", "readme", "misuse", "refused"):
            for script in sorted((ROOT / "fixtures" / family).glob("*.in.py")):
                target = tmp_path / way / family / script.name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(script.read_bytes())
    arguments = ("--format", "sarif", "--runtime", runtime, ".")
    done = ampify("--check", *arguments, cwd=tmp_path / "fixed")
    log = json.loads(done.stdout)
    logs.check(log, SCHEMA)
    logs.apply(log, tmp_path / "fixed")
    written = ampify(*arguments, cwd=tmp_path / "written")
    logs.check(json.loads(written.stdout), SCHEMA)
    assert done.returncode == written.returncode == 3
    trees = [
        {p.relative_to(tmp_path / way): p.read_bytes() for p in (tmp_path / way).rglob("*.py")} for way in ("fixed", "written")
    ]
    assert trees[0] == trees[1]
    assert any("ampify_runtime.py" in path.name for path in trees[0]) == (runtime == "vendor")
    codes = {result["ruleId"] for result in logs.results(log)}
    assert {"AMP101", "AMP102", "AMP104"} <= codes
    assert len(codes) > 20
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    for result in logs.results(log):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert all(rule["help"]["text"] for rule in rules)
