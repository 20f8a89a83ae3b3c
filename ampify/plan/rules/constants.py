"""Numbers that are written out, in a place or behind a name, and the arguments where a rule looks for them."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.plan.rules.site import Site

FLOAT32 = {"max": 3.4028234663852886e38, "min": -3.4028234663852886e38, "eps": 2.0**-23, "tiny": 2.0**-126}


class Numbers(NamedTuple):
    """The numbers that an expression may be, as far as they are written out; `all_known` if it can be nothing else."""

    values: tuple[float, ...] = ()
    all_known: bool = False


def numbers(node: ast.expr, at: Site) -> Numbers:
    """The numbers behind an expression: literals, arithmetic with them, names and defaults that hold them."""
    return _numbers(node, at, at.frame, 0)


def is_function(node: ast.Call, at: Site) -> bool:
    """Whether a call is of a function of torch, and not of a tensor's method."""
    return at.resolve(node.func).startswith("torch.")


def operand(node: ast.Call, at: Site) -> ast.expr | None:
    """The tensor that a function of torch takes first, or a method is called on."""
    if is_function(node, at):
        given = [*node.args[:1], *(k.value for k in node.keywords if k.arg in ("input", "self"))]
        return given[0] if given and not isinstance(given[0], ast.Starred) else None
    return node.func.value if isinstance(node.func, ast.Attribute) else None


def argument(node: ast.Call, at: Site, position: int, *names: str) -> ast.expr | None:
    """The argument at a position, counted without the tensor, or by one of its names."""
    position += is_function(node, at) and not any(k.arg in ("input", "self") for k in node.keywords)
    named = [k.value for k in node.keywords if k.arg in names]
    if named or any(isinstance(a, ast.Starred) for a in node.args[: position + 1]):
        return named[0] if named else None
    return node.args[position] if position < len(node.args) else None


def _numbers(node: ast.expr, at: Site, frame: Frame, depth: int) -> Numbers:
    if isinstance(node, ast.Constant):
        known = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return Numbers((node.value,), True) if known else Numbers()  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _numbers(node.operand, at, frame, depth)
        return Numbers(tuple(-v for v in inner.values), inner.all_known)
    if isinstance(node, ast.BinOp):
        left, right = _numbers(node.left, at, frame, depth), _numbers(node.right, at, frame, depth)
        if len(left.values) == len(right.values) == 1 and left.all_known and right.all_known:
            return _computed(node.op, left.values[0], right.values[0])
        return Numbers()
    if isinstance(node, ast.Call) and dotted(node.func) == "float" and len(node.args) == 1:
        inner = _numbers(_spelled(node.args[0]), at, frame, depth)
        return Numbers(tuple(map(float, inner.values)), inner.all_known)
    if isinstance(node, ast.Attribute) and node.attr in FLOAT32 and isinstance(node.value, ast.Call):
        kinds = [at.resolve(a) for a in node.value.args]
        if at.resolve(node.value.func) in ("torch.finfo", "numpy.finfo") and kinds in ([], *_FLOAT32_NAMES):
            return Numbers((FLOAT32[node.attr],), True)
    if dotted(node) and depth < 5:
        key = (dotted(node), frame, depth)
        if key not in at.file.numbers:
            found = [_numbers(value, at, where, depth + 1) for value, where in _held(dotted(node), at, frame)]
            values = tuple(dict.fromkeys(v for n in found for v in n.values))
            at.file.numbers[key] = Numbers(values, bool(found) and all(n.all_known for n in found))
        return at.file.numbers[key]
    return Numbers()


_FLOAT32_NAMES = [[name] for name in ("torch.float32", "torch.float", "numpy.float32")]


def _computed(op: ast.operator, left: float, right: float) -> Numbers:
    try:
        if isinstance(op, ast.Pow):
            return Numbers((float(left**right),), True)
        if isinstance(op, ast.Mult):
            return Numbers((left * right,), True)
        if isinstance(op, (ast.Add, ast.Sub)):
            return Numbers((left + right if isinstance(op, ast.Add) else left - right,), True)
        return Numbers((left / right,), True) if isinstance(op, ast.Div) else Numbers()
    except (ArithmeticError, TypeError):
        return Numbers()


def _spelled(node: ast.expr) -> ast.expr:
    """The number in a text, as `float` reads it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return ast.Constant(float(node.value))
        except ValueError:
            pass
    return node


def _held(text: str, at: Site, frame: Frame) -> Iterator[tuple[ast.expr, Frame]]:
    """The expressions that a name is bound to: by assignment, as a default, by callers, in a class."""
    roles, frames = at.file.roles, at.file.frames
    bindings = frames.lookup(text, frame)
    for binding in bindings:
        if binding.how == "param":
            yield from roles.passed(text, binding.frame)
            default = default_of(text, binding.frame)
            if default is not None:
                yield default, binding.frame
        elif binding.value is not None:
            yield (binding.value if binding.how == "assign" and not binding.path else ast.Constant(None)), binding.frame
    method = frame.method
    base, _, name = text.rpartition(".")
    if not bindings and base:
        owner = method.owner if method is not None and base == method.self_name else frames.classes.get(base)
        for info in frames.family(owner) if owner is not None else ():
            for stmt in info.node.body:
                if isinstance(stmt, ast.Assign) and name in [dotted(t) for t in stmt.targets]:
                    yield stmt.value, frame
                elif isinstance(stmt, ast.AnnAssign) and stmt.value is not None and dotted(stmt.target) == name:
                    yield stmt.value, frame


def default_of(name: str, frame: Frame) -> ast.expr | None:
    """The default of a parameter."""
    if isinstance(frame.node, ast.Module):
        return None
    arguments = frame.node.args
    given = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(given), reversed(arguments.defaults), strict=False)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    return next((default for argument, default in pairs if argument.arg == name), None)
