"""Calls: what the names of a function mean where it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles
from ampify.analysis.syntax import uses_of
from ampify.program import first

DEPTH = 8  # calls inside of calls that are looked through


def arguments(call: ast.Call, target: Frame, frame: Frame, roles: Roles) -> dict[str, ast.expr | None]:
    """By the parameters of a function, and its instance, the expressions that a call in `frame` passes; None for a default."""
    node = target.node
    if isinstance(node, ast.Module):
        return {}
    passed: dict[str, ast.expr | None] = dict.fromkeys(
        a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    )
    for name, value in zip(roles.positional(target), call.args, strict=False):
        if isinstance(value, ast.Starred):
            break
        passed[name] = value
    passed.update((k.arg, k.value) for k in call.keywords if k.arg in passed)
    if target.self_name and not roles.is_static(target):
        passed[target.self_name] = _instance(call, frame)
    return passed


def _instance(call: ast.Call, frame: Frame) -> ast.expr | None:
    """What a method is called on: of `super().f()` the caller's own instance."""
    if not isinstance(call.func, ast.Attribute):
        return None
    receiver = call.func.value
    if isinstance(receiver, ast.Call) and dotted(receiver.func) == "super":
        method = frame.method
        return ast.Name(method.self_name, ast.Load()) if method is not None else None
    if frame.home.file.class_named(dotted(receiver)) is not None and call.args:
        return call.args[0]  # Base.f(self)
    return receiver


class Context:
    """A function that runs, at one place, as a part of the scope that a training step is whole in."""

    def __init__(
        self, frame: Frame, number: int, outer: Context | None = None, passed: Mapping[str, ast.expr | None] = {}
    ) -> None:
        self.frame, self.number, self.outer, self.passed = frame, number, outer, passed

    def chain(self) -> Iterator[Context]:
        """This function and those that call it, the innermost first."""
        here: Context | None = self
        while here is not None:
            yield here
            here = here.outer

    def holds(self, frame: Frame) -> bool:
        """Whether a function is running already, or the calls are too deep to follow."""
        chain = list(self.chain())
        return len(chain) > DEPTH or any(c.frame is frame for c in chain)

    def given(self, text: str) -> str:
        """The name that the caller has for a parameter, the instance, or what is in them; empty if it has none."""
        base = first(text)
        value = self.passed.get(base)
        given = dotted(value) if value is not None else ""
        return given + text[len(base) :] if given else ""

    def key(self, text: str, shared: bool = False) -> str:
        """The name in the outermost scope of what goes by `text` in this function.

        With `shared` a name of the module's own may be the outermost scope's already, as what was followed to callers is.
        """
        base = first(text)
        if self.outer is None:
            return text
        if base in self.passed:
            given = self.given(text)
            return self.outer.key(given, shared) if given else f"{self.number}:{text}"
        home = _home(base, self.frame)
        if home is self.frame:
            return f"{self.number}:{text}"
        if home is None and not shared and self.frame.home is not list(self.chain())[-1].frame.home:
            return f"{self.number}:{text}"  # the module's own, of another file
        return next((c.key(text, shared) for c in self.outer.chain() if c.frame is home), text)

    def text(self, key: str) -> str:
        """The name in this function of what goes by `key` in the outermost scope; empty if it has none."""
        if self.outer is None:
            return key
        own = f"{self.number}:"
        if key.startswith(own):
            return key[len(own) :]
        for name, value in self.passed.items():
            given = self.outer.key(dotted(value)) if value is not None and dotted(value) else ""
            if given and (key == given or key.startswith((given + ".", given + "["))):
                return name + key[len(given) :]
        if ":" in key:
            return ""
        root = list(self.chain())[-1]
        base = first(key)
        seen = self.frame.home is root.frame.home and _home(base, self.frame) is _home(base, root.frame)
        return key if seen else ""

    def uses(self) -> dict[str, frozenset[str]]:
        """By parameter or instance the names that the caller's expression is made of."""
        texts = {
            name: {dotted(value)} if dotted(value) else uses_of(value) for name, value in self.passed.items() if value is not None
        }
        return {name: frozenset(texts.get(name, ())) for name in self.passed}


def _home(name: str, frame: Frame) -> Frame | None:
    """The function that binds a plain name, as seen from one; None for the module's own."""
    return next((f for f in frame.chain() if f.parent is not None and name in f.bindings), None)
