"""Imports: which files a script's import statements may mean, by the names of the modules alone."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator

REACH = 4  # directories above the script in which an absolute import is looked for
FOREIGN = frozenset({"torch", "torchvision", "torchaudio", "torchtext", "numpy", "scipy", "sklearn", "pandas", "PIL"})
FOREIGN |= sys.stdlib_module_names


def candidates(tree: ast.Module, path: str) -> Iterator[list[str]]:
    """For every module that a file may import the paths where it can be, the likeliest first; most of them do not exist."""
    seen: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            wanted = [(node.level, node.module)] if node.module else []
            wanted += [(node.level, prefix + alias.name) for alias in node.names if alias.name != "*"]
        else:
            continue
        for level, module in wanted:
            top = module.partition(".")[0]
            if (level, module) not in seen and (level or top not in FOREIGN):
                seen.add((level, module))
                yield [place for base in _bases(path, level) for place in _places(base, module)]


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
