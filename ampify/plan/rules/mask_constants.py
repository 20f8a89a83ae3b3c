"""Mask constants: a number beyond the range of float16 that fills or masks

What it finds: a number below -65504 or above 65504, written out or behind a name, that fills, masks, pads or bounds a tensor
which may be in half precision: `masked_fill`, `fill_`, `full_like`, `new_full`, `index_fill`, `scatter`, `torch.where`, `F.pad`,
`clamp`, `nan_to_num`, an assignment to elements; or that multiplies one or is added to it, as in an additive mask.

Why it matters: float16 ends at 65504. `masked_fill` raises "value cannot be converted to type c10::Half without overflow";
`torch.where`, products and assignments silently give -inf, and the softmax of a row of -inf alone is NaN.

Before:

    scores = scores.masked_fill(mask == 0, -1e9)

After:

    scores = scores.masked_fill(mask == 0, max(-1e9, torch.finfo(scores.dtype).min))

Safety: safe. In float32 and bfloat16 the limit is beyond the constant, which stays what it was; in float16 it is the largest
number there is. Where the tensor is no name that could be repeated, or takes part in arithmetic, it is cast instead: `.float()`
does nothing in float32. A mask that is float32 makes the whole sum float32, so that nothing is to be done about it. What is not
surely a floating-point tensor is reported only: tensors of integers have no `torch.finfo`.

Source: torch.finfo; "Autocast Op Reference" (neither masked_fill nor where is on a list, so they run in the dtype they get).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import argument, is_function, numbers, operand
from ampify.plan.rules.file import last_name
from ampify.plan.rules.site import Site, verbatim

LARGEST = 65504
VALUE = ("value", "fill_value")
SLOTS: dict[str, tuple[tuple[int, tuple[str, ...]], ...]] = {  # where the numbers are, counted without the tensor
    **dict.fromkeys(("masked_fill", "masked_fill_", "new_full"), ((1, VALUE),)),
    **dict.fromkeys(("fill_", "full_like", "new_tensor"), ((0, VALUE),)),
    **dict.fromkeys(("index_fill", "index_fill_", "scatter", "scatter_"), ((2, VALUE),)),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), ((0, ("min",)), (1, ("max",)))),
    **dict.fromkeys(("clamp_min", "clamp_min_", "clamp_max", "clamp_max_"), ((0, ("min", "max")),)),
    **dict.fromkeys(("nan_to_num", "nan_to_num_"), ((0, ("nan",)), (1, ("posinf",)), (2, ("neginf",)))),
    "pad": ((2, VALUE),),
}


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The numbers of one call, assignment or sum."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                yield from _limited(node.value, target.value, at, in_place=True)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        yield from _arithmetic(node, at)
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        target = node.target.value if isinstance(node.target, ast.Subscript) else node.target
        if _beyond(node.value, at) and at.half(target) and at.floating(target):
            yield Finding(node, (), f"`{ast.unparse(node)[:60]}`")
    elif isinstance(node, ast.Call):
        yield from _call(node, at)


def _call(node: ast.Call, at: Site) -> Iterator[Finding]:
    name = last_name(node.func)
    if any(k.arg == "dtype" for k in node.keywords):
        return
    if name == "where":
        both = [*node.args[1:], *(k.value for k in node.keywords if k.arg in ("input", "self", "other"))]
        if not is_function(node, at) and isinstance(node.func, ast.Attribute):
            both = [node.func.value, *both]
        limited = [a for a in both if any(_beyond(constant, at) for constant in _written(a, at))]
        for tensor in [a for a in both if limited and at.half(a)][:1]:
            for other in limited:
                yield from _limited(other, tensor, at)
        return
    tensor_ = operand(node, at)
    for position, names in SLOTS[name] if tensor_ is not None else ():
        value = argument(node, at, position, *names)
        if value is not None and tensor_ is not None:
            yield from _limited(value, tensor_, at, name.endswith("_"), sure=name.startswith("masked_fill"))


def _arithmetic(node: ast.BinOp, at: Site) -> Iterator[Finding]:
    """A tensor in half precision times or plus a number; one that may be a float32 mask of the caller's is no hazard."""
    for constant, tensor in ((node.left, node.right), (node.right, node.left)):
        if _beyond(constant, at) and at.half(tensor) and at.floating(tensor) and not _passed(tensor, at):
            yield Finding(constant, (at.float(tensor),) if at.single(tensor) else (), f"`{ast.unparse(node)[:60]}`")


def _passed(tensor: ast.expr, at: Site) -> bool:
    """Whether a tensor is computed of parameters alone, and in their precision: masks are float32 unless they are made half."""
    names = {n.id for n in ast.walk(tensor) if isinstance(n, ast.Name) and at.half(n)}
    bindings = [b for name in names for b in at.file.frames.lookup(name, at.frame)]
    cast = any(isinstance(c, ast.Call) and last_name(c.func) in ("to", "type_as") for c in ast.walk(tensor))
    return at.of(tensor) is Precision.MAYBE and all(b.how == "param" for b in bindings) and not cast


def _limited(value: ast.expr, tensor: ast.expr, at: Site, in_place: bool = False, sure: bool = False) -> Iterator[Finding]:
    """The number kept within the limits of the tensor, or the tensor made float32. With `sure` a number that is written with a
    point or exponent says that the tensor is a floating one."""
    beyond = [constant for constant in _written(value, at) if _beyond(constant, at)]
    if not beyond or not at.half(tensor):
        return
    for constant in beyond:
        found = Finding(constant, (), f"`{ast.unparse(constant)}`")
        known = numbers(constant, at)
        if not (at.floating(tensor) or (sure and known.values and all(isinstance(v, float) and v < 0 for v in known.values))):
            yield found
            continue
        negative = any(v < -LARGEST for v in known.values)
        builtin = not at.file.names.means("max" if negative else "min")
        if at.file.torch and dotted(tensor) and known.all_known and builtin:
            limit = f"{{torch}}.finfo({verbatim(tensor)}.dtype)"
            edit = at.wrap(constant, "max(", f", {limit}.min)") if negative else at.wrap(constant, "min(", f", {limit}.max)")
            yield found._replace(edits=(edit,))
        else:
            yield found if in_place or not at.single(tensor) else found._replace(edits=(at.float(tensor),))


def _written(value: ast.expr, at: Site) -> list[ast.expr]:
    """The numbers in a value: itself, or those of a tensor or list that is built of them on the spot."""
    if isinstance(value, ast.Call) and value.args and at.resolve(value.func) in ("torch.tensor", "torch.as_tensor"):
        return _written(value.args[0], at)
    return [e for part in value.elts for e in _written(part, at)] if isinstance(value, (ast.List, ast.Tuple)) else [value]


def _beyond(constant: ast.expr, at: Site) -> bool:
    """Whether a number may be finite and too large for float16."""
    return any(LARGEST < abs(v) < float("inf") for v in numbers(constant, at).values)


RULE = Rule(
    "AMP210",
    "mask-constants",
    "safe",
    "a constant beyond the range of float16",
    "keeps the constant within the range of half precision",
    "use max(constant, torch.finfo(tensor.dtype).min)",
    nodes=(ast.Assign, ast.AugAssign, ast.BinOp),
    calls=frozenset({*SLOTS, "where"}),
    find=find,
    outside=True,
)
