"""analyse(tree) -> Program: everything that planning needs to know of a file; read(tree): what the rules look at besides."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis import hazards, parts, sharding
from ampify.analysis.existing import amp_in_use
from ampify.analysis.frames import FUNCTIONS, Frame, Frames
from ampify.analysis.library import File, Library
from ampify.analysis.names import Names
from ampify.analysis.reached import handing, reached, runners
from ampify.analysis.roles import Roles
from ampify.analysis.sites import Sites
from ampify.analysis.sources import Source
from ampify.analysis.uses import gone_through
from ampify.program import Kind, Program, Refusal, Scope
from ampify.source import skipped


class Reading(NamedTuple):
    """A file as the analysis knows it: the syntax tree, which nobody changes, names, functions and classes, and the Program."""

    tree: ast.Module
    names: Names
    frames: Frames
    roles: Roles
    numbers: dict[ast.stmt, tuple[int, int]]  # of each statement the index in source order, and one past its last inner one
    program: Program


def analyse(tree: ast.Module) -> Program:
    """What planning needs to know of a module's syntax tree."""
    return read(tree).program


def read(tree: ast.Module, path: str = "", library: Library | None = None) -> Reading:
    """Reads a module's syntax tree, which stays as it is; `library` has the files that it imports."""
    return (library or Library()).add(tree, path).reading


def read_file(file: File) -> Reading:
    """Reads a file of a library."""
    tree, names, frames, roles, sites, numbers = file.tree, file.names, file.frames, file.roles, file.sites, file.numbers
    amp = amp_in_use(names)
    scopes: list[Scope] = []
    refusals: list[Refusal] = []
    builders = [file.library.builders[frame] for frame in frames.all]
    closures: dict[ast.AST, str] = {}
    for builder in builders:
        closures.update(builder.closures())
    if closures:  # calls of them by their names mean something else now
        sites.evaluated(closures)
        for builder in builders:
            builder.refusals.clear()
            builder.read()
    built = [(builder, builder.scope(closures)) for builder in builders]
    others = _elsewhere(file, [s for _, s in built if s is not None])
    called = {number for s in (*(s for _, s in built), *others) if s is not None for number in s.parts()}
    for builder, scope in built:
        part = builder.number in called
        found = builder.refusals if part else [*builder.refusals, *builder.found]
        refusals.extend(r for r in found if part or _concerns(r, builder.frame, scope, sites))
        if scope is not None:
            scopes.append(scope._replace(part=part))
    scopes.extend(scope._replace(part=scope.number in called) for scope in others)
    states: list[Source] = []
    if trains([s for s in scopes if not s.path]):
        states.extend(state for builder in builders for state in builder.checkpoints())
        refusals.extend(hazards.find(tree, names, sites))
        refusals.extend(parts.find(tree, [b.frame for b, _ in built if b.number in called], roles))
        refusals.extend(parts.unseen(tree, _readers(file), roles))
        refusals.extend(_unseen_elsewhere(file))
    program = Program(
        tuple(scopes),
        tuple(refusals),
        tuple((*numbers[s], isinstance(s, (*FUNCTIONS, ast.ClassDef))) for s in tree.body),
        amp,
        frozenset(names.taken),
        names.runtime,
        tuple((numbers[s][0], _imports_torch(s)) for s in tree.body if isinstance(s, (ast.Import, ast.ImportFrom))),
        _prologue(tree, numbers),
        _torch_names(tree, names, numbers),
        tuple((_top_level(tree, line, numbers), line) for line in names.devices),
        tuple(node.lineno for node in sharding.mentioned(tree, names)),
        frozenset(names.strings),
        bool(states) and gone_through(states, [file.uses]),
        any(isinstance(s, ast.ImportFrom) and s.level > 0 for s in tree.body),
        tuple(hazards.unscaled(names)),
        () if others else _without_step(sites, scopes, refusals),
        skipped(tree) if any("pragmas" in vars(f.tree) for f in file.library.files.values() if f is not None) else None,
    )
    return Reading(tree, names, frames, file.alone, numbers, program)


def _without_step(sites: Sites, scopes: list[Scope], refusals: list[Refusal]) -> tuple[tuple[int, int], ...]:
    """The places of the backward passes of a file in which nothing steps on their gradients."""
    kinds = {event.kind for scope in scopes for s in scope.statements() for event in s.events}
    if Kind.BACKWARD not in kinds or not kinds.isdisjoint((Kind.STEP, Kind.HANDED)):
        return ()
    from ampify.analysis import stepless  # few files: start-up is measured

    return stepless.backwards(sites, scopes, refusals)


def _readers(file: File) -> dict[Frame, frozenset[str]]:
    """The functions that look at gradients and do not go backward themselves, with what they look at."""
    found: dict[Frame, frozenset[str]] = {}
    for frame in file.frames.all:
        facts = file.library.builders[frame].facts.values()
        reads = [e for f in facts for e in f.events if e.kind in (Kind.READ, Kind.REPLACE) and not e.soft]
        if reads and frame.parent is not None and not file.library.summaries.of(frame).backward:
            bare = any(not e.roots for e in reads)
            found[frame] = frozenset() if bare else frozenset(r for e in reads for r in e.roots)
    return found


