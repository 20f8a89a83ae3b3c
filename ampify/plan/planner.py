"""make_plan(program) -> Plan: all edits of a file, or every reason against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ampify.diagnostics import REFUSALS
from ampify.plan.checkpoints import KEYS, key_of, keys, lost_elsewhere, lost_states, plan_checkpoints, states_elsewhere
from ampify.plan.edits import Disable, Edit, Hazards, Import, Insert, Need, Plan, Rewrite, Splice, Wrap, anchor, moved
from ampify.plan.places import Places
from ampify.plan.regions import Regions, covered, plan_evaluation, uncovered
from ampify.plan.scaling import plan_penalties, plan_scaling, plan_schedules
from ampify.program import APART, Compute, Elsewhere, Kind, Note, Program, Refusal, Scope, Stmt

GENERAL = frozenset({"AMP904", "AMP916", "AMP921"})  # said only where nothing more telling is known
PLAIN_FORMS = frozenset({"scale", "scale_tensors", "step"})  # of Rewrite, what torch.amp's scaler has too
PLAIN_TEXTS = ("{scaler}.unscale_(", "{scaler}.update(")  # of Insert
NAMES = {  # what an edit's text may name, with the local names that it may get
    "torch": ("torch", "amp_torch"),
    "enabled": ("use_amp", "amp_enabled"),
    "scaler": ("scaler", "grad_scaler", "amp_scaler"),
    "autocast": ("autocast", "amp_autocast"),
    "configure": ("configure", "amp_configure"),
    "custom_fwd": ("custom_fwd", "amp_custom_fwd"),
    "custom_bwd": ("custom_bwd", "amp_custom_bwd"),
    "full_precision": ("full_precision", "amp_full_precision"),
    "full_precision_fwd": ("full_precision_fwd", "amp_full_precision_fwd"),
    "unscaled_bwd": ("unscaled_bwd", "amp_unscaled_bwd"),
}
IN_TEXTS = ("custom_bwd", "custom_fwd", "full_precision", "full_precision_fwd", "unscaled_bwd")  # of the runtime's alone


Rules = Callable[[list[Edit]], Hazards]


def make_plan(
    program: Program,
    dtype: str | None = None,
    runtime: str = "import",
    rules: Rules | None = None,
    given: tuple[Edit, ...] = (),
    elsewhere: Callable[[], Elsewhere] = Elsewhere,
) -> Plan:
    """The plan of one file. No edits and no refusals: there is nothing to convert.

    `dtype` and `runtime` as in ampify.convert.Options; `rules` finds the numeric hazards, given the edits. `given` are edits that
    training steps of other files ask for; `elsewhere` tells what other files save and load.
    """
    backwards = [e for scope in program.own() for s in scope.run() for e in s.events if e.kind is Kind.BACKWARD]
    if not backwards and not given:
        return Plan(refusals=tuple(r for r in program.refusals if r.code == "AMP904"))  # a backward, but not a tensor's
    if any(e.skipped for e in backwards) and (mixed := [r for r in program.refusals if r.code == "AMP928"]):
        return Plan(refusals=_telling(mixed))
    if all(e.done for e in backwards) and not given:
        return _plan_left(program, elsewhere())
    if program.stepless and not given:
        return Plan(notes=tuple(Note("AMP195", line, column, "") for line, column in program.stepless[:1]))
    refusals = [*program.refusals]
    edits: list[Edit] = []
    plain = runtime == "torch" and not program.runtime  # a file that has the runtime's scaler keeps to that one
    regions = Regions(program)
    wraps = regions.plan()
    refusals.extend(regions.refusals)
    planned: list[tuple[Scope, list[Edit]]] = []
    for scope in program.scopes:
        edits.extend(uncovered(scope, wraps))
    for scope in program.whole():
        scope_edits, scope_refusals = _plan_scope(scope, wraps, plain)
        planned.append((scope, scope_edits))
        refusals.extend(scope_refusals)
    refusals.extend(_disagreements(program, planned))
    edits = list(dict.fromkeys([*given, *edits, *(e for _, scope_edits in planned for e in scope_edits)]))
    if refusals:
        return Plan(refusals=_telling(refusals))
    if not given and not any(isinstance(e, Rewrite) for e in edits):
        return Plan()
    needs = tuple(_parts_elsewhere(program, edits))
    if plain and (needs or given):  # every file would have a scaler of its own
        return Plan(refusals=(Refusal("AMP923", 1, 0, "one scaler for a training step in several files"),))
    edits = [e for e in edits if anchor(e) < APART]
    others = elsewhere()
    key, keyed = key_of(program, others, given), program.keyed or others.keyed
    saves = not plain and not keyed and key != ""  # torch's scaler loads no checkpoint without its state
    if not saves:
        edits = [e for e in edits if not keys([e])]
    for scope in program.own():
        edits.extend(plan_penalties(scope))
        if not plain:  # the notes of PyTorch let a schedule run on
            edits.extend(plan_schedules(scope))
        if saves:
            edits.extend(e for e in plan_checkpoints(scope, Places(scope), key) if e not in edits)
        edits.extend(uncovered(scope, plan_evaluation(scope)))
    if saves:
        needs = (*needs, *states_elsewhere(others, key))
    lost = [n for scope in program.own() for n in lost_states(scope, keyed, saves)]
    notes = (*tuple({n.line: n for n in sorted(lost, reverse=True)}.values())[::-1], *lost_elsewhere(others, keyed, saves))
    notes = () if dtype == "bf16" else tuple(dict.fromkeys(notes))
    if rules is not None and edits:
        found = rules(edits)
        if found.refusals:
            return Plan(refusals=_telling(found.refusals))
        edits, notes = [*_needed(edits, found.edits, program), *found.edits], (*notes, *found.notes)
        needs = (*needs, *found.needs)
    edits.sort(key=anchor)
    if not edits:
        return Plan(needs=needs)
    plan = _with_torch(program, edits, dtype) if plain else _with_runtime(program, edits, dtype, runtime)
    return plan if plan.refusals else plan._replace(notes=notes, needs=needs)


def left_over(program: Program, plain: bool, elsewhere: Callable[[], Elsewhere]) -> bool:
    """Whether there is something in a converted file that conversion leaves in none: gradients that are part of a loss and
    schedules past the scaler, or checkpoints without its state. With `plain` the scaler is torch's own."""
    if not any(e.kind is Kind.BACKWARD and e.done for scope in program.own() for s in scope.run() for e in s.events):
        states = any(e.done and e.form for scope in program.own() for s in scope.statements() for e in s.events)
        unsaved = not program.keyed and any(plan_checkpoints(scope, Places(scope), KEYS[0]) for scope in program.own())
        return states and unsaved  # it saves for another file, and all or nothing
    if any(plan_penalties(scope) or (not plain and plan_schedules(scope)) for scope in program.own()):
        return True
    if plain or program.keyed or not any(plan_checkpoints(scope, Places(scope), KEYS[0]) for scope in program.own()):
        return False
    others = elsewhere()
    return not others.keyed and key_of(program, others) != ""


