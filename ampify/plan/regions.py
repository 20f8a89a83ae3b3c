"""Regions: which statements run under autocast, as the smallest runs of statements that hold the forward pass and the loss.

A region never holds a backward, an optimizer step or another parameter update: the cast cache of an open region would keep stale
weights (PyTorch's AMP notes advise against a backward under autocast; the cache is cleared when the outermost region ends).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ampify.plan.edits import Wrap
from ampify.plan.places import Places
from ampify.plan.slices import STRONG, made_of, slice_of
from ampify.program import Barrier, Block, Call, Compute, Kind, Program, Refusal, Scope, Stmt, first


class Regions:
    """The autocast regions of a program's training steps: which statements the losses need, wherever they stand."""

    def __init__(self, program: Program) -> None:
        whole = list(program.whole())
        parts = {number for scope in whole for number in scope.parts()}
        self.own = [*whole, *(scope for scope in program.scopes if scope.number in parts)]
        self.scopes = {(scope.path, scope.number): scope for scope in program.scopes}
        self.places = {key: Places(scope) for key, scope in self.scopes.items()}
        self.calls: dict[int, list[tuple[Scope, Stmt, Call]]] = {}  # by function, where it is called for a training step
        for scope in self.scopes.values():
            for stmt in scope.statements():
                for event in stmt.events:
                    for call in event.calls:
                        self.calls.setdefault(call.number, []).append((scope, stmt, call))
        self.marks: set[int] = set()
        self.refusals: list[Refusal] = []

    def plan(self) -> list[Wrap]:
        """The regions round what the unscaled backwards need; reasons against them are in `refusals`."""
        for scope in self.own:
            for stmt in scope.statements():
                for event in stmt.events:
                    if event.kind in (Kind.BACKWARD, Kind.DIFFERENTIATE) and not event.done:
                        found = self._needed(scope, stmt, frozenset(event.loss), frozenset())
                        if not found and event.kind is Kind.BACKWARD:
                            detail = "nothing in sight computes its loss with a model"
                            self.refusals.append(Refusal("AMP904", event.line, event.column, detail))
                        self.marks |= found
        wraps: list[Wrap] = []
        for scope in self.scopes.values():
            self._refuse(scope)
            _place_training(scope.body, self.marks, wraps)
        for scope in self.own:
            places = self.places[scope.path, scope.number]
            self.refusals.extend(_underflowing(scope, places, covered(places, wraps)))
        return wraps

    def _needed(self, scope: Scope, at: Stmt, wanted: frozenset[str], seen: frozenset[int]) -> set[int]:
        """The statements that compute what is wanted before a statement: in its function, where that is called, or where
        attributes and the like were set aside for it."""
        left = set(wanted)
        found = self._inside(scope, slice_of(at, left, self.places[scope.path, scope.number]), seen)
        if found and not scope.part:
            return found
        found |= self._set_aside(scope, at, left)
        whole = bool(found)
        if whole and not scope.part:
            return found
        for caller, stmt, call in self.calls.get(scope.number, ()):
            if call.number in seen:
                continue
            given = frozenset(n for n in left if n in call.arguments)
            names = call.outward(given or frozenset(n for n in left if n.isidentifier()))
            more = self._needed(caller, stmt, names, seen | {call.number})
            if not more and not whole:
                return set()
            found |= more
        return found

    def _inside(self, scope: Scope, found: set[int], seen: frozenset[int]) -> set[int]:
        """The statements of a slice; for a call that trains, which no region may hold, those that compute what it returns."""
        training = [s for s in scope.statements() if s.number in found and s.barrier is Barrier.TRAIN]
        for stmt in training:
            for number in {call.number for e in stmt.events for call in e.calls} - seen:
                callee = next((s for s in self.scopes.values() if s.number == number), None)
                for last in callee.statements() if callee is not None else ():
                    if callee is not None and last.kind == "return" and last.uses:
                        found = found | self._needed(callee, last, last.uses, seen | {number, scope.number})
        return found - {s.number for s in training}

    def _set_aside(self, scope: Scope, at: Stmt, wanted: set[str]) -> set[int]:
        """The statements of other functions that compute what is kept in an attribute or a container for a loss."""
        kept = {n for n in wanted if not n.isidentifier() and first(n) not in scope.local}
        found: set[int] = set()
        used: set[str] = set()
        for other in self.scopes.values():
            for stmt in other.statements():
                names = {n for n in stmt.defs & kept if first(n) != "self" or other.family & scope.family}
                if names and other is not scope:
                    more = slice_of(stmt, set(names), self.places[other.path, other.number], kept=True)
                    used |= names if more else set()
                    found |= more
        return found | made_of(at, used, self.places[scope.path, scope.number]) if found else found

    def _refuse(self, scope: Scope) -> None:
        """Notes the statements of a scope that would be in a region and must not."""
        for stmt in scope.statements():
            if stmt.number not in self.marks:
                continue
            if stmt.barrier is Barrier.SKIPPED:
                detail = f"line {stmt.line} computes a loss of it"
                self.refusals.append(Refusal("AMP928", stmt.line, stmt.column, detail))
            if stmt.barrier is Barrier.SUSPEND:
                self.refusals.append(Refusal("AMP919", stmt.line, stmt.column, ""))
            if stmt.kind != "simple" and _is_barrier(stmt):
                self.refusals.append(Refusal("AMP914", stmt.line, stmt.column, ""))
            given = next((e for e in stmt.events if e.kind is Kind.HANDED), None)
            if given is not None:
                what = f"the call that computes the loss gets `{', '.join(given.targets)}`, and may step it"
                self.refusals.append(Refusal("AMP904", given.line, given.column, what))


