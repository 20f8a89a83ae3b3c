"""Files without a training step: they compute gradients for an attack, a saliency map or a demonstration, and never step.

What may be a part of somebody else's training step is none: in doubt it is refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from ampify.analysis import gradients, owners
from ampify.analysis.frames import Binding, Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role
from ampify.analysis.sites import Sites
from ampify.analysis.syntax import header, is_false, own_statements
from ampify.analysis.vocabulary import HARMLESS, NOT_OPTIMIZERS, WRITERS
from ampify.analysis.walk import walk
from ampify.program import Event, Kind, Refusal, Scope

# What a training step needs: the codes that stand for nothing once there is none. Any other says that more goes on.
MOOT = frozenset({"AMP903", "AMP906", "AMP914", "AMP915"})
STEPPING = r"(^|_)(step|optimi[sz]er?|minimi[sz]e|apply_gradients?|train|fit)(_|$)"
BACKWARD_HOOKS = frozenset(
    "register_hook register_full_backward_hook register_backward_hook register_full_backward_pre_hook".split()
)


def backwards(sites: Sites, scopes: list[Scope], refusals: list[Refusal]) -> tuple[tuple[int, int], ...]:
    """The places of the backward passes of a file in whose statements no step is seen; empty where something may step all the
    same."""
    found = [(scope, event) for scope in scopes for s in scope.statements() for event in s.events if event.kind is Kind.BACKWARD]
    if not {r.code for r in refusals} <= MOOT:
        return ()
    by_number = {number: frame for frame, number in _numbered(scopes, sites.frames.all)}
    if any(_may_step(frame, sites) or _by_hand(frame, sites) for frame in sites.frames.all):
        return ()
    looks = _is_visualiser(sites)
    for scope, event in found:
        frame = by_number.get(scope.number)
        if frame is None or any(e.soft for s in scope.statements() for e in s.events):
            return ()
        if not (_runs_alone(frame, sites) or (_is_own(event, frame) and (looks or _is_for_inputs(scope, frame, sites)))):
            return ()
    return tuple((event.line, event.column) for _, event in found)


def _numbered(scopes: list[Scope], frames: Iterable[Frame]) -> Iterator[tuple[Frame, int]]:
    """The frames with the numbers of their scopes, which are those of the statements that define them."""
    lines = {(scope.name, scope.line): scope.number for scope in scopes}
    for frame in frames:
        at = (frame.name, getattr(frame.node, "lineno", 1))
        if at in lines:
            yield frame, lines[at]


def _may_step(frame: Frame, sites: Sites) -> bool:
    """Whether a frame builds, gets or steps an optimizer, or calls something that by its name does."""
    idle = {name for name, bindings in frame.bindings.items() if _only_clears(name, bindings, frame, sites)}
    if any(sites.roles.of(ast.Name(name), frame) in (Role.OPTIMIZER, Role.WRAPPER) for name in set(frame.bindings) - idle):
        return True
    for call in frame.calls:
        name = sites.names.resolve(call.func)
        last = name.rpartition(".")[2] or getattr(call.func, "attr", "")
        if name.startswith("torch._foreach") or last in WRITERS - {"load_state_dict"}:
            return True
        if re.search(STEPPING, last) and not name.startswith("torch.") and not _is_harmless(call.func):
            return True
        if last not in HARMLESS and not name.startswith("torch.") and _hands_parameters(call):
            return True
        builds = sites.roles.of(call, frame) in (Role.OPTIMIZER, Role.WRAPPER)
        if builds and not any(b.value is call for name in idle for b in frame.bindings[name]):
            return True
    return False


def _hands_parameters(call: ast.Call) -> bool:
    """Whether a call gets parameters, and may move them."""
    given = [n.func for a in (*call.args, *call.keywords) for n in walk(a) if isinstance(n, ast.Call)]
    return any(isinstance(func, ast.Attribute) and func.attr in owners.PARAMETERS for func in given)


def _is_harmless(func: ast.expr) -> bool:
    """Whether what is called is `model.train`, the mode of a model, or the step of an environment."""
    owner = dotted(func.value).rpartition(".")[2] if isinstance(func, ast.Attribute) else ""
    return isinstance(func, ast.Attribute) and (func.attr == "train" or owner in NOT_OPTIMIZERS)


def _only_clears(name: str, bindings: list[Binding], frame: Frame, sites: Sites) -> bool:
    """Whether a name of a function is an optimizer of torch's that does nothing but clear gradients."""
    value = bindings[0].value
    if len(bindings) > 1 or not isinstance(value, ast.Call) or isinstance(frame.node, ast.Module):
        return False
    if not sites.roles.callee(value.func).startswith("torch.optim."):
        return False
    loads = [n for n in walk(frame.node) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
    clears = [
        n.value
        for n in walk(frame.node)
        if isinstance(n, ast.Attribute) and n.attr == "zero_grad" and isinstance(n.value, ast.Name)
    ]
    return all(load in clears for load in loads)


def _by_hand(frame: Frame, sites: Sites) -> bool:
    """Whether a frame moves what is no input of a model, as training by hand does."""
    inputs = _inputs(frame, sites)
    for stmt in own_statements(frame.node.body):
        targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target] if isinstance(stmt, ast.AugAssign) else []
        parts = [node for part in header(stmt) for node in walk(part)]
        moved = [t for t in targets if gradients.is_data(t)]
        moved += [
            n.func.value
            for n in parts
            if isinstance(n, ast.Call)
            and isinstance(n.func, ast.Attribute)
            and n.func.attr.endswith("_")
            and gradients.writes_parameters(n, frame, sites.roles)
            and not sites.names.resolve(n.func).startswith("torch.nn.init.")
        ]
        if any(_text(m) not in inputs for m in moved):
            return True
        facts = sites.read(stmt, frame)
        if any(r.code == "AMP903" for r in facts.refusals):
            bases = {_text(n.value) for n in parts if isinstance(n, ast.Attribute) and n.attr in ("grad", "_grad")}
            if isinstance(stmt, ast.For) or not bases <= inputs:
                return True
    return False


