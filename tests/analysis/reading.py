"""What the analysis says of a piece of code, in words that a table can hold."""

import ast

from ampify.analysis.analyse import analyse
from ampify.analysis.frames import Frame
from ampify.analysis.library import Library
from ampify.program import Event, Program

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

"""
# A model and its optimizer, which steps, so that gradients have an owner.
TRAINED = HEAD + "model = nn.Linear(4, 1)\noptimizer = optim.SGD(model.parameters(), lr=0.1)\noptimizer.step()\n"


def program(source: str) -> Program:
    return analyse(ast.parse(source))


def events(snippet: str, head: str = TRAINED) -> list[str]:
    """The events of `snippet` behind `head`: `read optimizer`, `backward`; `?` marks a soft one, `!` one that is done."""
    first = head.count("\n") + 1
    scopes = program(head + snippet).scopes
    return [_text(e) for scope in scopes for s in scope.statements() for e in s.events if e.line >= first]


def _text(event: Event) -> str:
    mark = ("?" if event.soft else "") + ("!" if event.done else "")
    return " ".join([event.kind.value + mark, *event.targets])


def codes(snippet: str, head: str = TRAINED) -> set[str]:
    """The codes of the refusals that the code alone gives rise to."""
    return {refusal.code for refusal in program(head + snippet).refusals}


class Reading:
    """The roles of one file, with its frames by name."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        file = Library().add(tree)
        self.frames, self.roles = file.frames, file.roles

    def frame(self, name: str = "<module>") -> Frame:
        return next(f for f in self.frames.all if f.name == name)

    def role(self, text: str, frame: str = "<module>") -> str:
        return self.roles.of(_expression(text), self.frame(frame)).value


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def owned(source: str) -> dict[str, set[str]]:
    """For each optimizer of the file the texts of what it owns."""
    return {o.key: set(o.roots) for scope in program(source).scopes for o in scope.optimizers}
