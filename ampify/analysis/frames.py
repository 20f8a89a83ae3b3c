"""Frames: which names a function, class or module binds to which expressions, and how it uses them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ampify.analysis.names import Names, dotted
from ampify.analysis.walk import children
from ampify.program import first

if TYPE_CHECKING:
    from ampify.analysis.library import File

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# The nodes that say something of a frame, besides what is inside them.
TOLD = frozenset(
    {
        *FUNCTIONS,
        ast.AnnAssign,
        ast.Assign,
        ast.AsyncFor,
        ast.Call,
        ast.ClassDef,
        ast.For,
        ast.Global,
        ast.Lambda,
        ast.NamedExpr,
        ast.Nonlocal,
        ast.comprehension,
        ast.withitem,
    }
)


class Binding(NamedTuple):
    """One way a name gets its value: `value[path]`, or an element of it when `how` is `for`."""

    value: ast.expr | None
    path: tuple[int, ...]
    how: str  # assign, for, with, param
    frame: Frame


class Frame:
    """A function body, or the module's. `used` maps a value's text to the methods called on it."""

    def __init__(self, node: ast.Module | Function, parent: Frame | None, owner: ClassInfo | None, home: Frames) -> None:
        self.node, self.parent, self.owner, self.home = node, parent, owner, home
        self.bindings: dict[str, list[Binding]] = {}
        self.used: dict[str, set[str]] = {}
        self.called: set[str] = set()
        self.calls: list[ast.Call] = []
        self.lambdas: list[ast.Lambda] = []
        # The method that the frame is, or is nested in.
        self.method: Frame | None = self if owner is not None else parent.method if parent is not None else None
        # The name of a method's instance parameter, or an empty string.
        self.self_name = "" if owner is None or isinstance(node, ast.Module) or not node.args.args else node.args.args[0].arg
        self.declared: dict[str, Frame] = {}  # by name, whose a `global` or `nonlocal` says that it is

    @property
    def name(self) -> str:
        return getattr(self.node, "name", "<module>")

    def chain(self) -> Iterator[Frame]:
        """The function, and those that it stands in, outwards to the module."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.parent


class ClassInfo:
    """A class of the file: its qualified bases, methods and the attributes that its methods bind on the instance."""

    def __init__(self, node: ast.ClassDef, bases: list[str], home: Frames) -> None:
        self.node, self.bases, self.home = node, bases, home
        self.methods: dict[str, Frame] = {}
        self.attributes: dict[str, list[Binding]] = {}
        self.used: dict[str, set[str]] = {}
        self.called: set[str] = set()


# What of a frame, a class or a file leads to frames and classes of the same file; the rest is the same in all programs.
LINKED = frozenset("all attributes bindings classes declared functions home method methods module owner parent".split())
Named = list[tuple[ast.Call, Frame]]


class _Calls(dict[tuple[str, bool], Named]):
    """The calls in a file by what they call, each found as somebody asks for it."""

    def __init__(self, find: Callable[[tuple[str, bool]], Named]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: tuple[str, bool]) -> Named:
        found = self[key] = self._find(key)
        return found