def _plan_left(program: Program, elsewhere: Elsewhere) -> Plan:
    """The plan of a converted file: what its program saves and loads in others, if that is not done yet."""
    key = key_of(program, elsewhere)
    if "scaler" not in program.runtime or program.keyed or elsewhere.keyed or not key:
        return Plan()
    return Plan(needs=tuple(states_elsewhere(elsewhere, key)))


def make_module_plan(program: Program, runtime: str, rules: Rules, given: tuple[Edit, ...] = ()) -> Plan:
    """The plan of a file without a training step: what the rules write in code that runs under a script's autocast, and the
    scaler's state, which the edits `given` by a training step elsewhere save and load here."""
    found = rules([])
    if found.refusals or not (found.edits or given):
        return Plan(refusals=tuple(found.refusals))
    edits = sorted([*found.edits, *(given if key_of(program, Elsewhere(), given) else ())], key=anchor)
    if not edits:
        return Plan()
    if program.refusals and not program.stepless:  # it takes part in a training step that cannot be converted
        return Plan(refusals=_telling([*program.refusals]))
    if runtime == "torch":
        beyond = [Refusal("AMP923", line, 0, detail) for line, detail in _beyond_torch(program, edits, -1)]
        if beyond:
            return Plan(refusals=tuple(beyond))
    # A vendored runtime lies beside the script, from where it is found by its plain name.
    return _with_runtime(program, edits, None, "import")._replace(notes=tuple(found.notes))


def _with_runtime(program: Program, edits: list[Edit], dtype: str | None, runtime: str) -> Plan:
    names, missing = _names(program, edits, dtype)
    setup = (f'{{configure}}(mode="{dtype}")',) if dtype else ()
    imports = Import(missing, _import_place(program, edits), setup, runtime == "vendor" and program.relative)
    return Plan(tuple(edits), imports if missing or setup else None, names)


def _needed(edits: list[Edit], more: list[Edit], program: Program) -> list[Edit]:
    """The edits without regions in which no statement is left that autocast does anything for."""
    disabled = {e.at for e in more if isinstance(e, Disable)}
    at = {stmt.number: stmt for scope in program.scopes for stmt in scope.statements()}
    return [
        e
        for e in edits
        if not isinstance(e, Wrap)
        or disabled.isdisjoint(range(e.first, at[e.last].end))
        or any(at[i].compute is not Compute.NONE and i not in disabled for i in range(e.first, at[e.last].end) if i in at)
    ]


