"""A converted script that stops, saves and resumes in another process ends bit for bit where an uninterrupted one does."""

from pathlib import Path

import pytest

from tests.fixtures_suite.cases import converted
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.forks import ForkServer

STEPS, STOP = 9, 4
# Gradients overflow in half precision down to a scale of 128, and the second and the seventh batch overflow in any.
SCRIPT = """
import copy
import torch
import torch.nn as nn

FIRST, LAST, OLD, NEW = 0, {steps}, '', ''
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
data = [(torch.randn(6, 4), torch.randint(0, 3, (6,))) for _ in range({steps})]
weights = [float('inf') if i in (1, 6) else 300.0 for i in range({steps})]

{define}
def restore(path):
    checkpoint = torch.load(path)
    model.load_state_dict(checkpoint['model'])
    {load}

if OLD:
    restore(OLD)
for i in range(FIRST, LAST):
    images, target = data[i]
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), target) * weights[i]
    loss.backward()
    optimizer.step()
if NEW:
    save(NEW)
"""
BRACKETS = "optimizer.load_state_dict(checkpoint['optimizer'])"
FORMS = {
    "a dict": ("torch.save({'model': model.state_dict(), 'optimizer': optimizer.state_dict()}, path)", BRACKETS),
    "dict()": ("torch.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict()), path)", BRACKETS),
    "a copy": (
        "torch.save({'model': model.state_dict(), 'optimizer': copy.deepcopy(optimizer.state_dict()) if i else None}, path)",
        "optimizer.load_state_dict(checkpoint.get('optimizer'))",
    ),
    "items": (
        "state = {}\n    state['model'] = model.state_dict()\n    state['optimizer'] = optimizer.state_dict()\n"
        "    torch.save(state, path)",
        BRACKETS,
    ),
    "update": (
        "state = {'model': model.state_dict()}\n    state.update(optimizer=optimizer.state_dict())\n    torch.save(state, path)",
        "optimizer.load_state_dict(checkpoint.pop('optimizer'))",
    ),
    "|=": (
        "state = {'model': model.state_dict()}\n    state |= {'optimizer': optimizer.state_dict()}\n"
        "    torch.save(obj=state, f=path)",
        BRACKETS,
    ),
    "a helper with keywords": ("write(path, model=model.state_dict(), optimizer=optimizer.state_dict())", BRACKETS),
    "a helper that gets the optimizer": ("write_both(path, model, optimizer)", BRACKETS),
}
HELPERS = """
def write(path, **state):
    torch.save(state, path)

def write_both(path, net, opt):
    torch.save({'model': net.state_dict(), 'optimizer': opt.state_dict()}, path)

"""


def _output(form: str) -> str:
    save, load = FORMS[form]
    source = SCRIPT.format(steps=STEPS, define=f"{HELPERS}def save(path):\n    {save}\n", load=load)
    result = converted(source.encode())
    assert (result.status, result.diagnostics) == ("converted", ())
    return result.output.decode() + "\nprint(scaler.state_dict())\n"


def _problems(output: str, mode: str, folder: Path, server: ForkServer) -> list[str]:
    """How a run of a script that is interrupted differs from one that is not."""
    path, line = folder / "checkpoint.pt", f"FIRST, LAST, OLD, NEW = 0, {STEPS}, '', ''"
    assert line in output
    whole = server.run(output.encode(), mode)
    first = server.run(output.replace(line, f"FIRST, LAST, OLD, NEW = 0, {STOP}, '', {str(path)!r}").encode(), mode)
    rest = server.run(output.replace(line, f"FIRST, LAST, OLD, NEW = {STOP}, {STEPS}, {str(path)!r}, ''").encode(), mode)
    assert not whole["error"] + first["error"] + rest["error"]
    assert 0 < len(first["steps"]) < STOP  # some are skipped
    assert len(whole["steps"]) < STEPS - 1
    remaining = whole["steps"][len(first["steps"]) :]
    return exact_problems(whole | {"steps": remaining}, rest)


@pytest.mark.parametrize("mode", ["scale-only", "growing", "fp16"])
@pytest.mark.parametrize("form", FORMS)
def test_resumed_equals_uninterrupted(form: str, mode: str, tmp_path: Path, server: ForkServer) -> None:
    assert _problems(_output(form), mode, tmp_path, server) == []


@pytest.mark.parametrize("mode", ["scale-only", "growing", "fp16"])
def test_without_the_scalers_state_it_does_not(mode: str, tmp_path: Path, server: ForkServer) -> None:
    output = _output("a dict").replace(", 'scaler': scaler.state_dict()", "")
    problems = _problems(output, mode, tmp_path, server)
    assert any("it printed" in problem for problem in problems)  # another scale
    assert mode != "fp16" or any("differs at the end" in problem for problem in problems)
