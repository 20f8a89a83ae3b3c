"""Gradients and parameters: who looks at `.grad`, whose it is, and what changes parameters in place."""

from __future__ import annotations

import ast

from ampify.analysis import owners
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import is_none
from ampify.analysis.vocabulary import CLEARING, WRITERS
from ampify.analysis.walk import walk

METADATA = ("device", "dtype", "shape", "is_sparse")
Parents = dict[ast.AST, ast.AST]


def reads_gradient(node: ast.Attribute, roles: Roles, parents: Parents) -> bool:
    """Whether `.grad` is looked at or changed: not when it is only cleared, or compared with None."""
    parent = parents.get(node)
    if roles.names.resolve(node).startswith("torch.") or isinstance(node.ctx, ast.Del):
        return False
    if isinstance(parent, ast.Compare) and len(parent.ops) == 1 and isinstance(parent.ops[0], (ast.Is, ast.IsNot)):
        return False
    if isinstance(node.ctx, ast.Store) and isinstance(parent, ast.Assign) and is_none(parent.value):
        return False
    if isinstance(parent, (ast.If, ast.While, ast.BoolOp)):
        return False
    if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
        return False
    while isinstance(parent, ast.Attribute):
        if parent.attr in CLEARING or parent.attr in METADATA:
            return False
        parent = parents.get(parent)
    return True


def owner_of(tensor: ast.expr, frame: Frame, roles: Roles) -> frozenset[str]:
    """Whose parameter a tensor is: the roots of the loop that yields it, the model it lies in, or `=text` for itself alone."""
    roles = roles.at(frame)
    text = dotted(tensor).removesuffix(".data")
    if any(b.how == "for" for b in roles.frames.lookup(text, frame, linked=True)):
        return owners.roots(tensor, frame, roles)
    base: ast.expr = tensor
    while isinstance(base, (ast.Attribute, ast.Subscript)):
        base = base.value
        if dotted(base) and roles.of(base, frame) is Role.MODEL:
            return owners.canonical(base, frame, roles)
    return frozenset({f"={text}"})


def touched(node: ast.Call, frame: Frame, roles: Roles) -> frozenset[str]:
    """The models and optimizers (`@key`) that a call receives, and so may look at the gradients of."""
    roles = roles.at(frame)
    found: set[str] = set()
    values: list[ast.expr] = [*node.args, *(k.value for k in node.keywords)]
    if isinstance(node.func, ast.Attribute):
        values.append(node.func.value)
    for given in values:
        value = given.value if isinstance(given, ast.Starred) else given
        if isinstance(value, ast.Call) and dotted(value.func).endswith(("parameters", "named_parameters")):
            found |= owners.roots(value, frame, roles)
        elif dotted(value):
            role = roles.of(value, frame)
            if role is Role.MODEL:
                found |= owners.canonical(value, frame, roles)
            elif role is Role.OPTIMIZER:
                found.add("@" + dotted(value))
    return frozenset(found)


def clears_all(stmt: ast.For) -> bool:
    """Whether a loop does nothing but clear the gradients of the parameters it runs over."""
    return "parameters" in ast.dump(stmt.iter) and all(_clears(inner) for inner in stmt.body)


def _clears(stmt: ast.stmt) -> bool:
    if isinstance(stmt, ast.If) and not stmt.orelse:
        return all(_clears(inner) for inner in stmt.body)
    if isinstance(stmt, ast.Assign):
        target = stmt.targets[0]
        return isinstance(target, ast.Attribute) and target.attr == "grad" and is_none(stmt.value)
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
        text = dotted(stmt.value.func)
        return ".grad." in text and text.endswith(("zero_", "detach_"))
    return False


def each_cleared(stmt: ast.For, frame: Frame, roles: Roles) -> list[str]:
    """The optimizers that a loop over a tuple or list written out clears one after the other."""
    value: ast.expr | None = stmt.iter
    if value is not None and dotted(value):
        bindings = roles.frames.lookup(dotted(value), frame, linked=True)
        value = bindings[0].value if len(bindings) == 1 and not bindings[0].path else None
    if not isinstance(value, (ast.Tuple, ast.List)) or not isinstance(stmt.target, ast.Name):
        return []
    clearing = f"{stmt.target.id}.zero_grad"
    calls = [s.value for s in stmt.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    return [dotted(e) for e in value.elts if dotted(e)] if any(dotted(c.func) == clearing for c in calls) else []


def is_data(node: ast.AST) -> bool:
    """Whether an assignment's target is `X.data`, in full or in part, and no gradient."""
    while isinstance(node, ast.Subscript):
        node = node.value
    parts = dotted(node).split(".")
    return "data" in parts[1:] and "grad" not in parts


def writes_parameters(node: ast.Call, frame: Frame, roles: Roles) -> bool:
    """Whether a call changes parameters in place."""
    name = roles.names.resolve(node.func)
    if name.rpartition(".")[2] in WRITERS or name.startswith("torch.nn.init."):
        return True
    if not isinstance(node.func, ast.Attribute):
        return False
    attr, receiver = node.func.attr, node.func.value
    if attr in ("update", "step") and "ema" in dotted(receiver).lower():
        return True
    if not attr.endswith("_") or attr.endswith("__") or attr in ("requires_grad_", "detach_", "retain_grad_"):
        return False
    parts = {n.attr for n in walk(receiver) if isinstance(n, ast.Attribute)}
    if "grad" in parts:
        return False
    if parts & {"data", "weight", "bias"}:
        return True
    return any(
        b.how == "for" and b.value is not None and "parameters" in ast.dump(b.value)
        for b in roles.frames.lookup(dotted(receiver), frame, linked=True)
    )


def updates_by_hand(stmt: ast.stmt, nodes: Parents) -> bool:
    """Whether a statement that reads `.grad` moves what the gradient belongs to: a parameter update by hand."""
    bases = {dotted(n.value) for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("grad", "_grad")}
    plain = {b.removesuffix(".data") for b in bases if b}
    if isinstance(stmt, (ast.Assign, ast.AugAssign)):
        targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
        return any(dotted(t.value if isinstance(t, ast.Subscript) else t).removesuffix(".data") in plain for t in targets)
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.endswith("_")
        and dotted(node.func.value).removesuffix(".data") in plain
        for node in nodes
    )
