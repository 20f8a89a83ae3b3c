"""Flow: what is wrong on every path between a backward pass and the update of the scale (AMP301 to AMP306)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.scalers import speaks_of_apex
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.accumulation import apart
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.machine import Mistake, Place, places
from ampify.doctor.mends import mended, mended_update
from ampify.program import Event, Kind, Scope
from ampify.protocol import TooMany

CODES = {
    Mistake.READ_SCALED: "AMP301",
    Mistake.UNSCALED_TWICE: "AMP302",
    Mistake.STEPPED_TWICE: "AMP304",
    Mistake.IDLE_UPDATE: "AMP304",
    Mistake.STALE: "AMP304",
    Mistake.PLAIN_STEP: "AMP305",
    Mistake.UNCHECKED_STEP: "AMP305",
    Mistake.NOT_SCALED: "AMP306",
    Mistake.PARTLY_SCALED: "AMP306",
}
DOUBTS = frozenset({"AMP901", "AMP904", "AMP907", "AMP912", "AMP913", "AMP917", "AMP921"})  # who steps what is not clear
FINITE = frozenset({"isfinite", "isnan", "isinf", "nan_to_num_", "nan_to_num"})  # these say the same of scaled gradients
OF_SCALER = (Kind.STEP, Kind.UNSCALE, Kind.UPDATE)


def find(case: Case) -> Iterator[Finding]:
    """The mistakes of all training steps that can be followed."""
    if not case.scalers or speaks_of_apex(case.names):
        return
    for scope in case.reading.program.whole():
        if not scope.closure and _is_clear(case, scope):
            try:
                found = places(scope, case.code)
            except TooMany:
                continue
            for place in sorted(found, key=lambda p: (p.line, p.mistake.value)):
                if (finding := _finding(case, scope, place, found)) is not None:
                    yield finding
            yield from apart(case, scope)
    yield from _never_updated(case)


def _is_clear(case: Case, scope: Scope) -> bool:
    """Whether all of a scope's steps are in sight: one scaler, nobody else has it, and nothing is in doubt."""
    frames = list(case.frames_of(scope))
    used = {text for frame in frames for text in _scalers_used(case, frame)}
    if len(used) > 1 or any(case.handed_on(frame) - _followed(case, scope) for frame in frames):
        return False
    if any(_acts_unseen(case, frame, scope) for frame in frames):
        return False
    spans = [(f.node.lineno, f.node.end_lineno or 0) for f in frames if not isinstance(f.node, ast.Module)]
    for refusal in case.reading.program.refusals:
        inside = any(first <= refusal.line <= last for first, last in spans) or scope.number == -1
        if refusal.code in DOUBTS and inside:
            return False
    return not any(_divides_itself(case, frame.node) for frame in frames)


def _acts_unseen(case: Case, frame: Frame, scope: Scope) -> bool:
    """Whether a function calls another that does something to the scaler and that the scope does not follow."""
    followed = {case.frames[n] for n in scope.calls() if n in case.frames} | {frame}
    targets = {t for call in frame.calls for t in case.roles.targets(call, frame)}
    return any(target in case.acting for target in targets - followed)


def _scalers_used(case: Case, frame: object) -> set[str]:
    return {
        dotted(call.func.value)
        for call, where in case.calls_of_scaler()
        if where is frame and isinstance(call.func, ast.Attribute)
    }


def _followed(case: Case, scope: Scope) -> frozenset[str]:
    """The scalers that are handed to functions which the scope follows, or that are trainings of their own."""
    names = {frame.name for frame in case.frames_of(scope)} | {s.name for s in case.reading.program.own() if s.number != -1}
    handed: dict[str, list[bool]] = {}
    for frame in case.frames_of(scope):
        for call in frame.calls:
            for value in (*call.args, *(k.value for k in call.keywords)):
                if case.names.is_scaler(value):
                    handed.setdefault(dotted(value), []).append(dotted(call.func).rpartition(".")[2] in names)
    return frozenset(text for text, known in handed.items() if all(known))


