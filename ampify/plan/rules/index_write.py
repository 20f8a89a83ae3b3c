"""Index writes: elements written into a tensor of another precision

What it finds: an assignment to elements that a tensor of indices or a mask picks, `index_add`, `index_copy`, `index_reduce`,
`index_put`, `put_`, `scatter`, `scatter_add`, `scatter_reduce`, `masked_scatter` and `lerp`, in place or not, where what is
written or what it is written into may be in half precision.

Why it matters: these take one dtype only: "Index put requires the source and destination dtypes match", "index_add_(): self
(Float) and source (Half) must have the same scalar type", "scatter(): Expected self.dtype to be equal to src.dtype".

Before:

    out[mask] = self.head(x[mask])

After:

    out[mask] = self.head(x[mask]).to(out.dtype)

Safety: safe. In float32 both have the same dtype already, or it raised before. Where the destination is no name, it and the
source become float32; where it is not surely a tensor, as in `outputs[name] = x`, nothing is written, nor where both are made of
one tensor. Slices and integers are no hazard: they copy, and copying converts.

Source: "Autocast Op Reference": few of them are on the lists of a device, none in place; messages of torch 2.13.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.dtypes import alike
from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import argument, operand
from ampify.plan.rules.file import last_name
from ampify.plan.rules.site import Site

_SOURCES: dict[str, tuple[tuple[int, str], ...]] = {  # where the sources are, counted without the tensor
    **dict.fromkeys(("index_add", "index_copy", "index_reduce"), ((2, "source"),)),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce"), ((2, "src"),)),
    "masked_scatter": ((1, "source"),),
    "index_put": ((1, "values"),),
    "put": ((1, "source"),),
    "lerp": ((0, "end"), (1, "weight")),
}
SOURCES = _SOURCES | {f"{name}_": places for name, places in _SOURCES.items()}
MAKING = frozenset("zeros ones empty full zeros_like ones_like empty_like full_like new_zeros new_ones new_empty clone".split())


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The source of one call or assignment."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript) and _picks(target.slice, at):
                mask = _is_mask(target.slice, at) and not at.container(dotted(target.value))
                known = mask or at.tensor(target.value)
                if known and not _same(target.value, node.value):
                    yield from _written(node.value, target.value, node, at, alone=len(node.targets) == 1)
    elif isinstance(node, ast.Call):
        name = last_name(node.func)
        destination = operand(node, at)
        for position, keyword in SOURCES[name] if destination is not None else ():
            source = argument(node, at, position, keyword)
            if source is not None and destination is not None and not _same(destination, source):
                yield from _written(source, destination, node, at, alone=True)


def _written(source: ast.expr, destination: ast.expr, node: ast.AST, at: Site, alone: bool) -> Iterator[Finding]:
    precisions = (at.of(source), at.of(destination))
    if max(precisions) <= Precision.FULL or precisions[0] is Precision.NONE or isinstance(source, ast.Constant):
        return
    named = destination
    while isinstance(named, ast.Subscript) and not dotted(named) and at.tensor(named.value):
        named = named.value  # an element of a tensor has its dtype
    if _is_like(source, named) or alike(source, named, at.frame, at.file.roles):
        return
    detail = f"`{ast.unparse(node)[:60]}`"
    if not at.tensor(source) or not alone:
        yield Finding(node, (), detail)
    elif dotted(named):
        yield Finding(node, (at.like(source, named),), detail)
    elif isinstance(node, ast.Call) and at.floating(source) and at.floating(destination) and at.single(source, destination):
        # A temporary: in place or not, nobody else sees it.
        temporary = isinstance(destination, ast.Call) and last_name(destination.func) in MAKING
        if not temporary and last_name(node.func).endswith("_"):
            yield Finding(node, (), detail)
            return
        edits = [at.float(e) for e in (destination, source) if at.half(e)]
        yield Finding(node, tuple(edits), detail)
    else:
        yield Finding(node, (), detail)


def _is_like(source: ast.expr, destination: ast.expr) -> bool:
    """Whether the source is in the dtype of the destination by its own text."""
    if not isinstance(source, ast.Call) or not isinstance(source.func, ast.Attribute) or not dotted(destination):
        return False
    method, given = source.func.attr, [dotted(a) for a in source.args]
    if method in ("new_zeros", "new_ones", "new_full"):
        return dotted(source.func.value) == dotted(destination)
    asked = f"{dotted(destination)}.dtype" if method == "to" else dotted(destination)
    return method in ("to", "type_as") and asked in given


def _same(destination: ast.expr, source: ast.expr) -> bool:
    """Whether elements of a tensor go to other places of it."""
    while isinstance(source, ast.Subscript):
        source = source.value
    return bool(dotted(source)) and dotted(source) == dotted(destination)


def _is_mask(index: ast.expr, at: Site) -> bool:
    """Whether an index is a tensor for sure, so that what it picks from is one."""
    return at.tensor(index) or (isinstance(index, ast.Tuple) and any(at.tensor(e) for e in index.elts))


def _picks(index: ast.expr, at: Site) -> bool:
    """Whether an index may be a tensor or a list, and is neither a slice nor a plain number."""
    if isinstance(index, ast.Tuple):
        return any(_picks(e, at) for e in index.elts)
    if isinstance(index, (ast.Slice, ast.Constant)):
        return False
    if isinstance(index, ast.List) or at.tensor(index):
        return True
    if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub):
        return _picks(index.operand, at)
    if isinstance(index, ast.BinOp) and not isinstance(index.op, (ast.BitAnd, ast.BitOr)):
        return _picks(index.left, at) or _picks(index.right, at)
    return not (dotted(index) and _counts(dotted(index), at))


def _counts(text: str, at: Site) -> bool:
    """Whether a name holds plain numbers: those of `range`, `enumerate` or `len`."""
    bindings = at.file.frames.lookup(text, at.frame)
    values = [b.value for b in bindings]
    plain = [
        isinstance(v, ast.Constant)
        or (isinstance(v, ast.Call) and last_name(v.func) in ("range", "enumerate", "len", "size", "item"))
        for v in values
    ]
    return bool(plain) and all(plain)


RULE = Rule(
    "AMP212",
    "index-write",
    "safe",
    "elements are written in another precision than the tensor's, which indexing does not convert",
    "writes elements in the precision of the tensor that they go to",
    "call .to(destination.dtype) on what is written",
    nodes=(ast.Assign,),
    calls=frozenset(SOURCES),
    find=find,
    outside=True,
)
