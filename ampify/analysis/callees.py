"""Callees: what a call runs: layers and losses of torch.nn, or functions of the file, and what these return."""

from __future__ import annotations

import ast

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import LOSSES
from ampify.analysis.roles import Roles
from ampify.analysis.sources import FLUENT, Source
from ampify.analysis.syntax import own_statements


def builders(func: ast.expr, frame: Frame, roles: Roles) -> list[ast.Call]:
    """The calls that build what an expression stands for; none if it may be something else."""
    if isinstance(func, ast.Call):
        return [func]
    found: list[ast.Call] = []
    for value, _ in roles.sources(dotted(func), frame) if dotted(func) else ():
        while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in FLUENT:
            value = value.func.value
        if not isinstance(value, ast.Call):
            return []
        found.append(value)
    return found


def layers(func: ast.expr, frame: Frame, roles: Roles) -> set[str]:
    """The classes of torch.nn that something called may be of; none if it may be of another."""
    names = {roles.names.resolve(call.func) for call in builders(func, frame, roles)}
    kinds = {name.rpartition(".")[2] for name in names if name.startswith("torch.nn.") and ".functional." not in name}
    return kinds if len(kinds) == len(names) and all(kind[:1].isupper() for kind in kinds) else set()


def is_loss(call: ast.Call, frame: Frame, roles: Roles) -> bool:
    """Whether a loss of torch.nn or torch.nn.functional is called."""
    name = roles.names.resolve(call.func)
    if name.startswith("torch.nn.functional."):
        return name.rpartition(".")[2] in LOSSES
    kinds = layers(call.func, frame, roles)
    return bool(kinds) and all(kind.endswith("Loss") for kind in kinds)


def targets(call: ast.Call, frame: Frame, roles: Roles) -> list[Frame]:
    """The functions of the file that a call runs: for a module's, its `forward`."""
    info = roles.class_of(dotted(call.func), frame) if dotted(call.func) else None
    if info is None or not roles.is_module(info):
        return roles.targets(call, frame)
    if len({roles.names.resolve(built.func) for built in builders(call.func, frame, roles)}) > 1:
        return []
    return [m.methods["forward"] for m in roles.frames.family(info) if "forward" in m.methods][:1]


def results(call: ast.Call, frame: Frame, roles: Roles) -> list[Source]:
    """The expressions that functions of the file may return to a call."""
    return [(value, target) for target in targets(call, frame, roles) for value in returned(target) if value is not None]


def returned(target: Frame) -> list[ast.expr | None]:
    """What a function returns: an expression for each of its `return` statements."""
    if isinstance(target.node, ast.Module):
        return []
    return [stmt.value for stmt in own_statements(target.node.body) if isinstance(stmt, ast.Return)]