def _underflowing(scope: Scope, places: Places, inside: frozenset[int]) -> Iterator[Refusal]:
    """The steps of inner loops whose loss, which is not scaled, would be computed under autocast."""
    for stmt in scope.statements():
        for event in stmt.events:
            if event.kind is Kind.DIFFERENTIATE and event.done and not event.skipped and event.loss:
                if inside & slice_of(stmt, set(event.loss), places):
                    yield Refusal("AMP902", event.line, event.column, "")


def plan_evaluation(scope: Scope) -> list[Wrap]:
    """The autocast regions round a scope's forwards under no_grad or inference_mode."""
    wraps: list[Wrap] = []
    if scope.name == "__init__":
        return wraps  # probes for shapes
    _place_evaluation(scope.body, scope.no_grad, wraps)
    return wraps


def _is_barrier(stmt: Stmt) -> bool:
    """Whether a statement, or anything in it, must stay outside a training region."""
    for inner in stmt.walk():
        if inner.barrier is not None or inner.autocast:
            return True
        if inner.no_grad and any(s.compute in STRONG for s in inner.walk()):
            return True
    return False


def _holds(stmt: Stmt, marks: set[int]) -> bool:
    return stmt.kind != "def" and any(i in marks for i in range(stmt.number, stmt.end))


def _is_context(stmt: Stmt) -> bool:
    """Whether a statement is a `with` whose block stands on lines of its own."""
    return stmt.kind == "with" and stmt.blocks[0][0].line > stmt.line


def _without_tail(marked: list[int], run: list[Stmt], marks: set[int]) -> list[int]:
    """The positions of marked statements without the last ones that are the same outside a region, where others stand between:
    logging and the like, before `loss = loss / steps`, are no part of the forward pass."""
    kept = len(marked)
    for i in range(len(marked) - 1, -1, -1):
        if not all(inner.combines for inner in run[marked[i]].walk() if inner.number in marks):
            break
        if i == 0 or marked[i - 1] < marked[i] - 1:
            kept = i
    return marked[:kept]


