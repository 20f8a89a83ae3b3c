"""Importers: which names of a file others take from it, so that they cannot change what they stand for."""

from __future__ import annotations

import ast
import os

from ampify.analysis.library import Finder
from ampify.analysis.walk import walk


def taken(tree: ast.Module, path: str, finder: Finder | None) -> dict[str, str]:
    """The names of a file that others take, with what is to be said of it."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            for part in walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found[part.value] = "is exported by `__all__`, and who calls it is not to be seen"
    if finder is None:
        return found
    for importer in finder.importers(path):
        seen = finder.seen(importer)
        if seen is None or importer == path:
            continue
        why = f"is taken from here by {os.path.relpath(importer)}, which calls it as it is"
        modules = _modules(seen.tree, importer, path, finder)
        for each in walk(seen.tree):
            if isinstance(each, ast.ImportFrom):
                if finder.imported(importer, each.level, each.module or "") != path:
                    continue
                for alias in each.names:
                    for name in seen.names.loaded if alias.name == "*" else (alias.name,):
                        found.setdefault(name, why)
            elif isinstance(each, ast.Attribute) and _root(each) in modules:
                found.setdefault(each.attr, why)
    return found


def _modules(tree: ast.Module, importer: str, path: str, finder: Finder) -> set[str]:
    """The names that an importer has for the file itself, or for a package that it is in."""
    found: set[str] = set()
    for each in walk(tree):
        if isinstance(each, ast.Import):
            names = [(a, a.name) for a in each.names]
            level = 0
        elif isinstance(each, ast.ImportFrom):
            names = [(a, f"{each.module}.{a.name}" if each.module else a.name) for a in each.names]
            level = each.level
        else:
            continue
        found.update(a.asname or a.name.partition(".")[0] for a, name in names if finder.imported(importer, level, name) == path)
    return found


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
