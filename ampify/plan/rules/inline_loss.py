"""Losses that are computed in the line that goes backward from them: what in them has to be cast, as no region can hold them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.callees import layers
from ampify.analysis.forward import computes
from ampify.analysis.names import dotted
from ampify.analysis.operators import NOT_FLOATING
from ampify.analysis.precision import Precision
from ampify.analysis.roles import Role
from ampify.analysis.vocabulary import MUTATORS
from ampify.analysis.walk import walk
from ampify.plan.rules.base import Finding
from ampify.plan.rules.site import Site

REFUSED = "AMP914"
PROBABILITIES = "torch.nn.functional.binary_cross_entropy"
GOING = frozenset({"backward", "grad"})  # the names of what goes backward
METADATA = frozenset("shape dtype device ndim requires_grad".split())


def losses(at: Site) -> dict[ast.Call, list[ast.expr]]:
    """The losses that a statement computes in the very calls that go backward from them, or differentiate them for a loss."""
    calls = [n for n in at.file.nodes[at.stmt] if isinstance(n, ast.Call) and _goes(n.func, at)] if not at.runs else []
    found = {call: [loss for loss in _roots(call, at) if computes(loss, at.file.roles)] for call in calls}
    return {call: roots for call, roots in found.items() if roots}


def _goes(func: ast.expr, at: Site) -> bool:
    """Whether what is called may go backward, by its name."""
    return (func.attr if isinstance(func, ast.Attribute) else at.resolve(func).rpartition(".")[2]) in GOING


def _roots(call: ast.Call, at: Site) -> list[ast.expr]:
    """What a call goes backward from, without the scaling round it."""
    name, scaler = at.resolve(call.func), at.file.names.scaler
    given = [*call.args[:1], *(k.value for k in call.keywords if k.arg in ("tensors", "outputs"))][:1]
    if name in ("torch.autograd.backward", "torch.autograd.grad") or (scaler and dotted(call.func) == f"{scaler}.grad"):
        roots = given
    else:
        roots = [call.func.value] if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" else []
    scaling = f"{scaler}.scale" if scaler else ""
    return [r.args[0] if isinstance(r, ast.Call) and scaling and dotted(r.func) == scaling else r for r in roots]


def widened(call: ast.Call, roots: list[ast.expr], at: Site) -> Iterator[Finding]:
    """Casts of all values in such losses that were made under autocast; a refusal where they cannot be told, or come too late."""
    made = _made_under_autocast(at)
    leaves = [leaf for root in roots for leaf in _leaves(root, at) if at.half(leaf) or _may_be_half(leaf, made, at)]
    probabilities = any(isinstance(n, ast.Call) and _of_probabilities(n, at) for root in roots for n in walk(root))
    if leaves and (probabilities or not at.single(*leaves) or not all(at.floating(leaf) for leaf in leaves)):
        yield Finding(call, refuse=REFUSED)
    elif leaves:
        yield Finding(leaves[0], tuple(at.float(leaf) for leaf in leaves))


def _of_probabilities(call: ast.Call, at: Site) -> bool:
    """Whether a call is binary cross entropy of probabilities, which are rounded already if they are half."""
    made = isinstance(call.func, ast.Call) and at.resolve(call.func.func) == "torch.nn.BCELoss"
    return made or at.resolve(call.func) == PROBABILITIES or "BCELoss" in layers(call.func, at.frame, at.file.roles)


def _leaves(node: ast.expr, at: Site) -> Iterator[ast.expr]:
    """The widest names, attributes and elements that an expression computes from, but those cast already."""
    if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
        if any(isinstance(n, ast.Attribute) and n.attr in METADATA for n in walk(node)):
            return
        if dotted(node) or isinstance(node, ast.Name):
            yield node
        else:
            yield from _leaves(node.value, at)
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and not at.resolve(node.func).startswith("torch."):
            if node.func.attr == "float" or node.func.attr in NOT_FLOATING:
                return
            if at.file.roles.of(node.func, at.frame) is not Role.LOSS:
                yield from _leaves(node.func.value, at)
        for given in (*node.args, *(k.value for k in node.keywords)):
            yield from _leaves(given, at)
    elif not isinstance(node, ast.Compare):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from _leaves(child, at)


# what may be half ------------------------------------------------------------------------------------


def _base(text: str, at: Site) -> str:
    """The name that an attribute or element is of; of the instance, the instance's attribute."""
    own = f"{at.frame.self_name}." if at.frame.self_name else ""
    head, rest = (own, text[len(own) :]) if own and text.startswith(own) else ("", text)
    return head + rest.partition(".")[0].partition("[")[0]


