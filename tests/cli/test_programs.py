"""Training steps that are spread over several files: all of their files are converted, or none."""

from pathlib import Path

import pytest

from ampify.cli import main
from tests.scripts import run

ROOT = Path(__file__).resolve().parents[2]

OPTIM = """\
class ScheduledOptim:
    def __init__(self, optimizer, factor):
        self._optimizer = optimizer
        self.factor = factor
        self.n_steps = 0

    def zero_grad(self):
        self._optimizer.zero_grad()

    def step_and_update_lr(self):
        self.n_steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self.factor * self.n_steps ** -0.5
        self._optimizer.step()
"""
TRAIN = """\
import torch
from torch import nn
from parts.optim import ScheduledOptim

torch.manual_seed(0)
model = nn.Linear(4, 3)
optimizer = ScheduledOptim(torch.optim.Adam(model.parameters()), 0.1)
for _ in range(5):
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step_and_update_lr()
    print(loss.item())
"""
ENGINE = """\
from torch import nn


def go_backward(loss, optimizer, model, limit):
    optimizer.zero_grad()
    loss.backward()
    return nn.utils.clip_grad_norm_(model.parameters(), limit).item()
"""
SCRIPT = """\
import torch
from torch import nn
from parts.engine import go_backward

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(5):
    loss = model(torch.randn(8, 4)).pow(2).mean()
    print(loss.item(), go_backward(loss, optimizer, model, 0.5))
    optimizer.step()
"""
LOSSES = """\
import torch.nn.functional as F


def robust_loss(model, x, y, optimizer):
    noisy = x + 0.1 * x.sign()
    optimizer.zero_grad()
    clean = F.cross_entropy(model(x), y)
    return clean + F.cross_entropy(model(noisy), y)
"""
ROBUST = """\
import torch
from torch import nn
from parts.losses import robust_loss

torch.manual_seed(0)
model = nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    loss = robust_loss(model, x, y, optimizer)
    loss.backward()
    optimizer.step()
    print(loss.item())
"""
FACTORY = """\
import torch


def build(model, name):
    chosen = torch.optim.Adam if name == "adam" else torch.optim.SGD
    return chosen(model.parameters(), lr=0.1)
"""
BUILT = """\
import torch
from torch import nn
from parts.factory import build

torch.manual_seed(0)
model = nn.Linear(4, 3)
updater = build(model, "sgd")
for _ in range(5):
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    updater.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    updater.step()
    print(loss.item())
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    Path("parts/__init__.py").touch()
    return tmp_path


def put(**sources: str) -> None:
    for name, source in sources.items():
        Path(name.replace("__", "/") + ".py").write_text(source)


PROGRAMS = {
    "a wrapper of the optimizer": ("optim", OPTIM, TRAIN, "scaler.step(self._optimizer)"),
    "a helper that goes backward and clips": ("engine", ENGINE, SCRIPT, "scaler.scale(loss).backward()"),
    "a loss that gets the optimizer": ("losses", LOSSES, ROBUST, ""),
    "a factory of optimizers": ("factory", FACTORY, BUILT, ""),
}


ORDERS = [(name, ["."]) for name in PROGRAMS]
ORDERS += [("a wrapper of the optimizer", paths) for paths in (["parts", "train.py"], ["train.py", "parts"])]


@pytest.mark.parametrize(("name", "paths"), ORDERS, ids=lambda given: given if isinstance(given, str) else " ".join(given))
def test_all_files_are_converted_and_train_the_same(name: str, paths: list[str]) -> None:
    part, source, script, written = PROGRAMS[name]
    put(**{f"parts__{part}": source, "train": script})
    before = run("train.py")
    assert main(paths) == 0
    assert "scaler" in Path("train.py").read_text()
    assert written in Path(f"parts/{part}.py").read_text()
    assert run("train.py") == run("train.py", "scale-only") == before
    run("train.py", "bf16")
    assert main(["--check", *paths]) == 0


@pytest.mark.parametrize("name", ["a wrapper of the optimizer", "a helper that goes backward and clips"])
def test_a_script_alone_says_which_file_to_give(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    part, source, script, _ = PROGRAMS[name]
    put(**{f"parts__{part}": source, "train": script})
    assert main(["train.py"]) == 3
    shown = capsys.readouterr().err
    assert "AMP926" in shown
    assert f"parts/{part}.py:" in shown
    assert (Path("train.py").read_text(), Path(f"parts/{part}.py").read_text()) == (script, source)


def test_a_part_alone_is_refused() -> None:
    put(parts__engine=ENGINE, train=SCRIPT)
    assert main(["parts/engine.py"]) == 3
    assert Path("parts/engine.py").read_text() == ENGINE


def test_scripts_that_share_a_part_are_converted_together() -> None:
    put(parts__engine=ENGINE, train=SCRIPT, other=SCRIPT.replace("0.5", "0.7"))
    before = run("train.py"), run("other.py")
    assert main(["."]) == 0
    assert Path("parts/engine.py").read_text().count("unscale_") == 1
    for mode in ("off", "scale-only"):
        assert (run("train.py", mode), run("other.py", mode)) == before


def test_none_is_converted_if_one_that_shares_a_part_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    stuck = SCRIPT.replace("model = nn.Linear(4, 1)", "model = nn.Linear(4, 1).half()")
    put(parts__engine=ENGINE, train=SCRIPT, stuck=stuck)
    assert main(["."]) == 3
    assert "stuck.py" in capsys.readouterr().err
    assert [Path(p).read_text() for p in ("train.py", "stuck.py", "parts/engine.py")] == [SCRIPT, stuck, ENGINE]


def test_a_loop_of_another_file_learns_from_its_callers() -> None:
    """What is called `things` there is an optimizer here."""
    engine = "def epoch(net, things, batches):\n    for x, y in batches:\n        things.zero_grad()\n"
    engine += (
        "        loss = (net(x) - y).pow(2).mean()\n        loss.backward()\n        things.step()\n        print(loss.item())\n"
    )
    script = "import torch\nfrom parts.engine import epoch\n\ntorch.manual_seed(0)\nnet = torch.nn.Linear(2, 1)\n"
    script += (
        "epoch(net, torch.optim.SGD(net.parameters(), lr=0.1), [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(4)])\n"
    )
    put(parts__engine=engine, train=script)
    before = run("train.py")
    assert main(["."]) == 0
    assert "scaler.step(things)" in Path("parts/engine.py").read_text()
    assert run("train.py") == run("train.py", "scale-only") == before


def test_a_part_that_has_no_name_for_the_optimizer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Its gradients would have to be unscaled between the backward and the clip there."""
    put(parts__engine=ENGINE.replace("optimizer, ", "").replace("    optimizer.zero_grad()\n", ""))
    put(train=SCRIPT.replace("optimizer, model", "model").replace("    loss =", "    optimizer.zero_grad()\n    loss ="))
    assert main(["."]) == 3
    assert "train.py:6:1: AMP921" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a wrapper of the optimizer", "a helper that goes backward and clips"])