def _place_training(block: Block, marks: set[int], wraps: list[Wrap]) -> None:
    """Puts regions round the marked statements of a block, one for all that no barrier stands between."""
    run: list[Stmt] = []

    def close() -> None:
        marked = _without_tail([i for i, s in enumerate(run) if _holds(s, marks)], run, marks)
        around = run[marked[0]] if len(marked) == 1 else None
        if around is not None and _is_context(around) and around.number not in marks:
            _place_training(around.blocks[0], marks, wraps)  # `with torch.set_grad_enabled(train):` is left as it is
        elif marked:
            wraps.append(Wrap(run[marked[0]].number, run[marked[-1]].number, "AMP101"))
        run.clear()

    for stmt in block:
        if not _is_barrier(stmt):
            run.append(stmt)
            continue
        close()
        if not stmt.autocast and not stmt.no_grad:
            for inner in stmt.blocks:
                _place_training(inner, marks, wraps)
    close()


def _place_evaluation(block: Block, no_grad: bool, wraps: list[Wrap]) -> None:
    """Wraps forwards without gradients, each with the losses computed from it next to it."""
    first = last = -1
    names: frozenset[str] = frozenset()

    def close() -> None:
        nonlocal first, last, names
        if first >= 0:
            wraps.append(Wrap(block[first].number, block[last].number, "AMP108"))
        first = last = -1
        names = frozenset()

    for position, stmt in enumerate(block):
        simple = stmt.kind in ("simple", "return")
        defs = _evaluates(stmt, block[position + 1 :], names) if no_grad else None
        if defs is not None:
            if first >= 0 and not _all_uses(stmt) & names and position > last + 1:
                close()
            first = position if first < 0 else first
            last = position
            names |= defs
            continue
        if simple and no_grad and stmt.barrier is None:
            continue
        if not simple or stmt.barrier is not None:
            close()
        if not stmt.autocast:
            for inner in stmt.blocks:
                _place_evaluation(inner, no_grad or stmt.no_grad, wraps)
    close()


def _evaluates(stmt: Stmt, later: Block, names: frozenset[str]) -> frozenset[str] | None:
    """What a statement computes for an evaluation, if that is all that it does: a model's output, or a loss of what has `names`.

    The function that is called is of a loss if what it returns is added to one. An `if` does so in all of its branches.
    """
    if stmt.barrier is not None:
        return None
    if stmt.kind == "if" and stmt.compute is Compute.NONE:
        found: set[str] = set()
        for block in stmt.blocks:
            inside = names
            for position, inner in enumerate(block):
                defs = _evaluates(inner, block[position + 1 :], inside) if inner.kind in ("simple", "if") else None
                if defs is None and inner.combines and inner.uses & inside:
                    defs = inner.defs
                elif defs is not None:
                    found |= defs
                if defs is None:
                    return None
                inside |= defs
        return frozenset(found) or None
    if stmt.kind not in ("simple", "return"):
        return None
    if stmt.compute is Compute.FORWARD:
        return None if stmt.shielded else stmt.defs
    given = bool(stmt.uses & names)
    summed = any(s.combines and s.uses & names and s.uses & stmt.defs for s in later)
    return stmt.defs if given and (stmt.compute is Compute.LOSS or (stmt.compute is Compute.CALL and summed)) else None


def _all_uses(stmt: Stmt) -> frozenset[str]:
    """What a statement and all inside it read."""
    return frozenset().union(*(inner.uses for inner in stmt.walk()))


def covered(places: Places, wraps: Iterable[Wrap]) -> frozenset[int]:
    """The statements of a scope that stand in regions."""
    return frozenset(i for w in wraps if w.last in places for i in range(w.first, places[w.last].stmt.end))


def uncovered(scope: Scope, wraps: Iterable[Wrap]) -> list[Wrap]:
    """The regions of a scope's own that are not inside a region of the runtime's already."""
    own = {s.number for s in scope.statements()}
    inside = [(s.number, s.end) for s in scope.statements() if s.autocast]
    return [w for w in wraps if w.first in own and not any(a < w.first < b for a, b in inside)]
