"""make_plan(program) -> Plan: all edits of a file, or every reason against them."""

from __future__ import annotations

from ampify.plan.edits import Edit, Import, Plan, Rewrite, Wrap
from ampify.plan.places import Places
from ampify.plan.regions import covered, plan_evaluation, plan_regions, uncovered
from ampify.plan.scaling import plan_scaling, plan_schedules
from ampify.program import Kind, Program, Refusal, Scope

GENERAL = frozenset({"AMP904", "AMP916", "AMP921"})  # said only where nothing more telling is known
NAMES = {
    "scaler": ("scaler", "grad_scaler", "amp_scaler"),
    "autocast": ("autocast", "amp_autocast"),
    "configure": ("configure", "amp_configure"),
}


def make_plan(program: Program, dtype: str | None = None, runtime: str = "import") -> Plan:
    """The plan of one file. No edits and no refusals: there is nothing to convert."""
    backwards = [(s, e) for scope in program.scopes for s in scope.statements() for e in s.events if e.kind is Kind.BACKWARD]
    if not backwards:
        return Plan(refusals=tuple(r for r in program.refusals if r.code == "AMP904"))  # a backward, but not a tensor's
    if all(e.done for _, e in backwards):
        return Plan()
    refusals = [*program.refusals]
    edits: list[Edit] = []
    for scope in program.scopes:
        scope_edits, scope_refusals = _plan_scope(scope)
        edits.extend(scope_edits)
        refusals.extend(scope_refusals)
    if refusals:
        return Plan(refusals=_telling(refusals))
    if not any(isinstance(e, Rewrite) for e in edits):
        return Plan()
    for scope in program.scopes:
        edits.extend(plan_schedules(scope))
        edits.extend(uncovered(scope, plan_evaluation(scope)))
    edits.sort(key=lambda e: e.first if isinstance(e, Wrap) else e.at)
    names, missing = _names(program, edits, dtype)
    return Plan(tuple(edits), Import(missing, _import_place(program, edits), runtime == "vendor" and program.relative), names)


def _plan_scope(scope: Scope) -> tuple[list[Edit], list[Refusal]]:
    """The edits of one scope; half of a training step is no training step."""
    events = [e for s in scope.statements() for e in s.events]
    backward = next((e for e in events if e.kind is Kind.BACKWARD), None)
    step = next((e for e in events if e.kind is Kind.STEP), None)
    if backward is None and step is None:
        return [], []
    where = "at module level" if scope.name == "<module>" else f"in `{scope.name}`"
    if step is None:
        assert backward is not None
        return [], [Refusal("AMP904", backward.line, backward.column, f"no optimizer step {where} uses its gradients")]
    if backward is None:
        return [], [Refusal("AMP904", step.line, step.column, f"no backward {where} computes the gradients that it uses")]
    partial = next((e for e in events if e.kind is Kind.UNIT and e.targets), None)
    if partial is not None:
        return [], [Refusal("AMP904", partial.line, partial.column, "the called function does another part of the training step")]
    places = Places(scope)
    wraps, more = plan_regions(scope, places)
    evaluation = plan_evaluation(scope)
    edits, refusals = plan_scaling(scope, places, covered(places, [*wraps, *evaluation]))
    return [*edits, *uncovered(scope, wraps)], [*refusals, *more]


def _telling(refusals: list[Refusal]) -> tuple[Refusal, ...]:
    """The refusals in source order, without the general ones where a particular one explains the file."""
    particular = [r for r in refusals if r.code not in GENERAL]
    return tuple(sorted(set(particular or refusals), key=lambda r: (r.line, r.column, r.code)))


def _names(program: Program, edits: list[Edit], dtype: str | None) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The local names of what the edits use of the runtime, and those of them that are not imported yet."""
    wanted = ["autocast"] if any(isinstance(e, Wrap) for e in edits) else []
    wanted += ["configure"] if dtype else []
    wanted += ["scaler"]
    names, missing = {}, []
    for name in wanted:
        if name in program.runtime:
            names[name] = program.runtime[name]
            continue
        choices = [*NAMES[name], *(f"{NAMES[name][-1]}{i}" for i in range(2, 100))]
        names[name] = next(c for c in choices if c not in program.taken)
        missing.append((name, names[name]))
    return names, tuple(missing)


def _import_place(program: Program, edits: list[Edit]) -> int:
    """The statement after which the import goes: the last top-level torch import, else the last import, else the docstring.

    Only imports that run before the first edited statement count.
    """
    first = min(e.first if isinstance(e, Wrap) else e.at for e in edits)
    running = [index for index, end, is_def in program.top_level if index <= first < end and not is_def]
    limit = running[0] if running else first
    torch = [index for index, of_torch in program.imports if of_torch and index < limit]
    imports = [index for index, _ in program.imports if index < limit]
    return (torch or imports or [program.prologue])[-1]