def test_scalers_of_torch_are_not_shared_by_files(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    part, source, script, _ = PROGRAMS[name]
    put(**{f"parts__{part}": source, "train": script})
    assert main(["--runtime", "torch", "."]) == 3
    assert "AMP923" in capsys.readouterr().err
    assert (Path("train.py").read_text(), Path(f"parts/{part}.py").read_text()) == (script, source)


def test_a_vendored_runtime_serves_all_files() -> None:
    put(parts__optim=OPTIM, train=TRAIN)
    before = run("train.py")
    assert main(["--runtime", "vendor", "."]) == 0
    assert run("train.py", "scale-only") == before


def test_imports_in_a_circle_end() -> None:
    put(parts__engine="from train import model\n" + ENGINE, train="from parts import engine\n" + SCRIPT)
    assert main(["--check", "."]) == 1


LOOKING = {
    "a function that another file returns": (
        "from torch import nn\n\n\ndef clipper(m):\n    def f():\n        nn.utils.clip_grad_norm_(m.parameters(), 0.1)\n\n"
        "    return f\n",
        "from parts.engine import clipper\n",
        "look = clipper(model)\n",
        "    look()\n",
    ),
    "a property of another file": (
        "class Watch:\n    def __init__(self, m):\n        self.m = m\n\n    @property\n    def size_of_gradients(self):\n"
        "        return sum(p.grad.norm() for p in self.m.parameters())\n",
        "from parts.engine import Watch\n",
        "watch = Watch(model)\n",
        "    print(watch.size_of_gradients)\n",
    ),
    "an object of another file that is called": (
        "from torch import nn\n\n\nclass Clip:\n    def __init__(self, m):\n        self.m = m\n\n    def __call__(self):\n"
        "        nn.utils.clip_grad_norm_(self.m.parameters(), 0.1)\n",
        "from parts.engine import Clip\n",
        "clip = Clip(model)\n",
        "    clip()\n",
    ),
    "a context of another file": (
        "class Clipped:\n    def __init__(self, m):\n        self.m = m\n\n    def __enter__(self):\n        return self\n\n"
        "    def __exit__(self, *error):\n        for p in self.m.parameters():\n            p.grad.clamp_(-0.1, 0.1)\n",
        "from parts import engine\n",
        "",
        "    with engine.Clipped(model):\n        print(loss.item())\n",
    ),
    "a hook that an object of another file registers": (
        "class Clip:\n    def __init__(self, m):\n        self.attach(m)\n\n    def attach(self, m):\n"
        "        for p in m.parameters():\n            p.register_hook(lambda g: g.clamp(-0.1, 0.1))\n",
        "from parts import engine\n",
        "",
        "    if step == 0:\n        engine.Clip(model)\n",
    ),
    "a lambda of another file": (
        "def watch(o):\n    g = o.param_groups[0]['params']\n"
        "    o.register_step_pre_hook(lambda *_: [p.grad.clamp_(-0.1, 0.1) for p in g])\n",
        "from parts.engine import watch\n",
        "watch(optimizer)\n",
        "    print(loss.item())\n",
    ),
}
UNSEEN = (
    "a function that another file returns",
    "a lambda of another file",
    "an object of another file that is called",
)  # used or not


@pytest.mark.parametrize("name", LOOKING)
def test_gradients_looked_at_out_of_sight_refuse_the_script(name: str) -> None:
    engine, imports, made, used = LOOKING[name]
    script = "import torch\n" + imports + "\nmodel = torch.nn.Linear(4, 1)\n"
    script += (
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n" + made + "for step in range(3):\n    optimizer.zero_grad()\n"
    )
    script += "    loss = model(torch.randn(8, 4)).pow(2).mean()\n    loss.backward()\nUSED    optimizer.step()\n"
    put(parts__engine=engine, train=script.replace("USED", used))
    assert main(["."]) == 3
    assert "scaler" not in Path("train.py").read_text()
    put(train=script.replace("USED", ""))
    if name in UNSEEN:
        assert main(["."]) == 3  # nobody knows when it runs
    else:
        assert main(["."]) == 0


def test_a_part_whose_file_cannot_be_rewritten_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """Its formatting would not be kept: the script is refused with that reason."""
    put(parts__optim="note = 1\r# a lone carriage return\n" + OPTIM, train=TRAIN)
    for paths in (["train.py"], ["."]):
        assert main(paths) == 3
        shown = capsys.readouterr().err
        assert "train.py:1:1: AMP926" in shown
        assert "AMP920" in shown
    assert Path("train.py").read_text() == TRAIN


TRAINER = """\
import torch


class Trainer:
    def __init__(self, model, callbacks=()):
        self.model, self.callbacks = model, callbacks
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def prepare(self):
        pass

    def step(self, x):
        self.optimizer.zero_grad()
        loss = self.model(x).pow(2).mean()
        loss.backward()
        self.prepare()
        for callback in self.callbacks:
            callback.after_backward(self)
        self.optimizer.step()
"""
CLIP = """\
from torch import nn


class Clip:
    def after_backward(self, trainer):
        nn.utils.clip_grad_norm_(trainer.model.parameters(), 0.1)
"""
RUN = """\
import torch
from parts.trainer import Trainer

torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
MORE
for _ in range(3):
    trainer.step(torch.randn(8, 4))
print([p.tolist() for p in model.parameters()])
"""
TAKING_PART = {
    "a callback": ("from parts.other import Clip\ntrainer = Trainer(model, [Clip()])", CLIP),
    "a hook": (
        "for p in model.parameters():\n    p.register_hook(lambda g: g.clamp(-0.1, 0.1))\ntrainer = Trainer(model)",
        "",
    ),
    "a hook that a helper registers": (
        "from parts.other import hook\nhook(model)\ntrainer = Trainer(model)",
        "def hook(m):\n    for p in m.parameters():\n        p.register_hook(lambda g: g.clamp(-0.1, 0.1))\n",
    ),
    "a method that is replaced": (
        "def clip(self):\n    torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)\n\n\n"
        "Trainer.prepare = clip\ntrainer = Trainer(model)",
        "",
    ),
}


@pytest.mark.parametrize("name", TAKING_PART)
def test_what_takes_part_by_way_of_those_that_run_the_training_step_refuses_it(name: str) -> None:
    more, other = TAKING_PART[name]
    put(parts__trainer=TRAINER, parts__other=other, run=RUN.replace("MORE", more))
    assert main(["."]) == 3
    assert Path("parts/trainer.py").read_text() == TRAINER
    put(run=RUN.replace("MORE", "trainer = Trainer(model)"))
    assert main(["."]) == 0


def test_a_method_that_hands_on_its_instance_unscales_before() -> None:
    """Nobody knows the callbacks where the file is given without those that run it."""
    more, other = TAKING_PART["a callback"]
    put(parts__trainer=TRAINER, parts__other=other, run=RUN.replace("MORE", more))
    before = run("run.py")
    assert main(["parts/trainer.py"]) == 0
    assert run("run.py") == run("run.py", "scale-only") == before


@pytest.mark.parametrize("paths", [["run.py"], ["."]], ids=" ".join)
def test_a_checkpoint_whose_keys_become_keywords_gets_none(paths: list[str]) -> None:
    """Alone the script is the importer of what it imports, too: by it `o` is known for an optimizer there."""
    states = "def restore(m, o, model, optimizer):\n    m.load_state_dict(model)\n    o.load_state_dict(optimizer)\n"
    script = (
        "import io\n\nimport torch\nfrom parts.states import restore\n\ntorch.manual_seed(0)\nm = torch.nn.Linear(4, 1)\n"
        "o = torch.optim.Adam(m.parameters())\nfor _ in range(3):\n    o.zero_grad()\n"
        "    loss = m(torch.randn(8, 4)).pow(2).mean()\n"
        "    loss.backward()\n    o.step()\n    file = io.BytesIO()\n"
        "    torch.save({'model': m.state_dict(), 'optimizer': o.state_dict()}, file)\n    file.seek(0)\n"
        "    loaded = torch.load(file)\n    restore(m, o, **loaded)\n    print(loss.item())\n"
    )
    put(parts__states=states, run=script)
    before = run("run.py")
    assert main(paths) == 0
    assert run("run.py") == run("run.py", "scale-only") == before
