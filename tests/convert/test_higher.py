"""Inner loops of the library `higher`, whose optimizers differentiate a loss in their step: a stand-in for it is enough here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ampify

HIGHER = """import contextlib

import torch


class DifferentiableOptimizer:
    def __init__(self, net, other):
        self.lr = other.param_groups[0]["lr"]
        self.names, self.params = zip(*net.named_parameters())

    def step(self, loss):
        gradients = torch.autograd.grad(loss, self.params, create_graph=True)
        self.params = [p - self.lr * g for p, g in zip(self.params, gradients)]


@contextlib.contextmanager
def innerloop_ctx(net, opt, **_):
    diffopt = DifferentiableOptimizer(net, opt)
    yield lambda x: torch.func.functional_call(net, dict(zip(diffopt.names, diffopt.params)), (x,)), diffopt
"""
SCRIPT = """import higher
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
meta_opt = torch.optim.Adam(net.parameters(), lr=1e-2)


def train(steps):
    for _ in range(steps):
        inner_opt = torch.optim.SGD(net.parameters(), lr=1e-1)
        meta_opt.zero_grad()
        for task in range(3):
            x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
            with higher.innerloop_ctx(net, inner_opt, copy_initial_weights=False) as (fnet, diffopt):
                for _ in range(2):
                    inner_loss = F.cross_entropy(fnet(x[:4]), y[:4])
                    diffopt.step(inner_loss)
                logits = fnet(x[4:])
                loss = F.cross_entropy(logits, y[4:])
                loss.backward()
        meta_opt.step()


train(3)
print([p.tolist() for p in net.parameters()])
"""


def test_the_outer_loss_is_scaled_and_the_inner_ones_stay() -> None:
    lines = ampify.convert(SCRIPT.encode()).output.decode().splitlines()
    at = lines.index("                    inner_loss = F.cross_entropy(fnet(x[:4]), y[:4])")
    assert lines[at + 1 :][:9] == [
        "                    diffopt.step(inner_loss)",
        "                with autocast():",
        "                    logits = fnet(x[4:])",
        "                    loss = F.cross_entropy(logits, y[4:])",
        "                scaler.scale(loss).backward()",
        "        scaler.step(meta_opt)",
        "        scaler.update()",
        "",
        "",
    ]


@pytest.mark.parametrize("mode", ["off", "scale-only"])
def test_it_trains_identically(mode: str, tmp_path: Path) -> None:
    (tmp_path / "higher.py").write_text(HIGHER)
    runtime = Path(__file__).parents[2] / "runtime"
    settings = {"AMPIFY_MODE": mode, "AMPIFY_INIT_SCALE": "1024", "PYTHONPATH": f"{tmp_path}:{runtime}"}
    printed = []
    for source in (SCRIPT.encode(), ampify.convert(SCRIPT.encode()).output):
        command = [sys.executable, "-c", source.decode()]
        printed.append(subprocess.run(command, env=os.environ | settings, capture_output=True, check=True).stdout)
    assert printed[0] == printed[1]


REFUSED = {
    "its parameters are used": ("diffopt.step(inner_loss)", "adapted = diffopt.step(inner_loss)"),
    "its loss is computed in the region": (
        "                loss = F.cross_entropy(logits, y[4:])\n",
        "                loss = net(x).mean() + logits.mean()\n                diffopt.step(loss)\n",
    ),
}


@pytest.mark.parametrize(("old", "new"), REFUSED.values(), ids=REFUSED)
def test_refused(old: str, new: str) -> None:
    assert [d.code for d in ampify.convert(SCRIPT.replace(old, new).encode()).diagnostics] == ["AMP902"]


def test_refused_in_a_forward() -> None:
    module = """
class Unrolled(nn.Module):
    def forward(self, x):
        y = torch.zeros(4, requires_grad=True)
        inner_opt = higher.get_diff_optim(torch.optim.SGD([y], lr=0.1), [y])
        energy = net(x).sum()
        inner_opt.step(energy)
        return y
"""
    assert [d.code for d in ampify.convert((SCRIPT + module).encode()).diagnostics] == ["AMP902"]
