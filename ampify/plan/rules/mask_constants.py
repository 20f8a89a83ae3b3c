"""Mask constants: a fill value beyond the range of float16

What it finds: a literal below -65504 or above 65504 (or `float32`'s own limits) that fills, masks or pads a tensor which may be
in half precision: `masked_fill`, `masked_fill_`, `fill_`, `full_like`, `new_full`, `torch.where`, an assignment to an element.

Why it matters: float16 ends at 65504. `masked_fill` raises "value cannot be converted to type c10::Half without overflow";
an assignment silently writes -inf, and the softmax of a row of -inf alone is NaN.

Before:

    scores = scores.masked_fill(mask == 0, -1e9)

After:

    scores = scores.masked_fill(mask == 0, max(-1e9, torch.finfo(scores.dtype).min))

Safety: safe. In float32 and bfloat16 the limit is beyond the constant, which stays what it was; in float16 it is the largest
number there is. Where the tensor is no name that could be repeated, it is cast instead: `.float()` does nothing in float32.

Source: torch.finfo; "Autocast Op Reference" (neither masked_fill nor where is on a list, so they run in the dtype they get).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import dotted
from ampify.plan.rules.base import Finding, Rule, Site, verbatim

LARGEST = 65504
METHODS = frozenset({"masked_fill", "masked_fill_", "fill_", "full_like", "new_full", "where"})


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The constant of one call or assignment."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript) and at.half(target.value):
                yield from _limited(node.value, target.value, at)
        return
    assert isinstance(node, ast.Call)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
    function = at.resolve(node.func).startswith("torch.")
    given = [*node.args, *(k.value for k in node.keywords)]
    if any(k.arg == "dtype" for k in node.keywords):
        return
    if name == "where":
        tensors = [*(a for a in given if at.half(a)), *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
    elif function:
        tensors = given[:1]
    else:
        tensors = [node.func.value] if isinstance(node.func, ast.Attribute) else []
    for tensor in tensors[:1]:
        if at.half(tensor):
            for argument in given:
                yield from _limited(argument, tensor, at)


def _limited(constant: ast.expr, tensor: ast.expr, at: Site) -> Iterator[Finding]:
    value = _value(constant, at)
    if value is None or abs(value) <= LARGEST or abs(value) == float("inf"):
        return
    if at.file.torch and dotted(tensor):
        limit = f"{{torch}}.finfo({verbatim(tensor)}.dtype)"
        edit = at.wrap(constant, "max(", f", {limit}.min)") if value < 0 else at.wrap(constant, "min(", f", {limit}.max)")
        yield Finding(constant, (edit,))
    elif not isinstance(at.stmt, ast.Assign) or tensor is not getattr(at.stmt.targets[0], "value", None):
        yield Finding(constant, (at.float(tensor),))
    else:
        yield Finding(constant, (), f"`{ast.unparse(constant)}`")


def _value(node: ast.expr, at: Site) -> float | None:
    """The number that an expression is, as far as it is written out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand, at)
        return None if inner is None else -inner
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Call) and dotted(node.func) == "float" and len(node.args) == 1:
        return _value(node.args[0], at)  # not of a text: those are infinities, which every dtype has
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.Mult):
        left, right = _value(node.left, at), _value(node.right, at)
        if left is not None and right is not None and abs(right) < 1000:
            return float(left**right) if isinstance(node.op, ast.Pow) else left * right
    if isinstance(node, ast.Attribute) and node.attr in ("min", "max") and isinstance(node.value, ast.Call):
        if at.resolve(node.value.func) == "torch.finfo" and [at.resolve(a) for a in node.value.args] == ["torch.float32"]:
            return -3.4e38 if node.attr == "min" else 3.4e38
    return None


RULE = Rule(
    "AMP210",
    "mask-constants",
    "safe",
    "a constant beyond the range of float16",
    "keeps the constant within the range of half precision",
    "use max(constant, torch.finfo(tensor.dtype).min)",
    nodes=(ast.Assign,),
    calls=METHODS,
    find=find,
)
