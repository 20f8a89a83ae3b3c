"""Values: closures handed to the scaler, and losses used after they are scaled (AMP307, AMP308)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.names import dotted
from ampify.analysis.scalers import SCALERS
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.machine import about_precision

HARMLESS = frozenset({"isfinite", "isnan", "isinf", "isfinite_"})
TAKING = frozenset({"item", "detach", "cpu", "numpy", "tolist", "clone", "data", "float", "mean", "sum"})


def find(case: Case) -> Iterator[Finding]:
    """The findings of the file's scalers."""
    yield from _closures(case)
    for frame in case.file.frames.all:
        yield from _scaled(case, frame)


def _closures(case: Case) -> Iterator[Finding]:
    """Steps through a scaler of torch's that are handed a closure."""
    plain = {made.text for made in case.made if case.names.resolve(made.call.func) in SCALERS}
    for call, frame in case.calls_of_scaler("step"):
        if not isinstance(call.func, ast.Attribute) or dotted(call.func.value) not in plain:
            continue
        given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "closure")]
        if any(isinstance(g, ast.Lambda) or _is_function(case, g, frame) for g in given):
            yield Finding("AMP307", call.lineno, call.col_offset, shown(call))


def _is_function(case: Case, node: ast.expr, frame: Frame) -> bool:
    """Whether a name is of a function that goes backward."""
    functions = [f for f in case.file.frames.functions.get(dotted(node), ()) if f.parent in (frame, case.file.frames.module)]
    return bool(functions) and all(_goes_backward(f) for f in functions)


def _goes_backward(frame: Frame) -> bool:
    return any(isinstance(call.func, ast.Attribute) and call.func.attr == "backward" for call in frame.calls)


def _scaled(case: Case, frame: Frame) -> Iterator[Finding]:
    """Names that are given their own scaled value, and looked at afterwards."""
    for stmt in case.body(frame):
        if not isinstance(stmt, ast.Assign) or len(stmt.targets) != 1 or not isinstance(stmt.targets[0], ast.Name):
            continue
        call, name = stmt.value, stmt.targets[0].id
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "scale" and call.args):
            continue
        mentioned = {n.id for n in walk(call.args[0]) if isinstance(n, ast.Name)}
        if not case.names.is_scaler(call.func.value) or name not in mentioned:
            continue
        for node in _uses_after(case, stmt, name):
            if (look := _look(case, node)) is not None:
                yield Finding("AMP308", look.lineno, look.col_offset, shown(look))
                break


def _uses_after(case: Case, stmt: ast.stmt, name: str) -> Iterator[ast.Name]:
    """The uses of a name in what follows a statement, until it means something else: in its own block, and in the one round a
    branch for mixed precision."""
    for later in _later(case, stmt):
        if isinstance(later, (*FUNCTIONS, ast.ClassDef)):
            continue
        used = [n for n in walk(later) if isinstance(n, ast.Name) and n.id == name]
        if any(isinstance(n.ctx, (ast.Store, ast.Del)) for n in used) and not isinstance(later, ast.AugAssign):
            return
        yield from sorted((n for n in used if isinstance(n.ctx, ast.Load)), key=lambda n: (n.lineno, n.col_offset))


def _later(case: Case, stmt: ast.stmt) -> Iterator[ast.stmt]:
    """The statements that run behind one, in this round of a loop."""
    parent = case.parents[stmt]
    for block in (getattr(parent, field, None) for field in ("body", "orelse", "finalbody")):
        if isinstance(block, list) and stmt in block:
            yield from block[block.index(stmt) + 1 :]
    if isinstance(parent, ast.If) and about_precision(parent.test):
        yield from _later(case, parent)


def _look(case: Case, node: ast.Name) -> ast.stmt | ast.expr | None:
    """The statement that logs, adds up or returns a value, or None where its use is another one."""
    inner: ast.AST = node
    for above in case.above(node):
        if isinstance(above, ast.Call):
            last = dotted(above.func).rpartition(".")[2] or getattr(above.func, "attr", "")
            if last in HARMLESS or last in ("backward", "get_scale", "grad", "unscale") or case.names.is_scaler(above.func):
                return None
        if isinstance(above, ast.BinOp) and isinstance(above.op, (ast.Div, ast.Mult)):
            return None  # perhaps the scale is taken off
        if isinstance(above, (ast.AugAssign, ast.Return)) or (isinstance(above, ast.Assign) and inner is above.value):
            reads = isinstance(above, ast.Return) or _taken(case, node)
            return above if reads or isinstance(above, ast.AugAssign) else None
        if isinstance(above, ast.Expr):
            return above if _taken(case, node) else None
        if isinstance(above, ast.stmt):
            return None
        inner = above
    return None


def _taken(case: Case, node: ast.Name) -> bool:
    """Whether a tensor's value is taken: `loss.item()`."""
    parent = case.parents.get(node)
    return isinstance(parent, ast.Attribute) and parent.attr in TAKING
