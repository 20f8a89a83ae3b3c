"""Scripts whose models are in other files: what is rewritten there, and what a script is refused for."""

import json
from pathlib import Path

import pytest

from ampify.cli import main

SCRIPT = """\
import torch
from net.attention import Attention

model = Attention(8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, mask in loader:
    loss = model(x, mask).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
MODEL = """\
import torch
from torch import nn
from .masks import hide


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x, mask):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return torch.softmax(hide(q @ k.transpose(-2, -1), mask), dim=-1) @ v
"""
MASKS = """\
import torch


def hide(scores, mask):
    return scores.masked_fill(mask == 0, -1e9)


def unused(scores, mask):
    return scores.masked_fill(mask == 0, -1e9)
"""
LIMIT = "max(-1e9, torch.finfo(scores.dtype).min)"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net").mkdir()
    Path("net/__init__.py").touch()
    Path("net/attention.py").write_text(MODEL)
    Path("net/masks.py").write_text(MASKS)
    Path("train.py").write_text(SCRIPT)
    return tmp_path


@pytest.mark.parametrize("paths", [["."], ["net", "train.py"], ["train.py", "net/masks.py"], ["net/masks.py", "train.py"]])
def test_all_files_that_need_it_are_rewritten(paths: list[str]) -> None:
    assert main(paths) == 0
    assert Path("train.py").read_text() != SCRIPT
    assert Path("net/attention.py").read_text() == MODEL
    assert Path("net/masks.py").read_text() == MASKS.replace("-1e9", LIMIT, 1)
    written = {path: path.read_bytes() for path in Path().rglob("*.py")}
    assert main(paths) == 0
    assert {path: path.read_bytes() for path in Path().rglob("*.py")} == written


def test_a_script_alone_is_refused_and_told_what_to_give(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train.py"]) == 3
    assert Path("train.py").read_text() == SCRIPT
    assert Path("net/masks.py").read_text() == MASKS
    said = capfd.readouterr().err
    assert "AMP925" in said
    assert "net/masks.py:5: AMP210" in said.replace("\\", "/")
    assert "give that file too" in said


def test_a_file_given_but_refused_refuses_the_script(capfd: pytest.CaptureFixture[str]) -> None:
    Path("net/masks.py").write_bytes(MASKS.replace("\n", "\r").encode())
    assert main(["train.py", "net/masks.py"]) == 3
    assert Path("train.py").read_text() == SCRIPT
    assert "AMP920" in capfd.readouterr().err


def test_nothing_is_written_when_only_asked(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--format", "json", "."]) == 1
    report = json.loads(capfd.readouterr().out)
    statuses = {Path(entry["path"]).as_posix(): entry["status"] for entry in report["files"]}
    assert statuses == {
        "train.py": "converted",
        "net/masks.py": "converted",
        "net/attention.py": "unchanged",
        "net/__init__.py": "unchanged",
    }
    assert Path("net/masks.py").read_text() == MASKS


def test_models_that_no_script_here_trains_are_left_alone() -> None:
    Path("train.py").unlink()
    assert main(["."]) == 0
    assert Path("net/masks.py").read_text() == MASKS


def test_the_rule_can_be_switched_off() -> None:
    assert main(["--skip", "AMP210", "train.py"]) == 0
    assert Path("train.py").read_text() != SCRIPT


DISCRIMINATOR = """\
from torch import nn


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())

    def forward(self, x):
        return self.net(x)
"""
GAN = """\
import torch
from torch import nn
from net.discriminator import Discriminator

model = Discriminator()
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters())
for x, y in loader:
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("runtime", ["import", "vendor"])
def test_the_sigmoid_of_a_loss_in_another_file(runtime: str) -> None:
    Path("net/discriminator.py").write_text(DISCRIMINATOR)
    Path("train.py").write_text(GAN)
    assert main(["--runtime", runtime, "."]) == 0
    assert "full_precision(criterion)\n" in Path("train.py").read_text()
    written = Path("net/discriminator.py").read_text()
    assert "from ampify_runtime import full_precision\n" in written
    assert "        full_precision(self.net[-1])\n" in written
    assert Path("ampify_runtime.py").exists() is (runtime == "vendor")
    assert not Path("net/ampify_runtime.py").exists()
    assert main(["--runtime", runtime, "."]) == 0
    assert Path("net/discriminator.py").read_text() == written


