"""Which values are of one dtype for certain."""

import ast

import pytest

from ampify.analysis.analyse import read
from ampify.analysis.dtypes import alike

SCRIPT = """
import torch

def f(x, y, pair, i):
    BODY
"""
CASES = [
    ("a = torch.zeros_like(x); b = x.view(-1)", True),
    ("a = torch.zeros_like(x, dtype=torch.long); b = x.view(-1)", False),
    ("a = x.new_zeros(3); b = x.topk(2)[0]", True),
    ("a, _ = torch.sort(x); b = x", True),
    ("_, a = torch.sort(x); b = x", False),
    ("a = torch.max(x, y)[0]; b = x", False),
    ("a, b = pair", False),
    ("a = pair[0]; b = pair[1]", False),
    ("a = pair[i]; b = pair[-i]", False),
    ("a = x[:, i]; b = x[:, 0].clone()", True),
    ("a = x; x = x.half(); b = x", False),
    ("x = x.flip(0); a = x; b = x.clone()", True),
    ("a = x.view(torch.int32); b = x", False),
    ("a = x.mean(0); b = x", False),
    ("a = x; b = y", False),
]


@pytest.mark.parametrize(("body", "expected"), CASES)
def test_alike(body: str, expected: bool) -> None:
    reading = read(ast.parse(SCRIPT.replace("BODY", body)))
    a, b = ast.Name("a", ast.Load()), ast.Name("b", ast.Load())
    assert alike(a, b, reading.frames.functions["f"][0], reading.roles) is expected
