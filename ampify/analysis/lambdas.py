"""Lambdas that look at gradients: whether they run right where they stand, or wherever somebody calls them."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping

from ampify.analysis import gradients
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles
from ampify.analysis.walk import children, walk

Parents = Mapping[ast.AST, ast.AST]
AT_ONCE = frozenset({"sorted", "max", "min"})  # call what they are given, and are done with it
LAZY = frozenset({"map", "filter"})  # call it while somebody takes what comes of it
TENSORS = frozenset({"data", "grad", "_grad"})  # attributes of tensors that are tensors
TAKING = frozenset({"all", "any", "list", "max", "min", "set", "sorted", "sum", "tuple"})


def looks_at_gradients(function: ast.Lambda, frame: Frame, roles: Roles) -> bool:
    """Whether calling a lambda looks at gradients, itself or by what it calls."""
    parents: dict[ast.AST, ast.AST] = {}
    for node in walk(function):
        parents.update((child, node) for child in children(node))
    for node in walk(function):
        if isinstance(node, ast.Attribute) and node.attr in ("grad", "_grad") and gradients.reads_gradient(node, roles, parents):
            return True
        if isinstance(node, ast.Call):
            last = dotted(node.func).rpartition(".")[2]
            if last.startswith("clip_grad") or last in ("get_total_norm", "clip_grads_with_norm_"):
                return True
            if any(target.home.file.library.summaries.of(target).read for target in roles.targets(node, frame)):
                return True
    return False


def call_in_place(function: ast.Lambda, parents: Parents, roles: Roles) -> ast.Call | None:
    """The call that runs a lambda before its own statement ends: `sorted(..., key=lambda ...)`, `sum(map(lambda ...))`."""
    parent = parents.get(function)
    call = parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if not isinstance(call, ast.Call) or call.func is function or not isinstance(call.func, ast.Name):
        return None
    name = call.func.id
    if roles.names.means(name):
        return None
    if name in AT_ONCE:
        return call
    taker = parents.get(call)
    taken = isinstance(taker, ast.Call) and isinstance(taker.func, ast.Name) and taker.func.id in TAKING
    return call if name in LAZY and taken and isinstance(taker, ast.Call) and call in taker.args else None


def is_seen(function: ast.Lambda, parents: Parents, roles: Roles) -> bool:
    """Whether a lambda runs in place, or looks at nothing but what it is given where it is called by a name."""
    if call_in_place(function, parents, roles) is not None:
        return True
    return not isinstance(parents.get(function), (ast.Call, ast.keyword, type(None))) and _is_closed(function, roles)


def _is_closed(function: ast.Lambda, roles: Roles) -> bool:
    """Whether a lambda has nothing from around it but modules, and functions by their names, and of what it is given looks at no
    part: who calls it with a trainer does not hand over its model."""
    own = {a.arg for n in walk(function) if isinstance(n, ast.arguments) for a in (*n.posonlyargs, *n.args, *n.kwonlyargs)}
    names = [n for n in walk(function) if isinstance(n, ast.Name)]
    own |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    known = own | set(roles.names.aliases) | set(dir(builtins)) | set(roles.frames.functions)
    chained = (n.value for n in walk(function) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Attribute))
    parts = {n.value.id for n in chained if isinstance(n.value, ast.Name) and n.attr not in TENSORS}
    return bool(function.args.args) and all(n.id in known for n in names) and own.isdisjoint(parts)
