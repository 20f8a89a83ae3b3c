"""Findings on the command line: exit codes, formats, and codes that are left out."""

import json
from pathlib import Path

import pytest

from ampify.cli import main
from tests.doctor.idioms import PRELUDE, RIGHT

CLIPS = PRELUDE + RIGHT["clipping"].replace("    scaler.unscale_(optimizer)\n", "")
TWICE = PRELUDE + RIGHT["clipping"].replace(
    "scaler.unscale_(optimizer)\n", "scaler.unscale_(optimizer)\n    scaler.unscale_(optimizer)\n"
)
REGION = PRELUDE + RIGHT["on the CPU"].replace("    loss.backward()", "        loss.backward()")


def run(tmp_path: Path, text: str, *options: str) -> int:
    path = tmp_path / "train.py"
    path.write_text(text)
    return int(main([*options, "--isolated", str(path)]))


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (CLIPS, ("--check",), 1),
        (CLIPS, ("--check", "--skip", "AMP301"), 0),
        (CLIPS, ("--check", "--only", "AMP210"), 1),
        (CLIPS, ("--check", "--only", "AMP302"), 0),
        (TWICE, ("--check",), 1),  # an error that is only shown
        (TWICE, (), 0),
        (REGION, ("--check",), 0),  # a warning
        (PRELUDE + RIGHT["clipping"], ("--check",), 0),
    ],
)
def test_check_says_what_is_wrong(tmp_path: Path, text: str, options: tuple[str, ...], code: int) -> None:
    assert run(tmp_path, text, *options) == code


def test_a_mend_is_written(tmp_path: Path) -> None:
    assert run(tmp_path, CLIPS) == 0
    assert (tmp_path / "train.py").read_text() == PRELUDE + RIGHT["clipping"]


def test_people_read_the_consequence_and_the_mend(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, TWICE, "--check")
    line = TWICE.splitlines().index("    scaler.unscale_(optimizer)") + 2
    text = capfd.readouterr().err
    assert f"train.py:{line}:5: AMP302 gradients of `optimizer` are unscaled again" in text
    assert "\n  call `unscale_` once for each optimizer and step\n" in text


def test_programs_read_it_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, TWICE, "--check", "--format", "json")
    (file,) = json.loads(capfd.readouterr().out)["files"]
    (found,) = file["diagnostics"]
    assert (file["status"], found["code"], found["severity"]) == ("already", "AMP302", "error")


def test_information_is_for_those_who_ask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = PRELUDE + RIGHT["typical"] + "    scheduler.step()\n"
    assert run(tmp_path, text, "--check") == 0
    assert "AMP317" not in capfd.readouterr().err
    assert run(tmp_path, text, "--check", "-v") == 0
    assert "AMP317" in capfd.readouterr().err


def test_a_file_that_only_makes_the_scaler_is_looked_at(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (
        "import torch\nfrom engine import train_one_epoch\n\nmodel = torch.nn.Linear(4, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nscaler = torch.amp.GradScaler('cuda')\n"
        "train_one_epoch(model, optimizer, scaler)\n"
        "torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict()}, 'last.pt')\n"
    )
    assert run(tmp_path, text, "--check") == 1
    assert "AMP310" in capfd.readouterr().err
