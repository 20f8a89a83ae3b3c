"""Frames: which names a function, class or module binds to which expressions, and how it uses them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.names import Names, dotted
from ampify.analysis.walk import children

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Binding(NamedTuple):
    """One way a name gets its value: `value[path]`, or an element of it when `how` is `for`."""

    value: ast.expr | None
    path: tuple[int, ...]
    how: str  # assign, for, with, param
    frame: Frame


class Frame:
    """A function body, or the module's. `used` maps a value's text to the methods called on it."""

    def __init__(self, node: ast.Module | Function, parent: Frame | None, owner: ClassInfo | None) -> None:
        self.node, self.parent, self.owner = node, parent, owner
        self.bindings: dict[str, list[Binding]] = {}
        self.used: dict[str, set[str]] = {}
        self.called: set[str] = set()
        self.calls: list[ast.Call] = []
        self.lambdas: list[ast.Lambda] = []
        self.outer: dict[str, Frame] = {}  # names that `global` and `nonlocal` make another frame's

    @property
    def name(self) -> str:
        return getattr(self.node, "name", "<module>")

    @property
    def self_name(self) -> str:
        """The name of a method's instance parameter, or an empty string."""
        if self.owner is None or isinstance(self.node, ast.Module) or not self.node.args.args:
            return ""
        return self.node.args.args[0].arg

    def chain(self) -> Iterator[Frame]:
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent


class ClassInfo:
    """A class of the file: its qualified bases, methods and the attributes that its methods bind on the instance."""

    def __init__(self, node: ast.ClassDef, bases: list[str]) -> None:
        self.node, self.bases = node, bases
        self.methods: dict[str, Frame] = {}
        self.attributes: dict[str, list[Binding]] = {}
        self.used: dict[str, set[str]] = {}
        self.called: set[str] = set()


