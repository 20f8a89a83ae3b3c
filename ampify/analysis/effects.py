"""Effects: what one call does to gradients, optimizers and the scaler."""

from __future__ import annotations

import ast

from ampify.analysis import gradients, owners
from ampify.analysis.backwards import note_backward, note_gradient
from ampify.analysis.forward import level_of
from ampify.analysis.names import dotted
from ampify.analysis.notes import Notes
from ampify.analysis.roles import Role
from ampify.analysis.steps import note_scaler, note_step
from ampify.analysis.syntax import shown
from ampify.analysis.vocabulary import FUNCTIONAL, LEAVING_GRADIENTS, PASSIVE, SECOND_ORDER
from ampify.analysis.walk import walk
from ampify.program import Compute, Kind


def note_call(notes: Notes, node: ast.Call) -> Compute:
    """Notes the events of one call; returns how much it looks like a forward pass."""
    func, name = node.func, notes.known.names.resolve(node.func)
    last = name.rpartition(".")[2]
    level = Compute.NONE
    if (
        dotted(func) == "getattr"
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value == "grad"
    ):
        notes.note(Kind.READ, node, gradients.owner_of(node.args[0], notes.frame, notes.roles))
        return level
    if isinstance(func, ast.Attribute):
        if notes.known.names.is_scaler(func.value):
            note_scaler(notes, func.attr, node)
            return Compute.NONE
        noted = len(notes.events)
        if func.attr in ("backward", "zero_grad") and notes.does_part(node):
            level = _note_other(notes, node, name)
        elif func.attr == "backward":
            note_backward(notes, node, name)
        elif func.attr == "step":
            stepped = note_step(notes, node, func)
            level = _note_other(notes, node, name) if stepped is None else stepped
        elif func.attr == "zero_grad":
            _note_zero(notes, node, func)
        if func.attr in ("backward", "step", "zero_grad"):
            if notes.is_conditional(node) and notes.each(func.value, node) is None:
                _take_back(notes, node, noted)
            return level if func.attr == "step" else Compute.NONE
    if name == "torch.autograd.backward":
        note_backward(notes, node, name)
    elif last.startswith("clip_grad") or last in ("get_total_norm", "clip_grads_with_norm_"):
        _note_clip(notes, node, name)
    elif name == "torch.autograd.grad":
        note_gradient(notes, node)
    elif name in SECOND_ORDER:
        notes.refuse("AMP902", node, shown(node))
    elif node in notes.known.exchange(notes.frame).sums:
        return Compute.NONE
    elif node in notes.known.exchange(notes.frame).others or (
        name == "torch.distributed.all_reduce" and any("grad" in dotted(n) for a in node.args for n in walk(a))
    ):
        notes.refuse("AMP917", node, shown(node))
    else:
        return _note_other(notes, node, name)
    return Compute.NONE


def _take_back(notes: Notes, node: ast.Call, noted: int) -> None:
    """Takes back the events of a call that may not run: a clearing cannot be relied on, a step or backward is refused."""
    kinds = {e.kind for e in notes.events[noted:]}
    del notes.events[noted:]
    if kinds & {Kind.BACKWARD, Kind.STEP} or (kinds == {Kind.CALL} and notes.known.trains(node, notes.frame)):
        notes.refuse("AMP921", node, f"`{ast.unparse(node)[:40]}` runs under a condition in its own line")


def _note_clip(notes: Notes, node: ast.Call, name: str) -> None:
    """A clip of gradients: torch's function, or a method of a model."""
    if isinstance(node.func, ast.Attribute) and not name.startswith("torch."):
        roots = owners.canonical(node.func.value, notes.frame, notes.roles)
    else:
        roots = owners.roots(node.args[0], notes.frame, notes.roles) if node.args else frozenset()
    notes.note(Kind.READ, node, notes.members(roots))


