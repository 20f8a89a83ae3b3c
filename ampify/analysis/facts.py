"""Facts: what one statement's own expressions do, before the optimizers of its function are known."""

import ast
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.program import Barrier, Compute, Kind, Refusal


class Raw(NamedTuple):
    """An event that acts on the optimizer `key`, or on what the models `roots` own. See ampify.program.Event."""

    kind: Kind
    roots: frozenset[str] = frozenset()
    key: str = ""
    line: int = 0
    column: int = 0
    call: int = 0
    done: bool = False
    loss: tuple[str, ...] = ()
    tensors: bool = False
    soft: bool = False
    closure: ast.AST | None = None  # the function that a step evaluates
    text: str = ""
    form: str = ""
    mapping: ast.expr | None = None  # SAVE, LOAD: the checkpoint
    runs: tuple[ast.Call, tuple[Frame, ...]] | None = None  # UNIT, CALL: the call, and the functions that it may run


class Facts(NamedTuple):
    """The facts of one statement; inner blocks and functions are not included."""

    events: list[Raw]
    compute: Compute
    barrier: Barrier | None
    refusals: list[Refusal]
    binds: frozenset[str] = frozenset()  # what the functions that it calls set, by the statement's names
    shielded: bool = False  # runs models only in functions that turn gradients off themselves
