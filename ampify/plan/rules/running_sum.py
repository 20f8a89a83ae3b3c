"""Running sums: losses added up in half precision

What it finds: a loss that may be in half precision added to a total that is only looked at, `total += loss`.

Why it matters: a total that begins as 0 becomes a half tensor. float16 has 11 bits: from 2048 on, adding 1 changes nothing,
and the logged mean is silently wrong.

Before:

    total_loss += loss.detach()

After:

    total_loss += loss.detach().float()

Safety: safe. `.float()` does nothing in float32. Sums that go backward are left alone, as are totals that are float32 tensors
already, and `.item()`, which gives Python's own floats.

Source: torch.finfo(torch.float16).eps.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.analysis.walk import walk
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.site import Site, receiver

DETACHING = frozenset({"detach", "data", "detach_"})
GRADIENTLESS = frozenset({"torch.no_grad", "torch.inference_mode"})
NUMBERS = frozenset({"item", "len", "numel"})
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The term of one sum."""
    added = _added(node)
    if added is None or not any(at.half(t) for t in _terms(added[1], at)):
        return
    target, term = added
    if at.of(target) is Precision.FULL or at.file.float64:
        return
    backward = _feeding(at)
    if dotted(target) in backward or not (backward or _detached(term) or _no_grad(at)):
        return
    half = [t for t in _terms(term, at) if at.half(t)]
    if all(dotted(receiver(t)) in backward or at.floating(t) for t in half):
        yield Finding(term, tuple(at.float(t) for t in half))


def _added(node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    """The total and what is added to it."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and dotted(node.target):
        return node.target, node.value
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add):
        total, (left, right) = dotted(node.targets[0]), (node.value.left, node.value.right)
        if total and len(node.targets) == 1 and total in (dotted(left), dotted(right)):
            return (left, right) if dotted(left) == total else (right, left)
    return None


def _terms(node: ast.expr, at: Site) -> Iterator[ast.expr]:
    """The factors and terms of an expression, down to values; without what is a number for certain, as that is quickly told."""
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.MatMult):
        yield from _terms(node.left, at)
        yield from _terms(node.right, at)
    elif isinstance(node, (ast.Call, ast.Name, ast.Attribute, ast.Subscript)) and not _is_number(node):
        yield node


def _is_number(node: ast.expr) -> bool:
    """Whether an expression is a call that never returns a tensor: `loss.item()`, `len(batch)`."""
    if not isinstance(node, ast.Call):
        return False
    return (node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)) in NUMBERS


def _feeding(at: Site) -> set[str]:
    """The names of a function that its backward passes go through; none if it has no backward."""
    found: set[str] = set()
    for call in at.frame.calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("backward", "grad"):
            inside = [call.func.value] if call.func.attr == "backward" else []
            found |= _names([*inside, *(call.args[:1] if at.resolve(call.func).startswith("torch.autograd.") else [])])
    before = -1
    while before != len(found):
        before = len(found)
        for stmt in at.file.statements[at.frame]:
            if isinstance(stmt, ASSIGNMENTS) and stmt.value is not None:
                targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
                if _names(targets) & found:
                    found |= _names([stmt.value])
            elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and isinstance(stmt.value.func, ast.Attribute):
                if dotted(stmt.value.func.value) in found:  # losses.append(loss)
                    found |= _names(stmt.value.args)
    return found


def _names(nodes: Sequence[ast.expr]) -> set[str]:
    return {dotted(n) for node in nodes for n in walk(node) if isinstance(n, (ast.Name, ast.Attribute, ast.Subscript))} - {""}


def _detached(node: ast.expr) -> bool:
    """Whether a term says itself that no gradient goes through it."""
    return any(isinstance(n, ast.Attribute) and n.attr in DETACHING for n in walk(node))


def _no_grad(at: Site) -> bool:
    """Whether no gradients are recorded at the statement."""
    node = at.frame.node
    held = [d.func if isinstance(d, ast.Call) else d for d in getattr(node, "decorator_list", ())]
    for stmt in at.file.statements[at.frame]:
        if isinstance(stmt, ast.With) and stmt.lineno < at.stmt.lineno <= (stmt.end_lineno or 0):
            held.extend(i.context_expr.func for i in stmt.items if isinstance(i.context_expr, ast.Call))
    return any(at.resolve(h) in GRADIENTLESS for h in held)


RULE = Rule(
    "AMP225",
    "running-sum",
    "safe",
    "losses are added up in half precision",
    "adds up in float32",
    "add `loss.item()` or `loss.detach().float()`",
    nodes=(ast.AugAssign, ast.Assign),
    find=find,
    outside=True,
    grave=False,
)