def _divides_itself(case: Case, node: ast.AST) -> bool:
    """Whether a function takes the scale to compute with: it unscales gradients by hand."""
    for call in walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and case.names.is_scaler(call.func.value):
            if call.func.attr in ("get_scale", "_get_scale_async", "_unscale_grads_"):
                if any(isinstance(a, (ast.BinOp, ast.AugAssign)) for a in case.above(call)):
                    return True
                parent = case.parents.get(call)
                if isinstance(parent, ast.Assign) and any(_computes(case, node, dotted(t)) for t in parent.targets):
                    return True
    return False


def _computes(case: Case, node: ast.AST, text: str) -> bool:
    """Whether a value is a factor somewhere, or handed on."""
    for inner in walk(node):
        if isinstance(inner, (ast.Name, ast.Attribute)) and dotted(inner) == text and isinstance(inner.ctx, ast.Load):
            if not isinstance(case.parents.get(inner), ast.Compare):
                return True
    return False


def _finding(case: Case, scope: Scope, place: Place, found: frozenset[Place]) -> Finding | None:
    """The finding of a place, with the edits that mend it, or None where more is to be known before it is told."""
    stmt = next((s for s in scope.run() if s.number == place.stmt), None)
    node = case.statements.get(place.stmt)
    if stmt is None or node is None or (stmt.kind != "simple" and place.mistake is not Mistake.READ_SCALED):
        return None
    events = [e for e in stmt.events if (e.line or stmt.line) == place.line and e.targets == place.targets]
    detail, line = f"`{place.targets[0]}`" if place.targets else "the scaler", place.line
    if place.mistake is Mistake.READ_SCALED:
        if _asks_finite(node):
            return None
        detail = shown(_call_at(node, place.line) or node)
    elif place.mistake is Mistake.IDLE_UPDATE:
        if not _has_step(scope) or _takes_scale(case) or any(p.mistake is Mistake.STEPPED_TWICE for p in found):
            return None
        detail = "nothing is stepped before it, so `update()` raises an AssertionError"
    elif place.mistake is Mistake.STEPPED_TWICE:
        if not _updates(scope):
            return None  # AMP303, or another file updates
        detail = f"`{place.targets[0]}` is stepped twice before it, and the second step raises a RuntimeError"
    elif place.mistake is Mistake.STALE:
        detail = f"it changes the scale before `{place.targets[0]}` is stepped, whose gradients are then divided by another one"
    elif place.mistake in (Mistake.NOT_SCALED, Mistake.PARTLY_SCALED):
        raw = _raw_backward(scope, place)
        if raw is None or _scales_elsewhere(case):
            return None
        scaling = any(True for _ in case.calls_of_scaler("scale"))
        outcome = "the scaler divides its gradients, and the optimizer gets 1/65536 of them" if scaling else "the step raises"
        line, detail = raw.line, f"`{_text_at(case, raw)}`|{outcome}"
    elif place.mistake is Mistake.PLAIN_STEP:
        if not _alone(scope, place):
            return None
        detail = f"{shown(node)}|on gradients that are still scaled, 65536 times too large at first, and on inf and NaN"
    elif place.mistake is Mistake.UNCHECKED_STEP:
        if any(_asks_finite(frame.node) for frame in case.frames_of(scope)):
            return None  # it looks for overflows itself
        detail = f"{shown(node)}|on inf and NaN after an overflow, where the scaler would skip the step"
    column = events[0].column if events and line == place.line else node.col_offset if line == place.line else 0
    code = CODES[place.mistake]
    return Finding(code, line, column, detail, mended(case, scope, place, stmt))


def _call_at(node: ast.stmt, line: int) -> ast.AST | None:
    """The outermost call of a statement that begins in a line."""
    calls = [n for n in walk(node) if isinstance(n, ast.Call) and n.lineno == line]
    return min(calls, key=lambda c: c.col_offset, default=None)


def _asks_finite(node: ast.AST) -> bool:
    """Whether code asks for inf and NaN, which scaled gradients have where the true ones do, or not much later."""
    return any(isinstance(n, ast.Call) and dotted(n.func).rpartition(".")[2] in FINITE for n in walk(node))


