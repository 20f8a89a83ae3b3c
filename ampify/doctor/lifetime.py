"""Lifetime: scalers made again and again, states not saved or loaded, and a scaler for each optimizer (AMP309 to AMP312)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role
from ampify.analysis.scalers import Made, is_off
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.plan.edits import Edit, Insert, Rewrite
from ampify.program import Event, Kind, Scope, Stmt

LOOPS = (ast.For, ast.AsyncFor, ast.While)
LOADING = ("load_checkpoint", "resume_")  # by such methods somebody else loads


def find(case: Case) -> Iterator[Finding]:
    """The findings of the scalers that the file makes."""
    for made in case.made:
        if not is_off(made.call) and (detail := _again(case, made)):
            yield Finding("AMP309", made.call.lineno, made.call.col_offset, detail)
    yield from _states(case)
    yield from _several(case)


# made again ------------------------------------------------------------------------------------------


def _again(case: Case, made: Made) -> str:
    """How often a scaler is made for one training, or an empty string."""
    frame = _frame_of(case, made.stmt)
    if frame is None:
        return ""
    optimizers = _stepped(case, frame, made)
    if not optimizers:
        return ""
    around = list(case.above(made.stmt))
    inside = around[: around.index(frame.node)] if frame.node in around else around
    if any(isinstance(n, (ast.If, ast.Try)) and not _switches(n) for n in inside):
        return ""  # perhaps once only
    loops = [n for n in inside if isinstance(n, LOOPS)]
    if loops:
        if all(_bound_outside(case, o, frame, loops[0]) for o in optimizers):
            return f"`{made.text}` is made in the loop of line {loops[0].lineno}"
        return ""
    if not made.text.isidentifier() or any(o.partition(".")[0] not in _parameters(frame) for o in optimizers):
        return ""
    if "epoch" in _parameters(frame) or _called_in_loop(case, frame):
        return f"`{made.text}` is made in each call of `{frame.name}`, which is handed its optimizer"
    return ""


def _frame_of(case: Case, stmt: ast.stmt) -> Frame | None:
    return next((f for f in case.file.frames.all if stmt in case.body(f)), None)


def _stepped(case: Case, frame: Frame, made: Made) -> list[str]:
    """The optimizers that a function steps through a scaler of its own, which it keeps to itself."""
    if "." in made.text and not made.text.startswith("self."):
        return []
    found = []
    for call, where in case.calls_of_scaler("step"):
        if where is frame and isinstance(call.func, ast.Attribute) and dotted(call.func.value) == made.text and call.args:
            found.append(dotted(call.args[0]))
    return found if all(found) else []


def _switches(node: ast.If | ast.Try) -> bool:
    """Whether a condition asks for mixed precision alone, and not whether there is a scaler already or an epoch is the first."""
    if isinstance(node, ast.Try):
        return False
    names = {n.id for n in walk(node.test) if isinstance(n, ast.Name)} | {
        n.attr for n in walk(node.test) if isinstance(n, ast.Attribute)
    }
    return not any(isinstance(n, ast.Compare) for n in walk(node.test)) and any("amp" in n or "fp16" in n for n in names)


def _bound_outside(case: Case, text: str, frame: Frame, loop: ast.AST) -> bool:
    """Whether an optimizer comes from outside of a loop: else each round is a training of its own."""
    bindings = case.file.frames.lookup(text, frame)
    inside = set(walk(loop))
    known = [b for b in bindings if b.value is not None]
    if any(b.value in inside for b in known):
        return False
    first = text.partition(".")[0]
    return bool(bindings) or any(b.how == "param" for b in case.file.frames.lookup(first, frame))


def _parameters(frame: Frame) -> set[str]:
    return {name for name, bound in frame.bindings.items() if any(b.how == "param" for b in bound)} - {frame.self_name}


def _called_in_loop(case: Case, frame: Frame) -> bool:
    """Whether all calls of a function in the file stand in loops, with an optimizer from outside of them."""
    callers = case.file.frames.callers(frame)
    if not callers or frame.owner is not None:
        return False
    for call, where in callers:
        loops = [n for n in case.above(call) if isinstance(n, LOOPS)]
        optimizers = [a for a in (*call.args, *(k.value for k in call.keywords)) if case.roles.of(a, where) is Role.OPTIMIZER]
        if not loops or not optimizers or not all(_bound_outside(case, dotted(o), where, loops[-1]) for o in optimizers):
            return False
    return True


# states ----------------------------------------------------------------------------------------------


def _states(case: Case) -> Iterator[Finding]:
    """Optimizers' states that are saved without the scaler's, or loaded without one that is saved."""
    steps = any(True for _ in case.calls_of_scaler("step", "scale")) or _used_elsewhere(case)
    on = [m for m in case.made if not is_off(m.call)]
    if not on or not steps:
        return
    saves = _of_any(case, "state_dict")
    loads = _of_any(case, "load_state_dict")
    found = [(scope, s, e) for scope in case.reading.program.own() for s in scope.statements() for e in s.events if not e.done]
    saved = [t for t in found if t[2].kind is Kind.SAVE and _goes_to_file(case, t[1])]
    if not saves and not loads:
        edits = _kept(case, [t for t in found if t[2].kind in (Kind.SAVE, Kind.LOAD)], on)
        for event in _unique(saved):
            yield Finding("AMP310", event.line, event.column, _text(case, event), edits)
    elif saves and not loads and not any(word in name for name in case.names.attributes for word in LOADING):
        for event in _unique([t for t in found if t[2].kind is Kind.LOAD]):
            yield Finding("AMP311", event.line, event.column, _text(case, event))


def _used_elsewhere(case: Case) -> bool:
    """Whether a scaler is handed to a function of another file, which may train with it."""
    for frame in case.file.frames.all:
        for call in frame.calls:
            given = [*call.args, *(k.value for k in call.keywords)]
            if (
                any(case.names.is_scaler(a) for a in given)
                and not case.roles.targets(call, frame)
                and dotted(call.func) != "print"
            ):
                return True
    return False


def _of_any(case: Case, method: str) -> bool:
    """Whether the state of a scaler, by whatever name, is taken or set in the file, or left to a function."""
    for call in case.names.nodes.of(ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr == method:
            last = ast.unparse(call.func.value)
            if case.names.is_scaler(call.func.value) or "scaler" in last.lower() or "amp" in last.lower():
                return True
    frames = case.file.frames.all
    handed = [c for f in frames for c in f.calls for a in (*c.args, *(k.value for k in c.keywords)) if case.names.is_scaler(a)]
    words = ("save", "load", "resume", "checkpoint", "ckpt", "snapshot", "restore", "prepare", "state")
    return any(word in ast.unparse(c.func).lower() for c in handed for word in words) or _kept_in(case)


def _kept_in(case: Case) -> bool:
    """Whether a scaler is put into something whole, that may be saved as it is."""
    for kind in (ast.Name, ast.Attribute):
        for node in case.names.nodes.of(kind):
            if case.names.is_scaler(node) and isinstance(case.parents.get(node), (ast.Dict, ast.List, ast.Tuple)):
                return True
    return False


def _goes_to_file(case: Case, stmt: Stmt) -> bool:
    """Whether the file saves anything: an optimizer's state may be taken for a while only."""
    calls = case.names.nodes.of(ast.Call)
    return any("save" in ast.unparse(c.func).lower() for c in calls) and not _restored(case)


