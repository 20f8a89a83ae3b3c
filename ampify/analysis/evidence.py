"""Evidence: which names must hold tensors, or floating-point ones, for the code to work that uses them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property

from ampify.analysis.callees import is_loss, layers
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import (
    FLOATS,
    KEEPING,
    LAYERS,
    LIKE,
    LOOKUPS,
    METHODS,
    PASSING,
    QUESTIONS,
    SAME,
    SHARED,
    UNARY,
    WIDENING,
)
from ampify.analysis.roles import Roles
from ampify.analysis.syntax import own_statements
from ampify.analysis.walk import walk


class Kind(IntEnum):
    """What is known of a value; a tuple of tensors counts as they do."""

    UNKNOWN = 0
    TENSOR = 1
    FLOATING = 2


UNKNOWN, TENSOR, FLOATING = Kind
Place = tuple[int, int]  # line and column


UNKNOWN, TENSOR, FLOATING = Kind


class Evidence:
    """The names of one function, by the places where they are used."""

    def __init__(self, frame: Frame, roles: Roles) -> None:
        self.frame, self.roles = frame, roles
        self._layers: dict[str, set[str]] = {}

    def layers(self, func: ast.expr) -> set[str]:
        """The classes of torch.nn that something called may be of; none if it may be of another."""
        text = dotted(func)
        if not text:
            return layers(func, self.frame, self.roles)
        if text not in self._layers:
            self._layers[text] = layers(func, self.frame, self.roles)
        return self._layers[text]

    def of(self, text: str, start: Place = (0, 0)) -> Kind:
        """What a value must be for the code to work that uses its name, from the place where it is bound to where it is again."""
        if text not in self._uses:
            return UNKNOWN
        end = min((place for place in self._ends(text) if place > start), default=None)
        kinds = [kind for place, kind in self._uses[text] if start <= place and (end is None or place <= end)]
        known = max(kinds, default=UNKNOWN)
        return min(known, TENSOR) if text in self.indices else known

    def _ends(self, text: str) -> Iterator[Place]:
        """The places behind which a name holds another value."""
        for bound in self.roles.frames.lookup(text, self.frame):
            if bound.frame is self.frame and bound.value is not None:
                yield end_of(bound.value)
        yield from self._added.get(text, ())

    @cached_property
    def _added(self) -> dict[str, list[Place]]:
        """Where something is added to names, which may have been plain numbers before."""
        found: dict[str, list[Place]] = {}
        for stmt in own_statements(self.frame.node.body):
            if isinstance(stmt, ast.AugAssign):
                found.setdefault(dotted(stmt.target), []).append(end_of(stmt.value))
        return found

    @cached_property
    def _uses(self) -> dict[str, list[tuple[Place, Kind]]]:
        """The names that must hold tensors for the function to work, and where."""
        found: dict[str, list[tuple[Place, Kind]]] = {}
        products = (n for n in walk(self.frame.node) if isinstance(n, ast.BinOp)) if self.frame.owner is not None else ()
        for node in (*self.frame.calls, *products):
            for operand, kind in self._operands(node):
                if dotted(operand):
                    found.setdefault(dotted(operand), []).append(((node.lineno, node.col_offset), kind))
        return found

    @cached_property
    def indices(self) -> set[str]:
        """The names that look up rows of a table."""
        looking = (c for c in self.frame.calls if c.args and self.layers(c.func) & LOOKUPS)
        return {dotted(call.args[0]) for call in looking} - {""}

    def _operands(self, node: ast.Call | ast.BinOp) -> Iterator[tuple[ast.expr, Kind]]:
        """The operands that must be tensors for a call or product to work."""
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.MatMult):
                yield from ((side, TENSOR) for side in (node.left, node.right))
            return
        name = self.roles.names.resolve(node.func)
        if isinstance(node.func, ast.Attribute) and not name.startswith("torch.") and not self.roles.names.is_foreign(node.func):
            method, receiver = node.func.attr, node.func.value
            kind = UNKNOWN
            if method in METHODS:
                if method not in UNARY or not any(dotted(a) or isinstance(a, ast.Call) for a in node.args):
                    kind = TENSOR if method in WIDENING else FLOATING
            elif method in KEEPING | QUESTIONS or (method in SHARED and with_dim(node)):
                kind = TENSOR
            if method == "backward":
                yield receiver, FLOATING
            elif kind is not UNKNOWN and may_be_tensor(receiver, self.frame, self.roles):
                yield receiver, kind
        if not node.args:
            return
        last = name.rpartition(".")[2]
        if name.startswith("torch.") and last in FLOATS - {"einsum", "embedding"}:
            yield node.args[0], TENSOR if last in WIDENING else FLOATING
        elif name.startswith("torch.") and last in (KEEPING | SHARED | LIKE) - {"stack", "cat", "where"}:
            yield node.args[0], TENSOR
        elif is_loss(node, self.frame, self.roles) or name == f"{self.roles.names.scaler or 'scaler'}.scale":
            yield node.args[0], FLOATING
        elif made := self.layers(node.func):
            if made <= LAYERS | LOOKUPS | PASSING:
                yield node.args[0], FLOATING if made <= LAYERS else TENSOR


def may_be_tensor(node: ast.expr, frame: Frame, roles: Roles) -> bool:
    """Whether something of which nothing is known can be taken for a tensor by the name of its method: no attribute, which may be
    anything, and no class or instance of one that is no layer of torch."""
    if isinstance(node, ast.Attribute):
        return node.attr in SAME and may_be_tensor(node.value, frame, roles)
    text = dotted(node)
    if text and (text in roles.frames.classes or roles.class_of(text, frame) is not None):
        return False
    built = [value for value, _ in roles.sources(text, frame)] if text else [node]
    names = [roles.names.resolve(value.func) for value in built if isinstance(value, ast.Call)]
    return not any(name.rpartition(".")[2][:1].isupper() and not name.startswith("torch.") for name in names)


def end_of(node: ast.expr) -> Place:
    """The place behind an expression."""
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def with_dim(node: ast.Call) -> bool:
    """Whether a call has an argument that arrays of numpy would call `axis`."""
    return any(k.arg in ("dim", "keepdim") for k in node.keywords)
