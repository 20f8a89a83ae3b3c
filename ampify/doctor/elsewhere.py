"""Elsewhere: optimizers' states that another file of the program saves, without the scaler's of this one (AMP310)."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from functools import cached_property

from ampify.analysis.frames import Frame
from ampify.analysis.library import File, Finder, Library
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role
from ampify.analysis.scalers import Made, contexts, is_off, scalers
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case

Held = tuple[Frame, str]  # a function, and what it calls a value
FILES = 60  # of one program that are looked at
HARMLESS = frozenset({"print", "isinstance", "bool", "id", "type", "repr", "str"})
LOOPS = (ast.For, ast.AsyncFor, ast.comprehension)


def find(case: Case) -> Iterator[Finding]:
    """The scalers of the file whose optimizer is saved in another one, where nobody in sight saves a scaler.

    It is told where the scaler is made: the other file may know nothing of mixed precision.
    """
    on = [m for m in case.made if not is_off(m.call)]
    if case.finder is None or not on or any("state_dict" in m for m in _methods_of_scalers(case.tree)):
        return
    program = _Program(case, case.finder)
    if (place := program.place()) is not None and not program.is_kept():
        yield Finding("AMP310", on[0].call.lineno, on[0].call.col_offset, place)


def _methods_of_scalers(tree: ast.Module) -> Iterator[str]:
    """The methods that are called on what is called a scaler."""
    for node in walk(tree):
        if isinstance(node, ast.Attribute) and "scaler" in ast.unparse(node.value).lower():
            yield node.attr


class _Program:
    """The file with those that it imports, and that import it."""

    def __init__(self, case: Case, finder: Finder) -> None:
        self.made: list[Made] = case.made
        library = Library(finder)
        self.file = library.add(case.tree, case.file.path)
        self.file.names.adopt(scalers(self.file.names), frozenset(contexts(self.file.names)))

    @cached_property
    def near(self) -> list[File]:
        """The files that run with this one: those that import it, and what all of them import."""
        found = {self.file.path: self.file}
        queue = [self.file]
        for file in queue:
            for other in file.importers if len(queue) < FILES else ():
                if other.path not in found:
                    found[other.path] = other
                    queue.append(other)
        for file in queue:
            found.update((other.path, other) for other, _ in zip(file.library.imported_by(file), range(FILES), strict=False))
        return list(found.values())

    @cached_property
    def objects(self) -> frozenset[str]:
        """The names of what has a scaler inside, of a class that is called one."""
        own = {f.owner.node.name for f in self._homes() if f.owner is not None and "scaler" in f.owner.node.name.lower()}
        found: set[str] = set()
        for name, values in self.file.names.assigned.items():
            found.update(name for v in values if isinstance(v, ast.Call) and dotted(v.func) in own)
        return frozenset(found)

    def _homes(self) -> Iterator[Frame]:
        """The functions that make the scalers."""
        for frame in self.file.frames.all:
            inside = {id(node) for stmt in frame.node.body for node in walk(stmt)} if frame.owner is not None else set()
            if any(id(m.call) in inside for m in self.made):
                yield frame

    def is_scaler(self, node: ast.expr) -> bool:
        return self.file.names.is_scaler(node) or dotted(node) in self.objects

    # whose state is saved ----------------------------------------------------------------------------

    def place(self) -> str | None:
        """Where the state of an optimizer of the scaler's is saved in another file, with that code."""
        found: list[tuple[str, ast.Call]] = []
        for held in self._onwards(self._upwards(self._stepped())):
            file = held[0].home.file
            if file is not self.file and _saves(file):
                found.extend((file.path, call) for call in _taken(held, file))
        if not found:
            return None
        path, call = min(found, key=lambda f: (f[0], f[1].lineno))
        where = os.path.relpath(path, os.path.dirname(self.file.path) or ".")
        return f"`{ast.unparse(call)[:60]}` in {where}:{call.lineno}"

    def _stepped(self) -> Iterator[Held]:
        """The optimizers that are stepped through the scaler, or handed on with it."""
        for frame in self.file.frames.all:
            for call in frame.calls:
                func, given = call.func, _given(call)
                steps = isinstance(func, ast.Attribute) and func.attr == "step" and self.is_scaler(func.value)
                if steps and call.args and dotted(call.args[0]):
                    yield frame, dotted(call.args[0])
                elif any(map(self.is_scaler, (func, *given))):
                    yield from ((frame, dotted(g)) for g in given if _is_optimizer(self.file, g, frame))

    def _upwards(self, held: Iterable[Held]) -> list[Held]:
        """The same optimizers as callers call them."""
        found = list(dict.fromkeys(held))
        for frame, text in found:
            if any(b.how == "param" for b in frame.bindings.get(text, ())) and len(found) < 100:
                passed = self.file.roles.passed(text, frame)
                found.extend(p for value, where in passed if dotted(value) and (p := (where, dotted(value))) not in found)
        return found

    def _onwards(self, held: list[Held]) -> list[Held]:
        """The same values, and those that they are handed to as parameters."""
        found = list(held)
        for frame, text in found:
            for call in frame.calls if len(found) < 200 else ():
                for target in frame.home.file.roles.targets(call, frame):
                    found.extend(p for name in _parameters(target, call, text) if (p := (target, name)) not in found)
        return found

    # whether the scaler's is -------------------------------------------------------------------------

    def is_kept(self) -> bool:
        """Whether somebody in sight may save or load the state of a scaler, or the scaler goes out of sight."""
        own = [(f, text) for f in self.file.frames.all for text in sorted(self.file.names.scalers | self.objects)]
        if any(self._goes_out_of_sight(held) for held in self._onwards(own)):
            return True
        return any(_speaks_of_state(file) for file in self.near)

    def _goes_out_of_sight(self, held: Held) -> bool:
        """Whether a scaler is handed to a function that is not in sight, or put into something."""
        frame, text = held
        for stmt in frame.node.body:
            for node in walk(stmt):
                if isinstance(node, ast.Call) and text in map(dotted, _given(node)):
                    if dotted(node.func) not in HARMLESS and not frame.home.file.roles.targets(node, frame):
                        return True
                elif isinstance(node, (ast.Dict, ast.List, ast.Tuple, ast.Set, ast.Return)):
                    inner = ast.iter_child_nodes(node)
                    if any(dotted(n) == text for n in inner):
                        return True
                elif isinstance(node, ast.Assign) and dotted(node.value) == text:
                    if not all("scaler" in dotted(t).lower() for t in node.targets):
                        return True
                elif isinstance(node, ast.Attribute) and "state_dict" in node.attr and dotted(node.value) == text:
                    return True
        return False


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(k.value for k in call.keywords)]


