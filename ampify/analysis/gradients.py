"""Gradients and parameters: who looks at `.grad`, whose it is, and what changes parameters in place."""

from __future__ import annotations

import ast

from ampify.analysis import owners
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import is_none, own_statements
from ampify.analysis.vocabulary import CLEARING, WRITERS
from ampify.analysis.walk import walk

KEEPING = frozenset({"chain", "filter", "list", "tuple"})  # what gives the elements that it is given
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
    ways = roles.frames.lookup(text, frame, linked=True)
    if any(b.how == "for" for b in ways):
        loop = _loop_round(tensor, text, frame) if all(b.how == "for" for b in ways) else None
        return owners.roots(tensor if loop is None else loop.iter, frame, roles)
    base: ast.expr = tensor
    while isinstance(base, (ast.Attribute, ast.Subscript)):
        base = base.value
        if dotted(base) and roles.of(base, frame) is Role.MODEL:
            return owners.canonical(base, frame, roles)
    return frozenset({f"={text}"})


def _loop_round(node: ast.expr, name: str, frame: Frame) -> ast.For | None:
    """The innermost loop round an expression that gives a name its value; other loops may use the name for something else."""
    found = None
    for stmt in own_statements(frame.node.body):
        if isinstance(stmt, ast.For) and stmt.lineno <= node.lineno <= (stmt.end_lineno or stmt.lineno):
            inside = stmt.body[0].lineno <= node.lineno <= (stmt.body[-1].end_lineno or node.lineno)
            if inside and any(isinstance(n, ast.Name) and n.id == name for n in walk(stmt.target)):
                found = stmt
    return found


def touched(node: ast.Call, frame: Frame, roles: Roles) -> frozenset[str]:
    """The models and optimizers (`@key`) that a call receives, and so may look at the gradients of."""
    roles = roles.at(frame)
    found: set[str] = set()
    values: list[ast.expr] = [*node.args, *(k.value for k in node.keywords)]
    receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
    if receiver is not None:
        values.append(receiver)
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
            elif given is not receiver and _holds_parameters(value, frame, roles, one=receiver is None):
                found |= owners.roots(value, frame, roles)
            elif given is not receiver:
                found |= _models_of_instance(value, frame, roles)
    return frozenset(found)


def _models_of_instance(node: ast.expr, frame: Frame, roles: Roles) -> frozenset[str]:
    """The models that an instance has, where a method hands it on."""
    method = frame.method
    if method is None or method.owner is None or dotted(node) != method.self_name:
        return frozenset()
    texts = {text for info in method.home.everywhere(method.owner) for text in info.attributes if text.count(".") == 1}
    held = [ast.parse(method.self_name + text[text.index(".") :], mode="eval").body for text in sorted(texts)]
    return frozenset().union(*(owners.canonical(m, frame, roles) for m in held if roles.of(m, frame) is Role.MODEL))


def _holds_parameters(node: ast.expr, frame: Frame, roles: Roles, one: bool) -> bool:
    """Whether a name holds parameters, or `one` of them, `group["params"]` does, or it is an instance that is a model. The
    methods that get one parameter are by far most often those of tensors, as `view_as` is."""
    method, base = frame.method, node.value if isinstance(node, ast.Subscript) else node
    if method is not None and method.owner is not None and dotted(node) == method.self_name:
        return roles.is_module(method.owner)
    bound = roles.frames.lookup(dotted(base), frame, linked=True)
    ways = ("assign", "for") if one or base is not node else ("assign",)
    values = [b.value for b in bound if b.how in ways and b.value is not None]
    return any(_gives_parameters(v) or (isinstance(v, ast.Attribute) and v.attr == "param_groups") for v in values)


def _gives_parameters(value: ast.expr) -> bool:
    """Whether a value holds parameters of models: `[p for p in model.parameters() if p.requires_grad]`."""
    if isinstance(value, ast.Call):
        called = dotted(value.func).rpartition(".")[2]
        return called.endswith("parameters") or (called in KEEPING and any(map(_gives_parameters, value.args)))
    if isinstance(value, (ast.ListComp, ast.GeneratorExp)):
        return isinstance(value.elt, ast.Name) and any(_gives_parameters(g.iter) for g in value.generators)
    if isinstance(value, ast.BinOp):
        return _gives_parameters(value.left) or _gives_parameters(value.right)
    elements = value.elts if isinstance(value, (ast.List, ast.Tuple)) else []
    return any(isinstance(e, ast.Starred) and _gives_parameters(e.value) for e in elements)


def cleared_all(stmt: ast.For, frame: Frame, roles: Roles) -> frozenset[str]:
    """Whose parameters a loop goes through, all of them, doing nothing but clear their gradients."""
    return owners.every(stmt.iter, frame, roles) if _clears(stmt.body) else frozenset()


def _clears(body: list[ast.stmt]) -> bool:
    """Whether statements clear gradients and do nothing else; under a condition that asks for more than whether there is one, not
    all are cleared, and detaching a gradient clears none."""
    cleared = False
    for stmt in body:
        if isinstance(stmt, ast.If) and not stmt.orelse and _asks_for_gradient(stmt.test):
            cleared = _clears(stmt.body) or cleared
        elif isinstance(stmt, ast.Assign):
            target = stmt.targets[0]
            if not (isinstance(target, ast.Attribute) and target.attr == "grad" and is_none(stmt.value)):
                return False
            cleared = True
        elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
            text = dotted(stmt.value.func)
            if ".grad." not in text or not text.endswith(("zero_", "detach_")):
                return False
            cleared = cleared or text.endswith("zero_")
        else:
            return False
    return cleared


def _asks_for_gradient(test: ast.expr) -> bool:
    """`p.grad is not None`, or `p.grad`."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.IsNot):
        test = test.left if is_none(test.comparators[0]) else test
    return isinstance(test, ast.Attribute) and test.attr == "grad"


def each_cleared(stmt: ast.For, frame: Frame, roles: Roles) -> list[str]:
    """The optimizers that a loop over a tuple or list written out clears one after the other."""
    value: ast.expr | None = stmt.iter
    if value is not None and dotted(value):
        bindings = roles.frames.lookup(dotted(value), frame, linked=True)
        value = bindings[0].value if len(bindings) == 1 and not bindings[0].path else None
    if not isinstance(value, (ast.Tuple, ast.List)) or not isinstance(stmt.target, ast.Name):
        return []
    if any(isinstance(node, (ast.Break, ast.Continue, ast.Return)) for node in walk(stmt)):
        return []  # it may leave some out
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
