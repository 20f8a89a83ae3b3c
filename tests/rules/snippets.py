"""Small scripts round a few lines of a forward pass, and what becomes of the lines."""

from __future__ import annotations

import ampify

SCRIPT = """import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

NEG_INF = -1e9
EPS = 1e-8


class Net(nn.Module):
    NEG = -1e9

    def __init__(self, eps=1e-8, small=1e-3):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.emb = nn.Embedding(4, 4)
        self.eps, self.small = 1e-3, small
        self.tiny = eps
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("memory", torch.zeros(8, 4))

    def forward(self, x, mask, idx=None, neg=-1e9, count=7):
        h = self.fc(x)
        BODY
        return h


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = model(torch.randn(3, 4), torch.ones(3, 4) > 0).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
INDENT = "\n        "


def convert(body: str, script: str = SCRIPT) -> ampify.Result:
    """A script that has these lines in its forward pass, converted."""
    return ampify.convert(script.replace("BODY", body.replace("\n", INDENT)).encode())


def lines(result: ampify.Result) -> str:
    """What became of the lines."""
    assert result.status == "converted", result.diagnostics
    text = result.output.decode().split("h = self.fc(x)\n", 1)[1].split("        return h\n", 1)[0]
    return text.strip().replace(INDENT, "\n")


def notes(result: ampify.Result) -> list[str]:
    return [d.code for d in result.diagnostics]


def check_written(body: str, expected: str, code: str) -> None:
    """The lines become these, by edits of this rule, and converting them again changes nothing."""
    result = convert(body)
    assert lines(result) == expected
    assert code in {e.code for e in result.edits}
    assert notes(result) == []
    again = ampify.convert(result.output)
    assert (again.output, again.edits) == (result.output, ())


def check_left_alone(body: str) -> None:
    """The lines stay as they are, and nothing is said of them."""
    result = convert(body)
    assert lines(result) == body
    assert notes(result) == []


def check_reported(body: str, code: str) -> None:
    """The lines stay as they are, with a warning of this rule."""
    result = convert(body)
    assert lines(result) == body
    assert code in notes(result)
