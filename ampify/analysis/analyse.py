"""analyse(tree) -> Program: everything that planning needs to know of a file; read(tree): what the rules look at besides."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ampify.analysis import hazards, sharding
from ampify.analysis.existing import amp_in_use
from ampify.analysis.flow import Builder, number
from ampify.analysis.frames import FUNCTIONS, Frame, Frames
from ampify.analysis.names import Names
from ampify.analysis.roles import Roles, Source
from ampify.analysis.sites import Sites
from ampify.program import Kind, Program, Refusal, Scope


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


def read(tree: ast.Module) -> Reading:
    """Reads a module's syntax tree, which stays as it is."""
    names = Names(tree)
    amp = amp_in_use(tree, names)
    frames = Frames(tree, names)
    roles = Roles(names, frames)
    sites = Sites(names, frames, roles)
    numbers = number(tree)
    scopes: list[Scope] = []
    refusals: list[Refusal] = []
    builders = [Builder(sites, numbers, frame) for frame in frames.all]
    closures: dict[ast.AST, str] = {}
    for builder in builders:
        builder.read()
        closures.update(builder.closures())
    if closures:  # calls of them by their names mean something else now
        sites.closures.update(closures)
        for builder in builders:
            builder.refusals.clear()
            builder.read()
    for frame, builder in zip(frames.all, builders, strict=True):
        scope = builder.scope(closures)
        refusals.extend(r for r in builder.refusals if _concerns(r, frame, scope, sites))
        if scope is not None:
            scopes.append(scope)
    states: list[Source] = []
    if trains(scopes):
        states.extend(state for builder in builders for state in builder.checkpoints())
        refusals.extend(hazards.find(tree, names, sites))
    program = Program(
        tuple(scopes),
        tuple(refusals),
        tuple((*numbers[s], isinstance(s, (*FUNCTIONS, ast.ClassDef))) for s in tree.body),
        amp,
        frozenset(names.taken),
        names.runtime,
        tuple((numbers[s][0], _imports_torch(s)) for s in tree.body if isinstance(s, ast.Import | ast.ImportFrom)),
        _prologue(tree, numbers),
        _torch_names(tree, names, numbers),
        tuple((_top_level(tree, line, numbers), line) for line in names.devices),
        tuple(node.lineno for node in sharding.mentioned(tree, names)),
        frozenset(names.strings),
        bool(states) and sites.checkpoints.uses.gone_through(states),
        any(isinstance(s, ast.ImportFrom) and s.level > 0 for s in tree.body),
        tuple(hazards.unscaled(tree, names)),
    )
    return Reading(tree, names, frames, roles, numbers, program)


def _concerns(refusal: Refusal, frame: Frame, scope: Scope | None, sites: Sites) -> bool:
    """Whether a refusal of a frame stands: not inside an optimizer's own code, nor where nothing goes backward."""
    if frame.owner is not None and sites.roles.is_optimizer(frame.owner):
        return False
    return refusal.code not in ("AMP913", "AMP915") or (scope is not None and trains([scope]))


def trains(scopes: list[Scope]) -> bool:
    """Whether anything in the file goes backward."""
    return any(e.kind is Kind.BACKWARD for scope in scopes for s in scope.statements() for e in s.events)


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