def test_a_sigmoid_that_no_loss_takes_is_left_alone() -> None:
    Path("net/discriminator.py").write_text(DISCRIMINATOR)
    Path("train.py").write_text(GAN.replace("nn.BCELoss()", "nn.MSELoss()"))
    assert main(["."]) == 0
    assert Path("net/discriminator.py").read_text() == DISCRIMINATOR


def test_a_model_without_a_sigmoid_in_sight_refuses_the_loss(capfd: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text(GAN.replace("net.discriminator", "somewhere"))
    assert main(["."]) == 3
    assert "AMP905" in capfd.readouterr().err


def test_files_that_import_each_other_or_are_broken() -> None:
    Path("net/attention.py").write_text("from net import masks, broken\nfrom train import model\n" + MODEL)
    Path("net/broken.py").write_text("import torch\nthis is no Python\n")
    assert main(["net", "train.py"]) == 3  # for the broken one
    assert Path("train.py").read_text() != SCRIPT
    assert LIMIT in Path("net/masks.py").read_text()


def test_a_slight_hazard_in_a_file_not_given_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    noise = MASKS.replace("scores.masked_fill(mask == 0, -1e9)", "scores + torch.randn_like(scores)", 1)
    Path("net/masks.py").write_text(noise)
    assert main(["train.py"]) == 0
    assert Path("net/masks.py").read_text() == noise
    said = capfd.readouterr().err.replace("\\", "/")
    assert "train.py:1:1: AMP232" in said
    assert "net/masks.py:5:" in said


def test_a_model_that_trains_itself_is_rewritten_for_both() -> None:
    """Its own conversion would leave the sigmoid alone, which the other script's loss needs in float32."""
    Path("net/masks.py").write_text("")
    own = DISCRIMINATOR + GAN.replace("from net.discriminator import Discriminator\n", "").replace("nn.BCELoss()", "nn.MSELoss()")
    Path("net/discriminator.py").write_text(own)
    Path("train.py").write_text(GAN)
    assert main(["net", "train.py"]) == 0
    assert "full_precision(self.net[-1])" in Path("net/discriminator.py").read_text()
    assert "full_precision(criterion)" in Path("train.py").read_text()


def test_a_model_with_a_demonstration_of_its_own(project: Path) -> None:
    body = "scores = torch.randn(2, 2, requires_grad=True)\n    hide(scores, scores).sum().backward()\n"
    demonstration = f'\n\nif __name__ == "__main__":\n    {body}'
    Path("net/masks.py").write_text(MASKS + demonstration)
    assert main(["train.py", "net"]) == 0
    text = Path("net/masks.py").read_text()
    assert LIMIT in text
    assert text.endswith("hide(scores, scores).sum().backward()\n")


HANDED = {
    "a backward": "def add(loss, optimizer):\n    go = loss.backward\n    go(retain_graph=True)\n",
    "a step": "def add(loss, optimizer):\n    run(optimizer.step)\n\n\ndef run(step):\n    step()\n",
    "of an instance": "class Add:\n    def __init__(self, optimizer):\n        self.go = optimizer.step\n\n\nadd = Add\n",
}


@pytest.mark.parametrize("name", HANDED)
def test_a_part_of_the_step_that_another_file_hands_on_refuses_the_script(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("more.py").write_text(HANDED[name])
    step = "    add(loss, optimizer)\n    optimizer.step()\n"
    script = SCRIPT.replace("    optimizer.step()\n", step).replace("import torch\n", "import torch\nfrom more import add\n")
    Path("train.py").write_text(script)
    assert main(["."]) == 3
    assert Path("train.py").read_text() == script
    assert "is called under another name (more.py:" in capfd.readouterr().err


def test_another_step_of_the_optimizers_own_in_an_imported_file_is_fine() -> None:
    """As torch's own schedules set it: the scaler runs the new one."""
    Path("more.py").write_text("def counted(optimizer, count):\n    optimizer.step = count(optimizer.step)\n")
    Path("train.py").write_text(SCRIPT.replace("import torch\n", "import torch\nfrom more import counted\n"))
    assert main(["."]) == 0
    assert "scaler.step(optimizer)" in Path("train.py").read_text()
