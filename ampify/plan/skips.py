"""Skips: what pragmas leave alone of a program: training steps as a whole, and edits that stand by themselves.

The edits of a training step belong together, as half of them train wrongly. So where a pragma holds for one of its statements,
all statements of the step stay as they are: those of the innermost block that holds a backward and a step, with the functions
that do a part of it. The protocol follows them all the same: their gradients are not scaled, and nobody else's may mix with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ampify.analysis.analyse import Reading
from ampify.diagnostics import Diagnostic, pragma
from ampify.plan.places import Places
from ampify.plan.regions import Regions, covered, plan_evaluation
from ampify.plan.rules.search import Search, find
from ampify.pragmas import said
from ampify.program import APART, Barrier, Block, Event, Kind, Note, Program, Refusal, Scope, Stmt

CODE, BOTH = "AMP197", "AMP928"
TRAINING = frozenset({Kind.BACKWARD, Kind.STEP, Kind.DIFFERENTIATE})
GRADIENTS = frozenset({Kind.READ, Kind.REPLACE, Kind.EXCHANGE, Kind.HANDED})
STATE = "the scaler's state in a checkpoint"
# What is refused for the step that it is found in, and for nothing else: not hooks, threads, or what is out of sight.
LOCAL = frozenset({"AMP901", "AMP902", "AMP903", "AMP907", "AMP912", "AMP913", "AMP915", "AMP917"})


def settled(program: Program) -> Program:
    """The program with what pragmas leave alone in it marked as such: `skipped` events and statements."""
    if program.skips is None:
        return program
    return _Skips(program).settled()


def told(status: str, found: tuple[Diagnostic, ...], reading: Reading, search: Search, imported: bool) -> tuple[Diagnostic, ...]:
    """The diagnostics of a file with what is to be said of its pragmas. What a file that is `imported` has to be rewritten with
    is not all that it may be converted for."""
    program = reading.program
    if status == "refused":
        return said(reading.tree, found, None)
    notes = list(program.skipped)
    if status != "converted" and program.runtime:  # the rules did not look
        notes += (note for note in find(reading, (), search).notes if note.code == CODE)
    left = (pragma(note.code, note.line, note.column + 1, note.detail) for note in notes)
    return said(reading.tree, (*found, *left), None if imported or (notes and status != "converted") else program.left)


class _Skips:
    """Which statements stay as they are, by their numbers."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roots = [scope for scope in program.scopes if not scope.part]
        self.places = {_key(scope): Places(scope) for scope in self.roots}
        regions = Regions(program)
        self.wraps = regions.plan()
        self.marks = regions.marks
        self.refused = {refusal.line for refusal in program.refusals if refusal.line}
        self.left: set[int] = set()
        # The same, by the function that the step is in.
        self.of: dict[tuple[str, int], set[int]] = {_key(scope): set() for scope in self.roots}
        self.notes: list[Note] = []
        self.refusals: list[Refusal] = []

    def settled(self) -> Program:
        before = -1
        while before != len(self.left):  # a step may be in a closure, or the closure in a step
            before = len(self.left)
            for scope in self.roots:
                self._leave(scope)
        self._single()
        for scope in self.roots:
            self._check(scope)
        lines = self._lines()
        scopes = tuple(scope._replace(body=self._block(scope.body)) for scope in self.program.scopes)
        everything = not any(_is_open(e) and e.kind in TRAINING for c in scopes if not c.path for s in c.run() for e in s.events)
        gone = (self.program.skips or frozenset()) | lines if everything else lines
        refusals = [r for r in self.program.refusals if r.line not in gone or not (everything or r.code in LOCAL)]
        notes = tuple(dict.fromkeys(sorted(self.notes, key=lambda n: (n.line, n.column))))
        return self.program._replace(scopes=scopes, refusals=(*refusals, *self.refusals), skipped=notes, left=frozenset(lines))

    def _lines(self) -> set[int]:
        """The file's own lines of the training steps that are left alone."""
        found: set[int] = set()
        for scope in self.program.own():
            inside = list(scope.statements())
            found.update(n for s in inside if s.number in self.left for n in range(s.line, s.end_line + 1))
            if inside and all(s.number in self.left for s in inside):
                found.add(scope.line)
        return found

    # which ----------------------------------------------------------------------------------------------

    def _leave(self, scope: Scope) -> None:
        """Adds the statements of the steps of a scope that a pragma has something of."""
        for stmt in scope.run():
            if stmt.number not in self.of[_key(scope)] and (self._asks(stmt) or self._evaluates_left(stmt)):
                self._take(scope, stmt)
        own = {s.number for s in scope.run()}
        closing = [e.closure for s in scope.run() if s.number in self.left for e in s.events if e.closure >= 0]
        for closure in (other for other in self.roots if other.number in closing):
            self._add(closure, closure.run())
        if scope.closure and self.left & own:
            self._add(scope, scope.run())
        rest = {e.kind for s in scope.run() if s.number not in self.left for e in s.events if _is_open(e)} & TRAINING
        whole = any(e.closure >= 0 for s in scope.run() if s.number not in self.left for e in s.events)
        if rest and not whole and not scope.closure and self.of[_key(scope)] and not {Kind.BACKWARD, Kind.STEP} <= rest:
            self._add(scope, scope.run())  # half of it is left alone

    def _add(self, scope: Scope, statements: Iterable[Stmt]) -> None:
        found = {s.number for s in statements}
        self.left |= found
        self.of[_key(scope)] |= found

    def _asks(self, stmt: Stmt) -> bool:
        """Whether a pragma holds for a statement that a training step would be converted in, or is refused for."""
        if not stmt.skipped:
            return False
        inside = [e for e in stmt.events if e.kind in TRAINING | GRADIENTS and _is_open(e) and not e.soft]
        refused = stmt.kind != "def" and not stmt.blocks and not self.refused.isdisjoint(range(stmt.line, stmt.end_line + 1))
        return bool(inside or stmt.number in self.marks or refused or self._calls_some(stmt))

    def _calls_some(self, stmt: Stmt) -> bool:
        called = (s for e in stmt.events if e.kind is Kind.CALL for call in e.calls for part in call.body for s in part.run())
        return any(_is_open(e) for s in called for e in s.events if e.kind in TRAINING | GRADIENTS and not e.soft)

    def _evaluates_left(self, stmt: Stmt) -> bool:
        """Whether a statement steps with a closure that stays as it is."""
        return any(e.closure in self.left or self._closes(e.closure) for e in stmt.events if e.closure >= 0)

    def _closes(self, number: int) -> bool:
        return any(s.number in self.left for other in self.roots if other.number == number for s in other.run())

    def _take(self, scope: Scope, stmt: Stmt) -> None:
        """Leaves the step alone that a statement is a part of."""
        unit: Iterable[Stmt] = scope.run()
        for place in self.places[_key(scope)].outward(stmt.number):
            kinds = {e.kind for e in place.stmt.all_events() if _is_open(e)}
            if {Kind.BACKWARD, Kind.STEP} <= kinds or any(e.closure >= 0 for e in place.stmt.all_events()):
                unit = place.stmt.run()
                break
        unit = list(unit)
        if not any(_is_open(e) for s in unit for e in s.events if e.kind in TRAINING):
            return
        self._add(scope, unit)
        if not scope.path:
            at = self._here(scope, stmt)
            where = "at module level" if scope.name == "<module>" else f"in `{scope.name}`"
            self.notes.append(Note(CODE, at.line, at.column, f"the training step {where}"))

    def _single(self) -> None:
        """Notes what a pragma leaves out by itself."""
        for scope in self.program.own():
            inside = covered(Places(scope), self.wraps)
            evaluated = covered(Places(scope), plan_evaluation(scope))
            beside = {s.number for s in _beside_regions(scope.body)}
            for stmt in (s for s in scope.statements() if s.skipped and s.number not in self.left):
                left = ["a schedule's step" if e.kind is Kind.SCHEDULE else STATE for e in stmt.events if e.skipped]
                if stmt.number in evaluated:
                    left.append("an evaluation")
                elif stmt.number in inside or stmt.number in beside:
                    left.append("what stands between parts of a forward pass")
                self.notes.extend(Note(CODE, stmt.line, stmt.column, what) for what in left)

    def _check(self, scope: Scope) -> None:
        """Refuses functions that do a part of a step that is left alone, and of one that is not."""
        for stmt in scope.run():
            for event in stmt.events:
                if event.kind in TRAINING and _is_open(event) and stmt.number in self.left - self.of[_key(scope)]:
                    self._refuse(scope, stmt, "is a part of both")
                elif event.kind is Kind.UNIT and len({self._is_past(call.number) for call in event.calls}) > 1:
                    self._refuse(scope, stmt, "may run either")

    def _refuse(self, scope: Scope, stmt: Stmt, why: str) -> None:
        at = self._here(scope, stmt)
        self.refusals.append(Refusal(BOTH, at.line, at.column, f"line {at.line} {why}"))

    def _here(self, scope: Scope, stmt: Stmt) -> Stmt:
        """The statement, or the one of this file that calls the function of another in which it is."""
        around = (place.stmt for place in self.places[_key(scope)].outward(stmt.number))
        return next((s for s in around if s.number < APART), stmt)

    # as it stays ----------------------------------------------------------------------------------------

    def _block(self, block: Block) -> Block:
        return tuple(self._stmt(stmt) for stmt in block)

    def _stmt(self, stmt: Stmt) -> Stmt:
        left = stmt.number in self.left
        return stmt._replace(
            blocks=tuple(self._block(block) for block in stmt.blocks),
            events=tuple(self._event(event, left) for event in stmt.events),
            barrier=stmt.barrier or (Barrier.SKIPPED if left or stmt.skipped else None),
        )

    def _event(self, event: Event, left: bool) -> Event:
        if event.kind is Kind.UNIT:
            return event._replace(skipped=any(self._is_past(call.number) for call in event.calls))
        if event.calls:
            return event._replace(calls=tuple(call._replace(body=self._block(call.body)) for call in event.calls))
        if not left or event.done:
            return event
        if event.kind in TRAINING or event.kind is Kind.SCHEDULE:
            return event._replace(done=True, skipped=True)
        if event.kind in (Kind.SAVE, Kind.LOAD):
            return event._replace(form="", skipped=True)
        return event

    def _is_past(self, number: int, seen: frozenset[int] = frozenset()) -> bool:
        """Whether a function trains, and past the scaler only."""
        scope = next((s for s in self.program.scopes if s.number == number), None)
        if scope is None or number in seen:
            return False
        for stmt in scope.run():
            for event in stmt.events:
                if event.kind in TRAINING and (event.done or stmt.number not in self.left):
                    return False
                if event.kind is Kind.UNIT:
                    if not all(self._is_past(call.number, seen | {number}) for call in event.calls):
                        return False
        return True


def _is_open(event: Event) -> bool:
    """Whether an event would be sent through the scaler."""
    return not event.done


def _beside_regions(block: Block) -> Iterator[Stmt]:
    """The statements next to regions that are there already, which end for them."""
    for at, stmt in enumerate(block):
        if any(other.autocast for other in (*block[max(at - 1, 0) : at], *block[at + 1 : at + 2])):
            yield stmt
        for inner in stmt.blocks:
            yield from _beside_regions(inner)


def _key(scope: Scope) -> tuple[str, int]:
    return scope.path, scope.number
