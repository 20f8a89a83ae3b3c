"""Dtypes: which values are of one dtype for certain, whichever it is, as they are made of the same tensor."""

from __future__ import annotations

import ast

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import LIKE, NEW, PICKING, dtype_asked
from ampify.analysis.roles import Roles
from ampify.analysis.sources import element

KEEPING = frozenset(  # functions and methods that move elements, or pick some, which autocast leaves alone
    (
        "view reshape unsqueeze squeeze permute transpose t contiguous clone detach expand expand_as repeat flatten unflatten "
        "flip roll narrow select index_select gather masked_fill masked_select masked_fill_ tril triu cpu cuda movedim swapaxes "
        "repeat_interleave view_as reshape_as"
    ).split()
)
RANKING = PICKING - {"max", "min"}  # these may be of two tensors
Roots = frozenset[tuple[object, str]]  # tensors, by their names and what binds those


def alike(a: ast.expr, b: ast.expr, frame: Frame, roles: Roles) -> bool:
    """Whether two expressions of a function are of one dtype, however their names were bound."""
    roots = _roots(a, (), frame, roles, frozenset())
    return len(roots) == 1 and roots == _roots(b, (), frame, roles, frozenset())


def _roots(node: ast.expr, path: tuple[int, ...], frame: Frame, roles: Roles, met: Roots) -> Roots:
    """The tensors that an expression, or the part of it at a path, may have its dtype from."""
    node, path = element(node, path)
    unknown: Roots = frozenset({(node, str(path))})
    if isinstance(node, ast.Call):
        name = roles.names.resolve(node.func)
        function = name.startswith("torch.")
        last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
        model = node.args[0] if function and node.args else node.func.value if isinstance(node.func, ast.Attribute) else None
        keeps = last in KEEPING or last in (LIKE if function else NEW) or (last in RANKING and path == (0,))
        known = keeps and model is not None and not isinstance(model, ast.Starred) and dtype_asked(node, roles.names) is None
        if not known or model is None or any(k.arg == "dtype" for k in node.keywords):
            return unknown
        return _roots(model, () if last in RANKING else path, frame, roles, met)
    if text := dotted(node):
        return unknown if path else _named(text, frame, roles, met)
    if isinstance(node, ast.Subscript) and not path:
        if isinstance(node.value, ast.Call) and isinstance(node.slice, ast.Constant) and node.slice.value == 0:
            return _roots(node.value, (0,), frame, roles, met)
        if isinstance(node.slice, ast.Tuple):  # of a list or a dict the elements may be of several dtypes
            return _roots(node.value, (), frame, roles, met)
    return unknown


def _named(text: str, frame: Frame, roles: Roles, met: Roots) -> Roots:
    """The roots of all that a name may hold."""
    bound = roles.frames.lookup(text, frame)
    if not bound:
        return frozenset({(frame, text)})
    own = (bound[0].frame, text)
    if own in met:
        return frozenset()
    found: set[tuple[object, str]] = set()
    for binding in bound:
        if binding.how == "assign" and binding.value is not None:
            found |= _roots(binding.value, binding.path, binding.frame, roles, met | {own})
        else:
            found.add(own if binding.how == "param" else (binding.value, text))
    return frozenset(found)
