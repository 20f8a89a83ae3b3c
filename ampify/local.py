"""Local files: which ones the given files import, and the given ones that import a file, each parsed as seldom as possible."""

from __future__ import annotations

import ast
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ampify import files
from ampify.imports import Outline, imports, outlined, places
from ampify.source import SourceError, parse, python

if TYPE_CHECKING:
    from ampify.analysis.library import Seen

KEPT = 200_000  # bytes of source, of files that are kept in memory as they were read
IMPORTED_BYTES = 400_000  # of one file; what is larger is data rather than somebody's model


class Places:
    """Where the modules are that files import; each is looked for once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str], str | None] = {}

    def imported(self, path: str, level: int, name: str) -> str | None:
        """The file that a file imports by a module's name; None where there is none, or it is installed rather than local."""
        key = (os.path.dirname(path), level, name)
        if key not in self._known:
            found = None
            if level or self._has(path, name.partition(".")[0]):
                found = next((place for place in places(path, level, name) if files.is_file(place)), None)
            real = files.identity(found) if found is not None else ""
            self._known[key] = real if real and "site-packages" not in real else None
        return self._known[key]

    def _has(self, path: str, top: str) -> bool:
        """Whether there is a module or directory of that name where absolute imports of a file are looked for."""
        key = (os.path.dirname(path), -1, top)
        if key not in self._known:
            found = (p for p in places(path, 0, top) if files.exists(os.path.dirname(p) if p.endswith("__init__.py") else p))
            self._known[key] = next(found, None)
        return self._known[key] is not None

    def of(self, path: str, tree: ast.Module) -> tuple[set[str], set[str]]:
        """The local files that a file imports, their packages among them, and the absolute names of modules that are nowhere:
        something at run time may lead to them."""
        found: set[str] = set()
        nowhere: set[str] = set()
        for level, name in set(imports(tree)):
            parts = name.split(".")
            prefixes = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
            reached = [real for prefix in prefixes if (real := self.imported(path, level, prefix)) is not None]
            found.update(reached)
            if not reached and not level and places(path, 0, name):
                nowhere.add(name)
        return found, nowhere


class Local:
    """The files round those that are converted together; nothing is read before somebody asks for it. `importers` has, by file,
    the given ones that import it, or may; `alone` is the only given one, at which nobody has looked for that."""

    def __init__(
        self, importers: Mapping[str, tuple[str, ...]] | None = None, where: Places | None = None, alone: str = ""
    ) -> None:
        self._importers, self._alone = importers or {}, alone
        self._places = where or Places()
        self._seen: OrderedDict[str, tuple[Seen | None, int]] = OrderedDict()
        self._kept = 0
        self._outlines: dict[str, Outline] = {}

    def imported(self, path: str, level: int, name: str) -> str | None:
        """The file that a file imports by a module's name."""
        return self._places.imported(path, level, name)

    def importers(self, path: str) -> Iterable[str]:
        """The given files that may import a file."""
        if self._alone and path != self._alone:
            return (self._alone,) if path in self.outline(self._alone).imports else ()
        return self._importers.get(path, ())

    def outline(self, path: str) -> Outline:
        """What a file imports, saves and loads; nothing where it cannot be read."""
        if path not in self._outlines:
            seen = self.seen(path)
            found = (self.imported(path, level, name) for level, name in imports(seen.tree)) if seen is not None else ()
            local = tuple(dict.fromkeys(p for p in found if p is not None and p != path))
            self._outlines[path] = outlined(_python(path) or b"", local) if seen is not None else Outline()
        return self._outlines[path]

    def source(self, path: str) -> bytes | None:
        """The bytes of a file; None where it cannot be read."""
        return _python(path)

    def seen(self, path: str) -> Seen | None:
        """A file as it is by itself; None where it cannot be read, or is too large to be looked into."""
        from ampify.analysis.library import Seen  # only here: start-up is measured

        if path not in self._seen:
            data = _python(path)
            tree = readable(data)
            self._seen[path] = (Seen(tree) if tree is not None else None, len(data or b""))
            self._kept += self._seen[path][1]
            while self._kept > KEPT and len(self._seen) > 1:
                self._kept -= self._seen.popitem(last=False)[1][1]
        self._seen.move_to_end(path)
        return self._seen[path][0]


def _python(path: str) -> bytes | None:
    """The Python of a file; None where it cannot be read."""
    data = files.read_optional(path)
    try:
        return python(path, data) if data is not None else None
    except SourceError:
        return None


def readable(data: bytes | None) -> ast.Module | None:
    """The syntax tree of an imported file; None where it cannot be read, or is too large to be looked into."""
    try:
        return parse(data) if data is not None and len(data) < IMPORTED_BYTES else None
    except (SourceError, RecursionError):
        return None
