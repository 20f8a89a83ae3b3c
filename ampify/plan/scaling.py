"""Scaling: where the loss is scaled, gradients are unscaled, and the scale is updated; tried on the protocol until it holds.

Source of the rules: the "Automatic Mixed Precision examples" note of PyTorch ("Working with Unscaled Gradients", "Working with
Multiple Models, Losses, and Optimizers").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ampify.plan.edits import Edit, Insert, Rewrite
from ampify.plan.places import Place, Places
from ampify.program import GROUP, Event, Kind, Refusal, Scope, Stmt
from ampify.protocol import Check, Overlay, check
from ampify.scaler import Problem, Violation

MAX_TRIES = 48
CODE_OF = {
    Problem.READ_SCALED: "AMP921",
    Problem.UNSCALED_TWICE: "AMP909",
    Problem.STEPPED_TWICE: "AMP921",
    Problem.MIXED: "AMP916",
    Problem.NOT_SCALED: "AMP921",
    Problem.EXCHANGED: "AMP917",
    Problem.UNDECIDED: "AMP921",
    Problem.NO_GRADIENTS: "AMP923",
}
DECISIVE = (
    Problem.NO_GRADIENTS,
    Problem.MIXED,
    Problem.UNSCALED_TWICE,
    Problem.STEPPED_TWICE,
    Problem.UNDECIDED,
    Problem.NOT_SCALED,
    Problem.EXCHANGED,
)


def plan_scaling(scope: Scope, places: Places, covered: frozenset[int], plain: bool) -> tuple[list[Edit], list[Refusal]]:
    """The scaler's edits of one scope that trains, or the refusals where no placement keeps the protocol.

    With `plain` the scaler is torch's own.
    """
    best: Check | None = None
    for updates in itertools.islice(_updates(scope, places), MAX_TRIES):
        overlay, result = _complete(scope, places, updates._replace(covered=covered, plain=plain))
        if not result.violations:
            return _edits(scope, places, overlay), []
        if best is None or len(result.violations) < len(best.violations):
            best = result
    assert best is not None
    return [], _refusals(scope, best)


def plan_penalties(scope: Scope) -> list[Edit]:
    """Takes gradients that are part of a loss through the scaler: of scaled outputs, unscaled again ("Gradient penalty")."""
    return [
        Rewrite(stmt.number, event.text, event.call, "grad", "AMP110")
        for stmt in scope.statements()
        for event in stmt.events
        if event.kind is Kind.DIFFERENTIATE and not event.done
    ]


def plan_schedules(scope: Scope) -> list[Edit]:
    """Lets learning-rate schedules advance through the scaler, which holds them still while steps are skipped."""
    return [
        Rewrite(stmt.number, "step", event.call, "step_scheduler", "AMP106")
        for stmt in scope.statements()
        for event in stmt.events
        if event.kind is Kind.SCHEDULE and not event.skipped
    ]


def _edits(scope: Scope, places: Places, overlay: Overlay) -> list[Edit]:
    """The edits that send a scope's events through the scaler."""
    edits: list[Edit] = []
    for stmt in scope.run():
        for event in stmt.events:
            if event.done:
                continue
            if event.kind is Kind.BACKWARD:
                form = "scale_tensors" if event.tensors else "scale"
                edits.append(Rewrite(stmt.number, event.text or "backward", event.call, form, "AMP102"))
            elif event.kind is Kind.STEP:
                edits.append(Rewrite(stmt.number, "step", event.call, "step", "AMP104"))
        for after, events in ((False, overlay.before.get(stmt.number, ())), (True, overlay.after.get(stmt.number, ()))):
            for event in events:
                if event.kind is Kind.UPDATE:
                    edits.append(Insert(stmt.number, after, "{scaler}.update()", "AMP105"))
                else:
                    names = [places.each(stmt.number) if key.endswith(GROUP) else key for key in event.targets]
                    edits.extend(Insert(stmt.number, after, f"{{scaler}}.unscale_({name})", "AMP103") for name in names)
    return list(dict.fromkeys(edits))