class Frames:
    """All frames and classes of one file."""

    file: File

    def __init__(self, tree: ast.Module, names: Names) -> None:
        self.names = names
        self.classes: dict[str, ClassInfo] = {}
        self.functions: dict[str, list[Frame]] = {}
        self.all: list[Frame] = []
        self._orders: dict[ClassInfo, list[ClassInfo]] = {}
        self._by_name: dict[tuple[str, bool], Named] = {}
        self.module = self._frame(tree, None, None)

    def of(self, file: File) -> Frames:
        """The same as a part of another program: frames and classes of its own, of the same tree."""
        copies: dict[int, Any] = {}
        waiting: list[Any] = []

        def copy(value: Any) -> Any:
            kind = value.__class__
            if kind in (Frame, ClassInfo, Frames):
                if id(value) not in copies:
                    copies[id(value)] = object.__new__(kind)
                    waiting.append(value)
                return copies[id(value)]
            if kind is Binding:
                return Binding(value.value, value.path, value.how, copy(value.frame))
            if kind is dict:
                return {key: copy(inner) for key, inner in value.items()} if value else {}
            return list(map(copy, value)) if kind is list else value

        made: Frames = copy(self)
        while waiting:
            current = waiting.pop()
            fields = copies[id(current)].__dict__
            fields.update(current.__dict__)
            for name in LINKED.intersection(fields):
                fields[name] = copy(fields[name])
        known = self.by_name()
        made.belong(file, _Calls(lambda key: [(call, copies[id(frame)]) for call, frame in known.get(key, ())]))
        return made

    def belong(self, file: File, calls: _Calls | None = None) -> None:
        """Says what file of what program they are of; `calls` finds those in copies."""
        self.file, self._orders = file, {}
        self._by_name = calls if calls is not None else self._by_name

    def _frame(self, node: ast.Module | Function, parent: Frame | None, owner: ClassInfo | None) -> Frame:
        frame = Frame(node, parent, owner, self)
        self.all.append(frame)
        if not isinstance(node, ast.Module):
            arguments = node.args
            for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                frame.bindings.setdefault(arg.arg, []).append(Binding(None, (), "param", frame))
        for stmt in node.body:
            self._visit(stmt, frame)
        return frame

    def _visit(self, node: ast.AST, frame: Frame) -> None:
        """Notes what a node and all in it bind and call."""
        if node.__class__ not in TOLD:
            for child in children(node):
                self._visit(child, frame)
            return
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
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            self._bind(node.target, node.iter, (), "for", frame)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr, (), "with", frame)
        elif isinstance(node, ast.Call):
            self._call(node, frame)
        elif isinstance(node, ast.Lambda):
            frame.lambdas.append(node)
        elif isinstance(node, ast.Global):
            frame.declared.update(dict.fromkeys(node.names, list(frame.chain())[-1]))
        elif isinstance(node, ast.Nonlocal):
            outer = [f for f in frame.chain() if f is not frame and f.parent is not None]
            frame.declared.update(
                (name, next((f for f in outer if name in f.bindings), outer[0])) for name in node.names if outer
            )
        for child in children(node):
            self._visit(child, frame)

    def _class(self, node: ast.ClassDef, frame: Frame) -> None:
        info = ClassInfo(node, [self.names.resolve(b) for b in node.bases], self)
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
            if receiver in self.names.scalers and node.args and dotted(node.args[0]):
                # `scaler.step(x)` says of x what `x.step()` says.
                self._use(frame, dotted(node.args[0]), {"step_scheduler": "schedule"}.get(node.func.attr, node.func.attr))

    def _use(self, frame: Frame, text: str, method: str) -> None:
        """Notes that a method is called on a value."""
        self._record(frame, text).used.setdefault(self._own(frame, text), set()).add(method)

    def _record(self, frame: Frame, text: str) -> Frame | ClassInfo:
        """Where uses of a text are noted: the class for attributes of the instance, else the frame."""
        method = frame.method
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            return method.owner
        return frame

    def _own(self, frame: Frame, text: str) -> str:
        """The text with the instance spelled `self`."""
        method = frame.method
        if method is not None and method.self_name and text.startswith(method.self_name + "."):
            return "self" + text[len(method.self_name) :]
        return text

    def _bind(self, target: ast.expr, value: ast.expr, path: tuple[int, ...], how: str, frame: Frame) -> None:
        """Notes what the names of a target get: what is at `path` in the value."""
        if isinstance(target, (ast.Tuple, ast.List)):
            for i, element in enumerate(target.elts):
                self._bind(element, value, (*path, i), how, frame)
            return
        text = dotted(target)
        if not text:
            return
        binding = Binding(value, path, how, frame)
        method = frame.method
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            method.owner.attributes.setdefault(self._own(frame, text), []).append(binding)
        else:
            frame.declared.get(first(text), frame).bindings.setdefault(text, []).append(binding)

    def lookup(self, text: str, frame: Frame, linked: bool = False) -> list[Binding]:
        """All bindings of a value's text as seen from a frame; empty when nothing is known. With `linked`, also those of an
        instance's attributes in other files."""
        method = frame.method
        if method is not None and method.owner is not None and text.startswith(method.self_name + "."):
            own = self._own(frame, text)
            family = self.everywhere(method.owner) if linked else self.family(method.owner)
            return [b for info in family for b in info.attributes.get(own, ())]
        for outer in frame.chain():
            if text in outer.bindings:
                return outer.bindings[text]
        return []

    def everywhere(self, info: ClassInfo) -> list[ClassInfo]:
        """A class and those of its bases that the program defines, in this file or others, in the order in which Python looks
        a method up."""
        if info not in self._orders:
            self._orders[info] = [info]  # of a class that comes back to itself
            bases = [info.home.file.class_named(dotted(b)) for b in info.node.bases]
            known = [b for b in bases if b is not None and b is not info]
            self._orders[info] = [info, *_merged([*([*self.everywhere(b)] for b in known), known])]
        return self._orders[info]

    def subclasses(self, info: ClassInfo, linked: bool = False) -> list[ClassInfo]:
        """The classes that come from one. With `linked`, also those in files that import this one."""
        homes = [self, *(other.frames for other in (self.file.importers if linked else ()))]
        known = [other for home in homes for other in home.classes.values()]
        return [other for other in known if other is not info and info in self.everywhere(other)]

    def family(self, info: ClassInfo) -> list[ClassInfo]:
        """A class and those of its bases that this file defines."""
        return [member for member in self.everywhere(info) if member.home is self]

    def methods_used(self, text: str, frame: Frame) -> set[str]:
        """The methods called on a value, in the frame (or, for an attribute of the instance, the class) that holds it."""
        record = self._record(frame, text)
        own = self._own(frame, text)
        if isinstance(record, ClassInfo):
            return {m for info in self.everywhere(record) for m in info.used.get(own, ())}
        used: set[str] = set()
        for outer in frame.chain():
            used |= outer.used.get(text, set())
            if text in outer.bindings:
                break
        return used

    def named_once(self, frame: Frame) -> bool:
        """Whether a nested function's name means nothing else in the frame that defines it."""
        return frame.parent is not None and frame.name not in frame.parent.bindings

    def callers(self, frame: Frame, linked: bool = False) -> list[tuple[ast.Call, Frame]]:
        """The calls of a function, or of a method by its name; for `__init__`, of its class. With `linked`, also in files that
        import this one."""
        name = frame.owner.node.name if frame.owner is not None and frame.name == "__init__" else frame.name
        method = frame.owner is not None and frame.name != "__init__"
        found = list(self.calls_named(name, method))
        for other in self.file.importers if linked else ():
            if method:
                found.extend(other.calls_named(name, True))
                continue
            for local in other.names.local_names(name):
                found.extend(c for c in other.calls_named(local, False) if other.target(local) == (self.file, name))
            for call, where in other.calls_named(name, True):
                if other.target(dotted(call.func)) == (self.file, name):
                    found.append((call, where))
        return found

    def calls_named(self, name: str, method: bool) -> Named:
        """The calls in this file of `name(...)`, or of `x.name(...)`."""
        return self._by_name[name, method] if isinstance(self._by_name, _Calls) else self.by_name().get((name, method), [])

    def by_name(self) -> dict[tuple[str, bool], Named]:
        """The calls in this file by what they call, and whether it is a method or the like."""
        if not self._by_name:
            for frame in self.all:
                for call in frame.calls:
                    if isinstance(call.func, (ast.Name, ast.Attribute)):
                        called = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
                        self._by_name.setdefault((called, isinstance(call.func, ast.Attribute)), []).append((call, frame))
        return self._by_name


def _merged(orders: list[list[ClassInfo]]) -> list[ClassInfo]:
    """The C3 linearization of the orders of a class's bases; where there is none, each as it comes."""
    found: list[ClassInfo] = []
    while orders := [rest for order in orders if (rest := [c for c in order if c not in found])]:
        heads = (order[0] for order in orders)
        found.append(next((head for head in heads if not any(head in order[1:] for order in orders)), orders[0][0]))
    return found
