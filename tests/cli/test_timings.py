"""--timings: where the time of a run went."""

import json
import re
from pathlib import Path

import pytest

from ampify import Options, convert
from ampify.cli import main
from ampify.clock import STAGES, Clock


def test_nothing_is_measured_unless_asked_for(training_script: bytes) -> None:
    assert convert(training_script).timings == ()


def test_every_stage_of_a_conversion_has_its_time(training_script: bytes) -> None:
    measured = dict(convert(training_script, Options(timings=True)).timings)
    assert set(measured) == set(STAGES) - {"others"}
    assert all(seconds > 0 for seconds in measured.values())


def test_an_untouched_file_is_only_read(plain_script: bytes) -> None:
    assert [stage for stage, _ in convert(plain_script, Options(timings=True)).timings] == ["read"]


def test_laps_of_one_stage_add_up() -> None:
    clock = Clock()
    for stage in ("plan", "rules", "plan"):
        clock.lap(stage)
    assert [stage for stage, _ in clock.timings()] == ["plan", "rules"]


def test_the_stages_are_told_to_people(
    tmp_path: Path, training_script: bytes, plain_script: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    (tmp_path / "plain.py").write_bytes(plain_script)
    assert main(["--diff", "--timings", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "looked into" not in said.out
    rows = re.findall(r"^(\S.*?) +(\d+\.\d) +(\d+)%$", said.err, re.M)
    assert len(rows) == len(STAGES) - 1
    assert 97 <= sum(int(share) for *_, share in rows) <= 103
    work = float(re.findall(r"^1 file looked into: (\d+\.\d) ms of work", said.err, re.M)[0])
    assert work == pytest.approx(sum(float(ms) for _, ms, _ in rows), abs=0.4)


def test_a_report_for_programs_stays_whole(tmp_path: Path, training_script: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.py").write_bytes(training_script)
    main(["--check", "--format", "json", "--timings", str(tmp_path)])
    said = capsys.readouterr()
    assert json.loads(said.out)["summary"]
    assert "looked into" in said.err
