"""Groups: collections of optimizers, and the loops that do to each of their members the same, once.

In such a loop every member runs through the same code, so what holds of one holds of all: they share one key, `optimizers[*]`,
unless their names are written out, which then are the keys.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis import owners
from ampify.analysis.frames import Binding, Frame, Frames
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import own_statements
from ampify.analysis.vocabulary import HARMLESS
from ampify.analysis.walk import children, walk
from ampify.program import GROUP, overlap

Comprehension = ast.ListComp | ast.DictComp


class Member(NamedTuple):
    """One way that a collection gets members; `varying` are the variables of the loops in which it does."""

    value: ast.expr
    frame: Frame
    varying: frozenset[str] = frozenset()


class Each(NamedTuple):
    """What an expression stands for in a loop: every optimizer of a collection, one after the other."""

    keys: tuple[str, ...]
    base: ast.expr
    member: str  # the text of the expression


class Groups:
    """Knows the loops over collections of optimizers of one file."""

    def __init__(self, frames: Frames, roles: Roles) -> None:
        self.frames, self.roles = frames, roles
        self.loops: dict[ast.stmt, ast.For] = {}  # by statement, the loop that it stands in
        self._filled: dict[str, list[Member]] = {}  # by the collection's text, what is added to it
        self._unclear: set[str] = set()  # collections that change in other ways
        for frame in frames.all:
            self._survey(frame.node.body, frame, frozenset())

    def _survey(self, body: list[ast.stmt], frame: Frame, varying: frozenset[str]) -> None:
        for stmt in own_statements(body):
            if isinstance(stmt, ast.For) and self.qualifies(stmt):
                self.loops.update((inner, stmt) for inner in own_statements(stmt.body))
            if isinstance(stmt, ast.For):
                names = frozenset(n.id for n in walk(stmt.target) if isinstance(n, ast.Name))
                for inner in own_statements(stmt.body):
                    self._filling(inner, frame, names)
        inside = {s for stmt in own_statements(body) if isinstance(stmt, ast.For) for s in own_statements(stmt.body)}
        for stmt in own_statements(body):
            if stmt not in inside:
                self._filling(stmt, frame, varying)

    def _filling(self, stmt: ast.stmt, frame: Frame, varying: frozenset[str]) -> None:
        """Notes what a statement adds to a collection."""
        if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and isinstance(stmt.value.func, ast.Attribute):
            text, call = dotted(stmt.value.func.value), stmt.value
            if text and stmt.value.func.attr == "append" and len(call.args) == 1:
                self._filled.setdefault(text, []).append(Member(call.args[0], frame, varying))
            elif text and stmt.value.func.attr in ("extend", "insert", "update", "setdefault", "add"):
                self._unclear.add(text)
        elif isinstance(stmt, ast.Assign):
            for target in stmt.targets:
                if isinstance(target, ast.Subscript) and dotted(target.value):
                    self._filled.setdefault(dotted(target.value), []).append(Member(stmt.value, frame, varying))
        elif isinstance(stmt, ast.AugAssign) and dotted(stmt.target):
            self._unclear.add(dotted(stmt.target))

    # loops -------------------------------------------------------------------------------------------

    def qualifies(self, loop: ast.For) -> bool:
        """Whether a loop goes through a collection, steps, unscales or clears its members, and does nothing else to gradients."""
        visited = visits(loop.target, loop.iter)
        return not loop.orelse and visited is not None and self._only(loop.body, visited[1]) and self._acts(loop.body, visited[1])

    def _acts(self, body: list[ast.stmt], members: frozenset[str]) -> bool:
        return any(self._is_act(node, members) for stmt in body for node in walk(stmt))

    def _is_act(self, node: ast.AST, members: frozenset[str]) -> bool:
        """Whether a node is a call that steps, clears or unscales a member."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        if self.frames.names.is_scaler(node.func.value):
            return node.func.attr in ("step", "unscale_") and len(node.args) == 1 and ast.unparse(node.args[0]) in members
        if node.func.attr == "step" and (node.args or node.keywords):
            return False
        return node.func.attr in ("step", "zero_grad") and ast.unparse(node.func.value) in members

    def _only(self, body: list[ast.stmt], members: frozenset[str]) -> bool:
        """Whether statements do nothing that concerns more than one member: no backward, update or jump."""
        for stmt in body:
            if isinstance(stmt, ast.Expr):
                harmless = all(self._is_harmless(node, members) for node in walk(stmt))
            elif isinstance(stmt, ast.If):
                tested = all(self._is_harmless(node, frozenset()) for node in walk(stmt.test))
                harmless = tested and self._only(stmt.body, members) and self._only(stmt.orelse, members)
            elif isinstance(stmt, (ast.Assign, ast.AugAssign)):
                targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
                bound = {n.id for t in targets for n in walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                quiet = all(self._is_harmless(node, frozenset()) for node in walk(stmt))
                harmless = quiet and not any(name in member for name in bound for member in members)
            else:
                harmless = isinstance(stmt, ast.Pass)
            if not harmless:
                return False
        return True

    def _is_harmless(self, node: ast.AST, members: frozenset[str]) -> bool:
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Lambda, Comprehension, ast.GeneratorExp)):
            return False
        if isinstance(node, ast.Attribute) and node.attr in ("grad", "_grad"):
            return False
        if not isinstance(node, ast.Call) or self._is_act(node, members):
            return True
        name = self.frames.names.resolve(node.func)
        return name in HARMLESS or name.startswith("torch.nn.utils.clip_grad")

    def each(self, node: ast.expr, stmt: ast.stmt, frame: Frame, around: ast.AST | None = None) -> Each | None:
        """What an expression stands for in a loop or, `around` it, a comprehension through optimizers."""
        loop: ast.For | ast.comprehension | None = self.loops.get(stmt)
        if isinstance(around, ast.ListComp) and isinstance(stmt, ast.Expr) and stmt.value is around:
            only = around.generators[0]
            loop = only if len(around.generators) == 1 and not only.ifs and not only.is_async else None
        visited = visits(loop.target, loop.iter) if loop is not None else None
        if visited is None or ast.unparse(node) not in visited[1] or not self._are_optimizers(visited[0], node, frame):
            return None
        base = visited[0]
        keys = self._named(base, frame) or ((dotted(base) + GROUP,) if dotted(base) and self._is_one(base, frame) else ())
        return Each(keys, base, ast.unparse(node)) if keys else None

    def member(self, loop: ast.For, frame: Frame) -> str:
        """The text by which a loop steps, unscales or clears each optimizer of a collection; empty where it is no such loop."""
        if self.loops.get(loop.body[0]) is not loop:
            return ""
        visited = visits(loop.target, loop.iter)
        for stmt in own_statements(loop.body):
            for node in walk(stmt):
                acts = visited is not None and self._is_act(node, visited[1])
                if acts and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    scaled = bool(node.args) and self.frames.names.is_scaler(node.func.value)
                    each = self.each(node.args[0] if scaled else node.func.value, stmt, frame)
                    return each.member if each else ""
        return ""

    def is_certain(self, stmt: ast.If) -> bool:
        """Whether a condition holds for every optimizer of the collection that a loop goes through: that it is one, not None."""
        loop = self.loops.get(stmt)
        visited = visits(loop.target, loop.iter) if loop is not None and not stmt.orelse else None
        return visited is not None and ast.unparse(stmt.test).removesuffix(" is not None") in visited[1]

    def cleared(self, loop: ast.stmt, frame: Frame) -> tuple[str, ...]:
        """The optimizers that a loop clears, if it does nothing else."""
        if not isinstance(loop, ast.For) or self.loops.get(loop.body[0]) is not loop:
            return ()
        for stmt in loop.body:
            call = stmt.value if isinstance(stmt, ast.Expr) else None
            func = call.func if isinstance(call, ast.Call) else None
            each = self.each(func.value, stmt, frame) if isinstance(func, ast.Attribute) and func.attr == "zero_grad" else None
            if each is None:
                return ()
        return each.keys if each else ()

    # collections -------------------------------------------------------------------------------------

    def _is_one(self, base: ast.expr, frame: Frame) -> bool:
        """Whether a text means the same collection wherever the frame goes through it."""
        return len(self.frames.lookup(dotted(base), frame)) <= 1

    def _named(self, base: ast.expr, frame: Frame) -> tuple[str, ...]:
        """The names of a collection's members, where it is written out of names that keep their meaning."""
        value: ast.expr | None = base
        here = frame
        if text := dotted(base):
            bindings = self.frames.lookup(text, frame)
            if len(bindings) != 1 or text in self._filled or text in self._unclear or bindings[0].path:
                return ()
            here = bindings[0].frame
            value = bindings[0].value if bindings[0].how == "assign" and here in (frame, self.frames.module) else None
        if isinstance(value, ast.Dict):
            elements = list(value.values)
        elif isinstance(value, (ast.Tuple, ast.List)):
            elements = value.elts
        else:
            return ()
        names = tuple(dotted(e) for e in elements)
        plain = all(isinstance(e, ast.Name) for e in elements) or (all(names) and (value is base or here is frame))
        kept = value is base or all(self._bound_before(name, value, frame, here) for name in names)
        return names if names and plain and kept and len(set(names)) == len(names) else ()

    def _bound_before(self, name: str, value: ast.expr, frame: Frame, here: Frame) -> bool:
        """Whether a name has its meaning when a collection is written out `here`, and the same one in a frame that uses that."""
        found = self.frames.lookup(name, here)
        before = all(b.value is not None and b.value.lineno < value.lineno for b in found)
        return before and bool(found) and found == self.frames.lookup(name, frame)

    def _members(self, base: ast.expr, frame: Frame) -> list[Member] | None:
        """The ways that a collection gets its members; None where they are not in sight."""
        text = dotted(base)
        found = [*self._filled.get(text, ())]
        bindings = self.frames.lookup(text, frame) if text else []
        if text in self._unclear or (not bindings and not found):
            return None
        for binding in bindings:
            inner = _written(binding)
            if inner is None:
                return None
            found.extend(inner)
        return found

    def _built(self, base: ast.expr, frame: Frame) -> list[Member] | None:
        """The calls that build a collection's members, through the names that hold them; None where one is not in sight."""
        built: list[Member] = []
        for member in self._members(base, frame) or ():
            if isinstance(member.value, ast.Constant) and member.value.value is None:
                continue
            text = dotted(member.value)
            sources = self.roles.sources(text, member.frame) if text else [(member.value, member.frame)]
            if not sources or not all(isinstance(value, ast.Call) for value, _ in sources):
                return None
            built.extend(Member(value, where, member.varying) for value, where in sources)
        return built or None

    def _are_optimizers(self, base: ast.expr, node: ast.expr, frame: Frame) -> bool:
        if isinstance(base, (ast.Tuple, ast.List)):
            return all(self.roles.of(e, frame) is Role.OPTIMIZER for e in base.elts)
        members = self._members(base, frame)
        if members is not None:
            known = [m for m in members if not isinstance(m.value, ast.Constant)]
            roles = {self.roles.of(m.value, m.frame) for m in known}
            return bool(roles) and roles <= {Role.OPTIMIZER}
        return Role.OPTIMIZER in (self.roles.of(base, frame), self.roles.of(node, frame))

    def is_member(self, node: ast.expr, frame: Frame) -> bool:
        """Whether an expression may be one of a collection of optimizers, and it cannot be told which."""
        if isinstance(node, ast.Subscript) and dotted(node.value) and not dotted(node):
            return self._are_optimizers(node.value, node, frame)
        bindings = self.frames.lookup(node.id, frame) if isinstance(node, ast.Name) else []
        for binding in bindings:
            for part in walk(binding.value) if binding.how == "for" and binding.value is not None else ():
                known = isinstance(part, (ast.Name, ast.Attribute)) and self._members(part, frame) is not None
                written = isinstance(part, (ast.Tuple, ast.List)) and bool(part.elts)
                if (known or written) and isinstance(part, ast.expr) and self._are_optimizers(part, node, frame):
                    return True
        return False

    def share(self, each: Each, frame: Frame) -> bool:
        """Whether members of a collection own the same parameters: the step of one would unscale another's gradients."""
        owned: list[frozenset[str]] = []
        if each.keys[0].endswith(GROUP):
            for member in self._built(each.base, frame) or ():
                given = _parameters(member.value)
                if member.varying and not any(isinstance(n, ast.Name) and n.id in member.varying for a in given for n in walk(a)):
                    return True
                if not member.varying:
                    owned.append(frozenset(r for a in given for r in owners.roots(a, member.frame, self.roles)))
        return any(overlap(a, b) for i, a in enumerate(owned) for b in owned[:i])

    def roots(self, key: str, frame: Frame) -> frozenset[str]:
        """The texts of what all optimizers of a collection own; empty when that is not in sight."""
        members = self._built(_expression(key), frame)
        if members is None or any(m.varying or not _parameters(m.value) for m in members):
            return frozenset()
        return frozenset(r for m in members for a in _parameters(m.value) for r in owners.roots(a, m.frame, self.roles))

    def confused(self, keys: list[str], frame: Frame) -> Iterator[tuple[str, str]]:
        """The optimizers that may be members of a collection, as (collection, optimizer)."""
        for group in keys:
            members = self._built(_expression(group), frame) if group.endswith(GROUP) else None
            for other in keys if group.endswith(GROUP) else ():
                if other.endswith(GROUP):
                    built = self._built(_expression(other), frame)
                    values = [m.value for m in built] if built is not None else []
                else:
                    values = [value for value, _ in self.roles.sources(other, frame)]
                calls = bool(values) and all(isinstance(v, ast.Call) for v in values)
                apart = calls and members is not None and not any(m.value is v for m in members for v in values)
                if other != group and not apart:
                    yield group, other


