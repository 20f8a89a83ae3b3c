"""Library: the files that a program is made of, each read when something first asks what an imported name is."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from ampify.analysis.flow import Builders, number
from ampify.analysis.frames import ClassInfo, Frame, Frames
from ampify.analysis.names import Names
from ampify.analysis.roles import Roles
from ampify.analysis.sites import Sites
from ampify.analysis.summaries import Summaries
from ampify.analysis.uses import Uses
from ampify.imports import Outline, imports
from ampify.program import APART

if TYPE_CHECKING:
    from ampify.analysis.analyse import Reading

MODULES = 200  # files that are read for one script; what is beyond is a library rather than somebody's model


class Finder(Protocol):
    """What is known of the local files round a script, by their real paths."""

    def imported(self, path: str, level: int, name: str) -> str | None:
        """The file that a file imports by a module's name, or by the name of something in a package."""

    def importers(self, path: str) -> Iterable[str]:
        """The files of the same call that may import a file."""

    def seen(self, path: str) -> Seen | None:
        """A file as it is by itself; None where it cannot be read."""

    def outline(self, path: str) -> Outline:
        """What a file is in outline; an empty one where it cannot be read."""

    def source(self, path: str) -> bytes | None:
        """The bytes of a file; None where it cannot be read."""


class Seen:
    """A file by itself, whatever program it is a part of."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.imports = tuple(imports(tree))

    @cached_property
    def names(self) -> Names:
        return Names(self.tree)

    @cached_property
    def frames(self) -> Frames:
        """Those that each program has copies of."""
        return Frames(self.tree, self.names)


class File:
    """A file of a program: its names, functions and classes, and what they mean."""

    def __init__(self, seen: Seen, path: str, library: Library, start: int) -> None:
        self.seen, self.path, self.library, self.start = seen, path, library, start
        self.tree, self.names = seen.tree, seen.names
        self._targets: dict[str, tuple[File, str] | None] = {}

    @cached_property
    def frames(self) -> Frames:
        return self.seen.frames.of(self)

    def keep(self) -> None:
        """Takes the frames as they are: no other program needs copies of them."""
        self.frames = self.seen.frames
        self.frames.belong(self)

    def calls_named(self, name: str, method: bool) -> list[tuple[ast.Call, Frame]]:
        """The calls in the file of `name(...)`, or of `x.name(...)`."""
        return self.frames.calls_named(name, method) if (name, method) in self.seen.frames.by_name() else []

    @cached_property
    def roles(self) -> Roles:
        return Roles(self.names, self.frames, linked=True)

    @cached_property
    def alone(self) -> Roles:
        """The roles as the file by itself shows them."""
        return Roles(self.names, self.frames)

    @cached_property
    def sites(self) -> Sites:
        return Sites(self.names, self.frames, self.roles, self.library.summaries)

    @cached_property
    def numbers(self) -> dict[ast.stmt, tuple[int, int]]:
        """Of each statement the index in source order, and one past its last inner one; no two files have the same."""
        return number(self.tree, self.start)

    @cached_property
    def reading(self) -> Reading:
        from ampify.analysis.analyse import read_file

        return read_file(self)

    @cached_property
    def uses(self) -> Uses:
        return Uses(self.frames, self.roles)

    @property
    def speaks_of_torch(self) -> bool:
        """Whether the file imports anything of torch's."""
        return any(target.startswith("torch") for target in self.names.aliases.values())

    @cached_property
    def speaks_of_gradients(self) -> bool:
        """Whether an attribute or a name of the file has to do with gradients."""
        return any("grad" in name for name in (*self.names.attributes, *self.names.taken))

    @cached_property
    def importers(self) -> list[File]:
        """The files of the same call that import this one."""
        finder = self.library.finder
        found = [self.library.file(path) for path in finder.importers(self.path)] if finder is not None else []
        return [file for file in found if file is not None and file is not self]

    # what imported names are -----------------------------------------------------------------------------

    def target(self, text: str) -> tuple[File, str] | None:
        """The file, and the name in it, that an imported name stands for; the name is empty for a module itself."""
        if self.library.finder is None:
            return None
        if text not in self._targets:
            self._targets[text] = None  # an import that comes back to it knows nothing
            self._targets[text] = self._find(text)
        return self._targets[text]

    def _find(self, text: str) -> tuple[File, str] | None:
        base, _, rest = text.partition(".")
        for stmt in self.names.imported.get(base, ()):
            for alias in stmt.names if isinstance(stmt, (ast.Import, ast.ImportFrom)) else ():
                found = None
                if isinstance(stmt, ast.Import):
                    found = self._module(alias, text)
                elif isinstance(stmt, ast.ImportFrom) and (alias.asname or alias.name) == base:
                    found = self._member(stmt.level, stmt.module or "", alias.name, rest)
                if found is not None:
                    return found
        for stmt in self.names.imported.get("*", ()):
            if isinstance(stmt, ast.ImportFrom) and base not in self.names.imported:
                file = self.library.imported(self, stmt.level, stmt.module or "")
                if file is not None and (found := file.defines(text)) is not None:
                    return found
        return None

    def _module(self, alias: ast.alias, text: str) -> tuple[File, str] | None:
        """What `import package.module` or `import module as name` makes of a name."""
        own = alias.asname or alias.name
        if text != own and not text.startswith(own + "."):
            return None
        file = self.library.imported(self, 0, alias.name)
        rest = text[len(own) + 1 :]
        return file.defines(rest) if file is not None and rest else (file, "") if file is not None else None

    def _member(self, level: int, module: str, name: str, rest: str) -> tuple[File, str] | None:
        """What `from module import name` makes of `name.rest`: something in the module, or a module of the package."""
        holder = self.library.imported(self, level, module) if module else None
        if holder is not None and (found := holder.defines(f"{name}.{rest}" if rest else name)) is not None:
            return found
        inner = self.library.imported(self, level, f"{module}.{name}" if module else name)
        if inner is None:
            return None
        return inner.defines(rest) if rest else (inner, "")

    def defines(self, text: str) -> tuple[File, str] | None:
        """Where a name of this file is defined: here, or where it is imported from."""
        base = text.partition(".")[0]
        if base in self.names.imported or base not in self._own:
            return self.target(text)
        return self, text

    @cached_property
    def _own(self) -> frozenset[str]:
        own = self.frames.module
        functions = {f.name for f in self.frames.all if f.parent is own and f.owner is None}
        return frozenset({*self.frames.classes, *functions, *own.bindings})

    def class_named(self, text: str) -> ClassInfo | None:
        """The class that a name stands for in this file, of this file or another."""
        if text in self.frames.classes and text not in self.names.imported:
            return self.frames.classes[text]
        found = self.target(text) if text else None
        return found[0].frames.classes.get(found[1]) if found is not None else None

    def functions_named(self, text: str) -> list[Frame]:
        """The functions that a name stands for in this file, of this file or another."""
        if text in self.frames.functions:
            return self.frames.functions[text]
        found = self.target(text) if text else None
        if found is None or found[0] is self:
            return []
        return [f for f in found[0].frames.functions.get(found[1], ()) if f.parent is found[0].frames.module]


