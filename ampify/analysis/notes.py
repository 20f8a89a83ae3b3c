"""Notes: one statement while it is read, with the events and refusals that are found in it."""

from __future__ import annotations

import ast

from ampify.analysis.facts import Raw
from ampify.analysis.frames import Frame
from ampify.analysis.groups import Each
from ampify.analysis.knowledge import Knowledge
from ampify.analysis.syntax import ordered, ordinals
from ampify.program import Kind, Refusal


class Notes:
    """What is noted of one statement: its events and refusals, in order of evaluation."""

    def __init__(self, known: Knowledge, stmt: ast.stmt, frame: Frame) -> None:
        self.known, self.roles, self.stmt, self.frame = known, known.roles, stmt, frame
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes = ordered(stmt, self.parents)
        self.ordinals = ordinals(self.nodes)
        self.events: list[Raw] = []
        self.refusals: list[Refusal] = []
        self.binds: frozenset[str] = frozenset()

    def note(
        self, kind: Kind, node: ast.expr | ast.stmt, roots: frozenset[str] = frozenset(), key: str = "", **more: object
    ) -> None:
        """Notes an event at a node; see Raw."""
        roots = frozenset(f"@{self.known.other_name(r[1:], self.frame)}" if r.startswith("@") else r for r in roots)
        key = self.known.other_name(key, self.frame)
        self.events.append(Raw(kind, roots, key, node.lineno, node.col_offset, **more))  # type: ignore[arg-type]

    def refuse(self, code: str, node: ast.expr | ast.stmt, detail: str = "") -> None:
        """Notes a reason against converting the file."""
        self.refusals.append(Refusal(code, node.lineno, node.col_offset, detail))

    def bind(self, names: frozenset[str]) -> None:
        """Notes what the functions that the statement calls bind."""
        self.binds |= names

    def is_conditional(self, node: ast.AST) -> bool:
        """Whether an expression is evaluated only under a condition within its statement, or several times."""
        parent = self.parents.get(node)
        while parent is not None and parent is not self.stmt:
            if isinstance(
                parent, (ast.BoolOp, ast.IfExp, ast.comprehension, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
            ):
                return True
            parent = self.parents.get(parent)
        return False

    def members(self, roots: frozenset[str]) -> frozenset[str]:
        """Owners of parameters; for one that stands for each optimizer of a collection in a loop, their common key."""
        found: set[str] = set()
        for root in roots:
            one = ast.Name(root[1:], ast.Load()) if root.startswith("@") and root[1:].isidentifier() else None
            each = self.known.groups.each(one, self.stmt, self.frame) if one is not None else None
            found.update(f"@{key}" for key in each.keys) if each is not None else found.add(root)
        return frozenset(found)

    def each(self, node: ast.expr, call: ast.Call) -> Each | None:
        """The optimizers that an expression of a call stands for, one after the other."""
        return self.known.groups.each(node, self.stmt, self.frame, self.parents.get(call))

    def does_part(self, node: ast.Call) -> bool:
        """Whether a call runs a function of the program for a training step, or for a part of one."""
        hidden = self.known.hidden(node, self.frame)
        return hidden.backward or hidden.step or hidden.clears
