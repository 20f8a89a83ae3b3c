"""Modules: what builds the module that an expression stands for, and where that is bound."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import Binding, Frame, Frames
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Roles
from ampify.analysis.sources import FLUENT, element
from ampify.analysis.spelling import WRAPPER_CLASSES, WRAPPERS
from ampify.analysis.syntax import header, own_statements
from ampify.analysis.walk import walk

Place = tuple[ast.stmt, str]


class Built(NamedTuple):
    """What builds a module, and where it is bound; `value` is None where that is not in sight."""

    value: ast.Call | None
    place: Place | None


class Modules:
    """Answers for the expressions of one file; `home` has the statement and function of each."""

    def __init__(self, names: Names, frames: Frames, roles: Roles) -> None:
        self.names, self.frames, self.roles = names, frames, roles
        self.home: dict[ast.AST, tuple[ast.stmt, Frame]] = {}  # of each expression
        self.bound: dict[tuple[ast.stmt, str], list[Binding]] = {}
        for frame in frames.all:
            for stmt in own_statements(frame.node.body):
                self.home.update((node, (stmt, frame)) for part in header(stmt) for node in walk(part))
        tables = [(f.bindings, "") for f in frames.all] + [(c.attributes, "self") for c in frames.classes.values()]
        for bindings, own in tables:
            for text, all_bound in bindings.items():
                for b in all_bound:
                    if b.value is not None and b.value in self.home:
                        local = self.spelled(text, b.frame) if own else text
                        self.bound.setdefault((self.home[b.value][0], local), []).append(b)
        self._known: dict[tuple[str, Frame], list[Built]] = {}

    def passed(self, name: str, frame: Frame) -> Iterator[ast.expr]:
        """What callers in this file pass for a parameter, also those that call a module for its `forward`."""
        yield from (value for value, _ in self.roles.passed(name, frame))
        if frame.owner is None or frame.name != "forward" or isinstance(frame.node, ast.Module):
            return
        positional = [a.arg for a in frame.node.args.args][1:]
        for other in self.frames.all:
            for call in other.calls:
                built = self.built(call.func, other) if dotted(call.func) not in ("", frame.name) else []
                if any(b.value is not None and self.class_of(b.value) == frame.owner.node.name for b in built):
                    at = positional.index(name) if name in positional else len(call.args)
                    yield from [k.value for k in call.keywords if k.arg == name] or call.args[at : at + 1]

    def place(self, call: ast.Call) -> Place | None:
        """The plain assignment that binds what a call builds, and the text that it is bound to."""
        for (stmt, text), bindings in self.bound.items():
            for b in bindings:
                value, rest = element(b.value, b.path) if b.value is not None else (None, ())
                while isinstance(value, ast.Call) and value is not call and isinstance(value.func, ast.Attribute):
                    value = value.func.value if value.func.attr in FLUENT else None
                if value is call and not rest and b.how == "assign" and isinstance(stmt, (ast.Assign, ast.AnnAssign)):
                    return stmt, text
        return None

    def built(self, node: ast.expr, frame: Frame) -> list[Built]:
        """What builds the module that an expression stands for; empty if it stands for no module."""
        return list(self._built(node, frame, None))

    def _built(self, node: ast.expr, frame: Frame, place: Place | None) -> Iterator[Built]:
        """What builds the module, through wrappers, functions and names; `place` is where it is bound."""
        while isinstance(node, ast.Call):
            name = self.roles.callee(node.func)
            if isinstance(node.func, ast.Attribute) and node.func.attr in FLUENT and not name.startswith("torch."):
                node = node.func.value
            elif (name in (*WRAPPERS, "copy.deepcopy", "copy.copy") or name.rpartition(".")[2] in WRAPPER_CLASSES) and node.args:
                node, place = node.args[0], None
            elif (name.startswith("torch.nn.") and name.rpartition(".")[2][:1].isupper()) or self.class_of(node):
                yield Built(node, place)
                return
            else:
                returned = self.roles.returns(node, frame)
                for value, where in returned:
                    yield from self._built(value, where, place if isinstance(value, ast.Call) and len(returned) == 1 else None)
                return
        if isinstance(node, ast.IfExp):
            yield from (b for part in (node.body, node.orelse) for b in self._built(part, frame, None))
        elif dotted(node):
            key = (dotted(node), frame)
            if key not in self._known:
                self._known[key] = []  # a question that comes back to itself gets nothing
                self._known[key] = list(dict.fromkeys(self._named(node, frame)))
            yield from self._known[key]

    def _named(self, node: ast.expr, frame: Frame) -> Iterator[Built]:
        """What builds the modules that a name may stand for."""
        text = dotted(node)
        found = [(b, text) for b in self.frames.lookup(text, frame)]
        if not found and isinstance(node, ast.Attribute):
            for owner in self.built(node.value, frame):
                for info in (
                    self.frames.family(self.frames.classes[self.class_of(owner.value)]) if self.class_of(owner.value) else ()
                ):
                    found.extend((b, f"self.{node.attr}") for b in info.attributes.get(f"self.{node.attr}", ()))
        for b, local in found:
            if b.how == "param":
                for value in self.passed(local, b.frame):
                    yield from self._built(value, self.home[value][1] if value in self.home else b.frame, None)
            elif b.how == "assign" and b.value is not None:
                value, rest = element(b.value, b.path)
                stmt = self.home[b.value][0] if b.value in self.home else None
                simple = isinstance(stmt, (ast.Assign, ast.AnnAssign))
                if not rest:
                    yield from self._built(value, b.frame, (stmt, self.spelled(local, b.frame)) if stmt and simple else None)

    def class_of(self, value: ast.Call | None) -> str:
        """The name of the class of this file that a call makes an instance of, or an empty string."""
        return value.func.id if value and isinstance(value.func, ast.Name) and value.func.id in self.frames.classes else ""

    def spelled(self, text: str, frame: Frame) -> str:
        """An attribute of the instance as a method spells it."""
        method = frame.method
        return f"{method.self_name}{text[4:]}" if method is not None and text.startswith("self.") else text