def _note_zero(notes: Notes, node: ast.Call, func: ast.Attribute) -> None:
    """A clearing of gradients: of an optimizer, of a model, or of each optimizer of a collection."""
    key = dotted(func.value)
    method = notes.frame.method
    if each := notes.each(func.value, node):
        for one in each.keys:
            notes.note(Kind.ZERO, node, key=one)
    elif method is not None and key == method.self_name:
        notes.note(Kind.ZERO, node, frozenset({"*"}))
    elif notes.roles.of(func.value, notes.frame) in (Role.OPTIMIZER, Role.WRAPPER):
        notes.note(Kind.ZERO, node, key=key)
    else:
        notes.note(Kind.ZERO, node, owners.certain(func.value, notes.frame, notes.roles))


def _note_other(notes: Notes, node: ast.Call, name: str) -> Compute:
    """A call of a function, of this file or not, that may do a part of the training step."""
    if name in FUNCTIONAL:
        return Compute.NONE  # copies parameters, and leaves gradients alone
    hidden = notes.known.hidden(node, notes.frame)
    if _is_closure_call(notes, node):
        notes.refuse(
            "AMP901",
            node,
            f"`{dotted(node.func)}` is called by its name too, and would leave scaled gradients to the next step",
        )
    elif hidden.backward or hidden.step or hidden.clears:
        kind = Kind.UNIT if hidden.backward and hidden.step else Kind.CALL
        notes.note(kind, node, runs=(node, tuple(notes.roles.targets(node, notes.frame))))
        if kind is Kind.CALL and notes.is_conditional(node):
            _take_back(notes, node, len(notes.events) - 1)
    else:
        looks = hidden.exchange or hidden.read or hidden.peek
        touched = gradients.touched(node, notes.frame, notes.roles) if looks else frozenset()
        if hidden.exchange:
            notes.note(Kind.EXCHANGE, node, touched)
        if hidden.read or (hidden.peek and touched):
            notes.note(Kind.READ, node, touched, soft=not hidden.read)
    if notes.roles.targets(node, notes.frame):
        return Compute.FORWARD if hidden.forward and not hidden.backward else Compute.CALL
    func = node.func
    if isinstance(func, ast.Attribute) and func.attr in PASSIVE and notes.roles.of(func.value, notes.frame) is Role.OPTIMIZER:
        return Compute.NONE
    level = level_of(node, notes.frame, notes.roles)
    builds = not isinstance(func, ast.Subscript) and dotted(func).rpartition(".")[2][:1].isupper()
    touched = frozenset() if builds else gradients.touched(node, notes.frame, notes.roles)
    own = f"@{dotted(node.func.value)}" if isinstance(node.func, ast.Attribute) else ""
    handed = frozenset(t for t in touched if t.startswith("@") and t != own)
    if handed:
        notes.note(Kind.HANDED, node, handed)
    if touched and level in (Compute.CALL, Compute.FORWARD) and not _runs_model(notes, node):
        notes.note(Kind.READ, node, touched, soft=True)
    return level


def _runs_model(notes: Notes, node: ast.Call) -> bool:
    """Whether a call is a model's own, or by its name evaluates, saves or shows something: it leaves gradients alone."""
    func = node.func
    if isinstance(func, ast.Attribute):
        receiver = notes.roles.of(func.value, notes.frame)
        if (Role.MODEL in (receiver, notes.roles.of(func, notes.frame))) and "grad" not in func.attr:
            return True
    elif notes.roles.of(func, notes.frame) in (Role.MODEL, Role.LOSS):
        return True
    last = dotted(func).rpartition(".")[2].lower()
    return "grad" not in last and any(word in last for word in LEAVING_GRADIENTS)


def _is_closure_call(notes: Notes, node: ast.Call) -> bool:
    """Whether a function is called by its name that some step evaluates as its closure."""
    closures = notes.known.closures
    return bool(closures) and any(target.node in closures for target in notes.roles.targets(node, notes.frame))
