"""Kinds: which values of a function are tensors for sure, and which of them floating-point ones.

Read along with their precisions. A tensor's precision may be guessed too high without harm; whether a name has a method `float`
or a `dtype`, and is not an array of indices, has to be known before one is written behind it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ampify.analysis.callees import builders, layers, returned, targets
from ampify.analysis.evidence import FLOATING, TENSOR, UNKNOWN, Evidence, Kind, end_of, may_be_tensor, with_dim
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import (
    ARITHMETIC,
    CONTAINERS,
    DENSITIES,
    FLOATS,
    FULL_DTYPES,
    HALF_DTYPES,
    INTEGRAL,
    KEEPING,
    LAYERS,
    LEARNED,
    LIKE,
    LOOKUPS,
    LOSSES,
    MAKING,
    METHODS,
    NEW,
    PASSING,
    PICKING,
    SAME,
    SHARED,
    UNARY,
    WRAPPING,
    dtype_asked,
)
from ampify.analysis.roles import Role, Roles
from ampify.analysis.sources import element
from ampify.analysis.vocabulary import MATMULS
from ampify.analysis.walk import walk


class Kinds:
    """The kinds of the expressions of one function; `told` in the order of evaluation, operands first."""

    def __init__(self, frame: Frame, roles: Roles, called: bool, others: Callable[[Frame], Kinds]) -> None:
        self.frame, self.roles, self.called = frame, roles, called
        self.evidence = Evidence(frame, roles)
        self.others = others  # gives the kinds of another function, which may be on their way
        self.known: dict[ast.AST, Kind] = {}
        self.named: dict[str, Kind] = {}
        self.early = False  # a caller was not read as far as its call, or a callee as far as its return

    def start(self) -> None:
        """Works out the parameters, before the statements."""
        if self.called:
            self.named = self._parameters()

    def of(self, node: ast.AST) -> Kind:
        """What is known of an expression."""
        return self.known.get(node, UNKNOWN)

    def told(self, node: ast.expr) -> None:
        """Works out an expression whose operands are known."""
        self.known[node] = self._kind(node)

    def bind(self, text: str, value: ast.expr | None, whole: ast.expr | None, path: tuple[int, ...] | None) -> None:
        """Notes what a name holds from here on: a value; or what is at a path in `whole`; or an element of it, without a path.

        What is done with the name, until it is bound again, tells what the value does not."""
        if value is not None:
            kind = self.of(value)
        else:
            kind = self._element(whole, path) if whole is not None else UNKNOWN
        source = value if value is not None else whole
        if kind is not FLOATING and source is not None:
            kind = max(kind, self.evidence.of(text, end_of(source)))
        self.named[text] = kind

    def back_to(self, named: dict[str, Kind]) -> dict[str, Kind]:
        """Goes on with what held before a path, and gives what holds at its end."""
        there, self.named = self.named, named
        return there

    def join(self, other: dict[str, Kind]) -> None:
        """Goes on with what holds on both of two paths."""
        both = {name: min(kind, other[name]) for name, kind in self.named.items() if name in other}
        self.named = other | self.named | both

    # parameters --------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Kind]:
        """The parameters, as far as what is done with them before they are bound again tells, or what callers pass."""
        node = self.frame.node
        if isinstance(node, ast.Module):
            return {}
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        found = {a.arg: TENSOR if dotted(a.annotation or a) in ("torch.Tensor", "Tensor") else UNKNOWN for a in given}
        for name, kind in found.items():
            if name == self.frame.self_name:
                continue
            kind = found[name] = max(kind, self.evidence.of(name))
            if kind is not FLOATING and name not in self.evidence.indices:
                passed = [(value, self.others(where)) for value, where in self.roles.passed(name, self.frame)]
                self.early = self.early or any(value not in kinds.known for value, kinds in passed)
                found[name] = max(kind, min((kinds.of(value) for value, kinds in passed), default=UNKNOWN))
        return found

    # expressions -------------------------------------------------------------------------------------

    def _kind(self, node: ast.expr) -> Kind:
        """What an expression gives."""
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return self._place(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            sides = (self.of(node.left), self.of(node.right))
            fraction = any(isinstance(s, ast.Constant) and isinstance(s.value, float) for s in (node.left, node.right))
            real = fraction or isinstance(node.op, (ast.Div, ast.MatMult))
            if isinstance(node.op, ast.MatMult) and self.frame.owner is not None:
                return TENSOR if sides == (TENSOR, TENSOR) else FLOATING
            if isinstance(node.op, ast.MatMult):
                return max(sides)
            return FLOATING if real and max(sides) is not UNKNOWN else max(sides)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self.of(node.operand)
        if isinstance(node, ast.Compare):
            return min(TENSOR, max(self.of(part) for part in (node.left, *node.comparators)))
        if isinstance(node, ast.IfExp):
            return min(self.of(node.body), self.of(node.orelse))
        if isinstance(node, ast.Tuple):
            return min((self.of(e) for e in node.elts), default=UNKNOWN)
        return self.of(node.value) if isinstance(node, ast.NamedExpr) else UNKNOWN

    def _place(self, node: ast.Name | ast.Attribute | ast.Subscript) -> Kind:
        """What a name, an attribute or an element holds."""
        text = dotted(node)
        if text in self.named:
            return self.named[text]
        proved = self.evidence.of(text) if text and text not in self.frame.bindings else UNKNOWN
        if isinstance(node, ast.Subscript):
            second = isinstance(node.slice, ast.Constant) and node.slice.value == 1
            return max(self._element(node.value, (1,) if second else None), proved)
        if isinstance(node, ast.Attribute) and node.attr in SAME:
            return max(self.of(node.value), proved)
        if isinstance(node, ast.Attribute) and node.attr in ("weight", "bias"):
            built = self.evidence.layers(node.value)
            if built and built <= LAYERS | LOOKUPS:
                return FLOATING
        if not text or (isinstance(node, ast.Name) and node.id in self.frame.bindings):
            return UNKNOWN
        sources = self.roles.sources(text, self.frame) or [(value, self.frame) for value in self.buffers(text)]
        return max(proved, min((self._made(value, where) for value, where in sources), default=UNKNOWN))

    def _element(self, whole: ast.expr, path: tuple[int, ...] | None) -> Kind:
        """What is at a path in a value, or any element of it, without a path."""
        if path and isinstance(whole, ast.Call):
            parts = [self._returned(target, path) for target in targets(whole, self.frame, self.roles)]
            if parts:
                return min(parts)
            return min(self.of(whole), TENSOR) if _last(whole) in PICKING and path != (0,) else self.of(whole)
        return self.of(whole)

    def buffers(self, text: str) -> list[ast.expr]:
        """What `register_buffer` makes an attribute of the instance."""
        base, _, name = text.rpartition(".")
        if self.frame.owner is None or base != self.frame.self_name:
            return []
        methods = [m for info in self.roles.frames.family(self.frame.owner) for m in info.methods.values()]
        calls = [c for m in methods for c in m.calls if dotted(c.func) == f"{m.self_name}.register_buffer" and len(c.args) > 1]
        return [c.args[1] for c in calls if isinstance(c.args[0], ast.Constant) and c.args[0].value == name]

    def _made(self, value: ast.expr, where: Frame) -> Kind:
        """What a factory of torch makes, or a layer that learns; what else an attribute may hold is not followed."""
        if not isinstance(value, ast.Call):
            return UNKNOWN
        built = layers(value.func, where, self.roles)
        if built and built <= LAYERS | LOOKUPS:
            return FLOATING
        name = self.roles.names.resolve(value.func)
        return self._factory(value, name.rpartition(".")[2]) if name.startswith("torch.") else UNKNOWN

    def _factory(self, node: ast.Call, last: str) -> Kind:
        asked = self._asked(node)
        if last in MAKING:
            return asked if asked is not None else FLOATING
        return (asked or TENSOR) if last in WRAPPING else UNKNOWN

    def _call(self, node: ast.Call) -> Kind:
        """What a call gives."""
        name = self.roles.names.resolve(node.func)
        last = name.rpartition(".")[2]
        asked = self._asked(node)
        if name.startswith("torch."):
            first = max((self.of(a) for a in node.args), default=UNKNOWN)
            factory = self._factory(node, last)
            if factory is not UNKNOWN or asked is not None:
                return factory or asked or UNKNOWN
            if last in MATMULS and node.args and all(self.of(a) is TENSOR for a in node.args):
                return TENSOR  # of integers, as far as is known
            if last in FLOATS | LEARNED | LOSSES:
                return FLOATING
            if last in INTEGRAL:
                return TENSOR
            return max(TENSOR, first) if last in KEEPING | SHARED | LIKE | ARITHMETIC else UNKNOWN
        made = self.evidence.layers(node.func)
        container = node.func if made == {"Sequential"} else self._container(node.func)
        if container is not None:
            return FLOATING if self._learns(container) else UNKNOWN
        if made:
            return min(self._layer(kind, node) for kind in made)
        if run := targets(node, self.frame, self.roles):
            return min(self._returned(target, ()) for target in run)
        if not isinstance(node.func, ast.Attribute) or self.roles.names.is_foreign(node.func):
            return UNKNOWN
        if dotted(node.func.value) == self.frame.self_name != "":
            return UNKNOWN
        return self._method(node, node.func, asked)

    def _returned(self, target: Frame, path: tuple[int, ...]) -> Kind:
        """What a function of the file returns, at a path in it."""
        if target is self.frame:
            return UNKNOWN
        kinds = self.others(target)
        found: list[Kind] = []
        for value in returned(target):
            self.early = self.early or (value is not None and value not in kinds.known)
            found.append(kinds._element(*element(value, path)) if value is not None else UNKNOWN)
        return min(found, default=UNKNOWN)

    def _method(self, node: ast.Call, func: ast.Attribute, asked: Kind | None) -> Kind:
        """What a method gives that is called on a tensor."""
        method, receiver = func.attr, self.of(func.value)
        if receiver is UNKNOWN and not self._fits(node, func):
            return UNKNOWN
        if method in ("float", "double", "half", "bfloat16"):
            return UNKNOWN if self.roles.of(func.value, self.frame) is Role.MODEL else FLOATING
        if method in ("to", "cuda", "clone", "type"):
            return receiver if asked is None else asked
        if method == "type_as" and node.args:
            return max(TENSOR, self.of(node.args[0]))
        if method in NEW and (receiver is not UNKNOWN or method != "new"):
            return asked if asked is not None else max(TENSOR, receiver)
        if method in MATMULS and receiver is TENSOR and all(self.of(a) is TENSOR for a in node.args):
            return TENSOR
        if method in METHODS | DENSITIES or (receiver is not UNKNOWN and method in LEARNED):
            return FLOATING
        if method in INTEGRAL and receiver is not UNKNOWN:
            return TENSOR
        known = method in KEEPING or (method in SHARED and with_dim(node))
        if known and method in LEARNED:
            return FLOATING
        if receiver is not UNKNOWN and method in ARITHMETIC:
            return max([receiver, *(self.of(a) for a in node.args)])
        in_place = method.endswith("_") and method.removesuffix("_") in FLOATS | KEEPING | ARITHMETIC
        if receiver is not UNKNOWN and (known or in_place or method in SHARED):
            return receiver
        return TENSOR if known else UNKNOWN

    def _fits(self, node: ast.Call, func: ast.Attribute) -> bool:
        """Whether the name of a method tells that it is a tensor's: `s.norm(h)` is of something else, as norms take no tensor."""
        if func.attr in UNARY and any(self.of(a) is not UNKNOWN for a in node.args):
            return False
        return may_be_tensor(func.value, self.frame, self.roles)

    def _layer(self, kind: str, node: ast.Call) -> Kind:
        """What a layer of a class of torch.nn gives."""
        if kind in PASSING:
            return max(TENSOR, self.of(node.args[0])) if node.args else TENSOR
        return FLOATING if kind in LAYERS | LOOKUPS or kind.endswith("Loss") else UNKNOWN

    def _container(self, func: ast.expr) -> ast.expr | None:
        """The ModuleList or dict whose element is called: `self.layers[i](x)`, or the name of a loop over it."""
        if isinstance(func, ast.Subscript):
            return func.value
        bindings = self.frame.bindings.get(func.id, []) if isinstance(func, ast.Name) else []
        loops = [b for b in bindings if b.how == "for" and b.value is not None]
        if not loops or len(loops) < len(bindings):
            return None
        value, path = loops[0].value, loops[0].path
        if isinstance(value, ast.Call) and dotted(value.func) in ("enumerate", "zip") and path:
            at = path[0] if dotted(value.func) == "zip" else 0
            return value.args[at] if at < len(value.args) else None
        return value

    def _learns(self, node: ast.expr) -> bool:
        """Whether a container of layers has one that makes floating-point numbers."""
        made = dict.fromkeys(builders(node, self.frame, self.roles))
        return bool(made) and all(self._holds_learning(call) for call in made)

    def _holds_learning(self, built: ast.Call) -> bool:
        if self.roles.names.resolve(built.func).rpartition(".")[2] not in CONTAINERS:
            return False
        parts: list[ast.expr] = [built]
        for given in built.args:  # nn.Sequential(*layers, *head)
            if isinstance(given, ast.Starred) and dotted(given.value):
                parts.extend(value for value, _ in self.roles.sources(dotted(given.value), self.frame))
        names = [self.roles.names.resolve(call.func) for part in parts for call in walk(part) if isinstance(call, ast.Call)]
        return any(n.startswith("torch.nn.") and n.rpartition(".")[2] in LAYERS for n in names)

    def _asked(self, node: ast.Call) -> Kind | None:
        """What a dtype among the arguments asks for."""
        dtype = dtype_asked(node, self.roles.names)
        if dtype is None:
            return None
        if isinstance(dtype, ast.Attribute) and dtype.attr == "dtype":
            return self.of(dtype.value) or TENSOR
        return FLOATING if self.roles.names.resolve(dtype) in FULL_DTYPES | HALF_DTYPES else TENSOR


def _last(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
