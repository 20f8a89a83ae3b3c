"""Checkpoints that are saved or loaded in another file than the optimizer steps in: the scaler's state is in them too."""

import json
from pathlib import Path
from typing import Any

import pytest

from ampify.cli import main
from tests import scripts

ROOT = Path(__file__).resolve().parents[2]

HEAD = "import os\n\nimport torch\nfrom torch import nn\nIMPORTS\ntorch.manual_seed(0)\nmodel = nn.Linear(4, 3)\n"
HEAD += "optimizer = torch.optim.Adam(model.parameters(), lr=0.1)\n"
LOOP = "for _ in range(3):\n    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))\n    optimizer.zero_grad()\n"
LOOP += "    loss = nn.functional.cross_entropy(model(x), y)\n    loss.backward()\n    optimizer.step()\n    print(loss.item())\n"
RESUME = 'if os.path.exists("last.pt"):\n'


def script(imports: str, load: str, save: str, loop: str = LOOP) -> str:
    """A training script that resumes where it can, and saves in the end."""
    return HEAD.replace("IMPORTS", imports) + RESUME + "".join(f"    {line}\n" for line in load.split("\n")) + loop + save + "\n"


HELPERS = """\
import torch


def save(model, optimizer, path):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)


def load(model, optimizer, path):
    checkpoint = torch.load(path, map_location=None if path != "" else "cpu")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
"""
CALLS = ('load(model, optimizer, "last.pt")', 'save(model, optimizer, "last.pt")')
STATES = "import torch\n\n\ndef save_checkpoint(state, path):\n    torch.save(state, path)\n\n\n"
STATES += "def load_checkpoint(path):\n    return torch.load(path)\n"
TAKEN = 'checkpoint = load_checkpoint("last.pt")\nmodel.load_state_dict(checkpoint["model"])\n'
TAKEN += 'optimizer.load_state_dict(checkpoint["optimizer"])'
GIVEN = 'save_checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")'
KEYWORDS = STATES.replace("state, path):\n    ", "path, **state):\n    ")
BASE = """\
import torch


class Base:
    def __init__(self, model, optimizer):
        self.model = model
        self.optimizer = optimizer

    def save(self, path):
        self.state = {"model": self.model.state_dict()}
        self.state["optimizer"] = self.optimizer.state_dict()
        torch.save(self.state, path)

    def resume(self, path):
        self.state = torch.load(path)
        self.model.load_state_dict(self.state["model"])
        self.optimizer.load_state_dict(self.state["optimizer"])
"""
TRAINER = (
    "from torch import nn\n\n\nclass Trainer(Base):\n    def epoch(self):\n"
    + "".join(f"        {line}\n" for line in LOOP.splitlines())
    .replace("optimizer.", "self.optimizer.")
    .replace("model(", "self.model(")
    + "\n\n"
)
ENGINE = "from torch import nn\n\n\ndef epoch(model, optimizer, batches):\n    for x, y in batches:\n"
ENGINE += "".join(f"    {line}\n" for line in LOOP.splitlines()[2:])
EPOCH = "epoch(model, optimizer, [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(3)])\n"
MANAGER = """\
import torch


class Checkpoints:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.parts = {}

    def gather(self):
        return dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict())

    def save(self, path):
        self.parts = self.gather()
        torch.save(self.parts, path)

    def load(self, path):
        self.parts = torch.load(path)
        self.model.load_state_dict(self.parts["model"])
        self.optimizer.load_state_dict(self.parts.get("optimizer"))
"""

