"""The scaler's part of the protocol: what one event does to each optimizer's gradients and stage, and what it breaks.

The rules are those of torch.amp.GradScaler (the "Automatic Mixed Precision examples" note of PyTorch).
"""

from enum import Enum
from typing import NamedTuple

from ampify.program import Event, Kind, Scope, Stmt

# Gradients of one optimizer
CLEAN, SCALED, PLAIN, STALE, MIXED = "clean", "scaled", "plain", "stale", "mixed"
# Its stage in the scaler, reset by update()
READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"

State = tuple[tuple[str, str], ...]  # per optimizer: gradients, stage


class Problem(Enum):
    """How a path can break the protocol."""

    READ_SCALED = "gradients are looked at while they are scaled"
    UNSCALED_TWICE = "gradients are unscaled twice without an update between"
    STEPPED_TWICE = "an optimizer steps twice without an update between"
    MIXED = "gradients of an earlier backward, no longer at the same scale, are added to"
    NOT_SCALED = "a backward is not scaled"
    NO_GRADIENTS = "an optimizer may step, or the scale be updated, without gradients"
    EXCHANGED = "gradients are exchanged between processes after they are unscaled"
    UNDECIDED = "there are too many paths to decide"


class Violation(NamedTuple):
    """A statement at which some path breaks the protocol, and the optimizer that it concerns."""

    problem: Problem
    stmt: int
    line: int
    target: str


class Scaler:
    """Takes the optimizers of a scope from state to state; notes what is violated. `plain`: it is torch's own."""

    def __init__(self, scope: Scope, plain: bool) -> None:
        self.keys = [o.key for o in scope.optimizers]
        self.at = {key: i for i, key in enumerate(self.keys)}
        self.shares = scope.shares()
        self.plain = plain
        self.violations: set[Violation] = set()
        self.mixed_at: dict[str, int] = {}  # the backward that first added to gradients of another scale

    def after(self, event: Event, stmt: Stmt, state: State) -> State:
        """The state that an event of a statement leads to."""
        now = [list(pair) for pair in state]
        if event.skipped and event.kind in (Kind.BACKWARD, Kind.UNIT):
            self.unscaled(event, now)
        elif event.kind is Kind.BACKWARD:
            for key, pair in zip(self.keys, now, strict=True):
                if pair[0] in (PLAIN, STALE):
                    self.mixed_at[key] = min(event.line, self.mixed_at.get(key, event.line))
                pair[0] = SCALED if pair[0] in (CLEAN, SCALED) else MIXED
        elif event.kind is Kind.UNIT:
            # Its gradients may touch any optimizer, and its update ends the scale of what was there before.
            cleared = _cleared(event)
            for key, pair in zip(self.keys, now, strict=True):
                after = STALE if pair[0] == SCALED else PLAIN if pair[0] in (CLEAN, PLAIN) else MIXED
                pair[0], pair[1] = CLEAN if key in cleared else after, READY
        elif event.kind is Kind.UPDATE:
            if self.plain and now and all(pair[1] == READY for pair in now):
                self.violate(Problem.NO_GRADIENTS, stmt, event, "")
            for pair in now:
                pair[0] = STALE if pair[0] == SCALED else pair[0]
                pair[1] = READY
        else:
            for key in event.targets:
                if key in self.at:
                    self.single(event, stmt, now, key)
        return tuple((grads, stage) for grads, stage in now)

    def unscaled(self, event: Event, now: list[list[str]]) -> None:
        """A backward that a pragma leaves unscaled, or a call that trains so by itself and updates nothing."""
        cleared = _cleared(event)
        for key, pair in zip(self.keys, now, strict=True):
            if pair[0] not in (CLEAN, PLAIN):
                self.mixed_at[key] = min(event.line, self.mixed_at.get(key, event.line))
            pair[0] = CLEAN if key in cleared else PLAIN if pair[0] in (CLEAN, PLAIN) else MIXED

    def single(self, event: Event, stmt: Stmt, now: list[list[str]], key: str) -> None:
        """An event of one optimizer."""
        pair = now[self.at[key]]
        grads, stage = pair
        if self.plain and event.kind in (Kind.UNSCALE, Kind.STEP) and grads == CLEAN and not event.skipped:
            self.violate(Problem.NO_GRADIENTS, stmt, event, key)
        if event.kind is Kind.ZERO:
            pair[0] = CLEAN
        elif event.kind is Kind.CREATE:
            pair[0], pair[1] = CLEAN, READY
        elif event.kind in (Kind.READ, Kind.REPLACE):
            if grads == SCALED:
                self.violate(Problem.READ_SCALED, stmt, event, key)
            elif grads in (STALE, MIXED) and not event.soft:
                self.violate(Problem.MIXED, stmt, event, key)
            if event.kind is Kind.REPLACE and grads == CLEAN:
                pair[0] = PLAIN
        elif event.kind is Kind.EXCHANGE:
            if stage != READY:  # each process has looked for overflows among its own
                self.violate(Problem.EXCHANGED, stmt, event, key)
        elif event.kind is Kind.UNSCALE:
            if stage != READY:
                self.violate(Problem.UNSCALED_TWICE, stmt, event, key)
            elif grads in (STALE, MIXED, PLAIN):
                self.violate(Problem.MIXED, stmt, event, key)
            pair[0], pair[1] = CLEAN if grads == CLEAN else PLAIN, UNSCALED
            self.share(now, key)
        elif event.kind is Kind.STEP and event.skipped:
            if grads not in (CLEAN, PLAIN) and event.closure < 0:
                self.violate(Problem.MIXED, stmt, event, key)
            pair[0] = CLEAN if grads == CLEAN and event.closure < 0 else PLAIN
        elif event.kind is Kind.STEP:
            if stage == STEPPED:
                self.violate(Problem.STEPPED_TWICE, stmt, event, key)
            elif event.closure >= 0:
                pair[0] = SCALED  # the closure's gradients, which the step unscales
            elif grads in (STALE, MIXED) or (grads == PLAIN and stage == READY) or (grads == SCALED and stage == UNSCALED):
                self.violate(Problem.MIXED, stmt, event, key)
            pair[0], pair[1] = CLEAN if grads == CLEAN and event.closure < 0 else PLAIN, STEPPED  # a closure makes new ones
            self.share(now, key)

    def share(self, now: list[list[str]], key: str) -> None:
        """Unscaling one optimizer unscales a part of the gradients of those that share parameters with it."""
        for other in self.shares.get(key, ()):
            pair = now[self.at[other]]
            if pair[0] in (SCALED, STALE):
                pair[0] = MIXED

    def violate(self, problem: Problem, stmt: Stmt, event: Event, key: str) -> None:
        line = event.line or stmt.line
        self.violations.add(
            Violation(problem, stmt.number, self.mixed_at.get(key, line) if problem is Problem.MIXED else line, key)
        )


def _cleared(event: Event) -> frozenset[str]:
    """The optimizers whose gradients are clear behind a call that trains by itself."""
    return frozenset.intersection(*(call.clears for call in event.calls)) if event.calls else frozenset()
