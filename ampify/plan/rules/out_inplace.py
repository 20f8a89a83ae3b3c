"""Out and in place: matrix products into a tensor that is there already

What it finds: `addmm_`, `addbmm_`, `baddbmm_`, `addmv_`, and products with `out=`, where an operand or the result may be in half
precision.

Why it matters: autocast leaves them alone, and they take one dtype only: "self and mat2 must have the same dtype, but got Float
and Half", "Expected out tensor to have dtype c10::Half, but got float instead".

Before:

    torch.mm(features, weight, out=scores)

After:

    torch.mm(features.to(scores.dtype), weight.to(scores.dtype), out=scores)

Safety: safe. In float32 all have the same dtype already, or it raised before. Where the result is no name, or an operand is not
surely a tensor, it is reported only. `addr_` and operators that are no products convert what they get.

Source: "Autocast Op Reference": only out-of-place operators are eligible; messages of torch 2.13.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import dotted
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import is_function
from ampify.plan.rules.file import last_name
from ampify.plan.rules.site import Site

IN_PLACE = frozenset({"addmm_", "addbmm_", "baddbmm_", "addmv_"})
PRODUCTS = frozenset("mm matmul bmm mv dot addmm addbmm baddbmm addmv chain_matmul multi_dot tensordot inner".split())


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The operands of one product."""
    assert isinstance(node, ast.Call)
    out = next((k.value for k in node.keywords if k.arg == "out"), None)
    method = isinstance(node.func, ast.Attribute) and not is_function(node, at)
    operands = [*node.args, *(k.value for k in node.keywords if k.arg in ("input", "mat1", "mat2", "batch1", "batch2", "other"))]
    if last_name(node.func) in IN_PLACE:
        destination = node.func.value if method and isinstance(node.func, ast.Attribute) else None
    elif out is not None and not isinstance(out, (ast.Tuple, ast.Constant)):
        destination = out
        operands = [*([node.func.value] if method and isinstance(node.func, ast.Attribute) else []), *operands]
    else:
        return
    if destination is None:
        return
    detail = f"`{ast.unparse(node)[:60]}`"
    wanted = [o for o in operands if not isinstance(o, ast.Constant) and not _is_like(o, destination)]
    if not any(at.half(o) for o in (*wanted, destination)):
        return
    if all(at.tensor(o) for o in wanted) and dotted(destination):
        edits = tuple(at.like(o, destination) for o in wanted)
        if edits:
            yield Finding(node, edits, detail)
    else:
        yield Finding(node, (), detail)


def _is_like(node: ast.expr, destination: ast.expr) -> bool:
    """Whether an operand is in the dtype of the destination by its own text."""
    given = [dotted(a) for a in node.args] if isinstance(node, ast.Call) and last_name(node.func) == "to" else []
    return bool(dotted(destination)) and f"{dotted(destination)}.dtype" in given


RULE = Rule(
    "AMP213",
    "out-inplace",
    "safe",
    "a matrix product into a tensor that is there already, which autocast does not convert",
    "gives a product the precision of the tensor that it goes to",
    "write the product out of place",
    calls=IN_PLACE | PRODUCTS,
    find=find,
    outside=True,
)