def _text(node: ast.AST) -> str:
    while isinstance(node, ast.Subscript):
        node = node.value
    return dotted(node).removesuffix(".data")


def _inputs(frame: Frame, sites: Sites) -> set[str]:
    """The names that a frame gives to a model's forward pass, or to what its caller gave it to call."""
    given: set[str] = set()
    for call in frame.calls:
        text = dotted(call.func)
        called = any(b.how == "param" for b in frame.bindings.get(text, ()))
        if called or (text and sites.roles.of(call.func, frame) is Role.MODEL):
            given.update(n.id for a in call.args for n in walk(a) if isinstance(n, ast.Name))
    return given


def _runs_alone(frame: Frame, sites: Sites) -> bool:
    """Whether it is the module's own code, or a `main()` that the module calls: nobody else takes it for a part of a step."""
    if isinstance(frame.node, ast.Module):
        return True
    called = any(dotted(call.func) == "main" for call in sites.frames.module.calls)
    return frame.name == "main" and frame.parent is sites.frames.module and frame.owner is None and called


def _is_own(event: Event, frame: Frame) -> bool:
    """Whether the loss of a backward is a function's own, and not given by who calls it."""
    names = [text for text in event.loss if "." not in text and "[" not in text]
    bound = [b for name in names for b in frame.bindings.get(name, ())]
    return bool(bound) and all(b.how == "assign" for name in event.loss for b in frame.bindings.get(name, ()) if name in names)


def _is_for_inputs(scope: Scope, frame: Frame, sites: Sites) -> bool:
    """Whether the gradients that a function looks at are those of what it gives to a model, and asks gradients of itself."""
    read = [
        n.value for n in walk(frame.node) if isinstance(n, ast.Attribute) and n.attr == "grad" and isinstance(n.ctx, ast.Load)
    ]
    texts = {_text(n) for n in read if not sites.names.resolve(n).startswith("torch")}
    return bool(texts) and texts <= _inputs(frame, sites) & _asked(frame)


def _asked(frame: Frame) -> set[str]:
    """The names whose gradient a frame asks for: `x.requires_grad_()`, `x.requires_grad = True`, `f(requires_grad=True)`."""
    asked: set[str] = set()
    for node in walk(frame.node):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("requires_grad_", "retain_grad")
        ):
            asked.add(_text(node.func.value))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and target.attr == "requires_grad" and not is_false(node.value):
                    asked.add(_text(target.value))
                elif any(_asks(inner) for inner in walk(node.value)):
                    asked.add(_text(target))
    return asked


def _asks(node: ast.AST) -> bool:
    if isinstance(node, ast.keyword):
        return node.arg == "requires_grad" and not is_false(node.value)
    return isinstance(node, ast.Attribute) and node.attr == "requires_grad_"


def _is_visualiser(sites: Sites) -> bool:
    """Whether hooks of a model that is only evaluated keep gradients, to show them."""
    called = {call.func.attr for frame in sites.frames.all for call in frame.calls if isinstance(call.func, ast.Attribute)}
    return bool(called & BACKWARD_HOOKS) and "eval" in called and "train" not in called
