"""The model of a script that planning and proof work on: statements, events and facts, with no syntax tree inside."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

APART = 1_000_000  # what is between the numbers of the statements of two files


class Kind(Enum):
    """What happens to gradients, optimizers or the scaler at one place."""

    BACKWARD = "backward"  # gradients are added to .grad
    STEP = "step"  # an optimizer uses its gradients
    ZERO = "zero_grad"  # gradients are cleared
    READ = "read"  # gradients are looked at or changed
    REPLACE = "replace"  # gradients are assigned
    EXCHANGE = "exchange"  # gradients are added up over all processes
    CREATE = "create"  # an optimizer is built: a fresh state
    SCHEDULE = "schedule"  # a learning-rate schedule advances
    UNSCALE = "unscale_"  # scaler.unscale_(optimizer)
    UPDATE = "update"  # scaler.update()
    SAVE = "save"  # an optimizer's state is put into a checkpoint
    LOAD = "load"  # an optimizer's state is taken from a checkpoint
    DIFFERENTIATE = "differentiate"  # autograd.grad whose result feeds a loss
    HANDED = "handed"  # an unknown call gets an optimizer
    UNIT = "unit"  # a call that trains by itself: backward, step and update inside
    CALL = "call"  # a call that does a part of the training step around it


class Call(NamedTuple):
    """A function of the program that a statement runs, for a training step or a part of one.

    In `body` the optimizers go by the names that the scope has for them in which the step is whole; `texts` has the function's
    own names for them, where it has any. A function that trains by itself has no body here.
    """

    number: int  # of the statement that defines the function
    name: str
    body: "Block" = ()
    texts: Mapping[str, str] = MappingProxyType({})
    arguments: Mapping[str, frozenset[str]] = MappingProxyType({})  # by parameter or instance, what the caller passes is made of
    local: frozenset[str] = frozenset()  # names that mean nothing outside of the function
    clears: frozenset[str] = frozenset()  # of a function that trains by itself, the scope's optimizers that it clears in the end

    def outward(self, names: frozenset[str]) -> frozenset[str]:
        """What the caller has for what goes by these names in the function."""
        found: set[str] = set()
        for name in names:
            base = first(name)
            if base in self.arguments:
                found.update(own + name[len(base) :] for own in self.arguments[base])
                found.update(self.arguments[base])
            elif base not in self.local:
                found.add(name)
        return frozenset(found)


GROUP = "[*]"  # ends the key that stands for each optimizer of a collection, `optimizers[*]`


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
    text: str = ""  # BACKWARD, DIFFERENTIATE: what it is called by; SAVE, LOAD: the checkpoint, by its name if it has one
    # SAVE, LOAD: the scaler's state is an `entry` beside it, a `statement` behind it, one that has it `popped`, or lost; of one
    # done, its key
    form: str = ""
    calls: tuple[Call, ...] = ()  # UNIT, CALL: the functions that may run
    skipped: bool = False  # a pragma leaves it as it is, past the scaler; it is done, too


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
    SKIPPED = "what a pragma leaves alone"
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
    # if: (body, orelse); for, while: the same; try: (body, orelse, finally, *handlers)
    blocks: "tuple[tuple[Stmt, ...], ...]" = ()
    events: tuple[Event, ...] = ()
    defs: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()  # what the functions that it calls set
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
    plain: bool = False  # an assignment of what a function of the program returns, which are numbers
    renames: bool = False  # an assignment of a name, an attribute or an element
    rebinds: bool = False  # a plain assignment: the old value of `defs` is gone
    combines: bool = False  # an assignment of sums and products of what was computed before, the same in and outside autocast
    shielded: bool = False  # runs models only in functions that turn gradients off themselves
    each: str = ""  # a loop that does the same to each optimizer of a collection: the text that stands for one
    skipped: bool = False  # a pragma says to leave it alone

    def walk(self) -> "Iterator[Stmt]":
        """This statement and all inside it."""
        yield self
        for block in self.blocks:
            for inner in block:
                yield from inner.walk()

    def run(self) -> "Iterator[Stmt]":
        """This statement, all inside it, and all that it has functions do for a training step around it."""
        for stmt in self.walk():
            yield stmt
            for event in stmt.events:
                for call in event.calls:
                    for inner in call.body:
                        yield from inner.run()

    def all_events(self) -> Iterator[Event]:
        for inner in self.run():
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
    part: bool = False  # does a part of a training step for other functions, which call it
    local: frozenset[str] = frozenset()  # the names that it binds itself
    family: frozenset[str] = frozenset()  # of a method: its class and those that it comes from
    path: str = ""  # of the file that it is in, if that is another than the program's own

    def statements(self) -> Iterator[Stmt]:
        """The scope's own statements."""
        for stmt in self.body:
            yield from stmt.walk()

    def run(self) -> Iterator[Stmt]:
        """Its statements, and those of the functions that do a part of its training step."""
        for stmt in self.body:
            yield from stmt.run()

    def parts(self) -> frozenset[int]:
        """The numbers of the functions that do a part of its training step."""
        return frozenset(call.number for s in self.run() for e in s.events if e.kind is Kind.CALL for call in e.calls)

    def calls(self) -> frozenset[int]:
        """The numbers of the functions that it calls for a training step, or a part of one."""
        return frozenset(call.number for s in self.run() for e in s.events for call in e.calls)

    def shares(self) -> dict[str, frozenset[str]]:
        """For each optimizer the others that own some of its parameters."""
        return {
            a.key: frozenset(b.key for b in self.optimizers if b.key != a.key and overlap(a.roots, b.roots))
            for a in self.optimizers
        }


