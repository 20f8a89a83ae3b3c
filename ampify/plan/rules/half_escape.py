"""Half precision that escapes: values of a region meet code outside that wants float32

What it finds: a tensor that may be in half precision, computed under autocast, where autocast does not help any more: turned
into a NumPy array; multiplied by a float32 matrix or given to a layer or a loss behind the region; compared by
`torch.allclose` with float32; saved. Also a loss that is computed in the line that goes backward, which no region can hold.

Why it matters: `.numpy()` raises `Got unsupported ScalarType BFloat16`, and gives arrays of float16 where it does not; a layer
raises `mat1 and mat2 must have the same dtype`; a loss is computed in half precision.

Before:

    prediction = torch.sigmoid(logits).cpu().numpy()
    criterion(logits, labels).backward()

After:

    prediction = torch.sigmoid(logits).cpu().float().numpy()
    scaler.scale(criterion(logits.float(), labels)).backward()

Safety: safe. Written only where the tensor is a floating one for certain, as `.float()` would change integers; in float32 it
does nothing. Where that is not certain, and in files that work in float64, it is reported, and in a line that goes backward
refused (AMP914), as are losses on probabilities there.

Source: Tensor.numpy; "Autocast Op Reference" ("backward ops", and what runs in the dtype it gets).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.callees import is_loss, layers
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import LOOKUPS
from ampify.analysis.precision import Precision
from ampify.analysis.roles import Role
from ampify.analysis.vocabulary import MATMULS
from ampify.analysis.walk import walk
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.inline_loss import losses, widened
from ampify.plan.rules.site import Site, receiver

ARRAYS = frozenset({"numpy.array", "numpy.asarray"})
CLOSE = frozenset({"torch.allclose", "torch.isclose", "torch.testing.assert_close"})


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The half operands of one call or product, or of a loss that is computed where its backward is called."""
    inline = losses(at)
    if inline:
        if isinstance(node, ast.Call) and node in inline:
            yield from widened(node, inline[node], at)
        return
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.MatMult):
            yield from _mixed([node.left, node.right], at)
        return
    assert isinstance(node, ast.Call)
    name = at.resolve(node.func)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "numpy" and not name.startswith("torch."):
        yield from _all([node.func.value], "`.numpy()`", at)
    elif name in ARRAYS:
        yield from _all(node.args[:1], f"`{dotted(node.func)}()`", at)
    elif name in CLOSE:
        if not all(at.half(a) for a in node.args[:2]) or not all(at.of(a) is Precision.HALF for a in node.args[:2]):
            yield from _all(node.args[:2], f"`{dotted(node.func)}()`", at)
    elif targets := at.file.roles.targets(node, at.frame):
        for target in targets[:1]:
            yield from _all([a for a, p in _passed(node, target) if _to_array(p, target) and at.floating(a)], "", at)
    elif at.runs:
        return
    elif name == "torch.save":
        if node.args and dotted(node.args[0]) and at.half(node.args[0]):
            yield Finding(node, (), f"`{dotted(node.args[0])}` is saved")
    elif layers(node.func, at.frame, at.file.roles) == {"BCELoss"}:
        return  # keeps itself in float32
    elif is_loss(node, at.frame, at.file.roles):
        yield from _all([a for a in node.args[:2] if a is node.args[0] or at.floating(a)], "a loss", at, known=True)
    elif name.startswith("torch.") or (isinstance(node.func, ast.Attribute) and node.func.attr in MATMULS):
        if name.rpartition(".")[2] in MATMULS:
            method = not name.startswith("torch.") and isinstance(node.func, ast.Attribute)
            yield from _mixed([*([node.func.value] if method else []), *node.args], at)  # type: ignore[attr-defined]
    elif _runs_layers(node, at):
        yield from _all([a for a in node.args if at.half(a)], f"`{dotted(node.func)}()`", at)


def _all(values: list[ast.expr], where: str, at: Site, known: bool = False) -> Iterator[Finding]:
    """All of the values in float32, if all that may be half are floating ones; `known` says that they are."""
    half = [v for v in values if at.half(v) and not isinstance(v, ast.Starred)]
    if not half:
        return
    if (known or all(at.floating(v) for v in half)) and at.single(*half):
        yield Finding(half[0], tuple(at.float(v) for v in half))
    elif where and not _given(half[0], at.frame):
        yield Finding(half[0], (), f"`{ast.unparse(half[0])[:40]}` in {where}")


def _mixed(operands: list[ast.expr], at: Site) -> Iterator[Finding]:
    """The half factors of a product, outside of autocast, with a float32 one: both are floating, or float32 would fail too."""
    if not at.runs and any(at.of(o) is Precision.FULL for o in operands):
        yield from _all(operands, "a product with float32", at, known=True)


def _runs_layers(node: ast.Call, at: Site) -> bool:
    """Whether a model or a layer is called that multiplies what it gets."""
    kinds = layers(node.func, at.frame, at.file.roles)
    return at.file.roles.of(node.func, at.frame) is Role.MODEL and not kinds & LOOKUPS


def _given(node: ast.expr, frame: Frame) -> bool:
    """Whether a value is a parameter of the function, or one of several results, of which nothing is known."""
    bound = frame.bindings.get(dotted(receiver(node)), [])
    return any(b.how == "param" or b.path for b in bound)


def _passed(call: ast.Call, target: Frame) -> Iterator[tuple[ast.expr, str]]:
    """What a call passes by position, with the names of the parameters."""
    if isinstance(target.node, ast.Module) or any(isinstance(a, ast.Starred) for a in call.args):
        return
    names = [a.arg for a in (*target.node.args.posonlyargs, *target.node.args.args)]
    yield from zip(call.args, names[1:] if target.owner is not None else names, strict=False)


def _to_array(name: str, frame: Frame) -> bool:
    """Whether a function makes a NumPy array of a parameter as it comes."""
    if "numpy" not in frame.home.names.attributes:
        return False
    arrays = (n for n in walk(frame.node) if isinstance(n, ast.Attribute) and n.attr == "numpy")
    made = any(dotted(receiver(n.value)) == name for n in arrays)
    return made and all(b.how == "param" for b in frame.bindings.get(name, []))


RULE = Rule(
    "AMP216",
    "half-escape",
    "safe",
    "a value that may be in half precision leaves autocast",
    "gives float32 to what is outside of autocast",
    "if it is a floating tensor, add `.float()`",
    nodes=(ast.Call, ast.BinOp),
    find=find,
    outside=True,
)