def _has_step(scope: Scope) -> bool:
    return any(e.kind in (Kind.STEP, Kind.UNSCALE) and e.done for s in scope.run() for e in s.events)


def _updates(scope: Scope) -> bool:
    return any(e.kind is Kind.UPDATE for s in scope.run() for e in s.events)


def _takes_scale(case: Case) -> bool:
    """Whether some update is given a scale, which needs no step before it."""
    return any(call.args or call.keywords for call, _ in case.calls_of_scaler("update"))


def _raw_backward(scope: Scope, place: Place) -> Event | None:
    """The one backward of a scope that is not scaled, of the nearest before a place."""
    raw = [e for s in scope.run() for e in s.events if e.kind is Kind.BACKWARD and not e.done and e.line <= place.line]
    several = len(scope.optimizers) > 1
    plain = any(e.kind is Kind.STEP and not e.done for s in scope.run() for e in s.events)
    return None if not raw or (several and (plain or place.mistake is Mistake.PARTLY_SCALED)) else max(raw, key=lambda e: e.line)


def _scales_elsewhere(case: Case) -> bool:
    """Whether a scaled loss may come from where no backward is: it is returned, or handed to a call."""
    for call, frame in case.calls_of_scaler("scale"):
        backward = any(isinstance(c.func, ast.Attribute) and c.func.attr == "backward" for c in frame.calls)
        for above in case.above(call):
            if isinstance(above, (ast.Return, ast.Lambda, ast.Yield)):
                return True
            if isinstance(above, ast.Call) and dotted(above.func).rpartition(".")[2] not in ("backward", "grad", "append", "sum"):
                if not (isinstance(above.func, ast.Attribute) and above.func.attr == "backward"):
                    return True
            if isinstance(above, ast.stmt):
                if not backward:
                    return True
                break
    return False


def _text_at(case: Case, event: Event) -> str:
    for stmt in case.statements.values():
        for node in walk(stmt) if stmt.lineno <= event.line <= (stmt.end_lineno or 0) else ():
            if isinstance(node, ast.Call) and (node.lineno, node.col_offset) == (event.line, event.column):
                return shown(node).strip("`")
    return "backward()"


def _alone(scope: Scope, place: Place) -> bool:
    """Whether an optimizer that steps by itself is the only one, or none is stepped through the scaler: else the scaled gradients
    may be another's."""
    return len(scope.optimizers) == 1 or (
        all(e.done for s in scope.run() for e in s.events if e.kind is Kind.BACKWARD)
        and not any(e.kind is Kind.STEP and e.done for s in scope.run() for e in s.events)
    )


def _never_updated(case: Case) -> Iterator[Finding]:
    """Scalers of the file's own that are stepped through, and that nobody updates."""
    stepped: dict[str, ast.Call] = {}
    for call, _ in case.calls_of_scaler("step"):
        if isinstance(call.func, ast.Attribute):
            stepped.setdefault(dotted(call.func.value), call)
    handed = {text for frame in case.file.frames.all for text in case.handed_on(frame)}
    updated = {
        dotted(c.func.value)
        for c in case.names.nodes.of(ast.Call)
        if isinstance(c.func, ast.Attribute) and c.func.attr == "update"
    }
    for each in case.made:
        step = stepped.get(each.text)
        last = each.text.rpartition(".")[2]
        if step is None or each.text in handed or any(text.rpartition(".")[2] == last for text in updated):
            continue
        if _is_renamed(case, each.text):
            continue
        yield Finding("AMP303", step.lineno, step.col_offset, f"`{each.text}`", mended_update(case, step))


def _is_renamed(case: Case, text: str) -> bool:
    """Whether a scaler gets another name, is returned, or put into something."""
    for kind in (ast.Name, ast.Attribute):
        for node in case.names.nodes.of(kind):
            if dotted(node) == text and isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
                parent = case.parents.get(node)
                if isinstance(parent, (ast.Assign, ast.Return, ast.Dict, ast.Tuple, ast.List, ast.Yield)):
                    return True
    return False
