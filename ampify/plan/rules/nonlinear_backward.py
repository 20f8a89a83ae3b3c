"""Nonlinear backward passes: an autograd.Function whose backward depends on the size of the gradient

What it finds: a subclass of `torch.autograd.Function` whose backward is not plainly linear in the gradients it receives: it
clamps, rounds or compares them, takes their sign, or calls code that cannot be seen through.

Why it matters: gradients arrive multiplied by the loss scale. What is linear returns a result that is scaled just as well;
`grad.clamp(-1, 1)` of a gradient that is 65536 times as large is another gradient, and nothing tells.

Before:

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-1, 1)

After:

    @staticmethod
    @full_precision_fwd
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    @unscaled_bwd
    def backward(ctx, grad):
        return grad.clamp(-1, 1)

Safety: safe. Round this backward alone the scale is divided off and multiplied on again, which is exact for a power of two, and
only in the backward of a loss that the scaler has multiplied. Unscaled gradients are too small for float16, so the function
computes in float32. The file is refused (AMP908) if that backward does more than to return gradients: if it looks at `.grad`,
begins a backward of its own, or replaces inf and NaN, by which an overflow is known; also if its forward changes its input in
place or is not in the file, and if a custom operator has such a backward.

Of libraries the runtime knows torchdiffeq's `odeint_adjoint` and torchsde's `sdeint_adjoint`, whose solvers choose their steps by
the size of the gradient. It does the same for them, and nothing is written.

Source: "Functions with multiple inputs or autocastable ops" and "Functions that need a particular dtype" in the AMP examples.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ampify.analysis.frames import ClassInfo, Frame
from ampify.analysis.names import dotted
from ampify.analysis.walk import walk
from ampify.plan.edits import Splice
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File

CODE, REFUSED = "AMP231", "AMP908"
BACKWARD = ("vjp", "backward")  # the two names of it, the first of which wins
KNOWN = ("torchdiffeq/_impl/adjoint.py", "torchsde/_core/adjoint.py")  # whose functions the runtime sees to
FINITE = frozenset({"isnan", "isinf", "isfinite", "nan_to_num", "nan_to_num_"})


def survey(file: File) -> Iterator[Finding]:
    """The functions, and custom operators, whose backward is not plainly linear."""
    for info in _functions(file):
        yield from _unscaled(info, file)
    for frame in file.frames.all:
        for call in frame.calls:
            yield from _operator(call, file)


def depends_on_size(info: ClassInfo) -> bool:
    """Whether a function's own backward is not plainly linear."""
    backward = _backward(info)
    return backward is not None and _place(backward) is not None


def known_to_runtime(path: str, files: Iterable[File]) -> bool:
    """Whether a file is the one of a library whose function the runtime knows by its module, as one of these files imports it."""
    libraries = [known.partition("/")[0] for known in KNOWN if path.replace("\\", "/").endswith(known)]
    imported = {name.partition(".")[0] for file in files for name in file.names.aliases.values()}
    return not imported.isdisjoint(libraries)


def decorated(method: Frame, decorator: str, file: File, code: str) -> Iterator[Finding]:
    """The decorator right above `def`, unless it is there."""
    node = method.node
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    own = file.names.runtime.get(decorator)
    if own is None or own not in [dotted(d) for d in node.decorator_list]:
        at = (node.lineno, node.col_offset)
        yield Finding(node, (Splice(file.number(node), at, at, f"@{{{decorator}}}\n", "", code),))


def _functions(file: File) -> list[ClassInfo]:
    """The classes of custom functions, also those of the same name."""
    owners = dict.fromkeys([*(f.owner for f in file.frames.all), *file.frames.classes.values()])
    return [info for info in owners if info is not None and file.roles.is_function(info)]


def _backward(info: ClassInfo) -> Frame | None:
    return next((info.methods[name] for name in BACKWARD if name in info.methods), None)


