"""Owners: whose parameters an expression holds, so that a gradient can be traced to the optimizer that unscales it."""

from __future__ import annotations

import ast

from ampify.analysis.calls import Context
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles
from ampify.analysis.sources import FLUENT, element
from ampify.analysis.spelling import WRAPPER_CLASSES
from ampify.analysis.walk import children, walk
from ampify.program import first

PARAMETERS = ("parameters", "named_parameters", "trainable_parameters", "get_parameters")
WRAPPING = (*WRAPPER_CLASSES, "compile", "convert_sync_batchnorm", "list", "tuple")


def roots(node: ast.AST, frame: Frame, roles: Roles, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The texts of the models or tensors whose parameters an expression holds; `@key` for those of an optimizer's groups."""
    roles = roles.at(frame)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PARAMETERS:
        return canonical(node.func.value, frame, roles)
    groups = node
    while isinstance(groups, ast.Subscript):
        groups = groups.value  # optimizer.param_groups[0]["params"]
    if isinstance(groups, ast.Attribute) and groups.attr == "param_groups":
        return frozenset({"@" + dotted(groups.value)})
    found: set[str] = set()
    if groups is not node and dotted(groups):  # group["params"], in a loop through the groups
        held = [b.value for b in roles.frames.lookup(dotted(groups), frame, linked=True) if b.how == "for"]
        found = {"@" + dotted(v.value) for v in held if isinstance(v, ast.Attribute) and v.attr == "param_groups"}
        if found:
            return frozenset(found)
    text = dotted(node)
    if text:
        for binding in roles.frames.lookup(text, frame, linked=True) if text not in seen else ():
            if binding.value is not None and binding.how in ("assign", "for"):
                found |= roots(binding.value, binding.frame, roles, seen | {text})
        return frozenset(found) or frozenset({text})
    for part in _holders(node, roles):
        found |= roots(part, frame, roles, seen)
    return frozenset(found)


def _holders(node: ast.AST, roles: Roles) -> list[ast.AST]:
    """The parts of an expression that can hold parameters: not hyperparameters, functions or modules."""
    if isinstance(node, ast.Dict):
        keys = [k.value if isinstance(k, ast.Constant) else None for k in node.keys]
        return [v for k, v in zip(keys, node.values, strict=True) if k in ("params", None)]
    if isinstance(node, ast.Call):
        arguments: list[ast.AST] = [a for a in node.args if not isinstance(a, ast.Lambda)]
        arguments += [k.value for k in node.keywords if k.arg in ("params", None)]
        func = node.func
        if isinstance(func, ast.Attribute) and dotted(func.value).partition(".")[0] not in roles.names.aliases:
            arguments.append(func.value)
        return arguments
    if isinstance(node, (ast.Compare, ast.BoolOp, ast.Constant, ast.Lambda)):
        return []
    if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
        return [g.iter for g in node.generators]
    return [c for c in children(node) if isinstance(c, ast.expr)]


def canonical(node: ast.expr, frame: Frame, roles: Roles) -> frozenset[str]:
    """The texts by which a model goes: its own, that of what it wraps (`ddp` is `DDP(model)`), and those that callers pass."""
    roles = roles.at(frame)
    while isinstance(node, ast.Attribute) and node.attr == "module":
        node = node.value
    if not dotted(node):
        if isinstance(node, ast.Call) and node.args and not isinstance(node.func, ast.Attribute):
            return canonical(node.args[0], frame, roles)
        return frozenset(n.id for n in walk(node) if isinstance(n, ast.Name))
    texts, queue = set(), [dotted(node)]
    while queue:
        current = queue.pop()
        if current in texts:
            continue
        texts.add(current)
        for binding in roles.frames.lookup(current, frame, linked=True):
            if binding.how == "param":
                queue.extend(dotted(value) for value, _ in roles.passed(current, binding.frame) if dotted(value))
            elif binding.value is not None:
                value, rest = element(binding.value, binding.path)
                queue.extend(_inside(value, roles) if not rest else ())
    return frozenset(texts)


def certain(node: ast.expr, frame: Frame, roles: Roles) -> frozenset[str]:
    """The texts by which a model goes, as `canonical` gives them, if its name stands for one model only; else none."""
    here = roles.at(frame)
    ways = {
        tuple(name for name in _inside(binding.value, here) if name != dotted(node))
        for binding in here.frames.lookup(dotted(node), frame, linked=True)
        if binding.how == "assign" and binding.value is not None and not binding.path
    }
    return canonical(node, frame, roles) if len(ways) < 2 else frozenset()


def every(node: ast.expr, frame: Frame, roles: Roles) -> frozenset[str]:
    """The texts of the models all of whose parameters an expression gives; none if it may leave some out."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [node.left, node.right]
    elif isinstance(node, (ast.List, ast.Tuple)) and all(isinstance(e, ast.Starred) for e in node.elts):
        parts = [e.value for e in node.elts if isinstance(e, ast.Starred)]
    elif not isinstance(node, ast.Call):
        return frozenset()
    elif isinstance(node.func, ast.Attribute) and node.func.attr in ("parameters", "named_parameters"):
        return frozenset() if node.args or node.keywords else certain(node.func.value, frame, roles)
    elif roles.at(frame).names.resolve(node.func).rpartition(".")[2] in ("list", "tuple", "chain") and not node.keywords:
        parts = node.args
    else:
        return frozenset()
    return frozenset().union(*(every(part, frame, roles) for part in parts))


def _inside(value: ast.expr, roles: Roles) -> list[str]:
    """The text of the model that an expression wraps or takes a part of."""
    while isinstance(value, ast.Subscript) and not dotted(value):
        value = value.value  # list(model.children())[-1]
    if dotted(value):
        return [dotted(value)]
    if not isinstance(value, ast.Call):
        return []
    if isinstance(value.func, ast.Attribute) and value.func.attr in (*FLUENT, "children", "modules"):
        return _inside(value.func.value, roles)
    wraps = roles.callee(value.func).rpartition(".")[2] in WRAPPING
    return _inside(value.args[0], roles) if wraps and value.args else []


def outside(found: frozenset[str], context: Context) -> frozenset[str]:
    """Owners of parameters that a function speaks of, by the names of the scope that it runs as a part of at one place.

    Its own parameters are what is passed there, and nothing of what other callers pass. Marks before a name (`@`, `=`) stay.
    """
    if context.outer is None:
        return found
    roles = context.frame.home.file.roles
    marks = {r: r[:1] if r[0] in "=@" else "" for r in found if r != "*"}
    plain = {r: r.removeprefix(mark) for r, mark in marks.items()}
    others: set[str] = set()
    texts: set[str] = set(found & {"*"})
    for text in plain.values():
        if first(text) in context.passed:
            for value, where in roles.passed(first(text), context.frame):
                others |= canonical(value, where, roles)
    for root, text in plain.items():
        passed = context.passed.get(first(text))
        if passed is not None and not marks[root] and (not dotted(passed) or first(text) == text):
            where = context.outer.frame
            inner = canonical(passed, where, roles) if dotted(passed) else roots(passed, where, roles)
            texts |= outside(inner, context.outer)
        elif text not in others:
            texts.add(marks[root] + context.key(text, shared=not marks[root]))
    return frozenset(texts)
