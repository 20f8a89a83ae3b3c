"""Backwards: backward passes, and gradients taken without one."""

from __future__ import annotations

import ast

from ampify.analysis.forward import may_run_model
from ampify.analysis.names import dotted
from ampify.analysis.notes import Notes
from ampify.analysis.roles import Role
from ampify.analysis.syntax import is_false, own_statements, shown, uses_of
from ampify.analysis.walk import walk
from ampify.program import Kind


def note_backward(notes: Notes, node: ast.Call, name: str) -> None:
    """A backward pass: the method of a tensor, or torch's function, however it is called."""
    func = node.func
    if node in notes.known.unowned(notes.frame) or notes.known.draws:
        return
    tensors = name == "torch.autograd.backward"
    if tensors or not isinstance(func, ast.Attribute):
        given = node.args[:1] or [k.value for k in node.keywords if k.arg == "tensors"]
        if not given:
            return
        root = given[0]
    elif name.startswith("torch.distributed.autograd") or dotted(func.value).rpartition(".")[2] == "dist_autograd":
        notes.refuse("AMP904", node, "distributed autograd keeps the gradients outside `.grad`")
        return
    elif _is_not_a_tensor(notes, node, func):
        method = notes.frame.method
        inside = method is not None and method.owner is not None and notes.roles.is_function(method.owner)
        if not inside and not notes.known.hidden(node, notes.frame).backward:
            notes.refuse("AMP904", node, f"`{dotted(func.value) or '...'}.backward(...)` is not a tensor's backward")
        return
    else:
        root = func.value
    if any(k.arg == "create_graph" and not is_false(k.value) for k in node.keywords):
        notes.refuse("AMP902", node, shown(node))
    done = _is_scaled(notes, root) or (notes.known.names.adopted and _was_scaled(notes, root))
    if not done and may_run_model(root, notes.frame, notes.roles):
        notes.refuse("AMP914", node, shown(node))
    loss = tuple(sorted(uses_of(root)))
    called = dotted(func).rpartition(".")[2]
    notes.note(Kind.BACKWARD, node, call=notes.ordinals[node], done=done, loss=loss, tensors=tensors, text=called)


def note_gradient(notes: Notes, node: ast.Call) -> None:
    """`autograd.grad` with a graph: its result is part of a loss. Without one it is left alone: nothing there is scaled."""
    graph = [k.value for k in node.keywords if k.arg == "create_graph"] or node.args[4:5]
    outputs = node.args[:1] or [k.value for k in node.keywords if k.arg == "outputs"]
    if not graph or is_false(graph[0]) or not outputs:
        return
    parts = outputs[0].elts if isinstance(outputs[0], (ast.List, ast.Tuple)) else outputs
    if any(may_run_model(part, notes.frame, notes.roles) for part in parts):
        notes.refuse("AMP914", node, shown(node))
    notes.note(
        Kind.DIFFERENTIATE,
        node,
        call=notes.ordinals[node],
        loss=tuple(sorted(uses_of(outputs[0]))),
        text=dotted(node.func).rpartition(".")[2],
    )


def _is_scaled(notes: Notes, node: ast.AST) -> bool:
    """Whether an expression is `scaler.scale(...)`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "scale"
        and notes.known.names.is_scaler(node.func.value)
    )


def _was_scaled(notes: Notes, node: ast.expr, depth: int = 4) -> bool:
    """Whether an author's expression has a part that is scaled, or names of what was scaled last before it."""
    if any(_is_scaled(notes, inner) for inner in walk(node)):
        return True
    if not depth:
        return False
    for inner in walk(node):
        text = dotted(inner) if isinstance(inner, (ast.Name, ast.Attribute)) else ""
        if text and any(_was_scaled(notes, value, depth - 1) for value in _given(notes, text, inner)):
            return True
    return False


def _given(notes: Notes, text: str, node: ast.AST) -> list[ast.expr]:
    """What a name was given last before a place, and what was added to it; of an attribute, all that it is given anywhere."""
    bound = [(b.value, b.frame) for b in notes.known.frames.lookup(text, notes.frame) if b.value is not None]
    if "." in text:
        return [value for value, _ in bound if not any(inner is node for inner in walk(value))]
    line = getattr(node, "lineno", 0)
    before = [v for v, frame in bound if frame is notes.frame and (v.end_lineno or 0) <= line and node not in set(walk(v))]
    last = max((v.lineno for v in before), default=0)
    found = [v for v in before if v.lineno == last]
    for stmt in own_statements(notes.frame.node.body):
        if isinstance(stmt, ast.AugAssign) and dotted(stmt.target) == text:
            found.append(stmt.value)
        elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and dotted(stmt.value.func) == f"{text}.append":
            found.extend(stmt.value.args)
    return [value for value in found if node not in set(walk(value))]


def _is_not_a_tensor(notes: Notes, node: ast.Call, func: ast.Attribute) -> bool:
    """Whether `X.backward(...)` is a method of something other than a tensor (an engine, an autograd.Function)."""
    receiver = dotted(func.value)
    if receiver in ("self", "cls", "ctx") or (isinstance(func.value, ast.Call) and dotted(func.value.func) == "super"):
        return True
    if notes.roles.targets(node, notes.frame) or receiver in notes.known.names.aliases:
        return True
    engines = (Role.OPTIMIZER, Role.MODEL, Role.WRAPPER)
    return bool(receiver) and bool(node.args) and notes.roles.of(func.value, notes.frame) in engines