def _parts_elsewhere(program: Program, edits: list[Edit]) -> Iterator[Need]:
    """The files in which a part of a training step of this file is, with what is to be written there."""
    files = {s.number // APART: scope.path for scope in program.scopes if scope.path for s in scope.body}
    lines = {s.number: s.line for scope in program.scopes if scope.path for s in scope.statements()}
    for index, path in sorted(files.items()):
        inside = sorted((e for e in edits if anchor(e) // APART == index), key=anchor)
        if inside:
            there = tuple(moved(e, -index * APART) for e in inside)
            yield Need(path, lines[anchor(inside[0])], "AMP904", "a part of the training step is there", edits=there)


def _with_torch(program: Program, edits: list[Edit], dtype: str | None) -> Plan:
    """The plan with plain torch.amp in place of the runtime, after PyTorch's "Automatic Mixed Precision" recipe: everything
    passes through where there is no CUDA device. bfloat16 has the range of float32, so its scaler stays off."""
    after = _import_place(program, edits, behind_all=True)
    refusals = [Refusal("AMP923", line, 0, detail) for line, detail in _beyond_torch(program, edits, after)]
    if program.sharded and dtype != "bf16":  # in bfloat16 no step is ever skipped
        disagreement = "the ranks of FullyShardedDataParallel would disagree on skipped steps"
        refusals.append(Refusal("AMP923", program.sharded[0], 0, disagreement))
    if refusals:
        return Plan(refusals=_telling(refusals))
    torch = next((local for index, local in program.torch if index <= after), "")
    names = {name: _free(name, program) for name in ("torch", "enabled", "scaler")}
    setup = [] if torch else ["import torch" if names["torch"] == "torch" else "import torch as {torch}"]
    names["torch"] = torch or names["torch"]
    setup.extend([""] if setup or after >= 0 else [])
    setup.append("{enabled} = {torch}.cuda.is_available()")
    setup.append('{scaler} = {torch}.amp.GradScaler("cuda", enabled=%s)' % ("False" if dtype == "bf16" else "{enabled}"))
    half = "bfloat16" if dtype == "bf16" else "float16"
    region = f'{{torch}}.autocast("cuda", dtype={{torch}}.{half}, enabled={{enabled}})'
    return Plan(tuple(edits), Import((), after, tuple(setup)), names, region, '{torch}.autocast("cuda", enabled=False)')


def _beyond_torch(program: Program, edits: list[Edit], after: int) -> Iterator[tuple[int, str]]:
    """What plain torch.amp cannot express, as (line, what)."""
    at = {stmt.number: stmt for scope in program.scopes for stmt in scope.statements()}
    for edit in edits:
        if isinstance(edit, Rewrite) and edit.form not in PLAIN_FORMS:
            yield at[edit.at].line, f"`scaler.{edit.form}(...)`"
        elif isinstance(edit, Splice):
            text = (edit.before + edit.after).strip()
            if any(f"{{{name}}}" in text for name in IN_TEXTS):
                yield edit.start[0], f"`{text.format(**{n: n for n in NAMES})}`"
        elif isinstance(edit, Insert) and not edit.text.startswith(PLAIN_TEXTS):
            yield at[edit.at].line if edit.at in at else 1, f"`{edit.text.format(**{n: n for n in NAMES})}`"
    yield from ((line, f"`{name}`, whose backward the loss scale has to be taken off") for line, name in program.unscaled)
    for scope in program.scopes:
        wrappers = {o.key for o in scope.optimizers if o.wrapper}
        for stmt in scope.statements():
            for event in (e for e in stmt.events if not e.skipped):
                if event.kind is Kind.STEP and wrappers.intersection(event.targets):
                    yield event.line, f"`{event.targets[0]}` wraps an optimizer, and torch's scaler takes the optimizer itself"
                if event.kind is Kind.STEP and event.closure >= 0:
                    yield event.line, "a step with a closure"
    running = {index for index, _, is_definition in program.top_level if not is_definition}
    for index, line in program.devices:
        if index > after or index not in running:
            yield line, "CUDA_VISIBLE_DEVICES comes too late for the module level, where torch would look for devices"


def _disagreements(program: Program, planned: list[tuple[Scope, list[Edit]]]) -> Iterator[Refusal]:
    """The functions that do a part of several training steps, and would need other statements of the scaler in each."""
    by_number = {scope.number: scope for scope in program.scopes}
    wanted: dict[int, set[frozenset[Edit]]] = {}
    for root, edits in planned:
        for number in root.parts() & by_number.keys():  # not those that do nothing, in place of one that does
            inside = {s.number for s in by_number[number].statements()}
            wanted.setdefault(number, set()).add(frozenset(e for e in edits if isinstance(e, Insert) and e.at in inside))
    for number, choices in wanted.items():
        if len(choices) > 1:
            part = by_number[number]
            yield Refusal("AMP921", part.line, 0, f"`{part.name}` would need it in different places for its callers")


def _plan_scope(scope: Scope, wraps: list[Wrap], plain: bool) -> tuple[list[Edit], list[Refusal]]:
    """The scaler's edits of one scope; half of a training step is no training step."""
    events = [e for s in scope.run() for e in s.events]
    backward = next((e for e in events if e.kind is Kind.BACKWARD and not e.skipped), None)
    step = next((e for e in events if e.kind is Kind.STEP and not e.skipped), None)
    if backward is None and step is None:
        return [], []
    where = "at module level" if scope.name == "<module>" else f"in `{scope.name}`"
    if step is None and not scope.closure:
        assert backward is not None
        return [], [Refusal("AMP904", backward.line, backward.column, f"no optimizer step {where} uses its gradients")]
    if backward is None and step is not None and step.closure < 0:
        return [], [Refusal("AMP904", step.line, step.column, f"no backward {where} computes the gradients that it uses")]
    endless = next((e for e in events if e.kind is Kind.CALL and not all(c.body for c in e.calls)), None)
    if endless is not None:
        return [], [Refusal("AMP904", endless.line, endless.column, "the called function calls itself")]
    places = Places(scope)
    evaluation = plan_evaluation(scope)
    found, refusals = plan_scaling(scope, places, covered(places, [*wraps, *evaluation]), plain)
    if refusals and any(e.skipped for e in events):
        return [], _because_of_pragmas(scope, places, refusals, plain)
    return found, refusals


def _because_of_pragmas(scope: Scope, places: Places, refusals: list[Refusal], plain: bool) -> list[Refusal]:
    """Why a scope is refused that pragmas leave a part of alone: the rest by itself is, or both cannot be told apart."""
    alone = scope._replace(body=tuple(map(_without_skipped, scope.body)))
    _, own = plan_scaling(alone, places, frozenset(), plain)
    if own:
        return own
    meeting = "gradients of {} meet there that are scaled and that are not"
    texts = {code: meeting if code == "AMP916" else text for code, (text, _) in REFUSALS.items()}
    return [Refusal("AMP928", r.line, r.column, texts[r.code].format(r.detail)) for r in refusals]


def _without_skipped(stmt: Stmt) -> Stmt:
    """A statement without what pragmas leave alone in it, but for the functions that it calls."""
    blocks = tuple(tuple(map(_without_skipped, block)) for block in stmt.blocks)
    return stmt._replace(blocks=blocks, events=tuple(e for e in stmt.events if not e.skipped))


def _telling(refusals: list[Refusal]) -> tuple[Refusal, ...]:
    """The refusals in source order, without the general ones where a particular one explains the file."""
    particular = [r for r in refusals if r.code not in GENERAL]
    return tuple(sorted(set(particular or refusals), key=lambda r: (r.line, r.column, r.code, r.detail)))


def _names(program: Program, edits: list[Edit], dtype: str | None) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The local names of what the edits use of the runtime, and those of them that are not imported yet."""
    texts = [
        t for e in edits for t in ((e.text,) if isinstance(e, Insert) else (e.before, e.after) if isinstance(e, Splice) else ())
    ]
    wanted = ["autocast"] if any(isinstance(e, (Wrap, Disable)) for e in edits) else []
    wanted += ["configure"] if dtype else []
    wanted += [name for name in IN_TEXTS if any(f"{{{name}}}" in t for t in texts)]
    wanted += ["scaler"] if any(isinstance(e, Rewrite) for e in edits) or any("{scaler}" in t for t in texts) else []
    names: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    if any("{torch}" in t for t in texts):
        names["torch"] = program.torch[0][1]
    for name in wanted:
        if name in program.runtime:
            names[name] = program.runtime[name]
            continue
        names[name] = _free(name, program)
        missing.append((name, names[name]))
    return names, tuple(missing)


def _free(name: str, program: Program) -> str:
    """The first of the local names for something that the file does not use."""
    choices = [*NAMES[name], *(f"{NAMES[name][-1]}{i}" for i in range(2, 100))]
    return next(c for c in choices if c not in program.taken)


def _import_place(program: Program, edits: list[Edit], behind_all: bool = False) -> int:
    """The statement after which the import goes: the last top-level torch import, else the last import, else the docstring.

    Only imports that run before the first edited statement count. With `behind_all` torch's do not come first.
    """
    first = min(map(anchor, edits))
    running = [index for index, end, is_def in program.top_level if index <= first < end and not is_def]
    limit = running[0] if running else first
    torch = [index for index, of_torch in program.imports if of_torch and index < limit and not behind_all]
    imports = [index for index, _ in program.imports if index < limit]
    return (torch or imports or [program.prologue])[-1]