def _is_optimizer(file: File, node: ast.expr, frame: Frame) -> bool:
    return bool(dotted(node)) and file.roles.of(node, frame) in (Role.OPTIMIZER, Role.WRAPPER)


def _parameters(target: Frame, call: ast.Call, text: str) -> Iterator[str]:
    """The parameters by which a function that is called knows a value of the caller's."""
    names = target.home.file.roles.positional(target)
    for given, name in zip(call.args, names, strict=False):
        if isinstance(given, ast.Starred):
            break
        if dotted(given) == text:
            yield name
    yield from (k.arg for k in call.keywords if k.arg and dotted(k.value) == text)


def _saves(file: File) -> bool:
    """Whether a file saves anything, and does not only keep copies to put them back."""
    calls = [c for frame in file.frames.all for c in frame.calls]
    copies = [n for c in calls if dotted(c.func).endswith("deepcopy") for n in walk(c)]
    restored = any(isinstance(n, ast.Attribute) and n.attr == "state_dict" for n in copies)
    return not restored and any("save" in dotted(c.func).lower() for c in calls)


def _taken(held: Held, file: File) -> Iterator[ast.Call]:
    """The calls in a function that take the state of an optimizer to put it into something, or into a call that saves."""
    frame, text = held
    for stmt in frame.node.body:
        for node in walk(stmt):
            for inner in ast.iter_child_nodes(node):
                inner = inner.value if isinstance(inner, ast.keyword) else inner
                if not isinstance(inner, ast.Call) or dotted(inner.func) != f"{text}.state_dict":
                    continue
                kept = isinstance(node, ast.Assign) and all(isinstance(t, ast.Subscript) for t in node.targets)
                called = isinstance(node, ast.Call) and dotted(node.func).lower()
                if isinstance(node, ast.Dict) or kept or (called and (called == "dict" or "save" in called)):
                    if _is_optimizer(file, inner.func.value, frame):  # type: ignore[attr-defined]
                        yield inner


def _speaks_of_state(file: File) -> bool:
    """Whether a file takes or sets the state of what may be a scaler: by its name, or of all that it goes through."""
    going = {dotted(n) for loop in LOOPS for s in file.names.nodes.of(loop) for n in ast.walk(s.target) if dotted(n)}  # type: ignore[attr-defined]
    for node in file.names.nodes.of(ast.Attribute):
        assert isinstance(node, ast.Attribute)
        if node.attr not in ("state_dict", "load_state_dict"):
            continue
        text = ast.unparse(node.value).lower()
        module = file.names.resolve(node.value) in ("apex.amp", "torch.cuda.amp", "torch.amp")
        if "scaler" in text or ("amp" in text.split(".")[-1] and not module) or dotted(node.value) in going:
            return True
    return False
