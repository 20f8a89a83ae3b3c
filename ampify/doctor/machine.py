"""The scaler's state machine for an author's own scaler: what every path that comes to a place has in common there.

It is the protocol's dataflow, with two differences. A backward pass may be scaled or not, so gradients are of one kind or the
other. And nothing is a mistake unless every path that brings gradients to a place makes it: what only some do may be a path that
is never taken. Of a branch with the scaler and one without it the first is followed, as that is how mixed precision runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from ampify.program import Event, Kind, Scope, Stmt
from ampify.protocol import Ends, Machine, Overlay, Worlds
from ampify.scaler import CLEAN, READY, SCALED, STALE, STEPPED, UNSCALED, Scaler, State

RAW = "raw"  # of a backward that was not scaled
TRUE = "true"  # unscaled by the scaler
HALF = "half"  # some scaled, some not
USED = "used"  # stepped with: whatever is done next begins with a clearing
UNKNOWN = "unknown"

WORDS = frozenset("amp scaler fp16 half mixed precision float16 autocast gradscaler scale".split())


class Mistake(Enum):
    """What is wrong at a place."""

    READ_SCALED = "looked at before they are unscaled"
    UNSCALED_TWICE = "unscaled twice"
    STEPPED_TWICE = "stepped twice without an update"
    NOT_SCALED = "stepped through the scaler, and never scaled"
    PARTLY_SCALED = "scaled in part"
    STALE = "unscaled by another scale"
    PLAIN_STEP = "scaled, and stepped on without the scaler"
    UNCHECKED_STEP = "unscaled, and stepped on without the scaler"
    IDLE_UPDATE = "updated with nothing stepped"


class Place(NamedTuple):
    """A mistake at a statement, and the optimizers that it concerns."""

    mistake: Mistake
    stmt: int
    line: int
    targets: tuple[str, ...]


class Code(NamedTuple):
    """What the machine has to know of the code itself: the conditions of branches, and the statements that clip gradients, by the
    numbers of the statements."""

    tests: Mapping[int, ast.expr]
    clips: frozenset[int]


def places(scope: Scope, code: Code, overlay: Overlay = Overlay()) -> frozenset[Place]:
    """The mistakes in a scope."""
    machine = _Machine(scope, code, overlay)
    machine.follow(scope)
    return machine.watcher.wrong()


def about_precision(test: ast.expr) -> bool:
    """Whether a condition asks for mixed precision, by the words in it."""
    names = {n.id for n in ast.walk(test) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(test) if isinstance(n, ast.Attribute)
    }
    texts = {n.value for n in ast.walk(test) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    words = {word for name in names | texts for word in re.split(r"[^a-z0-9]+|(?<=[a-z])(?=[A-Z])", name.lower())}
    return bool(words & WORDS)


class _Watcher(Scaler):
    """Takes gradients from state to state, and counts at each place the paths that are right and those that are wrong."""

    def __init__(self, scope: Scope, clips: frozenset[int]) -> None:
        super().__init__(scope, plain=False)
        self.clips = clips  # statements that clip gradients, whosever they are
        self.right: set[Place] = set()
        self.bad: set[Place] = set()

    def wrong(self) -> frozenset[Place]:
        """What every path with gradients does wrong."""
        return frozenset(self.bad - self.right)

    def after(self, event: Event, stmt: Stmt, state: State) -> State:
        now = [list(pair) for pair in state]
        if event.kind is Kind.BACKWARD:
            for pair in now:
                pair[0] = _after_backward(pair[0], event.done)
        elif event.kind is Kind.UNIT:
            for pair in now:
                pair[0], pair[1] = UNKNOWN, READY
        elif event.kind is Kind.UPDATE:
            if now:
                self.tell(Mistake.IDLE_UPDATE, all(pair[1] == READY for pair in now), event, stmt)
            for pair in now:
                pair[0], pair[1] = STALE if pair[0] == SCALED else pair[0], READY
        elif event.kind in (Kind.READ, Kind.REPLACE):
            self.read(event, stmt, now)
        else:
            for key in event.targets:
                if key in self.at:
                    self.single(event, stmt, now, key)
        return tuple((grads, stage) for grads, stage in now)

    def read(self, event: Event, stmt: Stmt, now: list[list[str]]) -> None:
        """Gradients are looked at: of all optimizers that may own them."""
        unknown = event.targets == ("?",) and stmt.number in self.clips
        keys = self.keys if unknown else [key for key in event.targets if key in self.at]
        kinds = {now[self.at[key]][0] for key in keys} - {CLEAN, USED}
        if kinds and not event.soft:
            self.tell(Mistake.READ_SCALED, kinds == {SCALED}, event, stmt)

    def single(self, event: Event, stmt: Stmt, now: list[list[str]], key: str) -> None:
        pair = now[self.at[key]]
        grads, stage = pair
        if event.kind is Kind.ZERO:
            pair[0] = CLEAN
        elif event.kind is Kind.CREATE:
            pair[0], pair[1] = CLEAN, READY
        elif event.kind is Kind.UNSCALE:
            self.tell(Mistake.UNSCALED_TWICE, stage != READY, event, stmt)
            pair[0], pair[1] = TRUE if grads in (SCALED, TRUE) else grads, UNSCALED
        elif event.kind is Kind.STEP and event.done:
            self.tell(Mistake.STEPPED_TWICE, stage == STEPPED, event, stmt)
            if grads not in (CLEAN, USED) and event.closure < 0:
                self.tell(Mistake.NOT_SCALED, grads == RAW, event, stmt)
                self.tell(Mistake.PARTLY_SCALED, grads == HALF, event, stmt)
                self.tell(Mistake.STALE, grads == STALE, event, stmt)
            pair[0], pair[1] = USED, STEPPED
        elif event.kind is Kind.STEP:
            if grads not in (CLEAN, USED):
                self.tell(Mistake.PLAIN_STEP, grads == SCALED and stage == READY, event, stmt)
                self.tell(Mistake.UNCHECKED_STEP, grads == TRUE and stage == UNSCALED, event, stmt)
            pair[0] = USED

    def tell(self, mistake: Mistake, wrong: bool, event: Event, stmt: Stmt) -> None:
        place = Place(mistake, stmt.number, event.line or stmt.line, event.targets)
        (self.bad if wrong else self.right).add(place)


def _after_backward(grads: str, scaled: bool) -> str:
    """What gradients are after a backward pass adds to them."""
    if grads in (CLEAN, USED):
        return SCALED if scaled else RAW
    if scaled:
        return {SCALED: SCALED, RAW: HALF, HALF: HALF}.get(grads, UNKNOWN)
    return {RAW: RAW, SCALED: HALF, HALF: HALF, TRUE: TRUE}.get(grads, UNKNOWN)


class _Machine(Machine):
    """Walks over a scope; of what depends on mixed precision only over the side that has it."""

    def __init__(self, scope: Scope, code: Code, overlay: Overlay) -> None:
        super().__init__(scope, overlay, strict=False)
        self.scaler = self.watcher = _Watcher(scope, code.clips)
        self.tests = code.tests

    def branch(self, stmt: Stmt, worlds: Worlds) -> Ends:
        then, otherwise = stmt.blocks[0], stmt.blocks[1] if len(stmt.blocks) > 1 else ()
        first, second = _Side.of(then), _Side.of(otherwise)
        asks = stmt.number in self.tests and about_precision(self.tests[stmt.number])
        if first.scaled and not second.scaled and (asks or second.plain):
            return self.block(then, worlds)
        if second.scaled and not first.scaled and (asks or first.plain):
            return self.block(otherwise, worlds)
        if asks and first.plain and not second.scaled and not second.plain:
            return self.block(otherwise, worlds)
        return super().branch(stmt, worlds)


class _Side(NamedTuple):
    """What a branch does through the scaler, and without it."""

    scaled: bool
    plain: bool

    @staticmethod
    def of(body: tuple[Stmt, ...]) -> _Side:
        events = [e for stmt in body for e in _events(stmt)]
        kinds = (Kind.BACKWARD, Kind.STEP, Kind.UNSCALE, Kind.UPDATE)
        return _Side(any(e.done for e in events if e.kind in kinds), any(not e.done for e in events if e.kind in kinds))


def _events(stmt: Stmt) -> Iterator[Event]:
    return stmt.all_events()
