"""Checkpoints: where an optimizer's state is saved among others, and where it is loaded again."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles


class Saved(NamedTuple):
    """A state that is saved: the call of `state_dict`, and what it goes into: a dict written out (empty) or one by name."""

    call: ast.Call
    container: str


def saved(stmt: ast.stmt, nodes: list[ast.AST], frame: Frame, roles: Roles, scaler: str) -> list[Saved]:
    """The optimizers' states that a statement's own `nodes` put into dicts, the last of each; beside the scaler's it is done."""
    if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1 and isinstance(stmt.targets[0], ast.Subscript):
        target = stmt.targets[0]
        if _is_key(target.slice) and _of_optimizer(stmt.value, frame, roles) and dotted(target.value):
            assert isinstance(stmt.value, ast.Call)
            return [Saved(stmt.value, dotted(target.value))]
    found = []
    for node in nodes:
        values: list[tuple[ast.expr | str | None, ast.expr]] = []
        if isinstance(node, ast.Dict):
            values = [(k, v) for k, v in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Call) and dotted(node.func) == "dict":
            values = [(k.arg, k.value) for k in node.keywords]
        if any(is_state(v, scaler) for _, v in values):
            continue
        states = [v for k, v in values if (isinstance(k, str) or _is_key(k)) and _of_optimizer(v, frame, roles)]
        if states and isinstance(states[-1], ast.Call):
            found.append(Saved(states[-1], ""))
    return found


def is_state(node: ast.AST, scaler: str) -> bool:
    """Whether an expression is the scaler's own `state_dict()`."""
    return bool(scaler) and isinstance(node, ast.Call) and dotted(node.func) == f"{scaler}.state_dict"


def loaded(node: ast.Call, frame: Frame, roles: Roles) -> str:
    """The text of the checkpoint that `optimizer.load_state_dict(checkpoint['key'])` takes a state from, or an empty string."""
    func = node.func
    if not isinstance(func, ast.Attribute) or func.attr != "load_state_dict" or len(node.args) != 1 or node.keywords:
        return ""
    state = node.args[0]
    if not isinstance(state, ast.Subscript) or not _is_key(state.slice) or roles.of(func.value, frame) is not Role.OPTIMIZER:
        return ""
    return dotted(state.value)


def _of_optimizer(node: ast.expr, frame: Frame, roles: Roles) -> bool:
    """Whether an expression is `optimizer.state_dict()`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "state_dict":
        return False
    return roles.of(node.func.value, frame) is Role.OPTIMIZER


def _is_key(node: ast.expr | str | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
