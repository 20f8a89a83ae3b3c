"""`ampify verify` as a command: real processes, their arguments, files and children, and how they end."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ampify.verify import runs
from tests.conftest import Ampify
from tests.verify import programs

# A script as people write them: arguments, a data file beside it, a module of its own, processes that load.
SCRIPT = """\
import argparse
import torch
from torch.utils.data import DataLoader, TensorDataset
import net

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--data", default="data/numbers.pt")
    args = parser.parse_args()
    x, y = torch.load(args.data)
    loader = DataLoader(TensorDataset(x, y), batch_size=8, num_workers=1)
    model = net.Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(args.epochs):
        for inputs, target in loader:
            optimizer.zero_grad()
            loss = net.loss_of(model, inputs, target)
            loss.backward()
            optimizer.step()
    torch.save(model.state_dict(), "model.pt")

if __name__ == "__main__":
    main()
"""
NET = """\
import torch.nn as nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        scores = self.body(x)
        return scores.masked_fill(scores > 99, -1e9)

def loss_of(model, x, y):
    return F.mse_loss(model(x), y)
"""
SPAWNING = """\
import torch
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F

def train(rank, model):
    torch.manual_seed(rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(100):
        optimizer.zero_grad()
        loss = F.mse_loss(model(torch.randn(8, 16)), torch.zeros(8, 1))
        loss.backward()
        optimizer.step()

if __name__ == "__main__":
    mp.set_start_method("METHOD")
    worker = mp.Process(target=train, args=(1, nn.Linear(16, 1)))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
"""


@pytest.fixture
def own_temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files in which nothing else is."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def _left(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith("ampify-")]


def test_a_script_with_all_that_scripts_have(ampify: Ampify, tmp_path: Path, own_temporary: Path) -> None:
    (tmp_path / "data").mkdir()
    save = "import torch; torch.save((torch.ones(64, 16), torch.ones(64, 1)), 'data/numbers.pt')"
    subprocess.run([sys.executable, "-c", save], cwd=tmp_path, check=True)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "net.py").write_text(NET)
    done = ampify("verify", "--steps", "3", "--modes", "scale-only,fp16", "train.py", "--", "--epochs", "9")
    out = done.stdout.decode()
    assert done.returncode == 0, (out, done.stderr.decode())
    assert "train.py: 5 edits\nnet.py: 1 edit\n" in done.stderr.decode()
    assert "scale-only  identical  3 steps, bit by bit" in out
    assert out.endswith("The conversion trains the same: 3 steps on cpu.\n")
    assert (tmp_path / "train.py").read_text() == SCRIPT
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["data", "net.py", "train.py"]
    assert _left(own_temporary) == []


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_it_starts_are_observed(ampify: Ampify, tmp_path: Path, method: str) -> None:
    (tmp_path / "train.py").write_text(SPAWNING.replace("METHOD", method))
    options = ("--steps", "3", "--modes", "scale-only", "--format", "json", "--html", "page.html")
    done = ampify("verify", *options, "train.py")
    assert done.returncode == 0, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert (document["same"], document["original"]["steps"]) == (True, 3)
    (mode,) = document["modes"]
    assert (mode["verdict"], mode["steps"], len(mode["losses"])) == ("identical", 3, 3)
    assert b"<h2>Loss at each step of SGD</h2>" in (tmp_path / "page.html").read_bytes()


def test_a_script_that_fails_says_why(ampify: Ampify, tmp_path: Path) -> None:
    text = programs.PLAIN.replace("for epoch", "open('no such file')\nfor epoch", 1)
    (tmp_path / "train.py").write_text(text)
    done = ampify("verify", "train.py")
    out = done.stdout.decode()
    assert done.returncode == 1
    assert out.startswith("the original fails, so there is nothing to compare with: it ended with exit code 1\n")
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'no such file'" in out
    assert "ampify_observe" not in out


def test_a_script_that_never_steps_says_so(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(programs.PLAIN.replace("range(50)", "range(0)"))
    done = ampify("verify", "train.py")
    assert done.returncode == 1
    assert done.stdout == b"the original made no step of an optimizer of torch's, so there is nothing to compare with\n"


def test_a_script_that_takes_too_long_is_ended(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(programs.PLAIN.replace("for epoch", "import time\ntime.sleep(99)\nfor epoch", 1))
    done = ampify("verify", "--timeout", "0.5", "train.py")
    assert done.returncode == 1
    assert b"it took more than 0.5 seconds (--timeout)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, b"Missing argument 'SCRIPT'"),
        (("--modes", "off,fp8", "train.py"), 2, b"'fp8' is none of off, scale-only, fp16, bf16"),
        (("train.py", "--epochs", "1"), 2, b"Arguments of the script go behind --."),
        (("--steps", "0", "train.py"), 2, b"0 is not in the range x>=1"),
        (("nothing.py",), 3, b"nothing.py: AMP990 cannot be read: No such file or directory"),
        (("plain.py", "--against", "nothing.py"), 3, b"nothing.py: AMP990 cannot be read: No such file or directory"),
        (("plain.py",), 3, b"plain.py: there is no training step in it"),
        (("mixed.py",), 3, b"mixed.py: it has mixed precision of its own"),
        (("refused.py",), 3, b"AMP903"),
        (("broken.py",), 3, b"broken.py:1:"),
    ],
)
def test_what_cannot_be_compared(ampify: Ampify, tmp_path: Path, arguments: tuple[str, ...], code: int, said: bytes) -> None:
    (tmp_path / "plain.py").write_text("print('no training here')\n")
    (tmp_path / "broken.py").write_text("def f(:\n    loss.backward()\n")
    mixed = programs.PLAIN.replace("loss = F", "with torch.autocast('cpu'):\n            loss = F")
    (tmp_path / "mixed.py").write_text(mixed)
    by_hand = "with torch.no_grad():\n            for p in model.parameters():\n                p -= 0.1 * p.grad"
    (tmp_path / "refused.py").write_text(programs.PLAIN.replace("optimizer.step()", by_hand))
    done = ampify("verify", *arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr, done.stderr


def test_without_torch_there_is_nothing_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "find_spec", lambda name: None)
    assert runs.unable().startswith("torch is not installed for ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes(tmp_path: Path, own_temporary: Path, number: signal.Signals) -> None:
    waiting = "import subprocess, time\nsubprocess.Popen(['sleep', '98.7'])\nopen('up', 'w')\ntime.sleep(99)\nfor epoch"
    (tmp_path / "train.py").write_text(programs.PLAIN.replace("for epoch", waiting, 1))
    interruptible = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
    )
    command = [sys.executable, "-c", f"{interruptible}from ampify.cli import run; run()", "verify", "train.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "up").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err.splitlines()[-1].startswith(b"ampify: interrupted")
    assert _left(own_temporary) == []
    assert not [line for line in _commands() if "98.7" in line or str(own_temporary) in line]


def _commands() -> list[str]:
    """The command lines of all processes that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
