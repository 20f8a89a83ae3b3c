"""Graphs: gradients of scaled losses that are differentiated again with the scale still in them (AMP332)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case

GRAD = "torch.autograd.grad"


def find(case: Case) -> Iterator[Finding]:
    """The gradients with a graph, of losses that are scaled for certain, whose scale nobody in the function takes off."""
    for frame in case.file.frames.all:
        if not case.scalers or _knows_scale(case, frame):
            continue
        for call in frame.calls:
            if not _has_graph(case, call):
                continue
            if case.names.resolve(call.func) == GRAD and _is_scaled(case, _outputs(call), frame):
                if _is_only_used_whole(case, call, frame):
                    yield Finding("AMP332", call.lineno, call.col_offset, shown(call))
            elif isinstance(call.func, ast.Attribute) and call.func.attr == "backward":
                if _is_scaled(case, call.func.value, frame) and _is_differentiated(case, call, frame):
                    yield Finding("AMP332", call.lineno, call.col_offset, shown(call))


def _has_graph(case: Case, call: ast.Call) -> bool:
    """Whether a call makes a graph of the gradients for certain."""
    return any(k.arg == "create_graph" and isinstance(k.value, ast.Constant) and k.value.value is True for k in call.keywords)


def _outputs(call: ast.Call) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == "outputs"), call.args[0] if call.args else None)


def _is_scaled(case: Case, node: ast.expr | None, frame: Frame) -> bool:
    """Whether an expression is a scaled loss, directly or by a name that is nothing else."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "scale" and case.names.is_scaler(node.func.value)
    bound = frame.bindings.get(node.id, []) if isinstance(node, ast.Name) else []
    return bool(bound) and all(isinstance(b.value, ast.Call) and not b.path and _is_scaled(case, b.value, frame) for b in bound)


def _knows_scale(case: Case, frame: Frame) -> bool:
    """Whether a function may take the scale off: it asks for it, or for something that is called so."""
    for node in walk(frame.node):
        if isinstance(node, ast.Attribute) and node.attr == "scale" and case.names.is_scaler(node.value):
            continue
        word = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if (
            "scale" in word.lower()
            and word != "scale"
            and word not in ("scaler", "GradScaler")
            and not case.names.is_scaler(node)
        ):
            if word not in {text.rpartition(".")[2] for text in case.scalers} | _scaled_names(case, frame):
                return True
    return False


def _scaled_names(case: Case, frame: Frame) -> set[str]:
    """The names that a function gives to scaled losses, and their gradients."""
    found = set()
    for name, bound in frame.bindings.items():
        values = [b.value for b in bound if isinstance(b.value, ast.Call)]
        if values and len(values) == len(bound) and all(_is_scaled(case, v, frame) or _is_gradient(case, v) for v in values):
            found.add(name)
    return found


def _is_gradient(case: Case, call: ast.Call) -> bool:
    return case.names.resolve(call.func) == GRAD


def _is_only_used_whole(case: Case, call: ast.Call, frame: Frame) -> bool:
    """Whether gradients get a name that is used, and are neither multiplied nor divided, nor handed to a function in sight or
    out of it that may do that."""
    stmt = case.statement_of(call)
    target = stmt.targets[0] if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1 else None
    parent = case.parents.get(call)
    if not isinstance(target, ast.Name) or not (
        parent is stmt or (isinstance(parent, ast.Subscript) and case.parents[parent] is stmt)
    ):
        return False
    names = {target.id}
    for node in walk(frame.node):  # `for g in grads`, `grads = scaled`
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, ast.Name) and node.iter.id in names:
            names.update(n.id for n in ast.walk(node.target) if isinstance(n, ast.Name))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in names:
            names.update(n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name))
    used = [n for n in walk(frame.node) if isinstance(n, ast.Name) and n.id in names and isinstance(n.ctx, ast.Load)]
    return bool(used) and all(_is_measured(case, n) for n in used)


def _is_measured(case: Case, node: ast.Name) -> bool:
    """Whether a use of gradients leads to their size, or only to their parts."""
    parent = case.parents.get(node)
    if isinstance(parent, (ast.For, ast.comprehension)) or (isinstance(parent, ast.Assign) and parent.value is node):
        return True
    if not isinstance(case.statement_of(node), (ast.Assign, ast.AugAssign, ast.Return)):
        return False
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, ast.Pow)
    if isinstance(parent, ast.Attribute):
        return parent.attr in ("pow", "square", "norm", "abs", "view", "flatten", "reshape")
    return isinstance(parent, ast.Call) and case.names.resolve(parent.func) in (
        "torch.norm",
        "torch.linalg.vector_norm",
        "torch.square",
    )


def _is_differentiated(case: Case, call: ast.Call, frame: Frame) -> bool:
    """Whether a function differentiates `.grad` again below a backward pass."""
    for other in frame.calls:
        if _is_gradient(case, other) and other.lineno > call.lineno and (outputs := _outputs(other)) is not None:
            values = [outputs, *(b.value for b in frame.bindings.get(dotted(outputs), []) if b.value is not None)]
            if any(isinstance(n, ast.Attribute) and n.attr == "grad" and n is not other.func for v in values for n in walk(v)):
                return True
    return False
