"""Summaries: what a call of a function or method of the file does to the training step, directly or through others."""

import pytest

from tests.analysis.reading import TRAINED, events

NOTHING = {
    "a plain function": ("def go(x): return x + 1", "go(x)"),
    "a function that defines one": ("def go():\n    def inner(): loss.backward()\n    return 1", "go()"),
    "a function that returns one": ("def go():\n    return lambda: loss.backward()", "go()"),
    "of the same name, elsewhere": ("class A:\n    def go(self): loss.backward()", "go()"),
    "a method of another class": (
        "class A:\n    def go(self): loss.backward()\nclass B:\n    def go(self): pass\nb = B()",
        "b.go()",
    ),
    "only named": ("def go(): loss.backward()", "print(go)"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_hides_nothing(name: str) -> None:
    definition, call = NOTHING[name]
    assert events(call + "\n", TRAINED + definition + "\n") == []


HIDDEN = {
    "a backward": ("def go(loss): loss.backward()", "go(loss)", ["call"]),
    "a backward and its value": ("def go(loss):\n    loss.backward()\n    return loss", "x = go(loss)", ["call"]),
    "a step": ("def go(optimizer): optimizer.step()", "go(optimizer)", ["call"]),
    "a whole step": ("def go(loss):\n    loss.backward()\n    optimizer.step()", "go(loss)", ["unit"]),
    "through another": ("def a(): loss.backward()\ndef b(): a()\ndef go(): b()", "go()", ["call"]),
    "through itself": ("def go(n):\n    go(n - 1)\n    loss.backward()", "go(3)", ["call"]),
    "in a branch": ("def go():\n    if x:\n        loss.backward()", "go()", ["call"]),
    "in a method": ("class T:\n    def go(self): loss.backward()\nt = T()", "t.go()", ["call"]),
    "in a base's method": ("class A:\n    def go(self): loss.backward()\nclass B(A): pass\nb = B()", "b.go()", ["call"]),
    "in a method of a model": (
        "class M(nn.Module):\n    def go(self, loss): loss.backward()\nm = M().cuda()",
        "m.go(loss)",
        ["call"],
    ),
    "a method called step": (
        "class T:\n    def step(self):\n        loss.backward()\n        optimizer.step()\nt = T()",
        "t.step()",
        ["unit"],
    ),
    "a clip": ("def go(m): nn.utils.clip_grad_norm_(m.parameters(), 1.0)", "go(model)", ["read optimizer"]),
    "a reading of gradients": (
        "def go(m):\n    return sum(p.grad.norm() for p in m.parameters())",
        "n = go(model)",
        ["read optimizer"],
    ),
    "a reading, through another": (
        "def a(m): nn.utils.clip_grad_norm_(m.parameters(), 1.0)\ndef go(m): a(m)",
        "go(model)",
        ["read optimizer"],
    ),
    "a clearing": ("def go(): optimizer.zero_grad()", "go()", ["call"]),
    "a clearing on some path": ("def go():\n    if x:\n        optimizer.zero_grad()", "go()", ["call"]),
    "a clearing of another's": ("def go():\n    optimizer = make()\n    optimizer.zero_grad()", "go()", ["call"]),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hides(name: str) -> None:
    definition, call, expected = HIDDEN[name]
    got = events(call + "\n", TRAINED + definition + "\n")
    assert got == expected


def test_a_part_of_the_step_in_another_function_is_told_apart() -> None:
    """A call that trains as a whole touches nothing of its surroundings; one that does a part of it is looked through."""
    assert events("go()\n", TRAINED + "def go():\n    loss.backward()\n    optimizer.step()\n") == ["unit"]
    assert events("go()\n", TRAINED + "def go():\n    loss.backward()\n") == ["call"]


def test_a_wrapper_with_a_step_of_its_own_is_looked_through() -> None:
    wrapper = "class Noam:\n    def __init__(self, o): self.o = o\n    def step(self): self.o.step()\n"
    assert events("noam.step()\n", TRAINED + wrapper + "noam = Noam(optimizer)\n") == ["call"]
