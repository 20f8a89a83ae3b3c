"""Summaries: what calling a function of the file does to the training step, directly or through others."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.calls import Context, arguments
from ampify.analysis.frames import Frame
from ampify.analysis.syntax import own_statements
from ampify.analysis.walk import walk
from ampify.program import Barrier, Compute, Kind, first

COMPUTING = (Compute.FORWARD, Compute.MATMUL, Compute.LOSS)
PART = r"""\.\w+|\[(?:b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|[^]'"]*)\]"""  # an attribute, or an element


class Summary(NamedTuple):
    """The effects of one function on gradients, optimizers and parameters."""

    backward: bool = False
    step: bool = False
    read: bool = False
    peek: bool = False  # may look at gradients: it hands the model on
    write: bool = False
    differentiate: bool = False
    forward: bool = False
    exposed: bool = False  # runs a forward where it does not turn gradients off itself
    suspend: bool = False
    exchange: bool = False
    clears: bool = False  # gradients, on some path
    binds: frozenset[str] = frozenset()  # what it sets or changes of its parameters, its instance and the module

    def join(self, other: "Summary") -> "Summary":
        """What two functions do, one or the other."""
        return Summary(
            self.backward or other.backward,
            self.step or other.step,
            self.read or other.read,
            self.peek or other.peek,
            self.write or other.write,
            self.differentiate or other.differentiate,
            self.forward or other.forward,
            self.exposed or other.exposed,
            self.suspend or other.suspend,
            self.exchange or other.exchange,
            self.clears or other.clears,
            self.binds | other.binds,
        )


NOTHING = Summary()
DEPTH = 8  # of attributes and elements in what is set; a method that calls itself on an attribute would go down without end
MOST = 200  # things that one function sets; classes that refer to each other have paths to them in every combination


class Summaries:
    """The summaries of a program's functions, each worked out when somebody first asks for it."""

    def __init__(self) -> None:
        self._known: dict[Frame, Summary] = {}
        self._busy = False
        self.unanswered = 0  # how often nothing could be said, for something was being worked out

    def of(self, frame: Frame) -> Summary:
        """What a function does; nothing is known of any while one is worked out."""
        if frame in self._known:
            return self._known[frame]
        self.unanswered += self._busy
        if not self._busy:
            self._busy = True
            try:
                self._summarize(frame)
            finally:
                self._busy = False
        return self._known.get(frame, NOTHING)

    def _summarize(self, frame: Frame) -> None:
        """The least fixed point over the calls between a function and all that it reaches."""
        called: dict[Frame, list[tuple[Frame, Context, bool]]] = {}
        new: dict[Frame, Summary] = {}
        queue = [frame]
        while queue:
            here = queue.pop()
            if here in called:
                continue
            called[here] = list(_called(here))
            new[here] = _direct(here)
            queue.extend(target for target, *_ in called[here] if target not in self._known)
        depths = dict.fromkeys(called, DEPTH)
        changed = True
        while changed:
            changed = False
            for caller, targets in called.items():
                summary = new[caller]
                for target, context, shielded in targets:
                    inner = new[target] if target in new else self._known[target]
                    binds = frozenset(t for t in bound(inner, context, depths[caller]) if _outlives(t, caller))
                    exposed = inner.exposed and not shielded
                    inner = inner._replace(suspend=False, exposed=exposed, binds=binds)  # a generator suspends itself only
                    summary = summary.join(inner)
                while len(summary.binds) > MOST and depths[caller] > 2:  # for good, or it would never settle
                    depths[caller] //= 2
                    summary = summary._replace(binds=frozenset(_cut(t, depths[caller]) for t in summary.binds))
                if summary != new[caller]:
                    new[caller] = summary
                    changed = True
        self._known.update(new)


def _called(frame: Frame) -> Iterator[tuple[Frame, Context, bool]]:
    """The functions of the program that one calls, with what their names mean in it, and whether gradients are off there."""
    roles, here, off = frame.home.file.roles, Context(frame, 0), without_gradients(frame)
    inside = {node for stmt in off for node in walk(stmt)}
    for call in frame.calls:
        for target in roles.targets(call, frame):
            yield target, Context(target, 0, here, arguments(call, target, frame, roles)), call in inside


def without_gradients(frame: Frame) -> list[ast.stmt]:
    """The statements of a function that run with gradients off by its own doing."""
    names = frame.home.file.names
    if not isinstance(frame.node, ast.Module) and any(map(names.is_no_grad, frame.node.decorator_list)):
        return list(frame.node.body)
    contexts = [s for s in own_statements(frame.node.body) if isinstance(s, (ast.With, ast.AsyncWith))]
    return [stmt for w in contexts if any(names.is_no_grad(i.context_expr) for i in w.items) for stmt in w.body]


def _direct(frame: Frame) -> Summary:
    """What the statements of a function do by themselves."""
    found = NOTHING
    if isinstance(frame.node, ast.Module):
        return found
    sites, binds = frame.home.file.sites, set[str]()
    off = set(own_statements(without_gradients(frame)))
    for stmt in own_statements(frame.node.body):
        facts = sites.read(stmt, frame)
        binds.update(t for t in sites.defs_and_uses(stmt)[0] if _outlives(t, frame) and not _rebinds(stmt, t))
        if not facts.events and facts.barrier is None and facts.compute not in COMPUTING:
            continue
        kinds = {e.kind for e in facts.events}
        computes = facts.compute in COMPUTING
        here = Summary(
            Kind.BACKWARD in kinds or any(e.closure is not None for e in facts.events),
            Kind.STEP in kinds,
            any(e.kind in (Kind.READ, Kind.REPLACE) and not e.soft for e in facts.events),
            any(e.soft for e in facts.events),
            facts.barrier is Barrier.WRITE,
            facts.barrier is Barrier.GRADIENT,
            computes,
            computes and not facts.shielded and stmt not in off,
            facts.barrier is Barrier.SUSPEND,
            Kind.EXCHANGE in kinds,
            Kind.ZERO in kinds,
        )
        found = found.join(here)
    return found._replace(binds=frozenset(binds))


def bound(summary: Summary, context: Context, depth: int = DEPTH) -> Iterator[str]:
    """What a call sets or changes, by the names of the function that it stands in."""
    for text in summary.binds:
        key = context.key(text)
        if not key.partition(":")[0].isdecimal():  # those are a function's own
            yield _cut(key, depth)


def _cut(text: str, depth: int) -> str:
    """A name of something, or of what it is in: who reads an attribute or an element reads what that is of too."""
    if text.count(".") + text.count("[") < depth:
        return text
    ends = [part.end() for part in re.compile(PART).finditer(text, len(first(text)))]
    return text[: ends[depth - 2]] if len(ends) >= depth else text


def _outlives(text: str, frame: Frame) -> bool:
    """Whether what a name stands for in a function is still there after it."""
    base = first(text)
    bindings = frame.bindings.get(base, ())
    return frame.parent is None or not bindings or any(b.how == "param" for b in bindings)


def _rebinds(stmt: ast.stmt, text: str) -> bool:
    """Whether a statement gives a parameter another value, which its caller does not see."""
    targets = stmt.targets if isinstance(stmt, ast.Assign) else [getattr(stmt, "target", None)]
    return any(isinstance(n, ast.Name) and n.id == text for t in targets if t is not None for n in ast.walk(t))
