"""Precision: which values of a forward pass may be in half precision."""

import ast

import pytest

from ampify.analysis.analyse import Reading, read
from ampify.analysis.frames import Frame
from ampify.analysis.kinds import Kinds
from ampify.analysis.precision import FULL, HALF, MAYBE, NONE, Precision, combine, join
from ampify.analysis.propagation import Precisions
from ampify.plan.rules.file import File

MODEL = """\
import torch
from torch import nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.act = nn.ReLU()
        self.norm = nn.LayerNorm(dim)
        self.embed = nn.Embedding(10, dim)
        self.block = Block()
        self.scale = nn.Parameter(torch.ones(1))
        self.depth = 3

    def forward(self, x, n: int = 2):
        h = self.linear(x)
        full = torch.zeros(3)
        value = {expression}
        return value
"""


def precisions(reading: Reading, frame: Frame, called: bool = True) -> Precisions:
    file = File(reading, lambda stmt: False, lambda stmt: False)
    return Precisions(frame, reading.roles, file.under, called, Kinds(frame, reading.roles, called, file.kinds), file.handed)


def precision(expression: str, called: bool = True) -> Precision:
    reading = read(ast.parse(MODEL.replace("{expression}", expression)))
    frame = next(f for f in reading.frames.all if f.name == "forward")
    return precisions(reading, frame, called).named["value"]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("x", MAYBE),
        ("n", NONE),
        ("h", HALF),
        ("full", FULL),
        ("3.0", NONE),
        ("self.depth", NONE),
        ("self.scale", FULL),
        ("x @ x", HALF),
        ("torch.matmul(full, full)", HALF),
        ("F.linear(full, full)", HALF),
        ("x.bmm(x)", HALF),
        ("self.act(h)", HALF),
        ("self.act(full)", FULL),
        ("self.norm(h)", MAYBE),
        ("self.embed(x)", FULL),
        ("self.block(full)", MAYBE),
        ("h.view(-1).transpose(0, 1)[0]", HALF),
        ("h + 1", HALF),
        ("h + h", HALF),
        ("h + full", MAYBE),
        ("full * 2", FULL),
        ("F.relu(h)", HALF),
        ("F.softmax(h, dim=-1)", MAYBE),
        ("F.softmax(h, dim=-1, dtype=torch.float32)", FULL),
        ("h.float()", FULL),
        ("h.to(torch.float32)", FULL),
        ("h.to(full.dtype)", FULL),
        ("full.to(h.dtype)", HALF),
        ("full.type_as(h)", HALF),
        ("h.to('cpu')", HALF),
        ("full.half()", HALF),
        ("h.long()", NONE),
        ("h > 0", NONE),
        ("h.size(0)", NONE),
        ("h.shape", NONE),
        ("h.data", HALF),
        ("h.argmax(-1)", NONE),
        ("torch.zeros_like(h)", HALF),
        ("torch.zeros_like(h, dtype=torch.float)", FULL),
        ("h.new_zeros(3)", HALF),
        ("torch.zeros(3, dtype=h.dtype)", HALF),
        ("torch.zeros(3, dtype=torch.long)", NONE),
        ("torch.arange(3)", NONE),
        ("h if n else full", MAYBE),
        ("[h, h]", HALF),
        ("[t for t in (h, h)]", HALF),
        ("len(h)", NONE),
        ("h.mean()", MAYBE),
        ("h.sqrt()", HALF),
        ("h.add_(full)", HALF),
        ("full.add_(h)", FULL),
        ("(y := h)", HALF),
    ],
)  # fmt: skip
def test_of_an_expression(expression: str, wanted: Precision) -> None:
    assert precision(expression) is wanted


def test_outside_of_autocast_nothing_becomes_half() -> None:
    assert precision("h @ h", called=False) < HALF
    assert precision("full @ full", called=False) is FULL


@pytest.mark.parametrize(
    ("statements", "wanted"),
    [
        ("v = h\nfor _ in range(3):\n    w = v\n    v = full\nvalue = w", MAYBE),
        ("value = full\nif n:\n    value = h", MAYBE),
        ("value, other = h, full", HALF),
        ("other, value = h, full", FULL),
        ("value = full\nvalue += h", FULL),
        ("value = 0\nvalue += h", HALF),
        ("value = full\nvalue[0] = h", FULL),
        ("value: object = h", HALF),
        ("with torch.no_grad():\n    value = h", HALF),
        ("try:\n    value = h\nfinally:\n    pass", HALF),
    ],
)
def test_statements(statements: str, wanted: Precision) -> None:
    indented = statements.replace("\n", "\n        ")
    reading = read(ast.parse(MODEL.replace("value = {expression}", indented)))
    frame = next(f for f in reading.frames.all if f.name == "forward")
    assert precisions(reading, frame).named["value"] is wanted


def test_join_and_combine() -> None:
    assert [join(a, a) for a in Precision] == list(Precision)
    assert [join(NONE, a) for a in Precision] == list(Precision)
    assert join(FULL, HALF) is join(HALF, FULL) is MAYBE
    assert combine() is NONE
    assert combine(NONE, FULL, NONE, HALF) is MAYBE
