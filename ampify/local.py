"""Local files: those that the given ones import, and the given ones that import a file, each parsed as seldom as possible."""

from __future__ import annotations

import ast
import os
import re
from collections import OrderedDict
from collections.abc import Iterable

from ampify import files
from ampify.imports import Outline, imports, outlined, places
from ampify.source import SourceError, parse

KEPT = 128  # syntax trees in memory
IMPORTED_BYTES = 400_000  # of one file; what is larger is data rather than somebody's model
IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]([^\n(]*(?:\([^)]*\))?)", re.M)
WORD = re.compile(rb"[^\W\d]\w*")


class Local:
    """The files round the given ones, by their real paths; nothing is read before somebody asks for it."""

    def __init__(self, given: Iterable[str]) -> None:
        self._given = [path for path in given if path.endswith(".py")]
        self._places: dict[tuple[str, int, str], str | None] = {}
        self._trees: OrderedDict[str, ast.Module | None] = OrderedDict()
        self._outlines: dict[str, Outline] = {}
        self._importing: dict[str, list[str]] | None = None  # by a word in import statements, the given files with them

    def imported(self, path: str, level: int, name: str) -> str | None:
        """The file that a file imports by a module's name; None where there is none, or it is installed rather than local."""
        key = (os.path.dirname(path), level, name)
        if key not in self._places:
            found = next((place for place in places(path, level, name) if files.is_file(place)), None)
            real = files.identity(found) if found is not None else ""
            self._places[key] = real if real and "site-packages" not in real else None
        return self._places[key]

    def importers(self, path: str) -> Iterable[str]:
        """The given files whose import statements have the name of a file in them."""
        if len(self._given) < 2:
            return ()
        if self._importing is None:
            self._importing = {}
            for given in self._given:
                data = files.read_optional(given) or b""
                for word in {w.decode() for line in IMPORT.findall(data) for w in WORD.findall(line)}:
                    self._importing.setdefault(word, []).append(given)
        stem = os.path.basename(path).removesuffix(".py")
        name = os.path.basename(os.path.dirname(path)) if stem == "__init__" else stem
        return [given for given in self._importing.get(name, ()) if given != path]

    def outline(self, path: str) -> Outline:
        """What a file imports, saves and loads; nothing where it cannot be read."""
        if path not in self._outlines:
            tree = self.tree(path)
            found = (self.imported(path, level, name) for level, name in imports(tree)) if tree is not None else ()
            local = tuple(dict.fromkeys(p for p in found if p is not None and p != path))
            self._outlines[path] = outlined(files.read_optional(path) or b"", local) if tree is not None else Outline()
        return self._outlines[path]

    def source(self, path: str) -> bytes | None:
        """The bytes of a file; None where it cannot be read."""
        return files.read_optional(path)

    def tree(self, path: str) -> ast.Module | None:
        """The syntax tree of a file; None where it cannot be read, or is too large to be looked into."""
        if path not in self._trees:
            data = files.read_optional(path)
            try:
                self._trees[path] = parse(data) if data is not None and len(data) < IMPORTED_BYTES else None
            except (SourceError, RecursionError):
                self._trees[path] = None
            if len(self._trees) > KEPT:
                self._trees.popitem(last=False)
        self._trees.move_to_end(path)
        return self._trees[path]