class Library:
    """The files of one program: a script, and what it is connected with by imports."""

    def __init__(self, finder: Finder | None = None) -> None:
        self.finder = finder
        self.summaries = Summaries()
        self.builders = Builders()
        self.files: dict[str, File | None] = {}

    def add(self, tree: ast.Module, path: str = "") -> File:
        """The script itself, whose statements count from 0."""
        file = self.files[path] = File(Seen(tree), path, self, APART * len(self.files))
        file.keep()
        return file

    def file(self, path: str) -> File | None:
        """A file by its path, read now if it was not before."""
        if path not in self.files:
            seen = self.finder.seen(path) if self.finder is not None and len(self.files) < MODULES else None
            self.files[path] = File(seen, path, self, APART * len(self.files)) if seen is not None else None
        return self.files[path]

    def imported_by(self, file: File) -> Iterator[File]:
        """The files that a file imports, itself or through others."""
        seen = {file.path}
        queue = [file]
        while queue and self.finder is not None:
            importing = queue.pop()
            for level, name in importing.seen.imports:
                found = self.imported(importing, level, name)
                if found is not None and found.path not in seen:
                    seen.add(found.path)
                    queue.append(found)
                    yield found

    def around(self, file: File) -> Iterator[File]:
        """The files with code that a file's training steps may run: those that it imports, and, as they may hand it their
        models, those of the same call that import it, with all that these import."""
        seen = {file.path}
        queue = [file]
        while queue:
            importing = queue.pop()
            for found in (importing, *self.imported_by(importing)):
                if found.path not in seen:
                    seen.add(found.path)
                    yield found
            queue.extend(f for f in importing.importers if f.path not in seen and self._imports(f, importing))

    def _imports(self, importer: File, file: File) -> bool:
        return any(self.imported(importer, level, name) is file for level, name in importer.seen.imports)

    def imported(self, importer: File, level: int, name: str) -> File | None:
        """The file that an import means."""
        path = self.finder.imported(importer.path, level, name) if self.finder is not None else None
        return self.file(path) if path is not None else None