def first(name: str) -> str:
    """The plain name that a name of something begins with: `self` of `self.optimizers['main']`."""
    return name.partition(".")[0].partition("[")[0]


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


class Elsewhere(NamedTuple):
    """What other files of a program, without training steps of their own, save and load of optimizers' states."""

    scopes: tuple[Scope, ...] = ()  # with their paths
    starts: Mapping[str, int] = MappingProxyType({})  # by path, the number of the file's first statement
    taken: frozenset[str] = frozenset()  # what the other files of the program call anything by
    key: str = ""  # by which one of the files has the scaler's state already
    keyed: bool = False  # somebody goes through the keys of a checkpoint: it bears no new one
    fixed: frozenset[str] = frozenset()  # paths of files in which nothing can be written


class Program(NamedTuple):
    """All that planning needs to know of one file, with the functions of other files that take part in its training steps."""

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
    stepless: tuple[tuple[int, int], ...] = ()  # backward passes, as (line, column), of a file where nothing steps on them
    skips: frozenset[int] | None = None  # the file's lines that pragmas leave alone; None: no file here has pragmas
    skipped: tuple[Note, ...] = ()  # what they leave alone
    left: frozenset[int] = frozenset()  # the lines of training steps that they leave alone

    def own(self) -> Iterator[Scope]:
        """The scopes of the file itself."""
        return (scope for scope in self.scopes if not scope.path)

    def trains(self) -> bool:
        """Whether anything in the file goes backward."""
        return any(e.kind is Kind.BACKWARD for scope in self.own() for s in scope.run() for e in s.events)

    def whole(self) -> Iterator[Scope]:
        """The file's scopes that the scaler's protocol is followed in: not what others run as a part of themselves."""
        reached = self._reached()
        return (scope for scope in self.own() if not (scope.part and scope.number in reached))

    def steps_elsewhere(self) -> frozenset[str]:
        """The files with training steps that functions of this file do a part of."""
        own = {scope.number for scope in self.own()}
        return frozenset(scope.path for scope in self.scopes if scope.path and not scope.part and scope.parts() & own)

    def parts_elsewhere(self) -> frozenset[str]:
        """The files with functions that do a part of this file's training steps."""
        reached = {number for scope in self.own() if not scope.part for number in scope.parts()}
        return frozenset(scope.path for scope in self.scopes if scope.path and scope.number in reached)

    def _reached(self) -> set[int]:
        return {number for scope in self.scopes if not scope.part for number in scope.parts()}
