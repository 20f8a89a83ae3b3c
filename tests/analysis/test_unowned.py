"""Backward passes through tensors that nothing owns: left alone, and everything else not."""

import pytest

import ampify

HEAD = """import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable

model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
w = torch.ones(4, requires_grad=True)
"""
TRAINED = """loss = model(torch.randn(3, 4)).mean()
optimizer.zero_grad()
loss.backward()
optimizer.step()
"""

LEFT_ALONE = {
    "a formula": "y = (3 * w).sum()\ny.backward()\nprint(w.grad)",
    "several tensors": "a = Variable(torch.rand(4), requires_grad=True)\ny = torch.dot(a, w)\ny.backward()\nprint(a.grad)",
    "its own gradient": "y = w * 2\ny.backward(torch.ones(4))\nprint(w.grad.norm())",
    "an array": "y = F.relu(w * torch.from_numpy(np.ones(4))).sum()\ny.backward()\nfirst = w.grad",
    "under with": "with torch.enable_grad():\n    y = w.sum()\n    y.backward()\nprint(w.grad)",
    "a manual step": "y = w.sum()\ny.backward()\nw.data -= 0.1 * w.grad",
    "rebound, and trained on": "y = w.sum()\ny.backward()\nprint(w.grad)\nw = torch.zeros(4)\nprint(model(w))",
}
REFUSED = {
    "given to an optimizer": "other = torch.optim.SGD([w], lr=0.1)\ny = w.sum()\ny.backward()\nprint(w.grad)",
    "in a group of one": "groups = [dict(params=[w])]\nother = torch.optim.SGD(groups)\ny = w.sum()\ny.backward()\nprint(w.grad)",
    "given to an unknown function": "keep(w)\ny = w.sum()\ny.backward()\nprint(w.grad)",
    "part of a loss of the model": "y = w.sum()\ny.backward()\nloss = model(w).sum()\nloss.backward()\nprint(w.grad)",
    "made by the model": "y = (w * model(torch.ones(4))).sum()\ny.backward()\nprint(w.grad)",
    "in a loop": "for i in range(2):\n    y = w.sum()\n    y.backward()\n    print(w.grad)",
    "kept by an object": "box.w = w\nother = torch.optim.SGD(box.parameters(), lr=0.1)\ny = w.sum()\ny.backward()\nprint(w.grad)",
    "read by a function": "def params():\n    return [w]\n\ny = w.sum()\ny.backward()\nprint(w.grad)",
    "changed in place": "y = w * 1\ny.add_(model(w))\ny.sum().backward()\nprint(w.grad)",
}  # fmt: skip


@pytest.mark.parametrize("snippet", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(snippet: str) -> None:
    result = ampify.convert(f"{HEAD}{snippet}\n{TRAINED}".encode())
    assert result.status == "converted", result.diagnostics
    assert all(line in result.output.decode() for line in snippet.splitlines() if "backward" in line)
    assert result.output.decode().count("scaler.scale(") == 1
    assert ampify.convert(result.output).output == result.output


@pytest.mark.parametrize("snippet", REFUSED.values(), ids=REFUSED)
def test_refused(snippet: str) -> None:
    result = ampify.convert(f"{HEAD}{snippet}\n{TRAINED}".encode())
    assert result.status == "refused", result.output.decode()


def test_nothing_but_a_formula_is_no_training() -> None:
    assert ampify.convert(b"import torch\nw = torch.ones(4, requires_grad=True)\nw.sum().backward()\nprint(w.grad)\n") == (
        ampify.Result("unchanged", b"import torch\nw = torch.ones(4, requires_grad=True)\nw.sum().backward()\nprint(w.grad)\n")
    )
