"""Custom functions: an autograd.Function whose backward runs without the autocast of its forward

What it finds: a subclass of `torch.autograd.Function` applied where autocast may be on that multiplies matrices, calls
other code, or takes exponentials and the like in its backward.

Why it matters: forward runs under autocast, and backward without. A float32 tensor that forward saved then meets a gradient in
float16: "expected m1 and m2 to have the same dtype". Elementwise functions are right as they are.

Before:

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        ...

After:

    @staticmethod
    @custom_fwd
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    @custom_bwd
    def backward(ctx, grad):
        ...

Safety: safe. The decorators do nothing while autocast is off. They cannot be used with `setup_context`, and code that is not
torch's may need float32: there `.apply(...)` runs with autocast off on `.float()` of the tensors that have a gradient. Where
other computation stands in the same statement, the file is refused (AMP924).

Source: "Autocast and Custom Autograd Functions" in the AMP examples.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from ampify.analysis.forward import level_of
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.syntax import header
from ampify.analysis.vocabulary import MATMULS, STANDARD
from ampify.analysis.walk import walk
from ampify.plan.edits import Edit
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File
from ampify.plan.rules.nonlinear_backward import decorated, depends_on_size
from ampify.plan.rules.site import Site
from ampify.program import Compute

CODE, REFUSED = "AMP215", "AMP924"
DECORATORS = {"forward": "custom_fwd", "backward": "custom_bwd"}
EXACT = frozenset(  # float32 under CUDA's autocast, and in half without
    (
        "exp expm1 log log1p log2 log10 pow rsqrt reciprocal softmax log_softmax softplus cosh sinh tan acos asin norm prod "
        "cumsum cumprod logsumexp"
    ).split()
)
CONTEXT = frozenset({"save_for_backward", "mark_dirty", "mark_non_differentiable", "set_materialize_grads", "save_for_forward"})


def survey(file: File) -> Iterator[Finding]:
    """The custom functions that the code under autocast applies; those that AMP231 keeps in float32 are none of these."""
    functions = {n: i for n, i in file.frames.classes.items() if file.roles.is_function(i) and not depends_on_size(i)}
    sites: dict[str, list[tuple[ast.Call, Site]]] = {}
    for frame in file.frames.all if functions else ():
        homes = {call: stmt for stmt in file.statements[frame] for call in file.nodes[stmt]}
        for call in frame.calls:
            name = _applied(call.func, frame, file)
            if name in functions and call in homes and file.autocasts(homes[call], frame):
                sites.setdefault(name, []).append((call, Site(file, frame, homes[call], CODE)))
    for name, calls in sites.items():
        methods = {m: f for info in reversed(file.frames.family(functions[name])) for m, f in info.methods.items()}
        foreign, multiplies = _needs(methods, file)
        if foreign or (multiplies and "setup_context" in methods):
            for call, at in calls:
                yield _apart(call, at, name, methods.get("backward"))
        elif multiplies:
            for method, decorator in DECORATORS.items():
                if method in methods:
                    yield from decorated(methods[method], decorator, file, CODE)


def _applied(func: ast.expr, frame: Frame, file: File) -> str:
    """The class whose `apply` is called, also by another name: `op = Op.apply`, `op(x)`."""
    if isinstance(func, ast.Attribute) and func.attr == "apply":
        return dotted(func.value)
    values = [b.value for b in file.frames.lookup(dotted(func), frame) if dotted(func)]
    return next((dotted(v.value) for v in values if isinstance(v, ast.Attribute) and v.attr == "apply"), "")


def _needs(methods: dict[str, Frame], file: File) -> tuple[bool, bool]:
    """Whether forward and backward call code that is not torch's, and whether it matters to them that autocast is on."""
    foreign = multiplies = False
    for method in ("forward", "backward"):
        for node in walk(methods[method].node) if method in methods else ():
            if isinstance(node, ast.BinOp):
                multiplies |= isinstance(node.op, ast.MatMult) or (isinstance(node.op, ast.Pow) and method == "backward")
            elif isinstance(node, ast.Call):
                name = file.resolve(node.func)
                last = node.func.attr if isinstance(node.func, ast.Attribute) else name
                root = name.partition(".")[0]
                multiplies |= last in MATMULS or (last in EXACT and method == "backward") or name.startswith("torch.autograd.")
                if root == "torch" or hasattr(builtins, name) or (root in STANDARD and root != "numpy"):
                    continue
                if root == _context(methods[method]):
                    multiplies |= last not in CONTEXT  # something that forward has saved
                elif isinstance(node.func, ast.Name) and file.roles.targets(node, methods[method]):
                    multiplies = True
                else:
                    own = root in methods[method].bindings if name else isinstance(node.func, ast.Attribute)
                    foreign |= not own or last == "numpy"
    return foreign, multiplies


def _context(frame: Frame) -> str:
    """The name of the context in a method."""
    assert not isinstance(frame.node, ast.Module)
    return frame.node.args.args[0].arg if frame.node.args.args else ""


def _apart(call: ast.Call, at: Site, name: str, backward: Frame | None) -> Finding:
    """The statement with autocast off, on float32 tensors."""
    if not at.stands_apart() or any(call in walk(f) for f in at.frame.lambdas):
        return Finding(call, detail=f"`{name}.apply(...)` has to stand in a simple statement", refuse=REFUSED)
    if at.file.float64 or any(isinstance(a, ast.Starred) for a in call.args):
        return Finding(call, detail=f"which arguments of `{name}.apply(...)` may be in half is not in sight", refuse=REFUSED)
    for node in (n for part in header(at.stmt) for n in walk(part)):
        other = isinstance(node, ast.Call) and node is not call
        if isinstance(node, ast.Call) and other:
            level = level_of(node, at.frame, at.file.roles)
            other = level is not Compute.NONE or bool(at.file.roles.targets(node, at.frame))
        if other or (isinstance(node, ast.BinOp) and isinstance(node.op, (ast.MatMult, ast.Pow))):
            detail = f"`{name}.apply(...)` has to run in float32: give `{ast.unparse(node)[:40]}` a statement of its own"
            return Finding(call, detail=detail, refuse=REFUSED)
    edits: list[Edit] = [at.disabled()]
    edits += [at.float(a) for i, a in enumerate(call.args) if at.half(a) and _differentiable(i, backward)]
    return Finding(call, tuple(edits))


def _differentiable(position: int, backward: Frame | None) -> bool:
    """Whether a backward returns a gradient for an argument: then that is a floating-point tensor."""
    returned = [n.value for n in walk(backward.node) if isinstance(n, ast.Return)] if backward is not None else []
    for value in returned:
        given = value.elts if isinstance(value, ast.Tuple) else [value]
        one = given[position] if position < len(given) else None
        if one is not None and not (isinstance(one, ast.Constant) and one.value is None):
            return True
    return False


RULE = Rule(
    CODE,
    "custom-function",
    "safe",
    "a custom function whose backward runs without autocast",
    "runs the custom function's backward in the precision of its forward",
    "decorate forward and backward with torch.amp.custom_fwd and custom_bwd",
    survey=survey,
)
