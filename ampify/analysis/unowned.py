"""Unowned tensors: backward passes through tensors made on the spot, which no model or optimizer gets, as in a tour of autograd.

Their gradients are nobody's step: such a backward needs no scaling, and whoever looks at the gradients sees what it computed.
Looked for in straight-line code only, where it is plain which value a name has.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.roles import Role, Roles
from ampify.analysis.vocabulary import HARMLESS, MUTATORS
from ampify.analysis.walk import walk

NOTHING: frozenset[ast.AST] = frozenset()
NOT_TENSORS = frozenset({"torch.load", "torch.compile"})
QUIET = frozenset({"requires_grad_", "retain_grad_"})  # methods in place that leave the values alone

Origins = frozenset[int]  # the statements that made the tensors behind a value


class _Use(NamedTuple):
    """A backward call, or a gradient that is looked at, with the tensors that it is of."""

    node: ast.AST
    origins: Origins


def unowned(frame: Frame, roles: Roles) -> frozenset[ast.AST]:
    """The backward calls of a frame through unowned tensors, and the `.grad` of these where it is looked at."""
    body = list(_straight(frame.node.body))
    if not any(_backward(stmt) for stmt in body):
        return NOTHING
    reading = _Reading(roles, frame)
    for index, stmt in enumerate(body):
        reading.read(index, stmt)
    lost = reading.lost.union(*(reading.ever.get(name, ()) for name in reading.seen_elsewhere()))
    passes = [use for use in reading.passes if not use.origins & lost]
    reached: frozenset[int] = frozenset().union(*(use.origins for use in passes))
    reads = [use for use in reading.reads if use.origins and use.origins <= reached and not use.origins & lost]
    return frozenset(use.node for use in (*passes, *reads))


def _straight(body: list[ast.stmt]) -> Iterator[ast.stmt | ast.withitem]:
    """The statements of a body one after the other, also those under `with`; other blocks stay in one piece."""
    for stmt in body:
        if isinstance(stmt, ast.With):
            yield from stmt.items
            yield from _straight(stmt.body)
        elif not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            yield stmt


def _backward(stmt: ast.AST) -> ast.Call | None:
    """The call of a tensor's backward that is all of a statement."""
    call = stmt.value if isinstance(stmt, ast.Expr) else None
    known = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"
    return call if known and isinstance(call, ast.Call) else None


