"""Frames of one tree as parts of several programs: each has its own, and they say the same."""

import ast
from typing import Any

from ampify.analysis.frames import Binding, ClassInfo, Frame, Frames
from ampify.analysis.library import File, Library, Seen

CODE = """\
import torch

total = 0


class Base:
    def __init__(self, model):
        self.model, self.optimizer = model, torch.optim.SGD(model.parameters(), lr=0.1)

    def train(self, batches):
        global total

        def closure():
            nonlocal batches
            batches = sorted(batches, key=lambda x: x[0])
            self.optimizer.zero_grad()

        for x in batches:
            closure()
            total += self.model(x)


class Twice(Base):
    class Base:
        def step(self):
            self.inner = 1


def main(*, size=3):
    with open("x") as file:
        trainer = Twice(file)
    trainer.train([y for y in range(size) if (z := y)])
"""


def _described(value: Any, seen: dict[int, int], objects: list[Any]) -> Any:
    """What a value holds; frames and classes by the numbers in which they are met."""
    if isinstance(value, (Frames, Frame, ClassInfo)):
        if id(value) not in seen:
            seen[id(value)] = len(seen)
            objects.append(value)
        return type(value).__name__, seen[id(value)]
    if isinstance(value, Binding):
        return "binding", id(value.value), value.path, value.how, _described(value.frame, seen, objects)
    if isinstance(value, dict):
        return [(key, _described(inner, seen, objects)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [_described(inner, seen, objects) for inner in value]
    return value if isinstance(value, (str, set, frozenset, int)) or value is None else id(value)


def _all(frames: Frames) -> tuple[list[Any], list[Any]]:
    objects: list[Any] = []
    seen: dict[int, int] = {}
    _described(frames, seen, objects)
    return [
        [(n, _described(v, seen, objects)) for n, v in sorted(vars(o).items()) if n not in ("file", "_by_name")] for o in objects
    ], objects


def test_a_copy_says_what_the_original_does_and_shares_no_frame() -> None:
    seen = Seen(ast.parse(CODE))
    file = File(seen, "a.py", Library(), 0)
    original, copied = _all(seen.frames), _all(file.frames)
    assert copied[0] == original[0]
    assert not {id(o) for o in original[1]} & {id(o) for o in copied[1]}
    assert len(original[1]) == 10
    assert file.frames.file is file
    for name, method in seen.frames.by_name():
        here = [(call, frame.name) for call, frame in file.frames.calls_named(name, method)]
        assert here == [(call, frame.name) for call, frame in seen.frames.calls_named(name, method)]
        assert all(frame in file.frames.all for _, frame in file.frames.calls_named(name, method))
    assert file.frames.calls_named("nothing", True) == []
