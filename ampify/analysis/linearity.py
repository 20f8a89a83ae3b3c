"""Linearity: whether a custom backward commutes with scaling, so that a scaled incoming gradient gives just as scaled results.

Every value has a degree in the incoming gradients: FREE of them, LINEAR in them, ZERO (which is both), or OTHER. What cannot be
told is OTHER. A backward is right when everything it returns is LINEAR, ZERO or None.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from enum import Enum

from ampify.analysis.names import dotted


class Degree(Enum):
    """How a value depends on the incoming gradient: not at all, linearly, as a zero, or in another way."""

    FREE = 0
    LINEAR = 1
    ZERO = 2
    OTHER = 3


FREE, LINEAR, ZERO, OTHER = Degree
Values = dict[str, Degree]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Follow = Callable[[ast.Call], Function | None]
DEPTH = 4  # of calls

SHAPING = frozenset(  # linear in their first operand, whatever the others are
    "view reshape view_as reshape_as t transpose permute contiguous clone expand expand_as unsqueeze squeeze flatten to float "
    "double type_as type sum mean neg cumsum flip detach index_select gather chunk split narrow repeat unfold fold pad diagonal "
    "cuda cpu negative roll movedim swapaxes select tril triu sum_to_size".split()
)
PRODUCTS = frozenset(  # linear in each of their operands
    "mul multiply mm matmul bmm mv dot outer einsum conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "linear kron".split()
)
SUMS = frozenset("add sub cat stack".split())
QUOTIENTS = frozenset({"div", "divide", "true_divide"})
MAKING_ZEROS = frozenset({"zeros_like", "new_zeros", "zeros"})
METADATA = frozenset("shape dtype device ndim size dim numel is_cuda requires_grad is_contiguous layout".split())


def nonlinear(function: Function, follow: Follow = lambda call: None) -> ast.AST | None:
    """The place in an autograd.Function's backward that is not plainly linear, or None; `follow` tells which function a call
    of a plain name runs, where that is in sight."""
    arguments = function.args
    given = [a.arg for a in arguments.args[1:]] + ([arguments.vararg.arg] if arguments.vararg else [])
    reader = _Reader(dict.fromkeys(given, LINEAR), follow)
    reader.block(function.body)
    return reader.wrong


class _Reader:
    """Follows the statements of a backward; `wrong` is the first place that is not linear."""

    def __init__(self, values: Values, follow: Follow, depth: int = 0) -> None:
        self.values, self.follow, self.depth = values, follow, depth
        self.results: list[Degree] = []  # of a function that a backward calls
        self.wrong: ast.AST | None = None

    def blame(self, node: ast.AST) -> Degree:
        self.wrong = self.wrong or node
        return OTHER

    # statements --------------------------------------------------------------------------------------

    def block(self, body: list[ast.stmt]) -> None:
        for stmt in body:
            self.statement(stmt)

    def statement(self, stmt: ast.stmt) -> None:
        if isinstance(stmt, ast.Return):
            self.returned(stmt.value)
        elif isinstance(stmt, ast.Assign):
            degree = self.of(stmt.value)
            for target in stmt.targets:
                self.assign(target, degree, stmt.value)
        elif isinstance(stmt, ast.AnnAssign) and stmt.value is not None:
            self.assign(stmt.target, self.of(stmt.value), stmt.value)
        elif isinstance(stmt, ast.AugAssign):
            degree = self.combine(stmt, stmt.op, self.of(stmt.target), self.of(stmt.value))
            self.assign(stmt.target, degree, stmt.value)
        elif isinstance(stmt, ast.If):
            self.condition(stmt.test)
            before = dict(self.values)
            self.block(stmt.body)
            after, self.values = self.values, before
            self.block(stmt.orelse)
            self.values = {name: _join(after.get(name, FREE), self.values.get(name, FREE)) for name in after | self.values}
        elif isinstance(stmt, (ast.For, ast.While, ast.With)):
            for _ in range(2):  # twice, for values that a loop carries round
                if isinstance(stmt, ast.For):
                    self.assign(stmt.target, self.of(stmt.iter), stmt.iter)
                elif isinstance(stmt, ast.While):
                    self.condition(stmt.test)
                self.block(stmt.body)
        elif isinstance(stmt, ast.Expr):
            self.of(stmt.value)
        elif not isinstance(stmt, (ast.Pass, ast.Assert, ast.Import, ast.ImportFrom, ast.Raise, ast.Delete)):
            self.blame(stmt)

    def returned(self, value: ast.expr | None) -> None:
        if self.depth:
            self.results.append(self.of(value) if value is not None else OTHER)
            return
        for part in value.elts if isinstance(value, ast.Tuple) else [value]:
            if isinstance(part, ast.IfExp):
                self.condition(part.test)
                self.returned(part.body)
                self.returned(part.orelse)
            elif part is not None and not _is_none(part) and self.of(part) not in (LINEAR, ZERO):
                self.blame(part)

    def assign(self, target: ast.expr, degree: Degree, value: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            parts = value.elts if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts) else None
            for i, element in enumerate(target.elts):
                self.assign(element, self.of(parts[i]) if parts else degree, parts[i] if parts else value)
        elif isinstance(target, ast.Subscript):
            self.condition(target.slice)
            whole = _join(self.of(target.value), degree)
            self.assign(target.value, self.blame(target) if whole is OTHER else whole, value)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, degree, value)
        else:
            self.values[dotted(target)] = degree

    def condition(self, test: ast.AST) -> None:
        """A value that decides or indexes must not depend on the gradient's size; being None does not."""
        for node in ast.walk(test):
            if isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
                return
            if isinstance(node, ast.expr) and self.of(node) in (LINEAR, OTHER):
                self.blame(node)

    # expressions -------------------------------------------------------------------------------------

    def of(self, node: ast.AST) -> Degree:
        if isinstance(node, ast.Constant):
            return ZERO if node.value == 0 and node.value is not False else FREE
        if isinstance(node, ast.Name):
            return self.values.get(node.id, FREE)
        if isinstance(node, ast.Attribute):
            return FREE if node.attr in METADATA else self.values.get(dotted(node), self.of(node.value))
        if isinstance(node, ast.Subscript):
            self.condition(node.slice)
            return self.of(node.value)
        if isinstance(node, ast.UnaryOp):
            inner = self.of(node.operand)
            return inner if isinstance(node.op, (ast.USub, ast.UAdd)) or inner is FREE else self.blame(node)
        if isinstance(node, ast.BinOp):
            return self.combine(node, node.op, self.of(node.left), self.of(node.right))
        if isinstance(node, ast.NamedExpr):
            self.assign(node.target, degree := self.of(node.value), node.value)
            return degree
        if isinstance(node, ast.IfExp):
            self.condition(node.test)
            return self.agree(node, [d for d in (node.body, node.orelse) if not _is_none(d)])
        if isinstance(node, (ast.Tuple, ast.List)):
            return self.agree(node, node.elts)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, (ast.Compare, ast.BoolOp, ast.Slice, ast.Starred, ast.ListComp, ast.GeneratorExp)):
            parts = [self.of(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
            return FREE if all(p in (FREE, ZERO) for p in parts) else self.blame(node)
        return FREE

    def agree(self, node: ast.AST, parts: list[ast.expr]) -> Degree:
        degree = ZERO
        for part in parts:
            degree = _join(degree, self.of(part))
        return self.blame(node) if degree is OTHER else degree

    def combine(self, node: ast.AST, op: ast.operator, left: Degree, right: Degree) -> Degree:
        if left is FREE and right is FREE:
            return FREE
        if isinstance(op, (ast.Mult, ast.MatMult)):
            degree = _times(left, right)
        elif isinstance(op, ast.Div):
            degree = left if right is FREE else OTHER
        elif isinstance(op, (ast.Add, ast.Sub)):
            degree = _join(left, right)
        else:
            degree = FREE if LINEAR not in (left, right) and OTHER not in (left, right) else OTHER
        return self.blame(node) if degree is OTHER else degree

    def call(self, node: ast.Call) -> Degree:
        func = node.func
        name = (func.attr if isinstance(func, ast.Attribute) else dotted(func)).removesuffix("_")
        operands = [*node.args, *(k.value for k in node.keywords)]
        changing = isinstance(func, ast.Attribute) and func.attr.endswith("_") and dotted(func.value).partition(".")[0] != "torch"
        method = isinstance(func, ast.Attribute) and (changing or self.of(func.value) is not FREE)
        if method and isinstance(func, ast.Attribute):
            operands.insert(0, func.value)
        degrees = [self.of(o) for o in operands]
        function = self.follow(node) if isinstance(func, ast.Name) and func.id not in self.values else None
        if function is not None:
            return self.inside(function, node, degrees)
        if name in MAKING_ZEROS:
            return ZERO
        if name in METADATA or all(d is FREE for d in degrees):
            return FREE
        if name in SHAPING or name in QUOTIENTS:
            degree = degrees[0] if all(d in (FREE, ZERO) for d in degrees[1:]) else OTHER
        elif name in PRODUCTS:
            degree = FREE
            for d in degrees:
                degree = _times(degree, d)
        elif name in SUMS:
            degree = ZERO
            for d in degrees[: 2 if name in ("add", "sub") else 1]:
                degree = _join(degree, d)
        elif name in ("where", "masked_fill"):
            tensors = degrees[1:3] if name == "where" and not method else [degrees[0], *degrees[2:3]]
            degree = _join(tensors[0], tensors[1]) if len(tensors) == 2 else OTHER
        else:
            degree = OTHER
        if degree is OTHER:
            return self.blame(node)
        if changing and isinstance(func, ast.Attribute):
            self.values[dotted(func.value)] = degree
        return degree

    def inside(self, function: Function, node: ast.Call, degrees: list[Degree]) -> Degree:
        """What a function returns to a call, if it leaves the degrees of what it is given as they are."""
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        plain = not (arguments.vararg or arguments.kwarg or any(isinstance(a, ast.Starred) for a in node.args))
        keywords = [k.arg for k in node.keywords]
        if self.depth >= DEPTH or not plain or None in keywords or len(node.args) > len(names):
            return self.blame(node)
        given = dict.fromkeys(names, FREE)
        given |= zip([*names[: len(node.args)], *map(str, keywords)], degrees, strict=True)
        reader = _Reader(dict(given), self.follow, self.depth + 1)
        reader.block(function.body)
        degree = ZERO if reader.results else OTHER
        for result in reader.results:
            degree = _join(degree, result)
        changed = any(reader.values.get(name) is not value for name, value in given.items())  # perhaps in place
        return self.blame(node) if reader.wrong is not None or changed or degree is OTHER else degree


def _join(a: Degree, b: Degree) -> Degree:
    """The degree of a sum, or of one or the other."""
    if a is ZERO or b is ZERO:
        return b if a is ZERO else a
    return a if a is b else OTHER


def _times(a: Degree, b: Degree) -> Degree:
    if OTHER in (a, b) or (a is LINEAR and b is LINEAR):
        return OTHER
    if ZERO in (a, b):
        return ZERO
    return LINEAR if LINEAR in (a, b) else FREE


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
