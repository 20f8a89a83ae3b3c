"""Slices: the statements that compute a loss, backwards from where it is used."""

from __future__ import annotations

from ampify.plan.places import Places
from ampify.program import Compute, Stmt

STRONG = (Compute.FORWARD, Compute.MATMUL)


def slice_of(backward: Stmt, wanted: set[str], places: Places, kept: bool = False) -> set[int]:
    """The indices of the statements that compute a loss from a model call or a tensor operation on, before a backward.

    Leaves in `wanted` what they need of elsewhere. With `kept` the statement is no backward, but keeps a model's output for one.
    """
    inclusive = kept
    found: dict[int, Stmt] = {}
    hidden: set[int] = set()  # under no_grad: another region's business
    innermost: set[int] = set()
    level = 0
    for place in places.outward(backward.number):
        for stmt in reversed(place.block[: place.position + inclusive]):
            _collect(stmt, wanted, found, hidden)
        inclusive = False
        if level == 0:
            innermost = set(found)
        parent = place.parent
        if parent is not None:
            if parent.defs & wanted:
                wanted |= parent.uses
            if parent.kind in ("for", "while"):
                level += 1
                if any(s.compute in STRONG for i, s in found.items() if i not in hidden):
                    break
    visible = {i: s for i, s in found.items() if i not in hidden}
    seeds = {i for i, s in visible.items() if s.compute in STRONG or (s.compute is Compute.LOSS and i in innermost)}
    if kept and not any(visible[i].compute in STRONG for i in seeds):
        return set()
    if not any(visible[i].compute in STRONG for i in seeds):
        seeds |= {i for i, s in visible.items() if s.compute is Compute.CALL and i in innermost}
        if not any(visible[i].compute is Compute.CALL for i in seeds):
            return set()
    inner = {i for i in visible if not _around(places.loop(i), backward)}
    return _tainted(visible, seeds, inner)


def _collect(stmt: Stmt, wanted: set[str], found: dict[int, Stmt], hidden: set[int], no_grad: bool = False) -> None:
    """Adds to `found` what `stmt` contributes to the values in `wanted`, and to `wanted` what that needs."""
    if stmt.blocks:
        before = -1
        while before != len(wanted):  # values may go round an inner loop
            before = len(wanted)
            for block in stmt.blocks:
                inside = set(wanted)
                for inner in reversed(block):
                    _collect(inner, inside, found, hidden, no_grad or stmt.no_grad)
                wanted |= inside
    if stmt.defs & wanted:
        if stmt.plain or (stmt.detached and stmt.compute not in STRONG and stmt.compute is not Compute.LOSS):
            wanted -= stmt.defs if stmt.rebinds else frozenset()
            return
        found[stmt.number] = stmt
        if no_grad or stmt.no_grad:
            hidden.add(stmt.number)
        if stmt.rebinds:
            wanted -= stmt.defs
        wanted |= stmt.uses


def _tainted(statements: dict[int, Stmt], seeds: set[int], inner: set[int]) -> set[int]:
    """The seeds and what depends on them, without compound statements whose own header computes nothing.

    Values may go round the loops of `inner`, which the backward stands outside of; round its own loop they come too late.
    """
    names: set[str] = set()
    marks: set[int] = set()
    for members in (statements, inner):
        for index in sorted(members):
            stmt = statements[index]
            if index in seeds or stmt.uses & names:
                names |= stmt.defs
                if stmt.kind == "simple" or stmt.compute in STRONG:
                    marks.add(index)
    return marks


def _around(loop: Stmt | None, stmt: Stmt) -> bool:
    """Whether a loop is none at all, or holds a statement."""
    return loop is None or loop.number < stmt.number < loop.end


def made_of(backward: Stmt, names: set[str], places: Places) -> set[int]:
    """The statements of a function, before its backward, that make a loss of what other functions computed for it."""
    found: set[int] = set()
    for place in places.inward(backward.number):
        for stmt in place.block[: place.position]:
            for inner in stmt.walk():
                if inner.uses & names and not inner.detached:
                    names |= inner.defs
                    if inner.kind == "simple" and inner.barrier is None and not inner.renames:
                        found.add(inner.number)
    return found
