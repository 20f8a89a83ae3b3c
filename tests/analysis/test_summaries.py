"""Summaries: what a call of a function or method of the file does to the training step, directly or through others."""

import pytest

from tests.analysis.reading import TRAINED, events, program

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


CHANGES = {
    "an element": ("def go(x): x['a'] = 1", "go(cfg)", {"cfg['a']"}),
    "an element with a colon in its key": ("def go(x): x['a:b'] = 1", "go(cfg)", {"cfg['a:b']"}),
    "an attribute of the instance": ("class T:\n    def go(self): self.n = 1\nt = T()", "t.go()", {"t.n"}),
    "a name of its own": ("def go(x): y = 1", "go(cfg)", set()),
    "a parameter": ("def go(x): x = 1", "go(cfg)", set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_call_changes(name: str) -> None:
    definition, call, expected = CHANGES[name]
    assert changes(definition, call) == expected


def changes(definition: str, call: str) -> frozenset[str]:
    """What `call` changes by means of what is defined, by the names of the caller."""
    scopes = program(f"{TRAINED}{definition}\n{call}\nloss.backward()\n").scopes
    module = next(s for s in scopes if s.number == -1)
    return module.body[-2].changes


def test_a_function_that_calls_itself_on_elements_changes_them_all() -> None:
    """Elements of elements of elements: at some depth it is said of what they are in."""
    found = changes("def go(x):\n    x['n'] = 1\n    go(x['left'])\n    go(x['a.b'])", "go(cfg)")
    assert {"cfg['n']", "cfg['left']['n']", "cfg['a.b']['left']['n']"} <= found
    assert any(text.count("left") > 2 and text.endswith("['left']") for text in found)
    assert max(text.count("[") for text in found) < 8


def test_objects_that_refer_to_each_other_in_many_ways_do_not_explode() -> None:
    """Eight attributes of a class that are of the class again: a fortieth of all paths to them would fill the memory."""
    names = [f"part{i}" for i in range(8)]
    made = "".join(f"        self.{name} = Node()\n" for name in names)
    visited = "".join(f"        self.{name}.go()\n" for name in names)
    node = f"class Node:\n    def build(self):\n{made}    def go(self):\n        self.count = 1\n{visited}node = Node()\n"
    found = changes(node, "node.go()")
    assert {"node.count", *(f"node.{name}" for name in names)} <= {".".join(text.split(".")[:2]) for text in found}
    assert len(found) < 1000
    for text in found:  # a test of `node.part1.count` reads `node.part1` too, and none of `node` alone
        assert "." in text


def test_what_is_handed_on_in_many_ways_does_not_explode() -> None:
    definitions = "".join(f"def go{i}(x):\n    go{i + 1}(x)\n    go{i + 1}(x)\n" for i in range(30))
    assert changes(f"{definitions}def go30(x):\n    x.go()\nt = nn.Linear(1, 1)", "go0(t)") == set()
