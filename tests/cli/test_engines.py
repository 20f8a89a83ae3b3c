"""Training loops that get their model from the files that import them: what these hand over runs under autocast."""

from pathlib import Path

import pytest

from ampify.cli import main
from tests.scripts import run

ROOT = Path(__file__).resolve().parents[2]

ENGINE = """\
import torch.nn.functional as F


def train_one_epoch(model, optimizer, batches):
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())
"""
MODEL = """\
import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        scores = self.first(x)
        return self.last(scores.masked_fill(x > 1, -1e9).softmax(-1))
"""
TRAIN = """\
import torch
from engine import train_one_epoch
from model import Net


def main():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_one_epoch(model, optimizer, [(torch.randn(5, 4), torch.randint(0, 3, (5,))) for _ in range(4)])


if __name__ == "__main__":
    main()
"""
WHOLE = MODEL + TRAIN.replace("import torch\n", "").replace("from model import Net\n", "")
APP = "from engine import train_one_epoch\n\n\ndef launch(*given):\n    train_one_epoch(*given)\n"
BEHIND = TRAIN.replace("from engine import train_one_epoch", "from app import launch").replace("train_one_epoch(", "launch(")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(**sources: str) -> None:
    for name, source in sources.items():
        Path(f"{name}.py").write_text(source)


PROGRAMS = {
    "a model that the script imports": {"engine": ENGINE, "model": MODEL, "train": TRAIN},
    "a model of the script": {"engine": ENGINE, "train": WHOLE},
    "handed on by another file": {"engine": ENGINE, "model": MODEL, "app": APP, "train": BEHIND},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_is_rewritten_with_the_loop(name: str) -> None:
    put(**PROGRAMS[name])
    before = run("train.py", "off")
    assert main(["."]) == 0
    assert "torch.finfo" in Path("model.py" if "model" in PROGRAMS[name] else "train.py").read_text()
    assert run("train.py", "off") == run("train.py", "scale-only") == before
    run("train.py", "fp16")  # without, it dies of the constant
    assert main(["--check", "."]) == 0


def test_a_model_that_is_not_given_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    put(engine=ENGINE, model=MODEL, train=TRAIN)
    assert main(["engine.py", "train.py"]) == 3
    shown = capsys.readouterr().err
    assert "AMP925" in shown
    assert "model.py:12" in shown
    assert Path("engine.py").read_text() == ENGINE


def test_files_that_import_another_of_the_name_do_not_count() -> None:
    Path("apart").mkdir()
    Path("apart/engine.py").write_text("def train_one_epoch(*given): ...\n")
    Path("apart/model.py").write_text(MODEL)
    Path("apart/train.py").write_text(TRAIN)
    put(engine=ENGINE)
    assert main(["."]) == 0
    assert "scaler" in Path("engine.py").read_text()
    assert Path("apart/model.py").read_text() == MODEL
