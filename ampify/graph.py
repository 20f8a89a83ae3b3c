"""Graph: which of the given files can have a part in each other's conversion, as imports connect them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ampify import files
from ampify.diagnostics import Diagnostic
from ampify.files import FileError
from ampify.job import BUG, bug_report
from ampify.local import Places, readable
from ampify.source import LARGEST, SourceError, is_candidate, parse, python


class Look(NamedTuple):
    """What a first look at a file shows: whether a training step can be in it, what it imports, as Places.of has it, or why it
    cannot be read."""

    candidate: bool = False
    imports: tuple[str, ...] = ()
    nowhere: tuple[str, ...] = ()
    problem: Diagnostic | None = None


class Component(NamedTuple):
    """Given files that are converted together, by their real paths: with `importers` as Local wants them."""

    files: tuple[str, ...] = ()
    importers: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def connected(linked: Mapping[str, list[str]]) -> Iterator[set[str]]:
    """The sets of files that are linked with each other, by way of others too; `linked` has both ends of each link."""
    seen: set[str] = set()
    for path in linked:
        stack, group = [path], set[str]()
        while stack:
            here = stack.pop()
            if here not in seen:
                seen.add(here)
                group.add(here)
                stack.extend(linked[here])
        if group:
            yield group


def look(path: str, shown: str, where: Places) -> Look:
    """The first look at a given file, by its real path and the user's."""
    try:
        data = python(shown, files.read(shown).data)
        if len(data) > LARGEST:
            return Look(is_candidate(data))  # to be refused, or left unchanged, without a look inside
        return _seen(path, parse(data), is_candidate(data), where)
    except FileError as problem:
        return Look(problem=Diagnostic(problem.code, "error", 1, 1, problem.message))
    except SourceError as error:
        return Look(problem=error.diagnostic)
    except Exception as error:  # other files are waiting
        return Look(problem=Diagnostic(BUG, "error", 1, 1, bug_report(error), "The file is left as it is."))


def look_beside(path: str, where: Places) -> Look:
    """A look at a file that was not given, for what it imports."""
    tree = readable(files.read_optional(path))
    return _seen(path, tree, False, where) if tree is not None else Look()


def _seen(path: str, tree: ast.Module, candidate: bool, where: Places) -> Look:
    imports, nowhere = where.of(path, tree)
    return Look(candidate, _sorted(imports), _sorted(nowhere))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


class Graph:
    """The files of one call and what they import: components are sets of files, each known by its least number."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._paths = list(given)
        self._number = {path: number for number, path in enumerate(self._paths)}
        self._given = len(self._paths)
        self._above = list(range(self._given))
        self._imports: dict[int, tuple[int, ...]] = {}  # of the files that were looked at
        self._nowhere: dict[str, list[int]] = {}  # by absolute name, who imports it
        self.problems: dict[str, Diagnostic] = {}
        self.candidates: set[str] = set()

    def add(self, path: str, seen: Look) -> None:
        """Takes in what a look at a file showed."""
        number = self._node(path)
        self._imports[number] = tuple(self._node(other) for other in seen.imports)
        for other in self._imports[number]:
            self._join(number, other)
        if number >= self._given:
            return
        for name in seen.nowhere:
            self._nowhere.setdefault(name, []).append(number)
        if seen.problem is not None:
            self.problems[path] = seen.problem
        if seen.candidate:
            self.candidates.add(path)

    def join_directories(self) -> None:
        """Connects the files that may be converted in one directory, which share what is put beside them."""
        first: dict[str, int] = {}
        for path in sorted(self.candidates):
            number = self._number[path]
            self._join(number, first.setdefault(os.path.dirname(path), number))

    def join_by_name(self) -> None:
        """Connects the files that import a module that is nowhere with the given ones that it may be after all."""
        for importer, target in self._maybe():
            self._join(importer, target)

    def unseen(self) -> list[str]:
        """The files that were not given and have to be looked at next: a training step may depend on what they import."""
        trained = {self._root(self._number[path]) for path in self.candidates}
        beside = range(self._given, len(self._paths))
        return [self._paths[n] for n in beside if n not in self._imports and self._root(n) in trained]

    def involved(self) -> set[str]:
        """The given files of the components."""
        trained = {self._root(self._number[path]) for path in self.candidates}
        return {self._paths[number] for number in range(self._given) if self._root(number) in trained}

    def components(self) -> Iterator[Component]:
        """The components with files that may hold training steps, in the order of their first files."""
        members: dict[int, list[int]] = {self._root(self._number[path]): [] for path in self.candidates}
        importers: dict[int, set[int]] = {}
        for number in range(self._given):
            if (root := self._root(number)) in members:
                members[root].append(number)
                for other in self._imports.get(number, ()):
                    importers.setdefault(other, set()).add(number)
        for importer, target in self._maybe():
            importers.setdefault(target, set()).add(importer)
        targets: dict[int, list[int]] = {}
        for target in importers:
            targets.setdefault(self._root(target), []).append(target)
        for root in sorted(members, key=lambda root: members[root][0]):
            table = {self._paths[t]: self._sorted(importers[t] - {t}) for t in targets.pop(root, ())}
            yield Component(self._sorted(members.pop(root)), table)

    def _sorted(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return _sorted(self._paths[number] for number in numbers)

    def _maybe(self) -> Iterator[tuple[int, int]]:
        """The given files that import a module that is nowhere, each with a given file whose path ends as the name does."""
        wanted: dict[str, list[tuple[list[str], list[int]]]] = {}
        for name, importers in self._nowhere.items():
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                wanted.setdefault(parts[end - 1], []).append((parts[:end], importers))
        for target in range(self._given):
            stem = self._paths[target].removesuffix(".py").removesuffix(os.sep + "__init__")
            for parts, importers in wanted.get(os.path.basename(stem), ()):
                if stem.split(os.sep)[-len(parts) :] == parts:
                    yield from ((importer, target) for importer in importers if importer != target)

    def _node(self, path: str) -> int:
        if path not in self._number:
            self._number[path] = len(self._paths)
            self._above.append(len(self._paths))
            self._paths.append(path)
        return self._number[path]

    def _root(self, number: int) -> int:
        while self._above[number] != number:
            self._above[number] = number = self._above[self._above[number]]
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = sorted((self._root(one), self._root(other)))
        self._above[other] = one