class Frames:
    """All frames and classes of one file."""

    def __init__(self, tree: ast.Module, names: Names) -> None:
        self.names = names
        self.classes: dict[str, ClassInfo] = {}
        self.functions: dict[str, list[Frame]] = {}
        self.all: list[Frame] = []
        self._by_name: dict[tuple[str, bool], list[tuple[ast.Call, Frame]]] = {}
        self.module = self._frame(tree, None, None)

    def _frame(self, node: ast.Module | Function, parent: Frame | None, owner: ClassInfo | None) -> Frame:
        frame = Frame(node, parent, owner)
        self.all.append(frame)
        if not isinstance(node, ast.Module):
            arguments = node.args
            for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                frame.bindings.setdefault(arg.arg, []).append(Binding(None, (), "param", frame))
        for stmt in node.body:
            self._visit(stmt, frame)
        return frame

    def _visit(self, node: ast.AST, frame: Frame) -> None:
        if isinstance(node, FUNCTIONS):
            inner = self._frame(node, frame, None)
            self.functions.setdefault(node.name, []).append(inner)
            return
        if isinstance(node, ast.ClassDef):
            self._class(node, frame)
            return
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, node.value, (), "assign", frame)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._bind(node.target, node.value, (), "assign", frame)
        elif isinstance(node, ast.NamedExpr):
            self._bind(node.target, node.value, (), "assign", frame)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            self._bind(node.target, node.iter, (), "for", frame)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr, (), "with", frame)
        elif isinstance(node, ast.Call):
            self._call(node, frame)
        elif isinstance(node, ast.Lambda):
            frame.lambdas.append(node)
        elif isinstance(node, ast.Global):
            frame.outer.update(dict.fromkeys(node.names, list(frame.chain())[-1]))
        elif isinstance(node, ast.Nonlocal):
            for outer in list(frame.chain())[1:]:
                frame.outer.update((name, outer) for name in node.names if name in outer.bindings and name not in frame.outer)
        for child in children(node):
            self._visit(child, frame)

    def _class(self, node: ast.ClassDef, frame: Frame) -> None:
        info = ClassInfo(node, [self.names.resolve(b) for b in node.bases])
        self.classes.setdefault(node.name, info)
        for stmt in node.body:
            if isinstance(stmt, FUNCTIONS):
                info.methods[stmt.name] = self._frame(stmt, frame, info)
            else:
                self._visit(stmt, frame)

    def _call(self, node: ast.Call, frame: Frame) -> None:
        frame.calls.append(node)
        text = dotted(node.func)
        if text:
            self._record(frame, text).called.add(self._own(frame, text))
        if isinstance(node.func, ast.Attribute):
            receiver = dotted(node.func.value)
            if receiver:
                self._use(frame, receiver, node.func.attr)
            if receiver and receiver == self.names.scaler and node.args and dotted(node.args[0]):
                # `scaler.step(x)` says of x what `x.step()` says.
                self._use(frame, dotted(node.args[0]), {"step_scheduler": "schedule"}.get(node.func.attr, node.func.attr))

    def _use(self, frame: Frame, text: str, method: str) -> None:
        """Notes that a method is called on a value."""
        self._record(frame, text).used.setdefault(self._own(frame, text), set()).add(method)

    def _record(self, frame: Frame, text: str) -> Frame | ClassInfo:
        """Where uses of a text are noted: the class for attributes of the instance, else the frame."""
        method = self.method_of(frame)
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            return method.owner
        return frame

    def _own(self, frame: Frame, text: str) -> str:
        """The text with the instance spelled `self`."""
        method = self.method_of(frame)
        if method is not None and method.self_name and text.startswith(method.self_name + "."):
            return "self" + text[len(method.self_name) :]
        return text

    @staticmethod
    def method_of(frame: Frame) -> Frame | None:
        """The method that a frame is, or is nested in."""
        return next((f for f in frame.chain() if f.owner is not None), None)

    def _bind(self, target: ast.expr, value: ast.expr, path: tuple[int, ...], how: str, frame: Frame) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for i, element in enumerate(target.elts):
                self._bind(element, value, (*path, i), how, frame)
            return
        text = dotted(target)
        if not text:
            return
        binding = Binding(value, path, how, frame)
        method = self.method_of(frame)
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            method.owner.attributes.setdefault(self._own(frame, text), []).append(binding)
        else:
            holder = frame.outer.get(text.partition(".")[0].partition("[")[0], frame)
            holder.bindings.setdefault(text, []).append(binding)

    def lookup(self, text: str, frame: Frame) -> list[Binding]:
        """All bindings of a value's text as seen from a frame; empty when nothing is known."""
        method = self.method_of(frame)
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            own = self._own(frame, text)
            return [b for info in self.family(method.owner) for b in info.attributes.get(own, ())]
        for outer in frame.chain():
            if text in outer.bindings:
                return outer.bindings[text]
        return []

    def family(self, info: ClassInfo) -> list[ClassInfo]:
        """A class and those of its bases that the file defines."""
        found, queue = [], [info]
        while queue:
            current = queue.pop()
            if current not in found:
                found.append(current)
                queue.extend(self.classes[b] for b in current.bases if b in self.classes)
        return found

    def methods_used(self, text: str, frame: Frame) -> set[str]:
        """The methods called on a value, in the frame (or, for an attribute of the instance, the class) that holds it."""
        record = self._record(frame, text)
        own = self._own(frame, text)
        if isinstance(record, ClassInfo):
            return {m for info in self.family(record) for m in info.used.get(own, ())}
        used: set[str] = set()
        for outer in frame.chain():
            used |= outer.used.get(text, set())
            if text in outer.bindings:
                break
        return used

    def named_once(self, frame: Frame) -> bool:
        """Whether a nested function's name means nothing else in the frame that defines it."""
        return frame.parent is not None and frame.name not in frame.parent.bindings

    def callers(self, frame: Frame) -> list[tuple[ast.Call, Frame]]:
        """The calls in this file of a function, or of a method by its name; for `__init__`, of its class."""
        if not self._by_name:
            for other in self.all:
                for call in other.calls:
                    if isinstance(call.func, ast.Name | ast.Attribute):
                        name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
                        self._by_name.setdefault((name, isinstance(call.func, ast.Attribute)), []).append((call, other))
        if frame.owner is None:
            return self._by_name.get((frame.name, False), [])
        if frame.name == "__init__":
            return self._by_name.get((frame.owner.node.name, False), [])
        return self._by_name.get((frame.name, True), [])