class _Reading:
    """The reading of a frame's statements in order: which names hold plain tensors, and which anything made of or with them."""

    def __init__(self, roles: Roles, frame: Frame) -> None:
        self.roles, self.frame = roles, frame
        self.plain: dict[str, Origins] = {}
        self.held: dict[str, Origins] = {}
        self.ever: dict[str, Origins] = {}  # what each name has held
        self.lost: Origins = frozenset()  # tensors that something else may own, or go backward through
        self.passes: list[_Use] = []
        self.reads: list[_Use] = []

    def read(self, index: int, stmt: ast.stmt | ast.withitem) -> None:
        bound = _bound(stmt)
        early = isinstance(stmt, (ast.Assign, ast.AugAssign, ast.Expr)) and not any(
            isinstance(n, ast.NamedExpr) for n in walk(stmt)
        )
        for node in ast.walk(stmt):
            if isinstance(node, ast.Attribute) and node.attr == "grad" and isinstance(node.value, ast.Name):
                if node.value.id in self.plain and (early or node.value.id not in bound):
                    self.reads.append(_Use(node, self.plain[node.value.id]))
        backward = self.backward(stmt)
        if backward is not None:
            self.passes.append(_Use(backward, self.origins(backward)))
            return
        for node in ast.walk(stmt):
            if isinstance(node, ast.Call) and not self.lets_go(node):
                self.lost |= self.origins(node)
        self.bind(index, stmt, bound)

    def bind(self, index: int, stmt: ast.stmt | ast.withitem, bound: set[str]) -> None:
        """What the names that a statement binds hold from here on."""
        names = isinstance(stmt, ast.Assign) and all(map(_is_name, stmt.targets))
        if isinstance(stmt, ast.Assign) and names:
            plain = self.is_plain(stmt.value)
            held = self.origins(stmt.value) | ({index} if plain else frozenset())
        else:
            plain, held = False, self.origins(stmt)
        for name in bound:
            self.plain.pop(name, None)
            self.held[name] = held if names else held | self.held.get(name, frozenset())
            self.ever[name] = self.held[name] | self.ever.get(name, frozenset())
            if plain:
                self.plain[name] = held

    def backward(self, stmt: ast.AST) -> ast.Call | None:
        """The call of a statement that goes backward through plain tensors, and does nothing else."""
        call = _backward(stmt)
        if call is None or not isinstance(call.func, ast.Attribute) or not self.origins(call.func.value):
            return None
        given = (call.func.value, *call.args, *(k.value for k in call.keywords))
        return call if all(map(self.is_plain, given)) else None

    def origins(self, node: ast.AST) -> Origins:
        return frozenset().union(*(self.held.get(n.id, ()) for n in ast.walk(node) if isinstance(n, ast.Name)))

    def is_plain(self, node: ast.expr) -> bool:
        """Whether an expression is made of numbers and plain tensors by functions of torch's and NumPy's, and of nothing else."""
        if isinstance(node, ast.Name):
            return node.id in self.plain
        if isinstance(node, ast.Call):
            given = (*node.args, *(k.value for k in node.keywords))
            return (self.is_method(node) or self.makes_tensors(node)) and all(map(self.is_plain, given))
        if isinstance(node, ast.Attribute):
            name = self.roles.names.resolve(node)
            return self.is_plain(node.value) or (name.count(".") == 1 and name.startswith(("torch.", "numpy.")))
        parts = (ast.BinOp, ast.UnaryOp, ast.List, ast.Tuple, ast.Subscript, ast.Slice, ast.Compare)
        inner = [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)]
        return isinstance(node, ast.Constant) or (isinstance(node, parts) and all(map(self.is_plain, inner)))

    def makes_tensors(self, call: ast.Call) -> bool:
        """Whether a function of torch's or NumPy's is called that computes from its operands, and keeps nothing."""
        name = self.roles.names.resolve(call.func)
        if name in NOT_TENSORS or not name.startswith(("torch.", "numpy.")):
            return False
        return name.count(".") == 1 or name.startswith(("torch.nn.functional.", "torch.linalg.", "torch.autograd.Variable"))

    def is_method(self, call: ast.Call) -> bool:
        """Whether a method of a plain tensor is called."""
        function = self.roles.names.resolve(call.func).startswith(("torch.", "numpy."))
        return isinstance(call.func, ast.Attribute) and not function and self.is_plain(call.func.value)

    def lets_go(self, call: ast.Call) -> bool:
        """Whether a call keeps nothing of the tensors that it gets, and does not go backward through them."""
        func = call.func
        if isinstance(func, ast.Attribute) and func.attr in ("backward", "step"):
            return False
        given = frozenset().union(*(self.origins(a) for a in (*call.args, *call.keywords)))
        if not given or self.makes_tensors(call):
            return True
        if self.is_method(call) or (isinstance(func, ast.Attribute) and func.attr in MUTATORS):
            return True  # a tensor's method, or a list that holds them now
        if isinstance(func, ast.Name) and func.id in HARMLESS and not self.roles.names.means(func.id):
            return True
        return self.roles.of(func, self.frame) in (Role.MODEL, Role.LOSS)

    def seen_elsewhere(self) -> set[str]:
        """The names that functions inside this frame read, or bind as global ones."""
        found: set[str] = set()
        for other in self.roles.frames.all:
            if other is not self.frame and self.frame in other.chain():
                nodes = [n for n in walk(other.node) if isinstance(n, (ast.Name, ast.Global, ast.Nonlocal))]
                found |= {n.id for n in nodes if isinstance(n, ast.Name) and n.id not in other.bindings}
                found |= {name for n in nodes if not isinstance(n, ast.Name) for name in n.names}
        return found


def _is_name(target: ast.expr) -> bool:
    """Whether an assignment binds names only."""
    return isinstance(target, ast.Name) or (isinstance(target, (ast.Tuple, ast.List)) and all(map(_is_name, target.elts)))


def _bound(stmt: ast.AST) -> set[str]:
    """The names that a statement, or anything in it, binds, or changes in place."""
    found: set[str] = set()
    for node in ast.walk(stmt):
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            found |= _root(node)
        elif isinstance(node, ast.Call):
            func = node.func
            if isinstance(func, ast.Attribute) and (func.attr in MUTATORS or func.attr.endswith("_")) and func.attr not in QUIET:
                found |= _root(func.value)
            found |= {name for k in node.keywords if k.arg == "out" for name in _root(k.value)}
    return found


def _root(node: ast.AST) -> set[str]:
    """The name that something is a part of; none for a part of a gradient."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        if isinstance(node, ast.Attribute) and node.attr == "grad":
            return set()
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()
