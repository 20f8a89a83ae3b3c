"""Values that no loss is computed from: numbers and arrays, gradients, and tensors cut off from the graph."""

from __future__ import annotations

import ast

from ampify.analysis.frames import Frame
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Roles
from ampify.analysis.syntax import is_false
from ampify.analysis.vocabulary import DETACHING

NUMBERS = frozenset({"item", "tolist", "numpy", "int", "float", "bool", "str", "len"})  # what gives no tensor


def is_detached(value: ast.expr) -> bool:
    """Whether a chain of calls ends in, or passes through, one whose result has no gradient."""
    while isinstance(value, (ast.Call, ast.Attribute, ast.Subscript)):
        if isinstance(value, ast.Attribute) and value.attr in DETACHING:
            return True
        if isinstance(value, ast.Call) and dotted(value.func) in ("int", "float", "bool", "str", "len"):
            return True
        value = value.func if isinstance(value, ast.Call) else value.value
    return False


def is_gradient(value: ast.expr, names: Names) -> bool:
    """Whether a value is a gradient without a graph: what it was taken of is no part of a loss."""
    while isinstance(value, ast.Subscript):
        value = value.value
    if not isinstance(value, ast.Call) or names.resolve(value.func) != "torch.autograd.grad":
        return False
    return all(k.arg != "create_graph" or is_false(k.value) for k in value.keywords) and len(value.args) < 5


def is_plain(value: ast.expr, frame: Frame, roles: Roles) -> bool:
    """Whether an expression calls a function of the program that returns nothing but numbers and arrays."""
    returned = roles.returns(value, frame)
    return bool(returned) and all(_is_number(v) for v, _ in returned)


def _is_number(value: ast.expr) -> bool:
    """Whether a value is a number or an array, or several of them, as the expression shows it."""
    if isinstance(value, (ast.Tuple, ast.List)):
        return all(_is_number(element) for element in value.elts)
    if isinstance(value, ast.Call):
        called = value.func.attr if isinstance(value.func, ast.Attribute) else dotted(value.func)
        return called in NUMBERS
    return isinstance(value, ast.Constant)