def _made_under_autocast(at: Site) -> set[str]:
    """The names of a function that hold, or are computed from, what its regions compute, whatever it is."""
    found: set[str] = set()
    before = -1
    while before != len(found):
        before = len(found)
        for stmt in at.file.statements[at.frame]:
            under = at.file.under(stmt)
            for target, value in _bound(stmt):
                if dotted(target) and not _is_plain(value) and (under or found & _names(value, at)):
                    found.add(_base(dotted(target), at))
    return found


def _bound(stmt: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What a statement may change, with what it changes it by."""
    if isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and stmt.value is not None:
        for target in stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]:
            for inner in walk(target):
                if isinstance(inner, (ast.Name, ast.Attribute, ast.Subscript)):
                    yield inner, stmt.value
    elif isinstance(stmt, (ast.For, ast.AsyncFor)):
        yield from ((inner, stmt.iter) for inner in walk(stmt.target) if isinstance(inner, ast.Name))
    elif isinstance(stmt, (ast.With, ast.AsyncWith)):
        held = [(item.optional_vars, item.context_expr) for item in stmt.items if item.optional_vars is not None]
        yield from ((inner, value) for target, value in held for inner in walk(target) if isinstance(inner, ast.Name))
    elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and isinstance(stmt.value.func, ast.Attribute):
        if stmt.value.func.attr in MUTATORS or stmt.value.func.attr.endswith("_"):
            yield from ((stmt.value.func.value, given) for given in stmt.value.args)


def _is_plain(value: ast.expr) -> bool:
    """Whether a value is a number, a shape or the like, and no floating tensor."""
    if isinstance(value, ast.Call):
        return (value.func.attr if isinstance(value.func, ast.Attribute) else dotted(value.func)) in NOT_FLOATING
    if isinstance(value, ast.Subscript):
        return _is_plain(value.value)
    return isinstance(value, (ast.Constant, ast.Compare)) or (isinstance(value, ast.Attribute) and value.attr in METADATA)


def _names(value: ast.expr, at: Site) -> set[str]:
    return {_base(dotted(n), at) for n in walk(value) if isinstance(n, (ast.Name, ast.Attribute)) and dotted(n)}


def _may_be_half(leaf: ast.expr, made: set[str], at: Site) -> bool:
    """Whether a value of which no precision is known may come from a region: of this function, of a caller, of another method."""
    if at.of(leaf) is Precision.FULL:
        return False
    base = _base(dotted(leaf) or ast.unparse(leaf), at)
    if base in made:
        return True
    for binding in at.file.frames.lookup(base, at.frame):
        given = at.file.roles.passed(base, binding.frame) if binding.how == "param" else []
        if binding.frame is not at.frame and binding.value is not None and binding.frame.name != "__init__":
            given = [(binding.value, binding.frame)]
        for value, frame in given:
            if _is_plain(value):
                continue
            if at.file.precisions(frame).of(value) > Precision.FULL or _runs_model(value, at):
                return True
    return False


def _runs_model(value: ast.expr, at: Site) -> bool:
    """Whether a value is computed by a model."""
    return any(isinstance(n, ast.Call) and at.file.roles.of(n.func, at.frame) is Role.MODEL for n in walk(value))
