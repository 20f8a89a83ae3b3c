"""Summaries: what calling a function of the file does to the training step, directly or through others."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

from ampify.analysis.facts import Facts
from ampify.analysis.frames import Frame
from ampify.analysis.roles import Roles
from ampify.analysis.syntax import own_statements
from ampify.program import Barrier, Compute, Kind


class Summary(NamedTuple):
    """The effects of one function on gradients, optimizers and parameters."""

    backward: bool = False
    step: bool = False
    read: bool = False
    peek: bool = False  # may look at gradients: it hands the model on
    write: bool = False
    differentiate: bool = False
    forward: bool = False
    suspend: bool = False
    exchange: bool = False
    zeros: frozenset[tuple[str, frozenset[str]]] = frozenset()  # what it clears on every path: (optimizer, models)

    def join(self, other: Summary) -> Summary:
        return Summary(
            self.backward or other.backward,
            self.step or other.step,
            self.read or other.read,
            self.peek or other.peek,
            self.write or other.write,
            self.differentiate or other.differentiate,
            self.forward or other.forward,
            self.suspend or other.suspend,
            self.exchange or other.exchange,
            self.zeros | other.zeros,
        )


NOTHING = Summary()
Summaries = dict[Frame, Summary]


def summarize(roles: Roles, read: Callable[[ast.stmt, Frame], Facts], summaries: Summaries) -> None:
    """Fills `summaries` with the least fixed point over the calls between the file's functions."""
    called: dict[Frame, list[Frame]] = {}
    for frame in roles.frames.all:
        called[frame] = [t for call in frame.calls for t in roles.targets(call, frame)]
        summaries[frame] = _direct(frame, read)
    changed = True
    while changed:
        changed = False
        for frame, targets in called.items():
            summary = summaries[frame]
            for target in targets:
                # A generator suspends itself, not its caller; what is cleared on some path is not cleared.
                summary = summary.join(summaries[target]._replace(suspend=False, zeros=frozenset()))
            if summary != summaries[frame]:
                summaries[frame] = summary
                changed = True


def _direct(frame: Frame, read: Callable[[ast.stmt, Frame], Facts]) -> Summary:
    found = NOTHING
    if isinstance(frame.node, ast.Module):
        return found
    for stmt in own_statements(frame.node.body):
        facts = read(stmt, frame)
        kinds = {e.kind for e in facts.events}
        here = Summary(
            Kind.BACKWARD in kinds or any(e.closure is not None for e in facts.events),
            Kind.STEP in kinds,
            any(e.kind in (Kind.READ, Kind.REPLACE) and not e.soft for e in facts.events),
            any(e.soft for e in facts.events),
            facts.barrier is Barrier.WRITE,
            facts.barrier is Barrier.GRADIENT,
            facts.compute in (Compute.FORWARD, Compute.MATMUL, Compute.LOSS),
            facts.barrier is Barrier.SUSPEND,
            Kind.EXCHANGE in kinds,
            _cleared(facts, frame) if stmt in frame.node.body else frozenset(),
        )
        found = found.join(here)
    return found


def _cleared(facts: Facts, frame: Frame) -> frozenset[tuple[str, frozenset[str]]]:
    """What a statement clears, under names that mean the same to the function's callers."""
    local = set(frame.bindings)
    zeros = {(e.key, e.roots) for e in facts.events if e.kind is Kind.ZERO}
    return frozenset((key, roots) for key, roots in zeros if key not in local and not roots & local)
