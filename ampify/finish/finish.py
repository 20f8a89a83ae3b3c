"""finish(source, tree, ...) -> Finished: a file whose training steps in float32 are written as the author wrote the others."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.scalers import speaks_of_apex
from ampify.convert import AppliedEdit, Options, Surroundings, applied
from ampify.doctor.case import Case
from ampify.doctor.machine import about_precision
from ampify.doctor.treat import rendered
from ampify.finish.proof import prove
from ampify.finish.way import OutOfReachError, Way, way
from ampify.plan.edits import Disable, Edit, Hazards, Plan, anchor
from ampify.plan.planner import make_plan
from ampify.plan.rules.search import Search, find
from ampify.program import Event, Kind, Program, Scope, Stmt
from ampify.proof import ProofError
from ampify.source import with_pragmas

CODE = "AMP363"
TRAINING = (Kind.BACKWARD, Kind.STEP)
# Words of names by which a training step is plainly meant to be in float32.
FLOAT32 = frozenset("fp32 float32 f32 full single baseline reference plain vanilla naive noamp apex without".split())


class Finished(NamedTuple):
    """The bytes, the edits, and the notes (line, column, why) on training steps that are left as they are."""

    output: bytes
    edits: tuple[AppliedEdit, ...] = ()
    notes: tuple[tuple[int, int, str], ...] = ()
    skipped: tuple[tuple[int, int], ...] = ()  # training steps that pragmas leave alone, as (line, column)


def finish(source: bytes, tree: ast.Module, options: Options, around: Surroundings) -> Finished:
    """Writes the training steps that have no mixed precision as those that have it; `tree` is of `source`. Raises ProofError."""
    case = Case(tree, around.path, around.finder, linked=True)
    left = list(_in_float32(case))
    if not left:
        return Finished(source)
    notes: list[tuple[int, int, str]] = []
    plans: list[Plan] = []
    planned: list[Event] = []
    skips: list[tuple[int, int]] = []
    for scope, event in left:
        if any(s.skipped for s in scope.run()):
            skips.append((event.line, event.column + 1))
            continue
        try:
            own = way(case, source, _done(case), case.frames[scope.number], _first_line(scope))
            plans.append(_plan(case, scope, own, options))
            planned.append(event)
        except OutOfReachError as reason:
            notes.append((event.line, event.column + 1, str(reason)))
    if not plans:
        return Finished(source, notes=tuple(notes), skipped=tuple(skips))
    plan = plans[0]._replace(edits=tuple(sorted({e for p in plans for e in p.edits}, key=anchor)))
    edits = applied(case.reading.numbers, plan)
    output = rendered(source, case, plan, edits)
    if output is None:
        notes += [(event.line, event.column + 1, "libcst does not reproduce the file") for event in planned]
        return Finished(source, notes=tuple(notes), skipped=tuple(skips))
    prove(source, output, Way(plan.names["scaler"], plan.region))
    if finish(output, with_pragmas(ast.parse(output), output), options, around).edits:
        raise ProofError("finishing the output again would change it")
    return Finished(output, edits, tuple(notes), tuple(skips))


def _plan(case: Case, scope: Scope, own: Way, options: Options) -> Plan:
    """The plan of one training step. Raises OutOfReachError where it cannot be converted."""
    program = case.reading.program
    if program.parts_elsewhere() or program.steps_elsewhere():
        raise OutOfReachError("a part of the training is in another file")
    parts = scope.parts()
    alone = program._replace(scopes=tuple(s for s in program.scopes if s is scope or s.number in parts))

    def rules(edits: list[Edit]) -> Hazards:
        file = case.file
        modules = tuple((f.path, f.reading) for f in file.library.around(file) if f.speaks_of_torch)
        search = Search(options.skip, options.unsafe, modules=modules)
        before, found = find(case.reading, (), search), find(case.reading, edits, search)
        return Hazards(
            [edit for edit in found.edits if edit not in before.edits],
            [refusal for refusal in found.refusals if refusal not in before.refusals],
            [note for note in found.notes if note not in before.notes],
            found.needs,
        )

    plan = make_plan(alone, None, "torch", rules)
    for refusal in plan.refusals:
        raise OutOfReachError(f"{refusal.code}, {refusal.detail}" if refusal.detail else refusal.code)
    inside = {s.number for s in scope.run()} | {s.number for s in scope.statements()}
    edits = tuple(e for e in plan.edits if anchor(e) in inside)
    for need in (n for n in plan.needs if n.grave):
        raise OutOfReachError(f"{need.code} at {os.path.relpath(need.path)}:{need.line}")
    if not edits or any(isinstance(e, Disable) for e in edits):
        raise OutOfReachError("it takes more than the scaler and regions")
    names = {name: text for name, text in plan.names.items() if name == "torch"}
    return plan._replace(edits=edits, imports=None, names={**names, "scaler": own.scaler}, region=own.region)


# which training steps ----------------------------------------------------------------------------------


def _in_float32(case: Case) -> Iterator[tuple[Scope, Event]]:
    """The training steps without mixed precision in a file that has it in others, each with its first backward pass."""
    if case.framework or not case.scalers or case.names.runtime or speaks_of_apex(case.names):
        return
    program = case.reading.program
    if not any(e.done for s in program.whole() for e in _training(s)):
        return
    for scope in program.whole():
        events = list(_training(scope))
        plain = [e for e in events if not e.done]
        if not {e.kind for e in plain} >= set(TRAINING) or _meant(case, scope, program):
            continue
        yield scope, next(e for e in plain if e.kind is Kind.BACKWARD)


def _training(scope: Scope) -> Iterator[Event]:
    return (e for s in scope.run() for e in s.events if e.kind in TRAINING)


def _done(case: Case) -> frozenset[int]:
    """The statements that go backward or step with mixed precision, with those round them, in the functions that do."""
    found: set[int] = set()
    for scope in case.reading.program.own():
        if any(e.done for e in _training(scope)):
            found.update(s.number for s in scope.statements())
    return frozenset(found)


def _first_line(scope: Scope) -> int:
    return min((s.line for s in scope.run() if any(e.kind in TRAINING and not e.done for e in s.events)), default=scope.line)


def _meant(case: Case, scope: Scope, program: Program) -> bool:
    """Whether a training step is plainly meant to be without: one side of a choice, by its names, or for the same optimizer."""
    frame = case.frames[scope.number]
    plain = [e for e in _training(scope) if not e.done]
    names = [frame.name, frame.owner.node.name if frame.owner is not None else "", *(t for e in plain for t in e.targets)]
    words = {word for name in names for word in re.split(r"[^a-z0-9]+|(?<=[a-z])(?=[A-Z])", name.lower())}
    if words & FLOAT32 or about_precision(ast.Name("_".join(names))):
        return True
    done = {t for s in program.whole() for e in _training(s) if e.done for t in e.targets if s is scope}
    if done.intersection(t for e in plain for t in e.targets) or _chosen(case, scope.body):
        return True
    return frame.parent is not None and _called_by_choice(case, frame)


def _chosen(case: Case, body: tuple[Stmt, ...]) -> bool:
    """Whether a training step in float32 stands in a branch whose condition, or other side, is about mixed precision."""
    for stmt in body:
        sides = [[e for s in block for e in s.all_events() if e.kind in TRAINING] for block in stmt.blocks]
        plain, done = (any(e.done is d for side in sides for e in side) for d in (False, True))
        if stmt.kind == "if" and plain and (done or (stmt.number in case.tests and about_precision(case.tests[stmt.number]))):
            return True
        if any(_chosen(case, block) for block in stmt.blocks):
            return True
    return False


def _called_by_choice(case: Case, frame: Frame) -> bool:
    """Whether a function is run, or handed on, under a condition: perhaps the other side is the one with mixed precision."""
    name = frame.name
    calls = [call for call, _ in case.file.frames.calls_named(name, frame.owner is not None)]
    spoken = [n for kind in (ast.Name, ast.Attribute) for n in case.names.nodes.of(kind) if dotted(n).rpartition(".")[2] == name]
    if len(spoken) > len(calls):
        return True
    for call in calls:
        for above in case.above(call):
            if isinstance(above, (ast.IfExp, ast.match_case)):
                return True
            if isinstance(above, ast.If) and (about_precision(above.test) or (above.orelse and not _is_main(above))):
                return True
    return False


def _is_main(stmt: ast.If) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(stmt.test))
