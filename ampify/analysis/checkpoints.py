"""Checkpoints: where an optimizer's state is saved, among others or alone, and where it is loaded again."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import blocks_of, is_none
from ampify.analysis.uses import Uses
from ampify.analysis.vocabulary import HARMLESS
from ampify.analysis.walk import walk

COPIES = frozenset({"copy.copy", "copy.deepcopy"})
DICTS = frozenset({"dict", "collections.OrderedDict"})
Parents = Mapping[ast.AST, ast.AST]


class State(NamedTuple):
    """An optimizer's state that is saved or loaded.

    `form` says how the scaler's gets beside it: as an `entry` of the dict or call that is written out, by a `statement` behind
    it, or `popped` by one, as this is, out of what is left of the checkpoint; empty, if not at all. `mapping` is what holds both.
    """

    call: ast.expr
    form: str
    mapping: ast.expr | None = None


class Checkpoints:
    """Reads what statements of one file save and load."""

    def __init__(self, names: Names, roles: Roles) -> None:
        self.names, self.roles = names, roles

    @property
    def uses(self) -> Uses:
        return self.roles.frames.file.uses

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
        for node in nodes if self.names.scalers else ():
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
        return _is_state(node) and isinstance(node, ast.Call) and self.names.is_scaler(getattr(node.func, "value", node))

    def loads_own(self, node: ast.Call) -> bool:
        """Whether a call is the scaler's own `load_state_dict(...)`."""
        loads = isinstance(node.func, ast.Attribute) and node.func.attr == "load_state_dict" and bool(node.args)
        return loads and isinstance(node.func, ast.Attribute) and self.names.is_scaler(node.func.value)

    def loaded(self, stmt: ast.stmt, node: ast.Call, frame: Frame) -> State | None:
        """What `optimizer.load_state_dict(checkpoint['key'])` loads; not what was only kept for a while, or is another's."""
        func = node.func
        if not isinstance(func, ast.Attribute) or func.attr != "load_state_dict" or len(node.args) != 1:
            return None
        if self.roles.of(func.value, frame) not in (Role.OPTIMIZER, Role.WRAPPER):
            return None
        given = node.args[0]
        mapping = _taken_from(given)
        if mapping is not None and dotted(mapping) and isinstance(stmt, ast.Expr) and stmt.value is node:
            return State(node, _form_of(given), mapping)
        bound = [b.value for b in self.roles.frames.lookup(dotted(given), frame)] if isinstance(given, ast.Name) else []
        values = [value for value in bound if value is None or not is_none(value)]
        if values and all(value is not None and self._is_taken(value, dotted(given)) for value in values):
            return None  # the scaler's is loaded where the optimizer's is taken
        sources = self.roles.sources(dotted(given), frame) if dotted(given) else [(given, frame)]
        kept = bool(sources) and all(any(_is_state(n) for n in walk(value)) for value, _ in sources)
        return None if kept or self.roles.targets(node, frame) else State(node, "", given)

    def taken(self, stmt: ast.stmt, frame: Frame) -> State | None:
        """What `state = checkpoint['key']` takes out of a checkpoint, if an optimizer loads it later by that name."""
        if not isinstance(stmt, ast.Assign) or not isinstance(stmt.targets[0], ast.Name) or _taken_from(stmt.value) is None:
            return None
        name = stmt.targets[0].id
        loads = [(self.uses.parents.get(n), where) for n, where in self.uses.of(name, frame)]
        if not any(self._loads_optimizer(call, where) for call, where in loads) or not self._is_taken(stmt.value, name):
            return None
        return State(stmt.value, _form_of(stmt.value), _taken_from(stmt.value))

    def _is_taken(self, value: ast.expr, name: str) -> bool:
        """Whether a value is taken out of a checkpoint, and gets a name in a statement that does no more."""
        parent, mapping = self.uses.parents.get(value), _taken_from(value)
        named = isinstance(parent, ast.Assign) and [dotted(t) for t in parent.targets] == [name]
        return named and mapping is not None and bool(dotted(mapping))

    def _loads_optimizer(self, call: ast.AST | None, frame: Frame) -> bool:
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "load_state_dict":
            return False
        return self.roles.of(call.func.value, frame) in (Role.OPTIMIZER, Role.WRAPPER)

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
        """Whether a call is of a function that does nothing with its `**state` but `torch.save(state, ...)`."""
        targets = self.roles.targets(call, frame)
        if len(targets) != 1 or not isinstance(call.func, ast.Name):
            return False
        node, names = targets[0].node, targets[0].home.names
        if call.func.id in self.names.aliases and targets[0].home is self.roles.frames:
            return False
        if isinstance(node, ast.Module) or node.args.kwarg is None or node.decorator_list or targets[0].owner is not None:
            return False
        name = node.args.kwarg.arg
        saved = {id(c.args[0]) for c in targets[0].calls if c.args and names.resolve(c.func) == "torch.save"}
        named = [n for n in walk(node) if isinstance(n, ast.Name) and n.id == name]
        bound = self.roles.frames.lookup(call.func.id, frame)
        return bool(named) and not bound and all(id(n) in saved for n in named)

    def _is_kept_from(self, node: ast.AST, frame: Frame) -> bool:
        """Whether a name that holds a state hands it on; once renamed it is lost sight of."""
        parents = frame.home.file.uses.parents
        if not isinstance(node, ast.expr) or isinstance(parents.get(node), ast.Assign):
            return False
        return self._is_kept(self._held(node, parents), parents, frame)

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
            return any(isinstance(t, ast.Subscript) for t in targets) or any(self._is_kept_from(n, where) for n, where in places)
        return isinstance(parent, (ast.Dict, ast.Tuple, ast.List, ast.ListComp, ast.DictComp, ast.GeneratorExp))


def _values(entries: ast.expr) -> list[ast.expr]:
    if isinstance(entries, ast.Dict):
        return entries.values
    return [k.value for k in entries.keywords] if isinstance(entries, ast.Call) else []


def _is_state(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "state_dict"


def _taken_from(node: ast.expr) -> ast.expr | None:
    """The mapping that an expression takes the value of a key from: `checkpoint['optimizer']`, `checkpoint.get('optimizer')`."""
    if isinstance(node, ast.Subscript):
        return node.value if _is_text(node.slice) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
        return node.func.value if node.args and _is_text(node.args[0]) else None
    return None


def _form_of(taken: ast.expr) -> str:
    return (
        "popped"
        if isinstance(taken, ast.Call) and isinstance(taken.func, ast.Attribute) and taken.func.attr == "pop"
        else "statement"
    )


def _is_text(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
