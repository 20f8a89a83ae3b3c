"""Propagation: which values of a function may be in half precision when it runs under autocast.

Read forwards through the statements, without torch: operators by their names, layers by what built them. CPU and CUDA keep
different lists of operators, so what either may leave in half precision counts as possible.
Source: "Autocast Op Reference" of torch.amp.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.kinds import Kinds
from ampify.analysis.names import dotted
from ampify.analysis.operators import (
    COMPLEX,
    FACTORIES,
    FOLLOWING,
    FULL_DTYPES,
    HALF_DTYPES,
    LIKE,
    MULTIPLYING,
    NEW,
    NOT_FLOATING,
    PICKING,
    SAME,
    WIDE,
    dtype_asked,
)
from ampify.analysis.precision import FULL, HALF, MAYBE, NONE, Precision, combine, join
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import blocks_of, header
from ampify.analysis.vocabulary import MATMULS, PASSIVE


class Precisions:
    """The precisions of all expressions of one function; `under` tells which of its statements run under autocast, `handed`
    what a call outside of autocast gets from a function with a region of its own."""

    def __init__(
        self,
        frame: Frame,
        roles: Roles,
        under: Callable[[ast.stmt], bool],
        called: bool,
        kinds: Kinds,
        handed: Callable[[ast.Call, Frame], Precision],
    ) -> None:
        self.frame, self.roles, self.under, self.handed = frame, roles, under, handed
        self.values: dict[ast.AST, Precision] = {}
        self.named: dict[str, Precision] = {}
        self.inside = called
        self._bound: set[str] = set()  # the names that the innermost loop has bound by now, on all paths
        self._looked: set[str] = set()  # those that it has read without
        self.kinds = kinds
        kinds.start()
        node = frame.node
        if not isinstance(node, ast.Module) and called:  # callers may pass what their own regions computed
            arguments = node.args
            skipped = {frame.self_name} if frame.owner is not None else set()
            given = [a for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if a.arg not in skipped]
            self.named = {a.arg: NONE if _annotated(a) else MAYBE for a in given}
            self.named |= {a.arg: MAYBE for a in (arguments.vararg, arguments.kwarg) if a is not None}
        self._block(node.body)

    def of(self, node: ast.AST) -> Precision:
        """What an expression of the function is; NONE for one that was not met."""
        return self.values.get(node, NONE)

    # statements --------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> None:
        for stmt in body:
            self._statement(stmt)

    def _statement(self, stmt: ast.stmt) -> None:
        """Follows the values through one statement."""
        if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            return
        before, self.inside = self.inside, self.inside or self.under(stmt)
        if isinstance(stmt, ast.Assign):
            value = self._of(stmt.value)
            for target in stmt.targets:
                self._bind(target, value, stmt.value)
        elif isinstance(stmt, ast.AnnAssign) and stmt.value is not None:
            self._bind(stmt.target, self._of(stmt.value), stmt.value)
        elif isinstance(stmt, ast.AugAssign):
            old, new = self._of(stmt.target), self._of(stmt.value)
            if old is NONE and new is not NONE:  # `loss = 0`, `loss += criterion(...)`; else the tensor keeps its own dtype
                self._bind(stmt.target, new, stmt.value)
        elif isinstance(stmt, (ast.For, ast.AsyncFor, ast.While)):
            self._loop(stmt)
            self._block(stmt.orelse)
        elif isinstance(stmt, ast.If):
            self._of(stmt.test)
            untouched, kinds, bound = dict(self.named), dict(self.kinds.named), set(self._bound)
            self._block(stmt.body)
            taken, self.named = self.named, untouched
            kinds = self.kinds.back_to(kinds)
            bound, self._bound = self._bound, bound
            self._block(stmt.orelse)
            self._merge(taken)
            self.kinds.join(kinds)
            self._bound &= bound
        else:
            for part in header(stmt):
                if isinstance(part, ast.expr):
                    self._of(part)
            for block in blocks_of(stmt):
                self._block(block)
        self.inside = before

    def _loop(self, stmt: ast.For | ast.AsyncFor | ast.While) -> None:
        """The body of a loop: once more if values are read in it that it carries round."""
        outside, bound, looked = self._looked, self._bound, set[str]()
        for _ in range(2):
            earlier, kinds = dict(self.named), dict(self.kinds.named)
            self._bound, self._looked = set(), looked
            if isinstance(stmt, ast.While):
                self._of(stmt.test)
            else:
                self._bind(stmt.target, self._element(stmt.iter), None, stmt.iter, None)
            self._block(stmt.body)
            self._merge(earlier)
            self.kinds.join(kinds)
            carried = {name for name, value in self.named.items() if earlier.get(name) is not value}
            carried |= {name for name, kind in self.kinds.named.items() if kinds.get(name) is not kind}
            if carried.isdisjoint(looked):
                break
        outside |= looked - bound
        self._looked, self._bound = outside, bound

    def _merge(self, other: dict[str, Precision]) -> None:
        """Names are now what they are here, or what they are there."""
        self.named = {name: join(other.get(name, NONE), self.named.get(name, NONE)) for name in other | self.named}

    def _element(self, node: ast.expr) -> Precision:
        """What iterating over an expression gives; data comes in as float32."""
        value = self._of(node)
        return value if value is not NONE or self.inside else FULL

    def _bind(
        self,
        target: ast.expr,
        value: Precision,
        source: ast.expr | None,
        whole: ast.expr | None = None,
        path: tuple[int, ...] | None = (),
    ) -> None:
        """A name gets a value: that of `source`, or else what is at `path` in `whole`, or an element of it, without a path."""
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = source.elts if isinstance(source, (ast.Tuple, ast.List)) and len(source.elts) == len(target.elts) else None
            for i, element in enumerate(target.elts):
                part = NONE if i == 1 and _ranks(source) else value
                inner = () if parts else (*path, i) if path is not None else None
                self._bind(element, self._of(parts[i]) if parts else part, parts[i] if parts else None, source or whole, inner)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, value, None, source or whole, None)
        elif isinstance(target, ast.Subscript):
            self._of(target)  # an element written; the whole keeps its dtype
        elif dotted(target):
            self.named[dotted(target)] = value
            self._bound.add(dotted(target))
            self.kinds.bind(dotted(target), source, whole, path)
        self.values[target] = value
        self.kinds.told(target)

    # expressions -------------------------------------------------------------------------------------

    def _of(self, node: ast.expr) -> Precision:
        value = self._evaluate(node)
        self.values[node] = join(self.values.get(node, NONE), value)
        self.kinds.told(node)
        return value

    def _evaluate(self, node: ast.expr) -> Precision:
        """What an expression is, by its operands."""
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            return self._place(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            left, right = self._of(node.left), self._of(node.right)
            if isinstance(node.op, ast.MatMult):
                return self._product(left, right)
            return self._wide(combine(left, right)) if isinstance(node.op, ast.Pow) else combine(left, right)
        if isinstance(node, ast.Compare):
            for part in (node.left, *node.comparators):
                self._of(part)
            return NONE
        if isinstance(node, ast.IfExp):
            self._of(node.test)
            return join(self._of(node.body), self._of(node.orelse))
        if isinstance(node, ast.NamedExpr):
            value = self._of(node.value)
            self._bind(node.target, value, node.value)
            return value
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
            for comprehension in node.generators:
                self._bind(comprehension.target, self._element(comprehension.iter), None, comprehension.iter, None)
                for test in comprehension.ifs:
                    self._of(test)
            return self._of(node.elt)
        if isinstance(node, ast.Lambda):
            return NONE
        result = NONE
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                result = join(result, self._of(child))
        return result

    def _place(self, node: ast.Name | ast.Attribute | ast.Subscript) -> Precision:
        """What a name, an attribute or an element holds."""
        text = dotted(node)
        if text not in self._bound:
            self._looked.add(text)
        if isinstance(node, ast.Subscript):
            value = self._of(node.value)
            self._of(node.slice)
            if isinstance(node.slice, ast.Constant) and node.slice.value == 1 and _ranks(node.value):
                return NONE
            return self.named.get(text, value)
        if text in self.named:
            return self.named[text]
        if isinstance(node, ast.Attribute):
            base = self._of(node.value)
            if base is not NONE:
                return base if node.attr in SAME else NONE
        elif isinstance(self.frame.node, ast.Module) or node.id not in self.frame.bindings:
            return NONE  # of another scope
        return self._held(text)

    def _held(self, text: str) -> Precision:
        """What an attribute of the instance holds: parameters and what factories make are float32."""
        if not text:
            return NONE
        for value in (*(v for v, _ in self.roles.sources(text, self.frame)), *self.kinds.buffers(text)):
            if isinstance(value, ast.Call):
                name = self.roles.names.resolve(value.func)
                last = name.rpartition(".")[2]
                if name.startswith("torch.") and last in FACTORIES | {"Parameter", "Buffer"}:
                    return FULL
        return NONE

    def _product(self, *operands: Precision) -> Precision:
        if self.inside:
            return HALF
        return combine(*operands)

    def _wide(self, value: Precision) -> Precision:
        return MAYBE if value is HALF else value

    # calls -------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Precision:
        """What a call gives."""
        given = [*node.args, *(k.value for k in node.keywords)]
        operands = [self._of(a) for a in given]
        name = self.roles.names.resolve(node.func)
        last = name.rpartition(".")[2]
        if isinstance(node.func, ast.Attribute) and not name.startswith("torch."):
            receiver = self._of(node.func.value)
            if receiver is not NONE:
                return self._method(node, node.func.attr, receiver, operands)
            return self._foreign(node, operands)
        if name.startswith("torch."):
            return self._function(node, name, last, operands)
        if last in NOT_FLOATING:
            return NONE
        return self._foreign(node, operands)

    def _method(self, node: ast.Call, name: str, receiver: Precision, operands: list[Precision]) -> Precision:
        """What a method of a tensor gives."""
        asked = self._dtype(node)
        if name in ("float", "double"):
            return FULL
        if name in ("half", "bfloat16"):
            return HALF
        if name in NOT_FLOATING:
            return NONE
        if name in ("to", "type"):
            if asked is not None:
                return asked
            return receiver if name == "to" else MAYBE
        if name == "type_as":
            return operands[0] if operands else receiver
        if name in NEW:
            return receiver if asked is None else asked
        if name.removesuffix("_") in MATMULS and not name.endswith("_"):
            return self._product(receiver, *operands)
        if name.endswith("_") and not name.endswith("__"):
            return receiver  # in place: it keeps its dtype
        result = combine(receiver, *operands) if name in ("add", "sub", "mul", "div", "where", "maximum", "minimum") else receiver
        return self._wide(result) if name in WIDE and asked is None else asked or result

    def _function(self, node: ast.Call, name: str, last: str, operands: list[Precision]) -> Precision:
        """What a function of torch gives."""
        asked = self._dtype(node)
        if asked is not None:
            return asked
        if last in FACTORIES:
            return FULL
        if last in NOT_FLOATING or last[:1].isupper():
            return NONE
        if last in LIKE:
            return operands[0] if operands else NONE
        if last in MATMULS:
            return self._product(*operands)
        if name.startswith("torch.fft.") or name in COMPLEX or last == "stft":
            return FULL if last in ("irfft", "irfft2", "irfftn", "hfft") else NONE
        if name.startswith("torch.utils.checkpoint."):
            return MAYBE
        result = combine(*operands)
        return self._wide(result) if last in WIDE else result

    def _foreign(self, node: ast.Call, operands: list[Precision]) -> Precision:
        """A call of a layer, of a function of the file, or of something unknown."""
        text = dotted(node.func)
        if not self.inside and (handed := self.handed(node, self.frame)) is not NONE:
            return handed
        kinds = self.kinds.evidence.layers(node.func)
        if kinds:
            if kinds <= MULTIPLYING:
                return self._product(*operands)
            if kinds <= FOLLOWING:
                return operands[0] if operands else NONE
            if kinds == {"Embedding"}:
                return FULL
        computes = any(o is not NONE for o in operands) or self.roles.of(node.func, self.frame) in (Role.MODEL, Role.LOSS)
        if isinstance(node.func, ast.Attribute) and node.func.attr not in PASSIVE:  # `agent.get_value(x)`
            computes = computes or self.roles.of(node.func.value, self.frame) is Role.MODEL
        if not computes or text.rpartition(".")[2][:1].isupper():
            return NONE
        return MAYBE if self.inside or any(o > FULL for o in operands) else FULL

    def _dtype(self, node: ast.Call) -> Precision | None:
        """What `dtype=`, or a dtype among the arguments, asks for: by its name, or as that of another tensor."""
        dtype = dtype_asked(node, self.roles.names)
        if dtype is None:
            return None
        if isinstance(dtype, ast.Attribute) and dtype.attr == "dtype":
            return self.of(dtype.value)
        name = self.roles.names.resolve(dtype)
        return FULL if name in FULL_DTYPES else HALF if name in HALF_DTYPES else NONE


def _ranks(node: ast.expr | None) -> bool:
    """Whether an expression gives values and their indices, such as `x.max(1)`."""
    if not isinstance(node, ast.Call):
        return False
    return (node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)) in PICKING


def _annotated(argument: ast.arg) -> bool:
    """Whether a parameter is said to be something else than a tensor."""
    return argument.annotation is not None and dotted(argument.annotation) in ("int", "float", "bool", "str")
