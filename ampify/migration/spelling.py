"""Spelling: what is to be written for each reference to the old packages, or why it is left alone."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ampify.migration.arguments import Arguments
from ampify.migration.importing import Importing
from ampify.migration.layout import Layout, span
from ampify.migration.legacy import MOVED, symbol
from ampify.migration.references import Reference, References
from ampify.migration.scopes import Binding
from ampify.plan.edits import Replace

CODES = {"autocast": "AMP350", "GradScaler": "AMP351", "custom_fwd": "AMP352", "custom_bwd": "AMP352"}
NAMES = "AMP353"
SCALERS = "all scalers"  # go together, as it may be asked whether something is one


class Change(NamedTuple):
    """Edits that belong to a place, given by the lines that a reviewer looks at."""

    code: str
    line: int
    end_line: int
    edits: tuple[Replace, ...]


class Left(NamedTuple):
    """Something that is left alone, and why."""

    line: int
    column: int
    why: str


class Obstacle(Exception):
    """Why a reference cannot be rewritten."""


class Spelling:
    """Plans the new spellings of a file. `taken` says of a name of its own whether other files take it from here, and who."""

    def __init__(self, tree: ast.Module, source: bytes, taken: dict[str, str]) -> None:
        self.tree, self.taken = tree, taken
        self.layout = Layout(source)
        self.references = References(tree)
        self.scopes = self.references.scopes
        self.changes: list[Change] = []
        self.left: list[Left] = []
        self.arguments = Arguments(self.layout, self.references)
        self._plan()

    # what goes together ----------------------------------------------------------------------------------

    def _plan(self) -> None:
        planned: list[tuple[Reference, set[object], tuple[Replace, ...]]] = []
        blocked: set[object] = set()
        for reference in self.references.known:
            keys = self._keys(reference)
            try:
                planned.append((reference, keys, self._edits(reference)))
            except Obstacle as obstacle:
                planned.append((reference, keys, ()))
                blocked |= keys
                name = ast.unparse(reference.node)
                self.left.append(Left(reference.node.lineno, reference.node.col_offset, f"`{name}` {obstacle}"))
        unfollowed = self._unfollowed()
        while True:
            for binding, why in unfollowed:
                blocked.update(*(keys for r, keys, _ in planned if r.binding is binding))
                self.left.append(Left(*_place(binding), f"`{binding.name}` {why}"))
            while more := set().union(*(keys for _, keys, _ in planned if keys & blocked)) - blocked:
                blocked |= more
            moved = [(r, edits) for r, keys, edits in planned if not keys & blocked]
            importing = Importing(self.layout, self.references, [r for r, _ in moved], set(self.taken))
            unfollowed = importing.obstacles()
            if not unfollowed:
                break
        for reference, edits in moved:
            if edits:
                line, end_line = self._lines(reference)
                self.changes.append(Change(CODES.get(reference.symbol.name, NAMES), line, end_line, edits))
        for stmt, texts in importing.edits():
            self.changes.append(Change(NAMES, stmt.lineno, stmt.end_lineno or stmt.lineno, texts))
        for line, column, what in self.references.strings(self.tree):
            self.left.append(Left(line, column, f"{what} is not followed"))

    def _keys(self, reference: Reference) -> set[object]:
        """What a reference goes together with: it is rewritten with all others that have one of the same keys, or left."""
        keys: set[object] = {id(reference.node)}
        if symbol(reference.through) is not None or not reference.through:
            keys.add(id(reference.binding) if reference.binding is not None else "*")
        if (made := self.references.made(reference)) is not None:
            keys.add(id(made))
        if reference.symbol.name == "GradScaler":
            keys.add(SCALERS)
        return keys

    def _unfollowed(self) -> list[tuple[Binding, str]]:
        """Names for which what they are bound to cannot be told."""
        found = []
        ours = {id(r.binding): r for r in self.references.known if r.binding is not None}
        known = [r.node for r in self.references.known]
        for binding in self.scopes.bindings:
            if id(binding) not in ours:
                continue
            through = ours[id(binding)].through
            own = through == "" or symbol(through) is not None
            values = [v for v in binding.values if not (isinstance(v, ast.Constant) and v.value is None)]
            others = [b for b in self.scopes.bindings if b.name == binding.name and b.targets() - binding.targets()]
            nodes = [*binding.others, *(v for v in values if v not in known), *binding.classes[len(binding.classes) == 1 :]]
            nodes += [stmt for b in others for stmt, _ in b.imports]
            nodes += [] if binding.top else [name for name in self.scopes.free if name.id == binding.name]
            if len(binding.targets()) + bool(values) + bool(binding.classes) > 1:
                nodes += [*values, *binding.classes, *(stmt for stmt, _ in binding.imports[1:])]
            if nodes:
                line = min(getattr(node, "lineno", 0) for node in nodes)
                found.append((binding, f"is bound to something else as well, in line {line}"))
            elif own and binding.top and binding.name in self.taken:
                found.append((binding, self.taken[binding.name]))
        return found

    def _lines(self, reference: Reference) -> tuple[int, int]:
        """The lines of the call that a reference begins, or its own."""
        parent = self.scopes.parents.get(reference.node)
        node = parent if isinstance(parent, ast.Call) and parent.func is reference.node else reference.node
        return node.lineno, node.end_lineno or node.lineno

    # one reference ---------------------------------------------------------------------------------------

    def _edits(self, reference: Reference) -> tuple[Replace, ...]:
        """What has to be written for a reference by itself. Raises Obstacle."""
        if reference.symbol.is_module:
            role, parent = self.references.role(reference), self.scopes.parents[reference.node]
            if role == "made" and reference.symbol.name != "common":
                return tuple(self._renamed(reference))
            asked = isinstance(parent, ast.Call) and ast.unparse(parent.func) in ("getattr", "hasattr")
            if role == "none" or (asked and symbol(reference.through) is None):
                return ()
            raise Obstacle("is handed on, and what becomes of it cannot be seen")
        name = reference.symbol.name
        if name not in MOVED and name != "_cast":
            raise Obstacle("has no counterpart in torch.amp")
        why, edits = self.arguments.edits(reference)
        if why:
            raise Obstacle(why)
        return (*self._renamed(reference), *edits)

    def _renamed(self, reference: Reference) -> list[Replace]:
        """The new name, where a reference is spelled from torch itself."""
        if reference.through == "torch":
            chain: ast.expr = reference.node
            while isinstance(chain, ast.Attribute) and not (
                chain.attr == reference.symbol.device and chain.value is reference.root
            ):
                chain = chain.value
            return [Replace(span(reference.root)[1], span(chain)[1], "")]
        if reference.through in ("torch.cuda", "torch.cpu"):
            found = self._torch(reference)
            if not found:
                raise Obstacle("is spelled from a name for torch.cuda, and none for torch is at hand")
            return [Replace(*span(reference.root), found)]
        return []

    def _torch(self, reference: Reference) -> str:
        """A name for torch that can be used where a reference stands."""
        for name in ("torch", *sorted({b.name for b in self.scopes.bindings if b.targets() == {"torch"}})):
            binding = self.scopes.top(name)
            lone = [b for b in self.scopes.bindings if b.name == name] == [binding]
            if binding is not None and lone and binding.targets() == {"torch"} and not (binding.others or binding.values):
                if any(stmt in self.tree.body and stmt.lineno < reference.node.lineno for stmt, _ in binding.imports):
                    return name
        return ""


def _place(binding: Binding) -> tuple[int, int]:
    if binding.imports:
        return binding.imports[0][0].lineno, binding.imports[0][0].col_offset
    nodes: list[ast.expr | ast.stmt] = [*binding.values, *binding.classes]
    return (nodes[0].lineno, nodes[0].col_offset) if nodes else (1, 0)
