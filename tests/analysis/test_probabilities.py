"""Which sigmoids and softmaxes a value comes from."""

import ast

import pytest

from ampify.analysis.analyse import read
from ampify.analysis.probabilities import Origin, Probabilities

SCRIPT = """
import torch
import torch.nn as nn
import torch.nn.functional as F

squash, keep = nn.Sigmoid(), nn.Flatten()
body = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid(), nn.Dropout(0.1))

def give(x):
    return torch.sigmoid(x), x

def f(x, y, flag):
    BODY
    use(a)
"""

# What `a` comes from: the sigmoids and softmaxes by what they get (a layer by its name), anything else in brackets, with a plus
# if it is only combined with the value.
FOUND = {
    "a = torch.sigmoid(x)": "x",
    "a = x.softmax(-1)": "x",
    "a = F.softmax(input=x, dim=1)": "x",
    "a = squash(x)": "squash",
    "a = keep(squash(x))": "squash",
    "a = body(x)": "body[-2]",
    "a = nn.Sigmoid()(x)": "x",
    "a = x.sigmoid().view(-1).clamp(0, 1)": "x",
    "a = torch.clamp(torch.sigmoid(x), 0, 1)": "x",
    "a = torch.sigmoid(x) if flag else torch.sigmoid(y)": "x y",
    "a = -torch.sigmoid(x)": "x",
    "use(a := torch.sigmoid(x))": "x",
    "b = [torch.sigmoid(x), torch.sigmoid(y)]\n    a = b[1]": "y",
    "b = {'p': torch.sigmoid(x), 'q': torch.sigmoid(y)}\n    a = b['p']": "x",
    "b = {'p': torch.sigmoid(x), 'q': torch.sigmoid(y)}\n    a = b[flag]": "x y",
    "a = torch.cat([torch.sigmoid(x), torch.sigmoid(y)])": "x y",
    "a = torch.stack([torch.sigmoid(z) for z in x])": "z",
    "a, b = give(x)": "x",
    "a = 1.0": "",
    "a = torch.sigmoid(x)\n    a *= torch.sigmoid(y)": "x y",
    "a = x.exp()": "(x.exp())",
    "a = torch.exp(x)": "(torch.exp(x))",
    "a = torch.where(flag, torch.sigmoid(x), torch.sigmoid(y))": "x y",
    "a = torch.sigmoid(x).mul(torch.sigmoid(y))": "x y",
    "a = torch.sigmoid(x) + torch.sigmoid(y)": "x y",
    "a = torch.sigmoid(x) * y": "+(y) x",
    "a = torch.sigmoid(x).where(flag, y)": "+(flag) +(y) x",
    "if flag:\n        a = torch.sigmoid(x)\n    else:\n        a = torch.sigmoid(y)": "x y",
    "for a in (torch.sigmoid(x), torch.sigmoid(y)):\n        pass": "x y",
    "for b, a in zip(x, [torch.sigmoid(y)]):\n        pass": "y",
    "for b, a in enumerate([torch.sigmoid(y)]):\n        pass": "y",
    "with x as a:\n        pass": "(a)",
    "a = x": "(x)",
    "global z\n    a = z": "(z)",
}


def shown(origin: Origin) -> str:
    text = ast.unparse(origin.operand) if origin.operand is not None else f"({ast.unparse(origin.node)})"
    if origin.place is not None:
        text = origin.place[1]
    return f"+{text}" if origin.aside else text


@pytest.mark.parametrize("body", FOUND)
def test_origins(body: str) -> None:
    reading = read(ast.parse(SCRIPT.replace("BODY", body)))
    where = Probabilities(reading.names, reading.frames, reading.roles)
    asked = next(c.args[0] for c in reading.frames.functions["f"][0].calls[::-1] if ast.unparse(c) == "use(a)")
    assert " ".join(sorted(map(shown, where.origins(asked)), key=lambda t: t.lstrip("+"))) == FOUND[body]
