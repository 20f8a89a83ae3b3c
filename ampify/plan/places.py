"""Places: where each statement of a scope stands, for plans that move between blocks."""

from collections.abc import Iterator
from typing import NamedTuple

from ampify.program import Block, Call, Scope, Stmt


class Place(NamedTuple):
    """A statement in its block.

    `parent` is the compound statement round that block, or the one that calls the function whose body it is; None at the scope's
    top. `call` is the function, of those that do a part of the scope's training step; None in the scope itself.
    """

    block: Block
    position: int
    parent: Stmt | None
    call: Call | None = None

    @property
    def stmt(self) -> Stmt:
        return self.block[self.position]

    def text(self, key: str) -> str:
        """The name that an optimizer has here; empty if it has none."""
        return key if self.call is None else self.call.texts.get(key, "")


class Places:
    """Finds the chain of statements, from a scope's top to any statement that takes part in its training step."""

    def __init__(self, scope: Scope) -> None:
        self._place: dict[int, Place] = {}
        self._note(scope.body, None, None)

    def _note(self, block: Block, parent: Stmt | None, call: Call | None) -> None:
        for position, stmt in enumerate(block):
            self._place.setdefault(stmt.number, Place(block, position, parent, call))
            for inner in stmt.blocks:
                self._note(inner, stmt, call)
            for event in stmt.events:
                for part in event.calls:
                    self._note(part.body, stmt, part)

    def __getitem__(self, index: int) -> Place:
        return self._place[index]

    def __contains__(self, index: int) -> bool:
        return index in self._place

    def outward(self, index: int) -> Iterator[Place]:
        """The places of a statement and of all compound statements round it, innermost first."""
        place = self._place[index]
        while True:
            yield place
            if place.parent is None:
                return
            place = self._place[place.parent.number]

    def inward(self, index: int) -> list[Place]:
        return list(self.outward(index))[::-1]

    def loop(self, index: int) -> Stmt | None:
        """The innermost loop round a statement."""
        for place in self.outward(index):
            if place.parent is not None and place.parent.kind in ("for", "while"):
                return place.parent
        return None

    def each(self, index: int) -> str:
        """What stands for an optimizer of a collection, where a loop through it is round a statement; empty where none is."""
        return next((p.parent.each for p in self.outward(index) if p.parent is not None and p.parent.each), "")

    def whole(self, stmt: Stmt) -> Stmt:
        """A statement, or the loop through a collection of optimizers that it stands in."""
        return next((p.parent for p in self.outward(stmt.number) if p.parent is not None and p.parent.each), stmt)

    def common(self, indices: list[int]) -> Place:
        """The place, in the innermost block that holds all the statements, of the one that holds the last of them."""
        chains = [self.inward(i) for i in indices]
        depth = 0
        while all(len(c) > depth + 1 for c in chains) and len({c[depth].stmt.number for c in chains}) == 1:
            arms = {id(c[depth + 1].block) for c in chains}
            if len(arms) > 1:
                break  # in different arms of one statement: their common place is the statement
            depth += 1
        return max((c[depth] for c in chains), key=lambda p: p.position)
