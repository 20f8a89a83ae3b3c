"""The model of a script that planning and proof work on: statements, events and facts, with no syntax tree inside."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What happens to gradients, optimizers or the scaler at one place."""

    BACKWARD = "backward"  # gradients are added to .grad
    STEP = "step"  # an optimizer uses its gradients
    ZERO = "zero_grad"  # gradients are cleared
    READ = "read"  # gradients are looked at or changed
    REPLACE = "replace"  # gradients are assigned
    CREATE = "create"  # an optimizer is built: a fresh state
    SCHEDULE = "schedule"  # a learning-rate schedule advances
    UNSCALE = "unscale_"  # scaler.unscale_(optimizer)
    UPDATE = "update"  # scaler.update()
    SAVE = "save"  # an optimizer's state is put into a checkpoint
    LOAD = "load"  # an optimizer's state is taken from a checkpoint
    DIFFERENTIATE = "differentiate"  # autograd.grad whose result feeds a loss
    HANDED = "handed"  # an unknown call gets an optimizer
    UNIT = "unit"  # a call that trains by itself: backward, step and update inside


class Event(NamedTuple):
    """One event of a statement, in order of evaluation.

    `targets` are optimizer keys (the text of the expression, `self.optimizer`); for BACKWARD and UNIT they are empty, as any
    gradient may be touched. `call` counts the calls of the same method name within the statement, for the renderer.
    `done` says that the event goes through the scaler already. `loss` holds the names that a backward's loss is made of;
    `tensors` is set where it is an argument: `torch.autograd.backward(loss)`. A `soft` READ is only possible: an unknown call
    gets the model.
    """

    kind: Kind
    targets: tuple[str, ...] = ()
    line: int = 0
    column: int = 0
    call: int = 0
    done: bool = False
    loss: tuple[str, ...] = ()
    tensors: bool = False
    soft: bool = False
    closure: int = -1  # of a STEP: the number of the function that it evaluates
    text: str = (
        ""  # DIFFERENTIATE: the name that autograd.grad is called by; SAVE, LOAD: the checkpoint, by its name if it has one
    )
    form: str = (
        ""  # SAVE, LOAD: the scaler's state is an `entry` beside it, a `statement` behind it, or lost; of one done, its key
    )


class Compute(Enum):
    """How much a statement looks like part of a forward pass."""

    NONE = 0
    CALL = 1  # an unknown call: may hide one
    LOSS = 2  # a loss function or another functional
    MATMUL = 3  # multiplies matrices or convolves
    FORWARD = 4  # calls a model


class Barrier(Enum):
    """Why a statement must stay outside autocast regions."""

    TRAIN = "a backward pass, an optimizer step or the scaler"
    WRITE = "a parameter update"
    GRADIENT = "a gradient taken by autograd.grad"
    SUSPEND = "a yield or await"
    REGION = "an autocast region"
    TRACE = "a trace of a model"


class Stmt(NamedTuple):
    """One statement; `number` counts all statements of the file in source order, `end` is one past its last inner statement."""

    number: int
    end: int
    kind: str  # simple, if, for, while, try, with, match, def, break, continue, return, raise
    line: int
    column: int
    end_line: int
    blocks: tuple[tuple[Stmt, ...], ...] = ()  # if: (body, orelse); for, while: the same; try: (body, orelse, finally, *handlers)
    events: tuple[Event, ...] = ()
    defs: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    compute: Compute = Compute.NONE
    barrier: Barrier | None = None
    test: str = ""  # the condition's text, without a leading `not`, if evaluating it twice gives the same value
    negated: bool = False
    test_names: frozenset[str] = frozenset()
    endless: bool = False  # while True
    no_grad: bool = False  # a `with torch.no_grad():`
    suppresses: bool = False  # a `with` that swallows exceptions
    autocast: bool = False  # an autocast region, the runtime's or torch's
    detached: bool = False  # an assignment of a value without gradient: `x.item()`, `x.detach()`
    rebinds: bool = False  # a plain assignment: the old value of `defs` is gone

    def walk(self) -> Iterator[Stmt]:
        """This statement and all inside it."""
        yield self
        for block in self.blocks:
            for inner in block:
                yield from inner.walk()

    def all_events(self) -> Iterator[Event]:
        for inner in self.walk():
            yield from inner.events


Block = tuple[Stmt, ...]


class Optimizer(NamedTuple):
    """An optimizer by its key; `roots` are the texts of what it owns (`model` of `model.parameters()`), empty when unknown."""

    key: str
    roots: frozenset[str] = frozenset()
    wrapper: bool = False  # an object with an optimizer inside and a step of its own


class Scope(NamedTuple):
    """A function, method or module body that takes part in training."""

    name: str
    body: Block
    optimizers: tuple[Optimizer, ...]
    repeated: bool  # may run many times: a function
    no_grad: bool  # decorated with no_grad or inference_mode
    line: int
    number: int = -1  # of the statement that defines the function; -1 for the module
    closure: bool = False  # an optimizer's step evaluates it: it computes the gradients that the step uses

    def statements(self) -> Iterator[Stmt]:
        for stmt in self.body:
            yield from stmt.walk()

    def shares(self) -> dict[str, frozenset[str]]:
        """For each optimizer the others that own some of its parameters."""
        return {
            a.key: frozenset(b.key for b in self.optimizers if b.key != a.key and overlap(a.roots, b.roots))
            for a in self.optimizers
        }


def overlap(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two sets of owners can have a parameter in common: the same name, or one inside the other."""
    return any(x == y or x.startswith(y + ".") or y.startswith(x + ".") for x in a for y in b)


class Refusal(NamedTuple):
    """Why a script is left alone; `detail` completes the message of its code."""

    code: str
    line: int
    column: int
    detail: str


class Note(NamedTuple):
    """What is to be known of a script that is converted; `detail` completes the message of its code."""

    code: str
    line: int
    column: int
    detail: str


class Program(NamedTuple):
    """All that planning needs to know of one file."""

    scopes: tuple[Scope, ...]
    refusals: tuple[Refusal, ...]  # found by looking at the code alone
    top_level: tuple[tuple[int, int, bool], ...]  # the module's statements: (index, end, whether it is a definition)
    amp: str  # how the file uses mixed precision already (`torch.amp`), or empty
    taken: frozenset[str]  # every identifier of the file
    runtime: dict[str, str]  # what is imported from ampify_runtime: name -> local name
    imports: tuple[tuple[int, bool], ...]  # top-level imports: (statement index, whether of torch)
    prologue: int  # index of the last statement that must stay first (docstring, __future__), or -1
    torch: tuple[tuple[int, str], ...]  # top-level imports of torch itself: (statement index, local name that means nothing else)
    devices: tuple[tuple[int, int], ...]  # where CUDA_VISIBLE_DEVICES is spoken of: (index of the top-level statement, line)
    sharded: tuple[int, ...]  # lines of FullyShardedDataParallel (FSDP1), whose ranks have different gradients
    strings: frozenset[str]  # every string and keyword of the file
    keyed: bool  # somebody goes through the keys of a checkpoint: it bears no new one
    relative: bool  # imports relatively at its top level: it runs as a part of a package only
    unscaled: tuple[tuple[int, str], ...] = ()  # uses of libraries' functions whose backward is not linear: (line, name)
