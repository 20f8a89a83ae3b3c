"""Which values are tensors for sure, and which of them floating-point ones."""

import ast

import pytest

from ampify.analysis.analyse import read
from ampify.analysis.evidence import FLOATING, TENSOR, UNKNOWN, Kind
from ampify.plan.rules.file import File

SCRIPT = """
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

learned = [nn.Linear(4, 4), nn.ReLU()]

def halve(y, other):
    return y / 2

def pick(z):
    return z.unsqueeze(0), z

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x):
        return self.fc(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.emb = nn.Embedding(4, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.spread = nn.Sequential(*learned)
        self.pooled = nn.Sequential(*[nn.MaxPool1d(2)])
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.block = Block()
        self.register_buffer("memory", torch.zeros(3))
        self.register_buffer("steps", torch.tensor(3))
        self.options = {}
        self.criterion = nn.CrossEntropyLoss()
        self.moved = nn.Linear(4, 4).to("cuda")
    def forward(self, x, ids, rate, other, flags: torch.Tensor):
        h = self.fc(x)
        e = self.emb(ids)
        WANTED = EXPRESSION
"""
CASES = [
    ("h", FLOATING),
    ("x", FLOATING),  # goes into a linear layer
    ("ids", TENSOR),  # goes into an embedding
    ("e", FLOATING),
    ("rate", UNKNOWN),
    ("other", UNKNOWN),
    ("flags", TENSOR),
    ("rate * 2.0", UNKNOWN),
    ("h * rate", FLOATING),
    ("ids / 2", FLOATING),
    ("ids * 2", TENSOR),
    ("ids > 2", TENSOR),
    ("h.argmax(1)", TENSOR),
    ("h.size(0)", UNKNOWN),
    ("h.shape", UNKNOWN),
    ("h.mean().item()", UNKNOWN),
    ("h.long()", TENSOR),
    ("ids.float()", FLOATING),
    ("ids.to(h.dtype)", FLOATING),
    ("other.sum(axis=1)", UNKNOWN),  # numpy has it as well
    ("other.sum(dim=1)", TENSOR),
    ("other.softmax(-1)", FLOATING),
    ("np.zeros(3)", UNKNOWN),
    ("torch.zeros(3)", FLOATING),
    ("torch.zeros(3, dtype=torch.long)", TENSOR),
    ("torch.arange(3)", TENSOR),
    ("torch.zeros_like(ids)", TENSOR),
    ("h.topk(2)[0]", FLOATING),
    ("[h, h]", UNKNOWN),
    ("{'a': h}", UNKNOWN),
    ("[self.fc(x) for _ in range(3)]", UNKNOWN),
    ("self.body(x)", FLOATING),
    ("self.spread(other)", FLOATING),
    ("self.pooled(other)", UNKNOWN),
    ("self.layers[0](x)", FLOATING),
    ("self.block(x)", FLOATING),
    ("self.memory", FLOATING),
    ("self.steps", TENSOR),
    ("self.options", UNKNOWN),
    ("self.fc.weight", FLOATING),
    ("halve(h, other)", FLOATING),
    ("pick(h)", FLOATING),
    ("h if rate else None", UNKNOWN),
    ("self.criterion(other, ids)", FLOATING),
    ("self.moved(other)", FLOATING),
    ("ids.mul(h)", FLOATING),
    ("torch.zeros(3, dtype=torch.cfloat)", TENSOR),
    ("h.max(1)[1]", TENSOR),
]


def kind_of(expression: str) -> Kind:
    reading = read(ast.parse(SCRIPT.replace("EXPRESSION", expression)))
    file = File(reading, lambda stmt: False, lambda stmt: False)
    frame = next(f for f in file.frames.all if f.owner is not None and f.owner.node.name == "Net" and f.name == "forward")
    assert not isinstance(frame.node, ast.Module)
    value = frame.node.body[-1]
    assert isinstance(value, ast.Assign)
    return file.precisions(frame).kinds.of(value.value)


@pytest.mark.parametrize(("expression", "kind"), CASES)
def test_kinds(expression: str, kind: Kind) -> None:
    assert kind_of(expression) is kind


def test_the_indices_of_topk_are_no_floating_point_numbers() -> None:
    assert kind_of("h\n        values, indices = h.topk(2)\n        WANTED = indices") is TENSOR


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("WANTED = other.foo()\n        WANTED.backward()", FLOATING),
        ("WANTED = other.foo()\n        self.criterion(WANTED, ids)", FLOATING),
        ("WANTED = other.foo(WANTED.softmax(-1))", UNKNOWN),  # that was another value
        ("WANTED = other.foo()\n        WANTED = WANTED.softmax(-1)", FLOATING),
        ("WANTED, rest = pick(h)", FLOATING),
        ("rest, WANTED = pair(h, rate)", UNKNOWN),
        ("WANTED, rest = pair(h, rate)", FLOATING),
        ("WANTED = rate.sort()", UNKNOWN),
    ],
)
def test_what_is_done_with_a_name_tells_what_it_holds(body: str, kind: Kind) -> None:
    script = SCRIPT.replace("WANTED = EXPRESSION", body.replace("WANTED", "value"))
    reading = read(ast.parse(script.replace("def pick", "def pair(a, b):\n    return a, b\n\ndef pick")))
    file = File(reading, lambda stmt: False, lambda stmt: False)
    frame = next(f for f in file.frames.all if f.owner is not None and f.owner.node.name == "Net" and f.name == "forward")
    assert isinstance(frame.node, ast.FunctionDef)
    kinds = file.precisions(frame).kinds
    assert kinds.named["value"] is kind


def test_a_parameter_is_followed_to_the_calls() -> None:
    reading = read(ast.parse(SCRIPT.replace("EXPRESSION", "halve(h, rate)")))
    file = File(reading, lambda stmt: False, lambda stmt: False)
    frame = file.frames.functions["halve"][0]
    file.precisions(file.frames.all[0])
    kinds = file.precisions(frame).kinds
    assert (kinds.named["y"], kinds.named["other"]) == (FLOATING, UNKNOWN)