# update() --------------------------------------------------------------------------------------------


def _updates(scope: Scope, places: Places) -> Iterator[Overlay]:
    """Placements of `update()`, the likeliest first: once, after the last step of an iteration; then after each phase. A loop
    that has one already, for other optimizers, may need none."""
    inside = [s for s in scope.run() if any(e.kind is Kind.STEP and not e.done for e in s.events)]
    if not inside:
        yield Overlay()
        return
    groups: dict[int, list[Stmt]] = {}
    for stmt in {s.number: s for s in map(places.whole, inside)}.values():
        groups.setdefault(_loop(places, stmt), []).append(stmt)
    updated = {_loop(places, places.whole(s)) for s in scope.run() if any(e.kind is Kind.UPDATE for e in s.events)}
    options = [[()] * (loop in updated) + _placements(scope, places, group) for loop, group in groups.items()]
    seen = set()
    for choice in itertools.product(*options):
        after = sorted({index for placement in choice for index in placement})
        if tuple(after) not in seen:
            seen.add(tuple(after))
            yield Overlay({}, {index: (Event(Kind.UPDATE),) for index in after})


def _loop(places: Places, stmt: Stmt) -> int:
    """The number of the loop that a statement is in, or -1."""
    loop = places.loop(stmt.number)
    return loop.number if loop is not None else -1


def _placements(scope: Scope, places: Places, group: list[Stmt]) -> list[tuple[int, ...]]:
    """The sets of statements after which `update()` may stand for the steps of one loop body."""
    whole = _outwards(places, places.common([s.number for s in group]))
    phases = [tuple(places.common([s.number for s in phase]).stmt.number for phase in _phases(scope, group))]
    return [(index,) for index in whole[:1]] + phases + [(index,) for index in whole[1:]]


def _outwards(places: Places, place: Place) -> list[int]:
    """A place and the statements round it, up to the body of the loop."""
    found: list[int] = []
    for outer in places.outward(place.stmt.number):
        if outer.stmt.kind in ("for", "while") and found:
            break
        found.append(outer.stmt.number)
        if outer.parent is not None and outer.parent.kind in ("for", "while"):
            break
    return found


def _phases(scope: Scope, group: list[Stmt]) -> list[list[Stmt]]:
    """The steps of a group, apart where a backward stands between them."""
    members = {s.number for s in group}
    phases: list[list[Stmt]] = []
    fresh = True
    for stmt in scope.run():
        if any(e.kind is Kind.BACKWARD for e in stmt.events):
            fresh = True
        if stmt.number in members:
            members.remove(stmt.number)
            if fresh or not phases:
                phases.append([])
                fresh = False
            phases[-1].append(stmt)
    return phases


# unscale_() ------------------------------------------------------------------------------------------


def _complete(scope: Scope, places: Places, overlay: Overlay) -> tuple[Overlay, Check]:
    """Adds what a placement of updates still needs: `unscale_` before readings, `update` on paths that skip the step."""
    result = check(scope, overlay)
    order = {stmt.number: i for i, stmt in reversed(list(enumerate(scope.run())))}
    for _ in range(24):
        reads = [v for v in result.violations if v.problem is Problem.READ_SCALED]
        read = min(reads, key=lambda v: order[v.stmt], default=None)
        if read is None:
            break
        better = _unscale(scope, places, overlay, result, read)
        if better is None:
            break
        overlay, result = better
    if any(v.problem in (Problem.UNSCALED_TWICE, Problem.STEPPED_TWICE) for v in result.violations) and result.pending:
        repaired = overlay
        for index in result.pending:
            place = places[index]
            steps = [s for s in place.block[: place.position] if any(e.kind is Kind.STEP for e in s.all_events())]
            at = steps[-1].number if steps else index
            repaired = _add(repaired, at, Event(Kind.UPDATE), after=bool(steps))
        after_repair = check(scope, repaired)
        if len(after_repair.violations) < len(result.violations):
            overlay, result = repaired, after_repair
    return overlay, result