def _place(backward: Frame) -> ast.AST | None:
    """The place in a backward that is not plainly linear."""
    from ampify.analysis.linearity import nonlinear  # only for a file with a custom function: start-up is measured

    def follow(call: ast.Call) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        targets = backward.home.file.roles.targets(call, backward)
        target = targets[0] if len(targets) == 1 and targets[0].home is backward.home else None
        if target is None or isinstance(target.node, ast.Module) or target.parent is not backward.home.module:
            return None
        named = dotted(call.func)
        if named != target.name or target.owner is not None or backward.home.lookup(named, backward):
            return None
        scripted = [backward.home.names.resolve(d) == "torch.jit.script" for d in target.node.decorator_list]
        return target.node if all(scripted) else None

    return nonlinear(backward.node, follow) if not isinstance(backward.node, ast.Module) else None


def _unscaled(info: ClassInfo, file: File) -> Iterator[Finding]:
    for stmt in info.node.body:
        targets = stmt.targets if isinstance(stmt, ast.Assign) else ()
        if any(dotted(target) in BACKWARD for target in targets):
            yield _refused(stmt, f"`{info.node.name}.backward` is not defined by `def` in its class")
    backward = _backward(info)
    place = _place(backward) if backward is not None else None
    if backward is None or place is None:
        return
    name = info.node.name
    methods = {m: f for member in reversed(file.frames.family(info)) for m, f in member.methods.items()}
    if "forward" not in methods:
        yield _refused(place, f"`{name}.forward` is not in this file")
        return
    if any(isinstance(n, ast.Attribute) and n.attr == "mark_dirty" for m in methods.values() for n in walk(m.node)):
        yield _refused(place, f"`{name}.forward` changes its input in place")
        return
    for node in _effects(backward, file, set()):
        yield _refused(node, f"`{ast.unparse(node)[:40]}` in `{name}.backward`")
        return
    for method in ("forward", "setup_context"):
        if method in methods:
            yield from decorated(methods[method], "full_precision_fwd", file, CODE)
    yield from decorated(backward, "unscaled_bwd", file, CODE)


def _effects(function: Frame, file: File, seen: set[Frame]) -> Iterator[ast.AST]:
    """What a backward, or a function that it calls, does besides returning gradients, and where it asks for overflows."""
    seen.add(function)
    for node in walk(function.node):
        if isinstance(node, ast.Attribute) and node.attr == "grad" and file.resolve(node) != "torch.autograd.grad":
            yield node
        elif isinstance(node, ast.Compare) and ast.dump(node.left) in [ast.dump(c) for c in node.comparators]:
            yield node  # only NaN is not what it is
        elif isinstance(node, ast.Call):
            last = node.func.attr if isinstance(node.func, ast.Attribute) else file.resolve(node.func).rpartition(".")[2]
            if last in FINITE or (last == "backward" and not _is_computation(node, function, file)):
                yield node
            for target in file.roles.targets(node, function):
                if target not in seen:
                    yield from _effects(target, file, seen)


def _is_computation(call: ast.Call, function: Frame, file: File) -> bool:
    """Whether a call of something's `backward` computes gradients of what it is given: of another function's, with a context, or
    of a module's that is imported, as those of extensions are."""
    arguments = [] if isinstance(function.node, ast.Module) else function.node.args.args
    context = bool(call.args and arguments) and dotted(call.args[0]) == arguments[0].arg
    imported = dotted(call.func).partition(".")[0] in file.names.imported
    return context or (imported and not file.resolve(call.func).startswith("torch."))


def _operator(call: ast.Call, file: File) -> Iterator[Finding]:
    """The backward of a custom operator: `torch.library.register_autograd(name, backward)`, `op.register_autograd(backward)`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "register_autograd":
        return
    of_library = file.resolve(call.func) == "torch.library.register_autograd"
    given = [k.value for k in call.keywords if k.arg == "backward"] or call.args[1 if of_library else 0 :][:1]
    functions = [f for value in given for f in file.frames.functions.get(dotted(value), ())]
    for function in functions:
        place = _place(function)
        if place is not None:
            yield _refused(place, f"`{ast.unparse(place)[:40]}` in `{function.name}`, of a custom operator")
    if not functions:
        yield _refused(call, "that of a custom operator, which is not in sight")


def _refused(node: ast.AST, detail: str) -> Finding:
    return Finding(node, detail=detail, refuse=REFUSED)


RULE = Rule(
    CODE,
    "nonlinear-backward",
    "safe",
    "a custom backward that is not linear in the gradient",
    "runs the custom function in float32, and its backward on gradients without the loss scale",
    "write it with linear operations only",
    survey=survey,
)