PROGRAMS = {
    "helpers that get the optimizer": {"saving": HELPERS, "train": script("from saving import load, save\n", *CALLS)},
    "a module of helpers": {"saving": HELPERS, "train": script("import saving\n", *(f"saving.{call}" for call in CALLS))},
    "helpers that get the dict": {
        "saving": STATES,
        "train": script("from saving import load_checkpoint, save_checkpoint\n", TAKEN, GIVEN),
    },
    "a helper that gets keywords": {
        "saving": KEYWORDS,
        "train": script(
            "from saving import load_checkpoint, save_checkpoint\n",
            TAKEN,
            'save_checkpoint("last.pt", model=model.state_dict(), optimizer=optimizer.state_dict())',
        ),
    },
    "a base class": {
        "base": BASE,
        "train": "from base import Base\n"
        + TRAINER
        + script(
            "", "pass", 'trainer.save("last.pt")', 'trainer = Trainer(model, optimizer)\nif os.path.exists("last.pt"):\n'
            '    trainer.resume("last.pt")\ntrainer.epoch()\n'
        ),
    },
    "the script, where another file steps": {
        "engine": ENGINE,
        "saving": STATES,
        "train": script("from engine import epoch\nfrom saving import load_checkpoint, save_checkpoint\n", TAKEN, GIVEN, EPOCH),
    },
    "one file, where another steps": {
        "engine": ENGINE,
        "saving": HELPERS,
        "train": script("from engine import epoch\nfrom saving import load, save\n", *CALLS, EPOCH),
    },
    "an object that keeps the optimizer": {
        "saving": MANAGER,
        "train": script(
            "from saving import Checkpoints\n",
            'Checkpoints(model, optimizer).load("last.pt")',
            'Checkpoints(model, optimizer).save("last.pt")',
        ),
    },
    "one file that saves, and another that loads": {
        "saving": HELPERS.partition("\n\n\ndef load")[0] + "\n",
        "loading": "import torch\n\n\ndef load" + HELPERS.partition("def load")[2],
        "train": script("from loading import load\nfrom saving import save\n", *CALLS),
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(sources: dict[str, str]) -> None:
    for name, source in sources.items():
        Path(f"{name}.py").write_text(source)


def run(mode: str = "off", scale: int = 1024, fresh: bool = True, times: int = 2) -> str:
    """What a script prints that is run `times` times, without a checkpoint at first where it begins afresh."""
    if fresh:
        Path("last.pt").unlink(missing_ok=True)
    return scripts.run("train.py", mode, scale, times)


def saved() -> dict[str, Any]:
    import torch

    found = torch.load("last.pt")
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_scalers_state_is_saved_and_loaded(name: str) -> None:
    put(PROGRAMS[name])
    before = run(times=1) + run(fresh=False, times=1)
    old = Path("last.pt").read_bytes()
    resumed = run(fresh=False, times=1)
    assert main(["."]) == 0
    assert main(["--check", "."]) == 0
    assert run() == before
    assert saved()["scaler"] == {}
    assert run("scale-only") == before
    assert saved()["scaler"]["scale"] == 1024.0
    run("scale-only", 2048, fresh=False, times=1)
    assert saved()["scaler"]["scale"] == 1024.0  # as it was loaded
    Path("last.pt").write_bytes(old)
    assert run("scale-only", fresh=False, times=1) == resumed


ELSEWHERE = [name for name in PROGRAMS if not name.startswith(("helpers that get the dict", "a helper that gets", "the script"))]


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if not name.startswith("one file, where")])
def test_a_script_alone_says_which_file_to_give(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(PROGRAMS[name])
    others = [f"{part}.py" for part in PROGRAMS[name] if part != "train"]
    assert main(["train.py"]) == 0
    shown = capsys.readouterr().err
    for other in others:
        assert f"in {other}:" in shown
        assert Path(other).read_text() == PROGRAMS[name][other.removesuffix(".py")]
    assert shown.count("AMP196 an optimizer's state is") == len(others)
    assert main(["train.py"]) == 0
    assert "AMP196" not in capsys.readouterr().err
    assert main(["train.py", *others]) == 0  # later is not too late
    assert all("scaler" in Path(other).read_text() for other in others)
    assert main(["--check", "."]) == 0


def test_bfloat16_needs_no_state_of_a_scaler(capsys: pytest.CaptureFixture[str]) -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    assert main(["--dtype", "bf16", "train.py"]) == 0
    assert "AMP19" not in capsys.readouterr().err


def test_the_key_is_that_of_no_file_of_the_program() -> None:
    """Somebody else's "scaler" is in the checkpoint already, by way of a file that saves nothing."""
    statistics = 'def statistics():\n    return {"scaler": [0.0, 1.0]}\n'
    helpers = HELPERS.replace("optimizer, path):\n    torch.save({", "optimizer, path, more):\n    torch.save({**more, ")
    train = script("from saving import load, save\nfrom statistic import statistics\n", *CALLS).replace(
        '"last.pt")\n', '"last.pt", statistics())\n'
    )
    train = train.replace('load(model, optimizer, "last.pt", statistics())', CALLS[0])
    put({"saving": helpers, "statistic": statistics, "train": train})
    before = run()
    assert main(["."]) == 0
    assert run("scale-only") == before
    assert saved()["scaler"] == [0.0, 1.0]
    assert saved()["grad_scaler"]["scale"] == 1024.0
    assert main(["--check", "."]) == 0


def test_all_files_use_the_key_that_one_has_already() -> None:
    put(PROGRAMS["one file that saves, and another that loads"])
    assert main(["train.py", "saving.py"]) == 0
    Path("saving.py").write_text(Path("saving.py").read_text().replace('"scaler":', '"amp_scaler":'))
    assert main(["."]) == 0
    assert 'checkpoint.get("amp_scaler", {})' in Path("loading.py").read_text()
    assert main(["--check", "."]) == 0


GOING_THROUGH = {
    "where it is saved": STATES.replace(
        "    torch.save(state, path)\n",
        "    with open(path, 'wb') as f:\n        torch.save([*state.items()], f)\n",
    ).replace("torch.load(path)", "dict(torch.load(path))"),
    "where it is loaded": STATES.replace(
        "    return torch.load(path)\n", "    return counted(torch.load(path))\n"
    )
    + "\n\ndef counted(state):\n    assert len(state) == 2\n    return state\n",
}  # fmt: skip


@pytest.mark.parametrize("name", GOING_THROUGH)
@pytest.mark.parametrize("steps", ["in the script", "in another file"])
def test_a_checkpoint_whose_keys_another_file_goes_through_gets_none(
    name: str, steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    imports = "from saving import load_checkpoint, save_checkpoint\n"
    if steps == "in the script":
        put({"saving": GOING_THROUGH[name], "train": script(imports, TAKEN, GIVEN)})
    else:
        train = script("from engine import epoch\n" + imports, TAKEN, GIVEN, EPOCH)
        put({"saving": GOING_THROUGH[name], "engine": ENGINE, "train": train})
    before = run()
    assert main(["."]) == 0
    shown = capsys.readouterr().err
    assert "AMP194" in shown
    assert "the keys of a checkpoint are gone through" in shown
    assert run("scale-only") == before
    assert "scaler" not in Path("saving.py").read_text()
    assert "scaler.state_dict" not in Path("train.py").read_text()


def test_what_is_saved_alone_elsewhere_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    alone = "import torch\n\n\ndef save(optimizer):\n    torch.save(optimizer.state_dict(), 'o.pt')\n"
    put({"saving": alone, "train": script("from saving import save\n", "pass", "save(optimizer)")})
    assert main(["--format", "json", "--check", "."]) == 1
    files = {f["path"]: f for f in json.loads(capsys.readouterr().out)["files"]}
    assert files["saving.py"]["status"] == "unchanged"
    (note,) = files["train.py"]["diagnostics"]
    assert note["code"] == "AMP194"
    assert note["message"].startswith("an optimizer's state is saved without the scaler's (saving.py:5): ")


def test_where_nothing_trains_nothing_is_saved() -> None:
    put({"saving": HELPERS, "tool": "from saving import load, save\n"})
    assert main(["--check", "."]) == 0


def test_a_refused_script_leaves_its_helpers_alone() -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    Path("train.py").write_text(Path("train.py").read_text().replace("nn.Linear(4, 3)", "nn.Linear(4, 3).half()"))
    assert main(["."]) == 3
    assert Path("saving.py").read_text() == HELPERS


def test_a_helper_that_cannot_be_rewritten_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    odd = b"note = 1\r# a lone carriage return\n" + HELPERS.encode()
    Path("saving.py").write_bytes(odd)
    assert main(["."]) == 0
    assert "AMP196 an optimizer's state is saved in saving.py:" in capsys.readouterr().err
    assert Path("saving.py").read_bytes() == odd
    assert "scaler" in Path("train.py").read_text()


def test_scripts_share_a_helper() -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    put({"other": Path("train.py").read_text(), "stuck": Path("train.py").read_text().replace("4, 3)\n", "4, 3).half()\n")})
    assert main(["."]) == 3
    assert Path("saving.py").read_text().count("scaler.state_dict()") == 1
    assert main(["."]) == 3
    assert Path("saving.py").read_text().count("scaler.state_dict()") == 1


def test_files_of_another_program_are_left_alone() -> None:
    """A tool shares a file with the script, and does not run with it."""
    tool = "import torch\nimport shared\n\n\ndef strip(optimizer):\n    return {'optimizer': optimizer.state_dict()}\n"
    train = script("import shared\n", "pass", "shared.done()")
    put({"shared": "def done():\n    print('done')\n", "tool": tool, "train": train})
    assert main(["."]) == 0
    assert Path("tool.py").read_text() == tool


def test_torchs_own_scaler_stays_in_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    assert main(["--runtime", "torch", "."]) == 0
    shown = capsys.readouterr().err
    assert "AMP194 an optimizer's state is saved without the scaler's (saving.py:5): " in shown
    assert Path("saving.py").read_text() == HELPERS


def test_a_vendored_runtime_serves_the_files_that_find_it(capsys: pytest.CaptureFixture[str]) -> None:
    put(PROGRAMS["helpers that get the optimizer"])
    before = run()
    assert main(["--runtime", "vendor", "."]) == 0
    assert run("scale-only") == before
    assert saved()["scaler"]["scale"] == 1024.0
    Path("package").mkdir()
    Path("package/__init__.py").touch()
    train = script("from .saving import load, save\n", *CALLS)
    put({"package/saving": HELPERS, "package/train": train})
    capsys.readouterr()
    assert main(["--runtime", "vendor", "package"]) == 0  # by its plain name it would be a second scaler there
    assert "AMP194 an optimizer's state is saved without the scaler's (package/saving.py:5): " in capsys.readouterr().err
    assert Path("package/saving.py").read_text() == HELPERS