def _unscale(scope: Scope, places: Places, overlay: Overlay, result: Check, read: Violation) -> tuple[Overlay, Check] | None:
    """The outermost place for `unscale_` before a reading that takes this violation away and adds none of double unscaling;
    under an `if`, of the reading alone, where it serves as well there: `if args.clip: ...`."""
    fallback = best = None
    for place in places.inward(read.stmt):
        if best is not None and not _stands_below(place):
            break
        inside = list(place.stmt.all_events())
        if any(e.kind is Kind.BACKWARD or (e.kind is Kind.STEP and read.target in e.targets) for e in inside):
            continue
        text = place.text(read.target)
        if not text or (text.endswith(GROUP) and not places.each(place.stmt.number)):
            continue  # it has no name here; one of a collection has it in the loop through them only
        tried = _add(overlay, place.stmt.number, Event(Kind.UNSCALE, (text,)), after=False)
        outcome = check(scope, tried)
        if read in outcome.violations:
            if best is not None:
                break
            continue
        if best is not None and not set(outcome.violations) <= set(best[1].violations):
            break
        if _count(outcome) <= _count(result):
            best = tried, outcome
            if place.stmt.kind != "if":
                break
        fallback = fallback or (tried, outcome)
    return best or fallback


def _stands_below(place: Place) -> bool:
    """Whether a place is in the body of an `if`, on lines of its own."""
    around = place.parent
    return around is not None and place.block is around.blocks[0] and place.block[0].line > around.line


def _count(result: Check) -> int:
    return sum(v.problem in DECISIVE for v in result.violations)


def _add(overlay: Overlay, index: int, event: Event, after: bool) -> Overlay:
    side = dict(overlay.after if after else overlay.before)
    side[index] = (*side.get(index, ()), event)
    return overlay._replace(after=side) if after else overlay._replace(before=side)


# refusing --------------------------------------------------------------------------------------------


def _refusals(scope: Scope, result: Check) -> list[Refusal]:
    """The refusal for the first violation that no place for the scaler avoids."""
    shares = scope.shares()
    found = []
    for violation in result.violations[:1]:
        code = CODE_OF[violation.problem]
        if violation.problem is Problem.READ_SCALED and violation.target.endswith(GROUP):
            what = f"gradients are looked at on line {violation.line}, before the loop that steps each of"
            group = violation.target.removesuffix(GROUP)
            found.append(Refusal("AMP913", violation.line, 0, f"{what} `{group}`"))
            continue
        if violation.problem is Problem.MIXED and shares.get(violation.target):
            code = "AMP907"
        if violation.problem is Problem.UNSCALED_TWICE and not _reads_every_micro_step(scope, violation):
            code = "AMP921"
        own = violation.target.lstrip("0123456789").removeprefix(":")  # without the number of the function that binds it
        detail = f"`{own}`" if own else ""
        if code == "AMP921":
            hidden = violation.problem is Problem.READ_SCALED and _only_possible(scope, violation)
            what = (
                "a call gets the model, and may look at its gradients while they are scaled"
                if hidden
                else violation.problem.value
            )
            detail = f"{what}, of {detail}" if detail else what
        if violation.problem is Problem.NO_GRADIENTS:
            what = f"{detail} may step" if detail else "the scale may be updated"
            detail = f"{what} without gradients, on some path"
        found.append(Refusal(code, violation.line or scope.line, 0, detail))
    return found


def _only_possible(scope: Scope, violation: Violation) -> bool:
    """Whether gradients are not plainly looked at, but handed to a call that may."""
    at = next(s for s in scope.run() if s.number == violation.stmt)
    return all(e.soft for e in at.events if e.kind is Kind.READ)


def _reads_every_micro_step(scope: Scope, violation: Violation) -> bool:
    return any(e.kind is Kind.READ and violation.target in e.targets for s in scope.run() for e in s.events)
