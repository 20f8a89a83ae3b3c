"""What looks like a floating tensor and is none: nothing is written behind it. And edits that the proof has to see through."""

import pytest

from ampify.convert import convert

SCRIPT = """\
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Scale:
    def __init__(self, by):
        self.by = by

    def norm(self, value):
        return self.by


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.scale = Scale(2.0)
        self.heads = nn.ModuleList([nn.Linear(8, 8)])

    def forward(self, x, d, t=None, max=3):
        h = self.fc(x)
        {body}
        return h


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, d in loader:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x, d), d)
    loss.backward()
    optimizer.step()
"""

LEFT = [
    "h = h / (math.sqrt(d) + 1e-6)",
    "h = h / (np.sqrt(d) + 1e-6)",
    "m = torch.zeros(d, d); h = h / (d + 1e-6)",
    "h = h + torch.normal(d, t, size=h.shape)",
    "k = min(d, 1) + 0.5; h = h / (k + 1e-8)",
    "k = d / 2; h = h / (k + 1e-8)",
    "k = h.norm() if t else 1.0; h = h / (k + 1e-8)",
    "h = h / (d.mean() + 1e-8)",
    "outs = [None]; outs[t] = h; h = torch.stack(outs)",
    "h = h + torch.log(d)[:, None]; k = np.arange(9)[d.cpu().numpy()]",
    "two = d @ d; h = h + d.masked_fill(two == 0, 100000)",
    "d = d.masked_fill(d == 0, 1e9)",
    "h.masked_fill_(h > 0, -1e9)",
    "h = h / (self.scale.norm(h) + 1e-8)",
    "h = h / (self.options.norm(h) + 1e-8)",
    "h = h / (t.norm(h) + 1e-8)",
    "s = Scale(2.0); h = h / (s.norm(h) + 1e-8)",
    "h = h / (Scale(2.0).norm(h) + 1e-8)",
    "h = h / (t.scale.log(h) + 1e-8)",
]

WRITTEN = [
    ("h = h / (h.norm(2, -1) + 1e-8)", "(h.norm(2, -1).float() + 1e-8)"),
    ("h = h / (h.data.norm() + 1e-8)", "(h.data.norm().float() + 1e-8)"),
    ("h[t.long()] = self.heads[0](x)", "h[t.long()] = self.heads[0](x).to(h.dtype)"),
    ("i = t.long(); h[i] = self.heads[d](x)", "h[i] = self.heads[d](x).to(h.dtype)"),
    ("i = t.long(); h[i] = self.fc(x).to(x.device)", "h[i] = self.fc(x).to(x.device).to(h.dtype)"),
]


@pytest.mark.parametrize("body", LEFT)
def test_left(body: str) -> None:
    result = convert(SCRIPT.format(body=body).encode())
    assert result.status == "converted"
    assert body in result.output.decode()


@pytest.mark.parametrize(("body", "expected"), WRITTEN)
def test_written(body: str, expected: str) -> None:
    result = convert(SCRIPT.format(body=body).encode())
    assert result.status == "converted", result.diagnostics
    assert expected in result.output.decode()
