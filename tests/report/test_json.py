"""report.json: every report is of the shape that the schema in the package says, and the schema lets no other pass."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ampify.convert import AppliedEdit, Result
from ampify.diagnostics import Diagnostic
from ampify.job import Outcome
from ampify.report import json as report
from tests.conftest import Ampify
from tests.report import logs

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "ampify/report/json.schema.json"


def _checked(text: bytes) -> Any:
    document = json.loads(text)
    logs.check(document, SCHEMA)
    return document


@pytest.mark.parametrize("family", ["basic", "hazards", "misuse", "migration", "noop", "already", "refused", "reported"])
def test_what_becomes_of_the_fixtures(ampify: Ampify, family: str) -> None:
    done = ampify("--check", "--format", "json", f"fixtures/{family}", cwd=ROOT)
    document = _checked(done.stdout)
    assert document["summary"]["files"] == len(document["files"]) > 0
    assert document["summary"]["edits"] == sum(len(file["edits"]) for file in document["files"])
    statuses = [file["status"] for file in document["files"]]
    assert all(
        document["summary"][status] == statuses.count(status) for status in ("converted", "already", "unchanged", "refused")
    )


def test_a_command_that_writes(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    (tmp_path / "broken.py").write_bytes(b"this is no Python\n")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    for arguments in (["--runtime", "vendor", "."], ["missing.py", "."], ["-v", "train.py"]):
        _checked(ampify("--format", "json", *arguments).stdout)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert _checked(ampify("--format", "json", "empty").stdout)["files"] == []
    assert _checked(ampify("--check", "--format", "json", "-", stdin=training_script).stdout)["summary"]["converted"] == 1


def test_names_that_are_no_text() -> None:
    told = (Diagnostic("AMP999", "error", 1, 1, "failed", "report it"),)
    outcome = Outcome("\udcff\n.py", b"", Result("error", b"", (), told, bug=True))
    assert _checked(b"".join(report.render([outcome], done=False)))["files"][0]["path"] == "\udcff\n.py"


def _document() -> Any:
    edit, told = AppliedEdit("AMP101", 2, 3, "does"), Diagnostic("AMP191", "info", 1, 1, "says")
    return json.loads(b"".join(report.render([Outcome("x.py", b"", Result("converted", b"", (edit,), (told,)))], done=True)))


WRONG = {
    "another version": lambda d: d.update(version=2),
    "no summary": lambda d: d.pop("summary"),
    "a status that is none": lambda d: d["files"][0].update(status="skipped"),
    "a key too many": lambda d: d["files"][0].update(reason="x"),
    "a summary of other things": lambda d: d["summary"].update(skipped=0),
    "a negative count": lambda d: d["summary"].update(edits=-1),
    "a line 0": lambda d: d["files"][0]["edits"][0].update(line=0),
    "a code that is none": lambda d: d["files"][0]["edits"][0].update(code="E501"),
    "converted without edits": lambda d: d["files"][0].update(edits=[]),
    "refused with edits": lambda d: d["files"][0].update(status="refused"),
    "refused without a reason": lambda d: d["files"][0].update(status="refused", edits=[]),
    "a severity that is none": lambda d: d["files"][0]["diagnostics"][0].update(severity="fatal"),
}


@pytest.mark.parametrize("how", WRONG)
def test_the_schema_finds_what_is_wrong(how: str) -> None:
    document = _document()
    logs.check(document, SCHEMA)
    WRONG[how](document)
    with pytest.raises(jsonschema.ValidationError):
        logs.check(document, SCHEMA)
