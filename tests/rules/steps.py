"""Training scripts round a few lines, and what a rule makes of them."""

from textwrap import indent

from ampify import Options, convert

SCRIPT = """\
import threading
import sys
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
{top}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.tail = nn.Linear(4, 3)

    def forward(self, x):
        h = self.body(x)
{forward}
        return self.tail(h)


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{start}
for x, y in []:
    optimizer.zero_grad()
    out = net(x)
    loss = F.cross_entropy(out, y)
    loss.backward()
{between}
    optimizer.step()
{after}
"""


def script(top: str = "", forward: str = "pass", start: str = "", between: str = "pass", after: str = "pass") -> str:
    """A script that trains, with lines in its places."""
    inner = {"forward": indent(forward, " " * 8), "between": indent(between, " " * 4), "after": indent(after, " " * 4)}
    return SCRIPT.format(top=top, start=start, **inner)


def written(source: str, code: str, unsafe: bool = False) -> list[str]:
    """The lines that a rule writes, without their indentation."""
    without = convert(source.encode(), Options(skip=frozenset({code})))
    result = convert(source.encode(), Options(unsafe=unsafe))
    assert without.status == result.status == "converted", result.diagnostics
    compile(result.output, "<converted>", "exec")
    old = without.output.decode().splitlines()
    return [line.strip() for line in result.output.decode().splitlines() if line not in old]


def notes(source: str, code: str) -> list[str]:
    """What a rule reports: the places in the source."""
    result = convert(source.encode())
    assert result.status == "converted", result.diagnostics
    lines = source.splitlines()
    return [lines[d.line - 1].strip() for d in result.diagnostics if d.code == code]