def _restored(case: Case) -> bool:
    """Whether a copy of the states is taken and put back, as for an early stop or a search of learning rates."""
    copies = [c for c in case.names.nodes.of(ast.Call) if dotted(c.func).endswith("deepcopy")]
    return any(isinstance(n, ast.Attribute) and n.attr == "state_dict" for c in copies for n in walk(c))


def _unique(found: list[tuple[Scope, Stmt, Event]]) -> list[Event]:
    """The events, of one line one."""
    return list({event.line: event for _, _, event in reversed(found)}.values())[::-1]


def _text(case: Case, event: Event) -> str:
    """The code of a state that is saved or loaded."""
    for call in case.names.nodes.of(ast.Call):
        if (call.lineno, call.col_offset) == (event.line, event.column):
            return f"`{ast.unparse(call)[:60]}`"
    return "the optimizer's state"


def _kept(case: Case, states: list[tuple[Scope, Stmt, Event]], on: list[Made]) -> tuple[Edit, ...]:
    """The scaler's state beside the optimizer's wherever that is saved and loaded; none unless it can be in all these places."""
    made = on[0]
    home = _frame_of(case, made.stmt)
    if home is None or len(on) != 1 or case.names.plain or "scaler" in case.names.strings or case.reading.program.keyed:
        return ()
    if isinstance(getattr(made.stmt, "value", None), (ast.IfExp, ast.BoolOp)):
        return ()
    if any(isinstance(n, (ast.If, ast.Try, *LOOPS)) for n in _inside(case, made.stmt, home)):
        return ()
    edits: list[Edit] = []
    for scope, stmt, event in states:
        frame = case.frames.get(scope.number)
        if frame is None or not _is_there(case, made, home, frame, stmt):
            return ()
        if event.form == "entry" and event.kind is Kind.SAVE:
            edits.append(Rewrite(stmt.number, "state_dict", event.call, "beside", "AMP310", "scaler"))
        elif event.form == "statement" and event.kind is Kind.LOAD and event.text:
            state = f"{event.text}.get('scaler') or {made.text}.state_dict()"
            edits.append(Insert(stmt.number, True, f"{made.text}.load_state_dict({state})", "AMP310", "scaler"))
        else:
            return ()
    return tuple(dict.fromkeys(edits))


def _is_there(case: Case, made: Made, home: Frame, frame: Frame, stmt: Stmt) -> bool:
    """Whether a scaler that is made in one function is there where a statement of another runs."""
    if len(case.file.frames.lookup(made.text, frame)) != 1:
        return False
    if home is frame:
        return made.stmt.lineno < stmt.line
    if not made.text.startswith("self.") or home.name != "__init__" or home.owner is not frame.owner or home.owner is None:
        return False
    before = [c for c in home.calls if c.lineno < made.stmt.lineno and isinstance(c.func, ast.Attribute)]
    return not any(dotted(c.func) in [f"self.{name}" for name in home.owner.methods] for c in before)


def _inside(case: Case, stmt: ast.stmt, frame: Frame) -> Iterator[ast.AST]:
    for node in case.above(stmt):
        if node is frame.node:
            return
        yield node


# several ---------------------------------------------------------------------------------------------


def _several(case: Case) -> Iterator[Finding]:
    """Scalers that step and never scale, beside one that scales."""
    used: dict[str, dict[str, ast.Call]] = {}
    for call, _ in case.calls_of_scaler():
        if isinstance(call.func, ast.Attribute):
            used.setdefault(dotted(call.func.value), {}).setdefault(call.func.attr, call)
    handed = {text for frame in case.file.frames.all for text in case.handed_on(frame)}
    made = {m.text for m in case.made}
    for text in sorted(made & used.keys() - handed):
        others = [o for o in made & used.keys() if o != text and "scale" in used[o] and "step" in used[o]]
        if "step" in used[text] and "scale" not in used[text] and others:
            call = used[text]["step"]
            yield Finding("AMP312", call.lineno, call.col_offset, f"`{ast.unparse(call)[:60]}`")
