"""Together: the files that run in one program with another, and what they save and load of optimizers' states."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from ampify.analysis.existing import amp_in_use
from ampify.analysis.flow import Builder
from ampify.analysis.library import MODULES, File
from ampify.analysis.roles import Role
from ampify.analysis.sources import Source
from ampify.analysis.uses import gone_through
from ampify.program import Elsewhere, Event, Kind, Scope
from ampify.source import is_candidate

METHODS = frozenset({"state_dict", "load_state_dict"})


def elsewhere(file: File) -> Elsewhere:
    """What the other files of a program save and load beside what one of them trains.

    Those with training steps of their own are left to themselves: all that is needed of them is the key that they use.
    """
    library, finder = file.library, file.library.finder
    if finder is None:
        return Elsewhere()
    scopes: list[Scope] = []
    taken: set[str] = set()
    fixed: set[str] = set()
    states = _states(_builders(file))
    homes = [file.uses] if states else []
    own = _key(_events(file))
    near = list(_reach([file.path], lambda p: (*finder.outline(p).imports, *_importers(file, p))))
    running = set(_reach(_reach([file.path], lambda p: _importers(file, p)), lambda p: finder.outline(p).imports))
    for path in near:
        outline = finder.outline(path)
        if path == file.path:
            continue
        other = library.file(path) if path in running and (outline.states or outline.runtime) else None
        if other is None:
            taken.update(outline.keys if not outline.runtime else ())
            continue
        key = _key(_events(other))
        own = own or key
        taken |= ((other.names.taken - set(other.names.runtime.values())) | other.names.strings) - {key}
        builders = _builders(other)
        if not builders:
            continue
        homes.append(other.uses)
        states += _states(builders)
        if _trains(other):
            continue
        if amp_in_use(other.names):
            fixed.add(path)
        built = (b.scope({}) for b in builders)
        scopes.extend(scope._replace(path=path) for scope in built if scope is not None)
    starts = {s.path: f.start for s in scopes if (f := library.file(s.path)) is not None}
    return Elsewhere(tuple(scopes), starts, frozenset(taken), own, gone_through(states, homes), frozenset(fixed))


def _reach(starts: Iterable[str], onward: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """The files that are reached from some, these included, the nearest first; not more than make one program."""
    queue = list(dict.fromkeys(starts))
    seen = set(queue)
    for path in queue:
        yield path
        for found in onward(path):
            if found not in seen and len(seen) < MODULES:
                seen.add(found)
                queue.append(found)


def _importers(file: File, path: str) -> Iterator[str]:
    """The files that import one, for certain."""
    finder = file.library.finder
    if finder is not None:
        yield from (p for p in finder.importers(path) if p != path and path in finder.outline(p).imports)


def _builders(file: File) -> list[Builder]:
    """The functions of a file that save or load the state of an optimizer, but for those of optimizers themselves."""
    found = []
    for frame in file.frames.all:
        if frame.owner is not None and file.roles.is_optimizer(frame.owner):
            continue
        calls = [c.func for c in frame.calls if isinstance(c.func, ast.Attribute) and c.func.attr in METHODS]
        if any(file.roles.of(func.value, frame) in (Role.OPTIMIZER, Role.WRAPPER) for func in calls):
            found.append(file.library.builders[frame])
    return found


def _states(builders: Iterable[Builder]) -> list[Source]:
    return [state for builder in builders for state in builder.checkpoints()]


def _events(file: File) -> Iterator[Event]:
    """What a file saves and loads of the scaler's state."""
    if "scaler" in file.names.runtime:
        for scope in file.reading.program.own():
            yield from (e for s in scope.statements() for e in s.events if e.kind in (Kind.SAVE, Kind.LOAD) and e.done)


def _key(events: Iterable[Event]) -> str:
    """The key of the scaler's state."""
    return next((e.form for e in events if e.form), "")


def _trains(file: File) -> bool:
    """Whether a file goes backward by itself, so that it is converted for its own sake."""
    source = file.library.finder.source(file.path) if file.library.finder is not None else None
    if not is_candidate(source or b"") or file.reading.program.stepless:
        return False
    return file.reading.program.trains()
