"""Small eps: a number that vanishes in float16 guards a division, a root or a logarithm

What it finds: a number below 6.1e-5, written out or behind a name, that is added to a tensor which may be in half precision or
bounds it from below: `x + 1e-8`, `x.clamp(min=1e-8)`, and the `eps` of `F.normalize` and `F.cosine_similarity`.

Why it matters: the smallest number of float16 is 6e-8, and below 6.1e-5 it has few digits. 1e-8 is zero there: `1 / (x + 1e-8)`
is inf, `torch.log(p + 1e-10)` is -inf and the gradient of `torch.sqrt(x + 1e-12)` is inf, all without an error.

Before:

    x = x / (x.norm(dim=-1, keepdim=True) + 1e-8)

After:

    x = x / (x.norm(dim=-1, keepdim=True).float() + 1e-8)

Safety: safe. `.float()` does nothing in float32. Where the operand is not surely a tensor, is changed in place, or the file also
works in float64 or with complex numbers, it is reported only. The `eps` of layers and optimizers is computed with in float32.

Source: torch.finfo(torch.float16).tiny; "Autocast Op Reference" (add, sub, clamp, sqrt and div run in the dtype they get).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import dotted
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import argument, is_function, numbers, operand
from ampify.plan.rules.file import last_name
from ampify.plan.rules.site import Site

TINY = 2.0**-14  # the smallest normal number of float16
BOUNDS = {"clamp": 0, "clamp_": 0, "clip": 0, "clip_": 0, "clamp_min": 0, "clamp_min_": 0, "add": 0, "add_": 0}
FUNCTIONALS = {"normalize": (1, 1e-12), "cosine_similarity": (2, 1e-8)}  # how many tensors, and the eps that is not written


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The operand beside a small number."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Add, ast.Sub)):
            if _small(node.right, at):
                yield from _cast([node.left], node, at)
            elif _small(node.left, at):
                yield from _cast([node.right], node, at)
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.op, (ast.Add, ast.Sub)) and _small(node.value, at) and at.half(node.target) and at.tensor(node.target):
            yield _report(node)
    elif isinstance(node, ast.Call):
        yield from _call(node, at)


def _call(node: ast.Call, at: Site) -> Iterator[Finding]:
    name = last_name(node.func)
    if name in FUNCTIONALS:
        count, default = FUNCTIONALS[name]
        eps = [k.value for k in node.keywords if k.arg == "eps"]
        if at.resolve(node.func).startswith("torch.") and (_small(eps[0], at) if eps else default < TINY):
            yield from _cast(node.args[:count], node, at)
        return
    tensor, bound = operand(node, at), argument(node, at, BOUNDS[name], "min", "other")
    if tensor is None or bound is None or not _small(bound, at):
        return
    if name.endswith("_") and not (isinstance(tensor, ast.Call) and at.tensor(tensor) and _fresh(tensor)):
        if at.half(tensor) and at.tensor(tensor):
            yield _report(node)
    elif at.tensor(tensor) or is_function(node, at) or name != "add":
        yield from _cast([tensor], node, at)


def _cast(operands: list[ast.expr], node: ast.AST, at: Site) -> Iterator[Finding]:
    for operand_ in operands:
        if at.half(operand_) and not isinstance(operand_, ast.Starred) and not numbers(operand_, at).all_known:
            certain = at.tensor(operand_) and at.single(operand_)
            yield Finding(node, (at.float(operand_),) if certain else (), _report(node).detail)


def _report(node: ast.AST) -> Finding:
    return Finding(node, (), f"`{ast.unparse(node)[:60]}`")


def _fresh(node: ast.Call) -> bool:
    """Whether a tensor that is changed in place belongs to nobody else: a sum or a norm of another."""
    return last_name(node.func) in ("sum", "norm", "mean", "std", "var", "clone", "abs", "pow", "exp", "sqrt")


def _small(node: ast.expr, at: Site) -> bool:
    """Whether an expression may be a number that float16 has no room for."""
    if not isinstance(node, (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Call)) and not dotted(node):
        return False
    return any(0 < abs(v) < TINY for v in numbers(node, at).values)


RULE = Rule(
    "AMP211",
    "small-eps",
    "safe",
    "a number that is zero, or nearly so, in float16",
    "computes in float32 where float16 has no room for the number beside it",
    "call .float() on the tensor first",
    nodes=(ast.BinOp, ast.AugAssign),
    calls=frozenset({*BOUNDS, *FUNCTIONALS}),
    find=find,
    outside=True,
    grave=False,
)
