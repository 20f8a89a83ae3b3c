"""Which values may be complex numbers, or several tensors in one."""

import ast

import pytest

from ampify.analysis.analyse import read
from ampify.analysis.doubts import Doubts

SCRIPT = """
import torch
from torch import nn

layer, gru = nn.Linear(4, 4), nn.GRU(4, 4)

def make(x):
    return torch.view_as_complex(x)

def again(x):
    return again(x)

def pair(x):
    return x, x

def f(x, y, flag):
    BODY
"""

COMPLEX = {
    "a = 2j": True,
    "a = 2.0": False,
    "a = x.real": False,
    "a = x.cfloat().imag": False,
    "a = x.cfloat()": True,
    "a = x.to(torch.complex64)": True,
    "a = torch.fft.fft(x)": True,
    "a = torch.fft.fft(x).abs()": False,
    "a = torch.fft.fftshift(x)": False,
    "a = torch.stft(x, 8, return_complex=True)": True,
    "a = torch.stft(x, 8, return_complex=False)": False,
    "a = make(x)": True,
    "a = again(x)": False,
    "a = x\n    a = a * 1j": True,
    "b = torch.fft.rfft(x)\n    a = b[0].data": True,
    "a = x + y": False,
    "a = x if flag else y * 1j": True,
}
SEVERAL = {
    "a = x, y": True,
    "a = [x for x in y]": True,
    "a = x": False,
    "a = 0\n    a = a + x": False,
    "a = x if flag else (x, y)": True,
    "a = x.chunk(2)": True,
    "a = x.chunk(2)[0]": False,
    "a, b = x.chunk(2)": False,
    "a = gru(x)": True,
    "a = layer(x)": False,
    "a = pair(x)": True,
    "a = again(x)": False,
    "a = a": False,
}


def doubts(body: str) -> tuple[bool, bool]:
    """Whether `a` may be several tensors, and whether a complex one, at the end of a function."""
    reading = read(ast.parse(SCRIPT.replace("BODY", body)))
    asked, frame = ast.Name("a", ast.Load()), reading.frames.functions["f"][0]
    found = Doubts(reading.roles)
    return found.several(asked, frame), found.complex(asked, frame)


@pytest.mark.parametrize("body", COMPLEX)
def test_complex(body: str) -> None:
    assert doubts(body)[1] is COMPLEX[body]


@pytest.mark.parametrize("body", SEVERAL)
def test_several(body: str) -> None:
    assert doubts(body)[0] is SEVERAL[body]


@pytest.mark.parametrize(("call", "expected"), [("f(x * 1j, x, 1)", True), ("f(x, x, 1)", False), ("x.mul(1j)", False)])
def test_what_some_call_passes_may_be_any_parameter(call: str, expected: bool) -> None:
    assert doubts(f"a = y\n\nx = torch.zeros(3)\n{call}")[1] is expected
