"""Mends: the edits that put right what a place does wrong, where one is sure to; the proof looks at what comes of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import dotted
from ampify.doctor.case import Case
from ampify.doctor.machine import Mistake, Place, about_precision, places
from ampify.plan.edits import Edit, Insert, Rewrite
from ampify.program import GROUP, Event, Kind, Scope, Stmt
from ampify.protocol import Overlay

LOOPS = (ast.For, ast.While, ast.AsyncFor)
STEPS = (Kind.BACKWARD, Kind.STEP, Kind.UNSCALE, Kind.UPDATE, Kind.ZERO, Kind.CALL, Kind.UNIT)


def mended(case: Case, scope: Scope, place: Place, stmt: Stmt) -> tuple[Edit, ...]:
    """The edits that mend a place; none where it is only shown."""
    own = {s.number for s in scope.statements()}
    scaler = scaler_of(case, scope)
    if place.stmt not in own or not scaler or any(not _is_plain(t) for t in place.targets):
        return ()
    if place.mistake is Mistake.READ_SCALED:
        return _unscaled_before(case, scope, place, scaler)
    if place.mistake in (Mistake.PLAIN_STEP, Mistake.UNCHECKED_STEP):
        return _through_scaler(case, scope, place, stmt, scaler)
    if place.mistake is Mistake.NOT_SCALED:
        return _scaled(case, scope, place)
    return ()


def mended_update(case: Case, call: ast.Call) -> tuple[Edit, ...]:
    """The update behind a step of the scaler that is the only one in the file."""
    steps = list(case.calls_of_scaler("step"))
    stmt = case.statement_of(call)
    if len(steps) > 1 or not isinstance(stmt, ast.Expr) or stmt.value is not call or not isinstance(call.func, ast.Attribute):
        return ()
    if any(isinstance(above, (ast.For, ast.While)) and _steps_each(above, call) for above in case.above(stmt)):
        return ()
    return (Insert(case.reading.numbers[stmt][0], True, f"{dotted(call.func.value)}.update()", "AMP303"),)


def scaler_of(case: Case, scope: Scope) -> str:
    """The one scaler of a scope, by its name; empty where it has several, or none."""
    used = {
        dotted(call.func.value)
        for frame in case.frames_of(scope)
        for call, where in case.calls_of_scaler()
        if where is frame and isinstance(call.func, ast.Attribute)
    }
    return used.pop() if len(used) == 1 else ""


def _is_plain(target: str) -> bool:
    return not target.endswith(GROUP) and ":" not in target and "?" not in target


def _steps_each(loop: ast.AST, call: ast.Call) -> bool:
    """Whether a loop steps one optimizer after the other."""
    names = {n.id for n in ast.walk(getattr(loop, "target", loop)) if isinstance(n, ast.Name)}
    return isinstance(loop, ast.For) and any(dotted(a).partition(".")[0] in names for a in call.args)


def _unscaled_before(case: Case, scope: Scope, place: Place, scaler: str) -> tuple[Edit, ...]:
    """`scaler.unscale_(optimizer)` before the first look at gradients, or the loop over them; it mends all that follow."""
    if not place.targets or (len(scope.optimizers) > 1 and len(place.targets) == len(scope.optimizers)):
        return ()  # whose they are is not known
    before = places(scope, case.code)
    alike = {p for p in before if p.mistake is place.mistake and p.targets == place.targets}
    at = next((s for s in scope.statements() if s.number == min(p.stmt for p in alike)), None)
    if at is None:
        return ()
    for outer in _outwards(scope, at):
        if outer.kind == "for" and not any(e.kind in STEPS for e in outer.all_events()):
            at = outer
    node = case.statements[at.number]
    if _is_elif(case, node) or (at.kind == "while") or not _beside_scaler(case, node, scope):
        return ()
    unscale = tuple(Event(Kind.UNSCALE, (target,), done=True) for target in place.targets)
    left = places(scope, case.code, Overlay(before={at.number: unscale}))
    if left - before or left & alike or _unscaled_in_each(scope, at):
        return ()
    return tuple(Insert(at.number, False, f"{scaler}.unscale_({target})", "AMP301") for target in place.targets)


def _unscaled_in_each(scope: Scope, at: Stmt) -> bool:
    """Whether gradients would be unscaled where they are not always stepped, as in each micro-batch of an accumulation: the next
    `unscale_` would raise."""
    around = {o.number for o in _outwards(scope, at)}
    for stmt in scope.statements():
        if any(e.kind is Kind.STEP and e.done for e in stmt.events):
            branches = [o for o in _outwards(scope, stmt) if o.kind in ("if", "try", "match")]
            if all(branch.number in around for branch in branches):
                return False
    return True


def _outwards(scope: Scope, inner: Stmt) -> Iterator[Stmt]:
    """The statements that one stands in, from the inside."""
    yield from sorted(
        (s for s in scope.statements() if s.number < inner.number < s.end),
        key=lambda s: -s.number,
    )


def _is_elif(case: Case, node: ast.stmt) -> bool:
    """Whether nothing can be put before a statement, as it is an `elif`."""
    parent = case.parents.get(node)
    return isinstance(node, ast.If) and isinstance(parent, ast.If) and node in parent.orelse


def _beside_scaler(case: Case, node: ast.stmt, scope: Scope) -> bool:
    """Whether there is a scaler for certain where a statement runs: beside uses of it, under no other condition about it."""
    above = {n for n in (node, *case.above(node)) if isinstance(n, ast.If)}
    for call, _ in case.calls_of_scaler("scale", "step"):
        around = [n for n in case.above(call) if isinstance(n, (ast.If, ast.IfExp))]
        if any(isinstance(n, ast.IfExp) or (about_precision(n.test) and n not in above) for n in around):
            return False
    return True


def _through_scaler(case: Case, scope: Scope, place: Place, stmt: Stmt, scaler: str) -> tuple[Edit, ...]:
    """`scaler.step(optimizer)` for the optimizer's own step, and the update behind it if there is none."""
    steps = [(s, e) for s in scope.run() for e in s.events if e.kind is Kind.STEP]
    node = case.statements[stmt.number]
    alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not node.value.args and not node.value.keywords
    if len(steps) > 1 or not alone or not _beside_scaler(case, node, scope) or _is_adopted(case, scaler):
        return ()
    edits: tuple[Edit, ...] = (Rewrite(stmt.number, "step", steps[0][1].call, "step", "AMP305"),)
    if not any(e.kind is Kind.UPDATE for s in scope.run() for e in s.events):
        edits += (Insert(stmt.number, True, f"{scaler}.update()", "AMP305"),)
    return edits


def _is_adopted(case: Case, scaler: str) -> bool:
    """Whether a scaler is one that the file does not make: somebody else may update it."""
    return all(each.text != scaler for each in case.made)


def _scaled(case: Case, scope: Scope, place: Place) -> tuple[Edit, ...]:
    """`scaler.scale(loss).backward()` for the only backward of a scope."""
    passes = [(s, e) for s in scope.run() for e in s.events if e.kind is Kind.BACKWARD]
    own = {s.number for s in scope.statements()}
    kinds = {e.kind for s in scope.run() for e in s.events if not e.soft}
    if kinds & {Kind.READ, Kind.REPLACE} and Kind.UNSCALE not in kinds:
        return ()  # these would be looked at while they are scaled
    if len(passes) != 1 or passes[0][0].number not in own or passes[0][1].tensors:
        return ()
    stmt, event = passes[0]
    node = case.statements[stmt.number]
    plain = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and dotted(node.value.func).endswith(".backward")
    if not plain or not _beside_scaler(case, node, scope):
        return ()
    return (Rewrite(stmt.number, event.text, event.call, "scale", "AMP306"),)
