"""Checkpoints: where an optimizer's state is saved, among others or alone, and where it is loaded again."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import blocks_of
from ampify.analysis.uses import Uses
from ampify.analysis.vocabulary import HARMLESS
from ampify.analysis.walk import walk

COPIES = frozenset({"copy.copy", "copy.deepcopy"})
DICTS = frozenset({"dict", "collections.OrderedDict"})
Parents = Mapping[ast.AST, ast.AST]


class State(NamedTuple):
    """An optimizer's state that is saved or loaded.

    `form` says how the scaler's gets beside it: as an `entry` of the dict or call that is written out, or by a `statement` behind
    it; empty, if not at all. `mapping` is what holds both.
    """

    call: ast.Call
    form: str
    mapping: ast.expr | None = None


class Checkpoints:
    """Reads what statements of one file save and load."""

    def __init__(self, names: Names, roles: Roles) -> None:
        self.names, self.roles = names, roles

    @cached_property
    def uses(self) -> Uses:
        return Uses(self.roles.frames, self.roles)

    def saved(self, stmt: ast.stmt, nodes: list[ast.AST], parents: Parents, frame: Frame) -> list[State]:
        """The optimizers' states that a statement's own `nodes` save, of each dict the last; none where the scaler's is too."""
        last: dict[ast.expr, State] = {}
        other: list[State] = []
        for node in nodes:
            if not isinstance(node, ast.Call) or not self._is_state_of_optimizer(node, frame):
                continue
            held = self._held(node, parents)
            parent = parents.get(held)
            target = stmt.targets[0] if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1 else None
            if (entries := self._entries(held, parents, frame)) is not None and not blocks_of(stmt):
                last[entries] = State(node, "entry", self._mapping(entries))
            elif parent is stmt and isinstance(target, ast.Subscript) and _is_text(target.slice) and dotted(target.value):
                other.append(State(node, "statement", target.value))
            elif self._is_kept(held, parents, frame) and not self.roles.targets(node, frame):  # else its own states are seen
                other.append(State(node, "", target.value if isinstance(target, ast.Subscript) else None))
        if not last:
            return other
        return [state for entries, state in last.items() if not any(map(self.is_own, _values(entries)))]

    def own_keys(self, stmt: ast.stmt, nodes: list[ast.AST]) -> Iterator[tuple[ast.expr, str]]:
        """The scaler's own states that a statement saves already, with their keys."""
        for node in nodes if self.names.scaler else ():
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                yield from ((v, str(k.value)) for k, v in pairs if isinstance(k, ast.Constant) and self.is_own(v))
            elif isinstance(node, ast.keyword) and node.arg and self.is_own(node.value):
                yield node.value, node.arg
        if isinstance(stmt, ast.Assign) and self.is_own(stmt.value) and isinstance(stmt.targets[0], ast.Subscript):
            key = stmt.targets[0].slice
            yield stmt.value, str(key.value) if isinstance(key, ast.Constant) else ""

    def is_own(self, node: ast.AST) -> bool:
        """Whether an expression is the scaler's own `state_dict()`."""
        scaler = self.names.scaler
        return bool(scaler) and isinstance(node, ast.Call) and dotted(node.func) == f"{scaler}.state_dict"

    def loaded(self, stmt: ast.stmt, node: ast.Call, frame: Frame) -> State | None:
        """What `optimizer.load_state_dict(checkpoint['key'])` loads; not what was only kept for a while, or is another's."""
        func = node.func
        if not isinstance(func, ast.Attribute) or func.attr != "load_state_dict" or len(node.args) != 1:
            return None
        if self.roles.of(func.value, frame) not in (Role.OPTIMIZER, Role.WRAPPER):
            return None
        given = node.args[0]
        mapping: ast.expr | None = None
        if isinstance(given, ast.Subscript) and _is_text(given.slice):
            mapping = given.value
        elif isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr in ("get", "pop"):
            mapping = given.func.value if given.args and _is_text(given.args[0]) else None
        if mapping is not None and dotted(mapping) and isinstance(stmt, ast.Expr) and stmt.value is node:
            return State(node, "statement", mapping)
        sources = self.roles.sources(dotted(given), frame) if dotted(given) else [(given, frame)]
        kept = bool(sources) and all(any(_is_state(n) for n in walk(value)) for value, _ in sources)
        return None if kept or self.roles.targets(node, frame) else State(node, "", given)

    # where a state goes ------------------------------------------------------------------------------

    def _is_state_of_optimizer(self, node: ast.Call, frame: Frame) -> bool:
        func = node.func
        if not isinstance(func, ast.Attribute) or not _is_state(node):
            return False
        return self.roles.of(func.value, frame) in (Role.OPTIMIZER, Role.WRAPPER)

    def _held(self, node: ast.expr, parents: Parents) -> ast.expr:
        """The expression that has a state as its value, or a copy of it: `optimizer.state_dict() if full else None`."""
        while isinstance(parent := parents.get(node), (ast.IfExp, ast.Call)):
            if isinstance(parent, ast.IfExp) and node is parent.test:
                break
            if isinstance(parent, ast.Call) and (parent.args != [node] or self.names.resolve(parent.func) not in COPIES):
                break
            node = parent
        return node

    def _entries(self, held: ast.expr, parents: Parents, frame: Frame) -> ast.expr | None:
        """The dict written out, or the call with keywords that are to become one, in which a state has a key."""
        parent = parents.get(held)
        if isinstance(parent, ast.Dict):
            return parent if any(v is held and _is_text(k) for k, v in zip(parent.keys, parent.values, strict=True)) else None
        call = parents.get(parent) if isinstance(parent, ast.keyword) and parent.arg else None
        return call if isinstance(call, ast.Call) and self._makes_dict(call, frame) else None

    @staticmethod
    def _mapping(entries: ast.expr) -> ast.expr:
        """The dict that has the entries in the end: what `state.update(...)` updates."""
        func = entries.func if isinstance(entries, ast.Call) else None
        return func.value if isinstance(func, ast.Attribute) and func.attr == "update" else entries

    def _makes_dict(self, call: ast.Call, frame: Frame) -> bool:
        """Whether the keywords of a call end up as keys: of a new dict, of a dict that it updates, of what a helper saves."""
        if self.names.resolve(call.func) in DICTS:
            return True
        if isinstance(call.func, ast.Attribute) and call.func.attr == "update":
            values = [value for value, _ in self.roles.sources(dotted(call.func.value), frame)]
            return bool(values) and all(isinstance(v, (ast.Dict, ast.DictComp)) or self._is_dict_call(v) for v in values)
        return self._saves_keywords(call, frame)

    def _is_dict_call(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self.names.resolve(node.func) in DICTS

    def _saves_keywords(self, call: ast.Call, frame: Frame) -> bool:
        """Whether a call is of a function of this file that does nothing with its `**state` but `torch.save(state, ...)`."""
        targets = self.roles.targets(call, frame)
        if len(targets) != 1 or not isinstance(call.func, ast.Name) or call.func.id in self.names.aliases:
            return False
        node = targets[0].node
        if isinstance(node, ast.Module) or node.args.kwarg is None or node.decorator_list or targets[0].owner is not None:
            return False
        name = node.args.kwarg.arg
        saved = {id(c.args[0]) for c in targets[0].calls if c.args and self.names.resolve(c.func) == "torch.save"}
        named = [n for n in walk(node) if isinstance(n, ast.Name) and n.id == name]
        bound = self.roles.frames.lookup(call.func.id, frame)
        return bool(named) and not bound and all(id(n) in saved for n in named)

    def _is_kept(self, held: ast.expr, parents: Parents, frame: Frame) -> bool:
        """Whether a state is handed on to be saved, by itself or under another name; a look at it is no saving."""
        parent = parents.get(held)
        if isinstance(parent, ast.keyword):
            return parent.arg is not None
        if isinstance(parent, ast.Call):
            last = dotted(parent.func).rpartition(".")[2]
            return last not in HARMLESS and last != "load_state_dict"
        if isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            places = [place for t in targets if dotted(t) for place in self.uses.of(dotted(t), frame)]
            named = any(
                self._is_kept(self._held(n, self.uses.parents), self.uses.parents, where)
                for n, where in places
                if not isinstance(self.uses.parents.get(n), ast.Assign)  # once renamed it is lost sight of
            )
            return named or any(isinstance(t, ast.Subscript) for t in targets)
        return isinstance(parent, (ast.Dict, ast.Tuple, ast.List, ast.ListComp, ast.DictComp, ast.GeneratorExp))


def _values(entries: ast.expr) -> list[ast.expr]:
    if isinstance(entries, ast.Dict):
        return entries.values
    return [k.value for k in entries.keywords] if isinstance(entries, ast.Call) else []


def _is_state(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "state_dict"


def _is_text(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
