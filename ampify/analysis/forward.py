"""Forward: how much a call, or the expression of a loss, looks like part of a forward pass."""

from __future__ import annotations

import ast

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.vocabulary import (
    COMBINING,
    HARMLESS,
    MATMULS,
    MUTATORS,
    PASSIVE,
    PREPARATION,
    REDUCING,
    STANDARD,
    TENSOR_METHODS,
)
from ampify.analysis.walk import walk
from ampify.program import Compute

RUNNING = ("torch.utils.checkpoint.", "torch.nn.parallel.data_parallel", "torch.func.functional_call")  # a model, given first


def level_of(node: ast.Call, frame: Frame, roles: Roles) -> Compute:
    """The level of a call of something that this file does not define as a function."""
    name = roles.names.resolve(node.func)
    last = name.rpartition(".")[2]
    if isinstance(node.func, ast.Attribute) and node.func.attr in MATMULS and not name.startswith("torch.optim"):
        return Compute.MATMUL
    if name.startswith("torch.nn.functional."):
        if last in MATMULS:
            return Compute.MATMUL
        return Compute.NONE if last in PREPARATION else Compute.LOSS
    if name.startswith(RUNNING):
        return Compute.FORWARD
    if name.startswith("torch.") or last in HARMLESS or name.partition(".")[0] in STANDARD:
        return Compute.NONE
    level = _by_callee(node, frame, roles)
    if level is None:
        level = Compute.FORWARD if _receives_model(node, frame, roles) else Compute.CALL
    if level is Compute.CALL and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS | TENSOR_METHODS:
        return Compute.NONE
    return level


def _by_callee(node: ast.Call, frame: Frame, roles: Roles) -> Compute | None:
    """The level that follows from what is called; None where nothing is known of it."""
    func = node.func
    own = _module_self(frame, roles)
    if isinstance(func, ast.Attribute):
        if own and dotted(func.value) == own:
            return Compute.FORWARD if func.attr == "forward" or roles.of(func, frame) is Role.MODEL else Compute.CALL
        role = roles.of(func, frame) if dotted(func) else Role.UNKNOWN
        if role is Role.MODEL and func.attr not in PASSIVE:
            return Compute.FORWARD
        base = roles.of(func.value, frame)
        if role is Role.LOSS:
            return Compute.LOSS
        if base is Role.MODEL:
            return Compute.NONE if func.attr in PASSIVE else Compute.FORWARD
        return Compute.NONE if base in (Role.OPTIMIZER, Role.SCHEDULER, Role.LOSS, Role.OTHER) else None
    if isinstance(func, ast.Name) and func.id == own:
        return Compute.FORWARD
    if frame.home.file.class_named(dotted(func)) is not None:
        return Compute.NONE  # builds an object
    return {Role.MODEL: Compute.FORWARD, Role.LOSS: Compute.LOSS}.get(roles.of(func, frame))


def _module_self(frame: Frame, roles: Roles) -> str:
    """The name of the instance in a method of an nn.Module, or an empty string."""
    method = frame.method
    if method is None or method.owner is None or not roles.is_module(method.owner):
        return ""
    return method.self_name


def _receives_model(node: ast.Call, frame: Frame, roles: Roles) -> bool:
    """Whether a function, not a class, is handed a model: it may run it."""
    if dotted(node.func).rpartition(".")[2][:1].isupper():
        return False
    given = [*node.args, *(k.value for k in node.keywords)]
    values = [a.value if isinstance(a, ast.Starred) else a for a in given]
    return any(dotted(v) and roles.of(v, frame) is Role.MODEL for v in values)


def computes(loss: ast.AST, roles: Roles) -> bool:
    """Whether the expression of a loss does more than combine losses that were computed before."""
    if any(isinstance(node, ast.BinOp) and isinstance(node.op, (ast.MatMult, ast.Pow)) for node in walk(loss)):
        return True
    return any(isinstance(node, ast.Call) and not _combines(node, roles) for node in walk(loss))


def _combines(node: ast.Call, roles: Roles) -> bool:
    name = roles.names.resolve(node.func)
    method = isinstance(node.func, ast.Attribute) and not name.startswith("torch.") and node.func.attr in REDUCING
    return method or name in COMBINING


def may_run_model(loss: ast.AST, frame: Frame, roles: Roles) -> bool:
    """Whether the expression of a loss may do more than apply loss functions and functions of single elements to what was
    computed before: run a model, multiply matrices, or call what nothing is known of."""
    for node in walk(loss):
        if isinstance(node, (ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return True
        if isinstance(node, ast.Call) and not _combines(node, roles) and not _is_loss(node, frame, roles):
            return True
    return False


def _is_loss(node: ast.Call, frame: Frame, roles: Roles) -> bool:
    """Whether a call is of a loss function, or of a function or method of torch's that computes from its operands alone."""
    name = roles.names.resolve(node.func)
    builds = name.startswith("torch.nn.") and name.endswith("Loss")  # nn.MSELoss()(output, target)
    if builds or roles.targets(node, frame):
        return builds
    level = level_of(node, frame, roles)
    if level is Compute.NONE and isinstance(node.func, ast.Attribute) and node.func.attr in TENSOR_METHODS:
        return name.count(".") == 1 or not name.startswith("torch.")
    return level is Compute.LOSS or (level is Compute.NONE and name.startswith("torch.") and name.count(".") == 1)
