"""A file with mixed precision of its author's, as the findings look at it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property

from ampify.analysis.analyse import Reading
from ampify.analysis.existing import framework
from ampify.analysis.frames import Frame
from ampify.analysis.library import Finder, Library
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Roles
from ampify.analysis.scalers import Made, contexts, made, scalers
from ampify.analysis.syntax import header, own_statements
from ampify.analysis.walk import children, walk
from ampify.doctor.machine import Code
from ampify.program import Scope

CLIPS = ("clip_grad", "get_total_norm")


class Case:
    """A file's reading, with its author's scalers and regions taken for what they are."""

    def __init__(self, tree: ast.Module, path: str = "", finder: Finder | None = None) -> None:
        self.tree = tree
        self.file = Library(finder).add(tree, path)
        self.names: Names = self.file.names
        self.made: list[Made] = list(made(self.names))
        self.contexts = contexts(self.names)
        self.names.adopt(scalers(self.names), frozenset(self.contexts))
        self.scalers = self.names.scalers

    @cached_property
    def reading(self) -> Reading:
        return self.file.reading

    @property
    def roles(self) -> Roles:
        return self.file.roles

    @cached_property
    def framework(self) -> str:
        """The framework that brings mixed precision of its own and that the file imports, or an empty string."""
        return framework(self.names)

    @cached_property
    def statements(self) -> dict[int, ast.stmt]:
        """The file's statements by their numbers."""
        return {number: stmt for stmt, (number, _) in self.reading.numbers.items()}

    @cached_property
    def tests(self) -> dict[int, ast.expr]:
        """The conditions of its branches, by the number of the statement."""
        return {number: stmt.test for number, stmt in self.statements.items() if isinstance(stmt, ast.If)}

    @cached_property
    def code(self) -> Code:
        """What the state machine has to know of the code."""
        clips = {
            number
            for number, stmt in self.statements.items()
            for part in header(stmt)
            for call in walk(part)
            if isinstance(call, ast.Call) and dotted(call.func).rpartition(".")[2].startswith(CLIPS)
        }
        return Code(self.tests, frozenset(clips))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in walk(self.tree) for child in children(node)}

    @cached_property
    def frames(self) -> dict[int, Frame]:
        """The file's functions by the numbers of their statements; the module's is -1."""
        numbers = self.reading.numbers
        return {-1 if isinstance(f.node, ast.Module) else numbers[f.node][0]: f for f in self.file.frames.all}

    def frames_of(self, scope: Scope) -> Iterator[Frame]:
        """The function of a scope, and those that do a part of its training step."""
        for number in (scope.number, *sorted(scope.calls())):
            if number in self.frames:
                yield self.frames[number]

    def calls_of_scaler(self, *methods: str) -> Iterator[tuple[ast.Call, Frame]]:
        """The calls of some methods of a scaler, of all where none is named, with the functions that they stand in."""
        for frame in self.file.frames.all:
            for call in frame.calls:
                func = call.func
                if isinstance(func, ast.Attribute) and self.names.is_scaler(func.value) and (not methods or func.attr in methods):
                    yield call, frame

    @cached_property
    def acting(self) -> set[Frame]:
        """The functions that do something to a scaler, themselves or through others."""
        found = {frame for _, frame in self.calls_of_scaler("unscale_", "update", "step", "scale")}
        called = {f: {t for call in f.calls for t in self.roles.targets(call, f)} for f in self.file.frames.all}
        before = -1
        while before != len(found):
            before = len(found)
            found.update(f for f, targets in called.items() if targets & found)
        return found

    def handed_on(self, frame: Frame) -> set[str]:
        """The scalers that a function hands to calls, whole: somebody else may use them too."""
        found: set[str] = set()
        for call in frame.calls:
            if dotted(call.func) in ("isinstance", "print", "hasattr", "type", "id", "bool", "getattr"):
                continue
            for given in (*call.args, *(k.value for k in call.keywords)):
                value = given.value if isinstance(given, ast.Starred) else given
                found.update(dotted(n) for n in ([value] if dotted(value) else ()) if self.names.is_scaler(n))
                if isinstance(value, (ast.Dict, ast.List, ast.Tuple)):
                    found.update(dotted(n) for n in ast.iter_child_nodes(value) if self.names.is_scaler(n))
        return found

    def statement_of(self, node: ast.AST) -> ast.stmt:
        """The statement that a node is in."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node stands in, from the inside."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def body(self, frame: Frame) -> list[ast.stmt]:
        """All statements of a function."""
        return list(own_statements(frame.node.body))
