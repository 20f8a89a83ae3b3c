"""The scaler's state machine over all paths of a function: where gradients are scaled, unscaled, stepped, and the scale updated.

The rules are those of torch.amp.GradScaler (the "Automatic Mixed Precision examples" note of PyTorch): gradients are unscaled
once, before anyone looks at them; every step is followed by one update before the next unscaling; no gradient made under one
scale is used under another. Planning runs it with the events it is about to add, the proof on what was written.

It is a dataflow over sets of states, not an enumeration of paths: a state is what is known of every optimizer's gradients, plus
the outcomes of conditions that are tested more than once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ampify.program import Block, Call, Event, Kind, Scope, Stmt
from ampify.scaler import CLEAN, MIXED, PLAIN, READY, SCALED, STALE, Problem, Scaler, State, Violation

MAX_STATES = 3000
PASSING = (Kind.SCHEDULE, Kind.HANDED, Kind.DIFFERENTIATE, Kind.SAVE, Kind.LOAD)  # these leave gradients and scale alone

Facts = frozenset[tuple[str, bool]]
World = tuple[State, Facts]
Worlds = frozenset[World]
NONE: Worlds = frozenset()


class Overlay(NamedTuple):
    """Events that planning is about to insert before or after statements."""

    before: Mapping[int, tuple[Event, ...]] = MappingProxyType({})
    after: Mapping[int, tuple[Event, ...]] = MappingProxyType({})
    covered: frozenset[int] = frozenset()  # statements that will be in a region
    plain: bool = False  # the scaler is torch's own, which raises where there are no gradients


class Ends(NamedTuple):
    """The worlds in which a block is left, by the way it is left."""

    falls: Worlds
    breaks: Worlds = NONE
    continues: Worlds = NONE
    returns: Worlds = NONE
    raises: Worlds = NONE  # an exception from any statement inside

    def join(self, other: "Ends", falls: Worlds) -> "Ends":
        """The ways out of this and of another block; `falls` is how both go on."""
        return Ends(
            falls,
            self.breaks | other.breaks,
            self.continues | other.continues,
            self.returns | other.returns,
            self.raises | other.raises,
        )


class TooMany(Exception):
    """More states than are worth following."""


class Check(NamedTuple):
    """The outcome: violations in source order, and for each jump the optimizers that may still wait for an update there."""

    violations: tuple[Violation, ...]
    pending: Mapping[int, frozenset[str]]


def check(scope: Scope, overlay: Overlay = Overlay(), strict: bool = False) -> Check:
    """Runs the state machine over all paths of a scope. `strict` demands that every backward is scaled already."""
    machine = Machine(scope, overlay, strict)
    try:
        machine.follow(scope)
    except TooMany:
        return Check((Violation(Problem.UNDECIDED, 0, scope.line, ""),), {})
    mixed = {
        v._replace(line=machine.scaler.mixed_at.get(v.target, v.line)) for v in machine.violations if v.problem is Problem.MIXED
    }
    found = mixed.union(v for v in machine.violations if v.problem is not Problem.MIXED)
    return Check(tuple(sorted(found, key=lambda v: (v.stmt, v.problem.value, v.target, v.line))), machine.pending)


def _start(scope: Scope, machine: "Machine") -> Worlds:
    """The worlds in which a scope begins. A closure finds what gradients were left, brought to the present scale by the step that
    evaluates it."""
    left = [CLEAN, SCALED] if scope.closure else [CLEAN]
    return frozenset((tuple((grads, READY) for _ in machine.keys), frozenset()) for grads in left)


class Machine:
    """Walks over the statements of a scope with all worlds at once."""

    def __init__(self, scope: Scope, overlay: Overlay, strict: bool) -> None:
        self.scaler = Scaler(scope, overlay.plain)
        self.keys, self.violations = self.scaler.keys, self.scaler.violations
        self.overlay, self.strict = overlay, strict
        regions = [s for s in scope.run() if s.autocast]
        self.covered = overlay.covered.union(*(range(s.number, s.end) for s in regions))
        self.pending: dict[int, frozenset[str]] = {}
        self.call: Call | None = None  # that is being run
        self.raised: Worlds = NONE  # in functions that the statement at hand runs
        self.local = {key for s in scope.run() for e in s.events if e.kind is Kind.CREATE for key in e.targets}
        tests = Counter(s.test for s in scope.run() if s.kind == "if" and s.test)
        self.tracked = {test for test, count in tests.items() if count > 1}
        self.names = {s.test: s.test_names for s in scope.run() if s.test in self.tracked}

    def evaluated(self, scope: Scope, worlds: Worlds) -> None:
        """What a closure hands to the step must be gradients of one scale."""
        for state, _ in worlds:
            for key, (grads, stage) in zip(self.keys, state, strict=True):
                if grads in (STALE, MIXED) or (grads == PLAIN and stage == READY):
                    line = self.scaler.mixed_at.get(key, scope.line)
                    self.violations.add(Violation(Problem.MIXED, scope.number, line, key))

    def called_again(self, worlds: Worlds) -> Worlds:
        """The worlds in which the next call of a function begins: no condition is known, and its own optimizers are new."""
        fresh = (CLEAN, READY)
        return frozenset(
            (
                tuple(fresh if key in self.local else pair for key, pair in zip(self.keys, state, strict=True)),
                frozenset(),
            )
            for state, _ in worlds
        )

    def follow(self, scope: Scope) -> None:
        """Runs the scope, as often as it may be called. Raises TooMany."""
        worlds = _start(scope, self)
        while True:
            ends = self.block(scope.body, worlds)
            if scope.closure and not any(e.skipped for s in scope.run() for e in s.events):
                self.evaluated(scope, ends.falls | ends.returns)
                break
            again = worlds | self.called_again(ends.falls | ends.returns) if scope.repeated else worlds
            if again == worlds:
                break
            worlds = again

    # statements --------------------------------------------------------------------------------------

    def block(self, body: Block, worlds: Worlds) -> Ends:
        """Runs statements one after the other."""
        ends = Ends(worlds)
        for stmt in body:
            if not ends.falls:
                break
            inner = self.stmt(stmt, ends.falls)
            ends = ends.join(inner, inner.falls)
        return ends

    def stmt(self, stmt: Stmt, worlds: Worlds) -> Ends:
        """Runs one statement, with the events that planning puts before and after it."""
        if len(worlds) > MAX_STATES:
            raise TooMany
        # The scaler's own bookkeeping does not fail half-way; any other statement may raise before it has done anything.
        raised = NONE if stmt.events and all(e.kind in (Kind.UPDATE, Kind.UNSCALE) for e in stmt.events) else worlds
        for event in self.overlay.before.get(stmt.number, ()):
            worlds = self.apply(self.here(event), stmt, worlds)
            raised |= worlds
        outer, self.raised = self.raised, NONE
        ends = self.inside(stmt, worlds)
        raised, self.raised = raised | self.raised, outer
        falls = ends.falls
        for event in self.overlay.after.get(stmt.number, ()):
            falls = self.apply(self.here(event), stmt, falls)
        return ends._replace(falls=falls, raises=ends.raises | raised)

    def here(self, event: Event) -> Event:
        """An event that planning inserts where the statement at hand stands, by the scope's names for optimizers."""
        if self.call is None:
            return event
        keys = {text: key for key, text in self.call.texts.items()}
        return event._replace(targets=tuple(keys.get(t, t) for t in event.targets))

    def run(self, calls: tuple[Call, ...], worlds: Worlds) -> Worlds:
        """What the functions leave behind that one call may run."""
        outer = self.call
        after: Worlds = NONE
        for self.call in calls:
            ends = self.block(self.call.body, self.forget_inside(self.call, worlds))
            after |= ends.falls | ends.returns
            self.raised |= ends.raises
        self.call = outer
        return after

    def forget_inside(self, call: Call, worlds: Worlds) -> Worlds:
        """A function's own optimizers are new at every call."""
        new = {i for i, key in enumerate(self.keys) if key.startswith(f"{call.number}:") and key in self.local}
        if not new:
            return worlds
        fresh = (CLEAN, READY)
        return frozenset((tuple(fresh if i in new else pair for i, pair in enumerate(state)), facts) for state, facts in worlds)

    def inside(self, stmt: Stmt, worlds: Worlds) -> Ends:
        """Runs what a statement itself does, and its blocks."""
        if stmt.kind in ("break", "continue", "return", "raise"):
            worlds = self.events(stmt, worlds)
            if self.call is None:
                self.note_pending(stmt, worlds)
            return {
                "break": Ends(NONE, breaks=worlds),
                "continue": Ends(NONE, continues=worlds),
                "return": Ends(NONE, returns=worlds),
                "raise": Ends(NONE, raises=worlds),
            }[stmt.kind]
        if stmt.kind == "if":
            return self.branch(stmt, self.events(stmt, worlds))
        if stmt.kind in ("for", "while"):
            return self.loop(stmt, worlds)
        if stmt.kind == "try":
            return self.attempt(stmt, worlds)
        worlds = self.forget(self.events(stmt, worlds), stmt.defs | stmt.changes)
        if stmt.kind == "with":
            ends = self.block(stmt.blocks[0], worlds)
            return ends._replace(falls=ends.falls | ends.raises) if stmt.suppresses else ends
        if stmt.kind == "match":
            ends = Ends(worlds)
            for arm in stmt.blocks:
                inner = self.block(arm, worlds)
                ends = ends.join(inner, ends.falls | inner.falls)
            return ends
        return Ends(worlds)

    def events(self, stmt: Stmt, worlds: Worlds) -> Worlds:
        for event in stmt.events:
            worlds = self.apply(event, stmt, worlds)
        return worlds

    def forget(self, worlds: Worlds, defs: Iterable[str]) -> Worlds:
        """Drops what is known of conditions that a statement may have changed."""
        changed = frozenset(defs)
        gone = {test for test, names in self.names.items() if names & changed}
        if not gone:
            return worlds
        return frozenset((state, frozenset(f for f in facts if f[0] not in gone)) for state, facts in worlds)

    def branch(self, stmt: Stmt, worlds: Worlds) -> Ends:
        """An `if`: worlds that know the outcome of its test take one arm only."""
        then, otherwise = stmt.blocks[0], stmt.blocks[1] if len(stmt.blocks) > 1 else ()
        taken, skipped = set(), set()
        for state, facts in worlds:
            if stmt.test not in self.tracked:
                taken.add((state, facts))
                skipped.add((state, facts))
                continue
            known = dict(facts).get(stmt.test)
            for value in (True, False):
                if known is None or known == value:
                    kept = facts if known is not None else facts | {(stmt.test, value)}
                    (taken if value != stmt.negated else skipped).add((state, kept))
        first, second = self.block(then, frozenset(taken)), self.block(otherwise, frozenset(skipped))
        return first.join(second, first.falls | second.falls)

    def loop(self, stmt: Stmt, worlds: Worlds) -> Ends:
        """A loop: again and again, until no new world comes up."""
        if stmt.each:
            # Every optimizer of the collection runs through the body once, and what it does concerns that one alone. So for
            # each of them it is as if the body ran once, and it runs so for their common key.
            ends = self.block(stmt.blocks[0], self.forget(self.events(stmt, worlds), stmt.defs))
            return ends._replace(falls=self.forget(ends.falls, stmt.defs))
        head = worlds
        total = Ends(NONE)
        while True:
            entered = self.forget(self.events(stmt, head), stmt.defs | stmt.changes)
            if len(entered) > MAX_STATES:
                raise TooMany
            ends = self.block(stmt.blocks[0], entered)
            total = total.join(ends, NONE)
            again = head | ends.falls | ends.continues
            if again == head:
                break
            head = again
        done = NONE if stmt.endless else self.forget(self.events(stmt, head), stmt.defs | stmt.changes)
        after = self.block(stmt.blocks[1], done) if len(stmt.blocks) > 1 else Ends(done)
        return Ends(
            after.falls | total.breaks,
            after.breaks,
            after.continues,
            total.returns | after.returns,
            total.raises | after.raises,
        )

    def attempt(self, stmt: Stmt, worlds: Worlds) -> Ends:
        body, orelse, final, *handlers = stmt.blocks
        tried = self.block(body, worlds)
        ends = tried
        if orelse:
            inner = self.block(orelse, tried.falls)
            ends = ends.join(inner, inner.falls)
        for handler in handlers:
            inner = self.block(handler, tried.raises)
            ends = ends.join(inner, ends.falls | inner.falls)
        return self.finally_(final, ends) if final else ends

    def finally_(self, final: Block, ends: Ends) -> Ends:
        """Every way out of a `try` leads through its `finally`."""
        out = Ends(NONE)
        for way, worlds in zip(ends._fields, ends, strict=True):
            if worlds:
                closed = self.block(final, worlds)
                out = out.join(closed._replace(falls=NONE), out.falls)
                out = out._replace(**{way: getattr(out, way) | closed.falls})
        return out

    def note_pending(self, stmt: Stmt, worlds: Worlds) -> None:
        waiting = {key for state, _ in worlds for key, (_, stage) in zip(self.keys, state, strict=True) if stage != READY}
        if waiting:
            self.pending[stmt.number] = self.pending.get(stmt.number, frozenset()) | waiting

    def apply(self, event: Event, stmt: Stmt, worlds: Worlds) -> Worlds:
        if event.kind in PASSING or (event.soft and stmt.number in self.covered):
            return worlds  # a call inside a region computes; it does not look at gradients
        if event.kind is Kind.CALL:
            return self.run(event.calls, worlds)
        if event.kind is Kind.BACKWARD and self.strict and not event.done:
            self.scaler.violate(Problem.NOT_SCALED, stmt, event, "")
        return frozenset((self.scaler.after(event, stmt, state), facts) for state, facts in worlds)
