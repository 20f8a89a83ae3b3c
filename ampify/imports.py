"""Imports: which files an import statement may mean, by the names of the modules alone, and what a file is in outline."""

import ast
import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

REACH = 4  # directories above the script in which an absolute import is looked for
FOREIGN = frozenset({"torch", "torchvision", "torchaudio", "torchtext", "numpy", "scipy", "sklearn", "pandas", "PIL"})
FOREIGN |= {"ampify_runtime"} | sys.stdlib_module_names


KEY = rb"""['"]((?:grad_|amp_)?scaler\d*)['"]|\b((?:grad_|amp_)?scaler\d*)[ ]*=(?!=)"""
BLOCKS = frozenset({"body", "cases", "finalbody", "handlers", "orelse"})  # the fields with statements in them


class Outline(NamedTuple):
    """What is to be known of a file before anybody analyses it."""

    imports: tuple[str, ...] = ()  # the local files that it imports
    states: bool = False  # states are saved or loaded, of a model or of an optimizer
    runtime: bool = False  # it imports the runtime
    keys: frozenset[str] = frozenset()  # what it calls by a name that could be the scaler's in a checkpoint


def outlined(source: bytes, found: tuple[str, ...]) -> Outline:
    """The outline of a file's bytes, which import the files `found`."""
    found_keys = re.findall(KEY, source) if b"scaler" in source else []  # few files: start-up is measured
    keys = frozenset((quoted or keyword).decode() for quoted, keyword in found_keys)
    return Outline(found, b"state_dict" in source, b"ampify_runtime" in source, keys)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The level and name of every module that a file may import, those of the outer statements first."""
    queue: list[ast.AST] = [tree]
    for node in queue:
        for field in node._fields:
            if field in BLOCKS and isinstance(inside := getattr(node, field), list):
                queue.extend(inside)
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            if node.module:
                yield node.level, node.module
            yield from ((node.level, prefix + alias.name) for alias in node.names if alias.name != "*")


def places(path: str, level: int, module: str) -> list[str]:
    """The paths where a module can be that a file imports, the likeliest first; most of them do not exist."""
    if not level and module.partition(".")[0] in FOREIGN:
        return []
    return [place for base in _bases(path, level) for place in _places(base, module)]


def _bases(path: str, level: int) -> list[str]:
    """The directories in which a module is looked for: of a relative import the one, else the script's and those above."""
    here = os.path.dirname(os.path.abspath(path))
    if level:
        for _ in range(level - 1):
            here = os.path.dirname(here)
        return [here]
    found = []
    for _ in range(REACH):
        found.append(here)
        here = os.path.dirname(here)
    return found


def _places(base: str, module: str) -> list[str]:
    stem = os.path.join(base, *module.split("."))
    return [stem + ".py", os.path.join(stem, "__init__.py")]
