"""Steps: the steps of optimizers and schedules, with closures, in loops over optimizers, and through the scaler."""

from __future__ import annotations

import ast

from ampify.analysis.groups import Each
from ampify.analysis.names import dotted
from ampify.analysis.notes import Notes
from ampify.analysis.roles import Role
from ampify.analysis.syntax import uses_of
from ampify.analysis.vocabulary import FUNCTIONAL, NOT_OPTIMIZERS
from ampify.program import Compute, Kind


def note_step(notes: Notes, node: ast.Call, func: ast.Attribute) -> Compute | None:
    """Notes what a call of a `step` does; None where it is rather a call of a function of the program."""
    if notes.known.hidden(node, notes.frame).backward:
        return None  # a method that trains, called step
    if is_functional(notes, func.value):
        return _functional_step(notes, node)
    key, what = dotted(func.value), f"`{ast.unparse(func.value)[:40]}`"
    if each := notes.each(func.value, node):
        return _step_each(notes, node, each)
    role = Role.OPTIMIZER if _hands_over_closure(notes, node) else notes.roles.of(func.value, notes.frame)
    if role is Role.UNKNOWN and notes.known.groups.is_member(func.value, notes.frame):
        role = Role.OPTIMIZER
    arguments = [*node.args, *(k.value for k in node.keywords)]
    if role in (Role.WRAPPER, Role.SCHEDULER) and notes.does_part(node):
        return None
    if role is Role.SCHEDULER:
        notes.note(Kind.SCHEDULE, node, key=key, call=notes.ordinals[node])
    elif role in (Role.OPTIMIZER, Role.WRAPPER):
        if role is Role.WRAPPER and notes.roles.targets(node, notes.frame):
            notes.refuse("AMP904", node, f"{what} wraps an optimizer and steps it in its own `step`")
        elif not key or any(b.how == "for" for b in notes.known.frames.lookup(key, notes.frame, linked=True)):
            notes.refuse("AMP913", node, f"{what} stands for several optimizers")
        elif closure := _closure_of(notes, arguments):
            notes.note(Kind.STEP, node, key=key, call=notes.ordinals[node], closure=closure)
        elif _is_lbfgs(notes, key) or any(_is_closure(notes, a) for a in arguments):
            notes.refuse("AMP901", node, "it is not a function that is defined in the one that steps")
        elif arguments:
            notes.refuse("AMP912", node, f"`{ast.unparse(arguments[0])[:40]}`")
        else:
            notes.note(Kind.STEP, node, key=key, call=notes.ordinals[node])
    elif notes.roles.targets(node, notes.frame):
        return None
    else:
        unknown = role in (Role.UNKNOWN, Role.MODEL) and key.rpartition(".")[2] not in NOT_OPTIMIZERS
        if unknown and not arguments:
            notes.refuse("AMP913", node, f"nothing shows whether {what} is an optimizer")
        return Compute.FORWARD if role is Role.MODEL else Compute.CALL
    return Compute.NONE


def note_scaler(notes: Notes, method: str, node: ast.Call) -> None:
    """Notes what a call of a method of the scaler does."""
    if method == "grad":
        notes.note(Kind.DIFFERENTIATE, node, done=True)
        return
    each = notes.each(node.args[0], node) if node.args else None
    key = dotted(node.args[0]) if node.args else ""
    closure = _closure_of(notes, [*node.args[1:], *(k.value for k in node.keywords)]) if method == "step" else None
    kind = {"step": Kind.STEP, "unscale_": Kind.UNSCALE, "update": Kind.UPDATE}.get(method)
    several = bool(node.args) and each is None and notes.known.groups.is_member(node.args[0], notes.frame)
    if method in ("step", "unscale_") and node.args and (several or not key) and each is None:
        notes.refuse("AMP913", node, f"`{ast.unparse(node.args[0])[:40]}` stands for several optimizers")
    if method == "step_scheduler" and node.args and (several or notes.roles.of(node.args[0], notes.frame) is Role.OPTIMIZER):
        notes.note(Kind.STEP, node, key=key)  # a step without the scaler
    if kind is not None:
        for one in each.keys if each else (key,):
            notes.note(kind, node, key=one, done=True, closure=closure)


def is_functional(notes: Notes, node: ast.expr) -> bool:
    """Whether something is an optimizer that steps by taking the gradients of a loss itself, and leaves `.grad` alone."""
    bound = notes.known.frames.lookup(dotted(node), notes.frame) if dotted(node) else []
    made = [b.value.func for b in bound if isinstance(b.value, ast.Call)]
    return bool(bound) and len(made) == len(bound) and all(notes.known.names.resolve(f) in FUNCTIONAL for f in made)


def _functional_step(notes: Notes, node: ast.Call) -> Compute:
    """A step of an inner loop: its gradients are of a loss that is not scaled, which must not be made under autocast."""
    method = notes.frame.method
    forward = method is not None and method.owner is not None and notes.roles.is_module(method.owner)
    alone = isinstance(notes.stmt, ast.Expr) and notes.stmt.value is node
    if forward or not alone or not node.args:
        notes.refuse("AMP902", node)
    else:
        notes.note(Kind.DIFFERENTIATE, node, done=True, loss=tuple(sorted(uses_of(node.args[0]))))
    return Compute.NONE


def _step_each(notes: Notes, node: ast.Call, each: Each) -> Compute:
    """The step of every optimizer of a collection, in a loop."""
    if notes.known.groups.share(each, notes.frame):
        notes.refuse("AMP907", node, f"an optimizer of `{ast.unparse(each.base)[:40]}`")
    for key in each.keys:
        notes.note(Kind.STEP, node, key=key, call=notes.ordinals[node])
    return Compute.NONE


def _closure_of(notes: Notes, arguments: list[ast.expr]) -> ast.AST | None:
    """The one function of this scope that a step gets as its closure."""
    if len(arguments) != 1 or not isinstance(arguments[0], ast.Name):
        return None
    functions = [f for f in notes.known.frames.functions.get(arguments[0].id, ()) if f.parent is notes.frame]
    return functions[0].node if len(functions) == 1 and notes.known.frames.named_once(functions[0]) else None


def _is_closure(notes: Notes, node: ast.expr) -> bool:
    return isinstance(node, ast.Lambda) or dotted(node) in notes.known.frames.functions or "closure" in dotted(node)


def _hands_over_closure(notes: Notes, node: ast.Call) -> bool:
    """Whether a call hands over a function of this file that goes backward: a step with a closure, whatever the receiver."""
    names = [a.id for a in node.args if isinstance(a, ast.Name)]
    targets = [t for name in names for t in notes.known.frames.functions.get(name, ())]
    return any(notes.known.summaries.of(target).backward for target in targets)


def _is_lbfgs(notes: Notes, key: str) -> bool:
    values = notes.roles.sources(key, notes.frame)
    return any(isinstance(v, ast.Call) and notes.roles.at(where).callee(v.func).endswith(".LBFGS") for v, where in values)