def visits(target: ast.expr, iterated: ast.expr) -> tuple[ast.expr, frozenset[str]] | None:
    """What a loop goes through from end to end, and the texts that stand for a member of it: `o`, or `optimizers[k]`."""
    if isinstance(iterated, ast.Call):
        func = iterated.func
        if isinstance(func, ast.Attribute) and not iterated.args and not iterated.keywords and dotted(func.value):
            if func.attr == "values" and isinstance(target, ast.Name):
                return func.value, frozenset({target.id})
            if func.attr == "keys" and isinstance(target, ast.Name):
                return func.value, frozenset({f"{ast.unparse(func.value)}[{target.id}]"})
            if func.attr == "items" and isinstance(target, ast.Tuple) and all(isinstance(e, ast.Name) for e in target.elts):
                return func.value, frozenset({ast.unparse(target.elts[-1])})
        name, given = dotted(func), iterated.args[0] if len(iterated.args) == 1 and not iterated.keywords else None
        if name == "enumerate" and given is not None and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            return visits(target.elts[1], given)
        if name in ("list", "tuple", "reversed") and given is not None:
            return visits(target, given)
        if name == "range" and isinstance(given, ast.Call) and dotted(given.func) == "len" and isinstance(target, ast.Name):
            base = given.args[0] if len(given.args) == 1 else given
            return (base, frozenset({f"{ast.unparse(base)}[{target.id}]"})) if dotted(base) else None
        return None
    if isinstance(target, ast.Name) and dotted(iterated):
        return iterated, frozenset({target.id, f"{ast.unparse(iterated)}[{target.id}]"})
    if isinstance(target, ast.Name) and isinstance(iterated, (ast.Tuple, ast.List)) and all(map(dotted, iterated.elts)):
        return iterated, frozenset({target.id})
    return None


def _written(binding: Binding) -> list[Member] | None:
    """The members of a collection as a binding writes them out."""
    value, frame = binding.value, binding.frame
    if binding.how != "assign" or binding.path:
        return None
    if isinstance(value, (ast.Tuple, ast.List)):
        return None if any(isinstance(e, ast.Starred) for e in value.elts) else [Member(e, frame) for e in value.elts]
    if isinstance(value, ast.Dict):
        return [Member(v, frame) for v in value.values] if all(value.keys) else None
    if isinstance(value, Comprehension):
        names = frozenset(n.id for g in value.generators for n in walk(g.target) if isinstance(n, ast.Name))
        return [Member(value.elt if isinstance(value, ast.ListComp) else value.value, frame, names)]
    empty = isinstance(value, ast.Call) and dotted(value.func) in ("list", "dict") and not list(children(value))[1:]
    return [] if empty else None


def _parameters(value: ast.expr) -> list[ast.expr]:
    """What an optimizer is built with."""
    if not isinstance(value, ast.Call):
        return []
    return value.args[:1] or [k.value for k in value.keywords if k.arg == "params"]


def _expression(key: str) -> ast.expr:
    return ast.parse(key.removesuffix(GROUP), mode="eval").body