def _unseen_elsewhere(file: File) -> Iterator[Refusal]:
    """What looks at gradients where nobody sees it, by way of the files that this one imports, or of those that run it."""
    own = list(file.library.imported_by(file))
    handed = {runner: handing(runner, file) for runner in runners(file)}
    imported = list(dict.fromkeys(f for f in (*own, *(f for some in handed.values() for f in some)) if f is not file))
    hooking: list[Frame] = []
    if any(hazards.hooks(f) for other in imported for f in other.frames.all):
        hooking += reached(file, own)
        for runner, others in handed.items():
            hooking += (*runner.frames.all, *reached(runner, others[1:]))
    for frame in dict.fromkeys(f for f in hooking if f.home is not file.frames):
        for call, name in hazards.hooks(frame):
            yield Refusal("AMP906", 1, 0, f"`{name}` ({os.path.relpath(frame.home.file.path)}:{call.lineno})")
    passing = {frame for other in imported for frame in other.frames.all if any(True for _ in parts.handed_on(frame))}
    for node, frame in ((n, f) for f in reached(file, imported) if f in passing for n in parts.handed_on(f)) if passing else ():
        detail = f"{parts.handed_detail(node)} ({os.path.relpath(frame.home.file.path)}:{node.lineno})"
        yield Refusal("AMP904", 1, 0, detail)
    for other in imported:
        if not other.speaks_of_gradients:
            continue
        readers = _readers(other)
        for frame in parts.implicit(readers):
            if any(True for f in (file, *imported) for _ in parts.mentions(f.tree, frame)):
                place = f"{os.path.relpath(other.path)}:{getattr(frame.node, 'lineno', 1)}"
                yield Refusal("AMP904", 1, 0, f"{parts.unseen_detail(frame)} ({place})")
        for refusal in hazards.lambdas_out_of_sight(other.sites):
            yield Refusal("AMP904", 1, 0, f"{refusal.detail} ({os.path.relpath(other.path)}:{refusal.line})")
        for refusal in parts.unseen(other.tree, readers, other.roles):
            yield Refusal("AMP904", 1, 0, f"{refusal.detail} ({os.path.relpath(other.path)}:{refusal.line})")
        yield from parts.unseen_calls(file.tree, {f: looked for f, looked in readers.items() if f.owner is not None}, file.roles)


def _elsewhere(file: File, scopes: list[Scope]) -> list[Scope]:
    """The functions of other files that the file's training steps run, or whose training steps run functions of the file."""
    builders = file.library.builders
    called = {number for scope in scopes for number in scope.calls()}
    found = {b.frame: b for b in builders.values() if b.frame.home is not file.frames and b.number in called}
    for frame in file.frames.all if file.importers else ():
        summary = file.library.summaries.of(frame) if frame.parent is not None else None
        if summary is not None and (summary.backward or summary.step):
            for _, where in file.frames.callers(frame, linked=True):
                if where.home is not file.frames:
                    found[where] = builders[where]
    made = ((b.frame.home.file.path, b.scope({})) for b in found.values())
    return [scope._replace(path=path) for path, scope in made if scope is not None]


def _concerns(refusal: Refusal, frame: Frame, scope: Scope | None, sites: Sites) -> bool:
    """Whether a refusal of a frame stands: not inside an optimizer's own code, nor where nothing goes backward."""
    if frame.owner is not None and sites.roles.is_optimizer(frame.owner):
        return False
    return refusal.code not in ("AMP913", "AMP915") or (scope is not None and trains([scope]))


def trains(scopes: list[Scope]) -> bool:
    """Whether anything in the file goes backward."""
    return any(e.kind is Kind.BACKWARD for scope in scopes for s in scope.run() for e in s.events)


def _imports_torch(stmt: ast.Import | ast.ImportFrom) -> bool:
    modules = [a.name for a in stmt.names] if isinstance(stmt, ast.Import) else [stmt.module or ""] if not stmt.level else []
    return any(m.partition(".")[0] in ("torch", "torchvision", "torchaudio", "torchtext") for m in modules)


def _torch_names(tree: ast.Module, names: Names, numbers: dict[ast.stmt, tuple[int, int]]) -> tuple[tuple[int, str], ...]:
    """The names that mean torch wherever they stand: bound by its imports at module level, and by nothing else."""
    found: list[tuple[int, str]] = []
    for local, stmts in names.imported.items():
        own = all(isinstance(s, ast.Import) and s in tree.body and _binds(s, local, "torch") for s in stmts)
        if own and local not in names.rebound:
            found.extend((numbers[s][0], local) for s in stmts)
    return tuple(sorted(found))


def _binds(stmt: ast.Import, local: str, module: str) -> bool:
    """Whether every alias of an import that binds a name binds it to a module."""
    bound = [
        a.name if a.asname else a.name.partition(".")[0] for a in stmt.names if local == (a.asname or a.name.partition(".")[0])
    ]
    return set(bound) == {module}


def _top_level(tree: ast.Module, line: int, numbers: dict[ast.stmt, tuple[int, int]]) -> int:
    """The index of the top-level statement that a line is of."""
    return next((numbers[s][0] for s in tree.body if s.lineno <= line <= (s.end_lineno or line)), 0)


def _prologue(tree: ast.Module, numbers: dict[ast.stmt, tuple[int, int]]) -> int:
    """The index of the docstring, or -1; imports from __future__ are imports."""
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        return numbers[tree.body[0]][0] if isinstance(tree.body[0].value.value, str) else -1
    return -1
