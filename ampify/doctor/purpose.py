"""Purpose: scalers that do not fit what they are made for: bfloat16, half models, FSDP, schedules (AMP313 to AMP317)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import AUTOCAST, dotted
from ampify.analysis.roles import Role
from ampify.analysis.scalers import SCALERS, SHARDED, is_off
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.program import Kind, Scope, Stmt

HALF = ("torch.float16", "torch.half")
FSDP = (
    "torch.distributed.fsdp.FullyShardedDataParallel",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
)


def find(case: Case) -> Iterator[Finding]:
    """The findings of the scalers that the file makes, and of the schedules beside them."""
    on = [m for m in case.made if not is_off(m.call)]
    if on and any(True for _ in case.calls_of_scaler("scale")):
        yield from _bfloat16(case)
        yield from _half(case)
        yield from _sharded(case)
    for frame in case.file.frames.all:
        yield from _gated(case, frame)
    for scope in case.reading.program.own():
        yield from _not_gated(case, scope)


def _bfloat16(case: Case) -> Iterator[Finding]:
    """A scaler that is always on, where all regions say bfloat16."""
    regions = [c for c in case.names.nodes.of(ast.Call) if case.names.resolve(c.func) in AUTOCAST and not is_off(c)]
    if (
        not regions
        or not all(_dtype(case, c) == "torch.bfloat16" for c in regions)
        or "set_autocast_dtype" in case.names.attributes
    ):
        return
    for made in case.made:
        plain = not any(k.arg in ("enabled", None) for k in made.call.keywords) and len(made.call.args) < 5
        if plain and isinstance(getattr(made.stmt, "value", None), ast.Call) and not _under_condition(case, made.stmt):
            yield Finding("AMP313", made.call.lineno, made.call.col_offset, f"`{made.text}`")


def _dtype(case: Case, call: ast.Call) -> str:
    """The dtype of a region, if it is written out."""
    for keyword in call.keywords:
        if keyword.arg == "dtype":
            return case.names.resolve(keyword.value)
    older = ".cuda." in case.names.resolve(call.func) or ".cpu." in case.names.resolve(call.func)
    return case.names.resolve(call.args[1]) if len(call.args) > 1 and not older else ""


def _under_condition(case: Case, stmt: ast.stmt) -> bool:
    return any(isinstance(n, (ast.If, ast.Try)) for n in case.above(stmt))


def _half(case: Case) -> Iterator[Finding]:
    """Models made half for certain whose optimizer is stepped through the scaler."""
    roots = {
        (scope.number, root)
        for scope in case.reading.program.own()
        for optimizer in scope.optimizers
        for root in optimizer.roots
        if any(e.done and e.kind is Kind.STEP and optimizer.key in e.targets for s in scope.run() for e in s.events)
    }
    for frame in case.file.frames.all:
        for call in frame.calls:
            func = call.func
            if not isinstance(func, ast.Attribute) or _under_condition(case, case.statement_of(call)):
                continue
            given = [*call.args, *(k.value for k in call.keywords if k.arg == "dtype")]
            half = func.attr == "half" and not given
            half = half or (func.attr == "to" and any(case.names.resolve(g) in HALF for g in given))
            text = dotted(func.value)
            here = [number for number, f in case.frames.items() if f is frame]
            if half and text and case.roles.of(func.value, frame) is Role.MODEL and _same_model(case, text, here, roots):
                parent = case.parents.get(call)
                if isinstance(parent, ast.Expr) or (
                    isinstance(parent, ast.Assign) and [dotted(t) for t in parent.targets] == [text]
                ):
                    yield Finding("AMP314", call.lineno, call.col_offset, shown(call))


def _same_model(case: Case, text: str, here: list[int], roots: set[tuple[int, str]]) -> bool:
    """Whether an optimizer of the same function, or the same attribute of an instance, owns a model's parameters, and the model
    is not made float32 again."""
    again = any(
        isinstance(c.func, ast.Attribute) and c.func.attr == "float" and dotted(c.func.value) == text
        for c in case.names.nodes.of(ast.Call)
    )
    return not again and any(root == text and (number in here or text.startswith("self.")) for number, root in roots)


def _sharded(case: Case) -> Iterator[Finding]:
    """Plain scalers where FullyShardedDataParallel wraps a model."""
    targets = set(case.names.aliases.values())
    if SHARDED in targets or any("Sharded" in t and "Scaler" in t for t in (*targets, *case.names.attributes)):
        return
    wraps = [c for c in case.names.nodes.of(ast.Call) if case.names.resolve(c.func) in FSDP]
    for made in case.made if wraps else ():
        switch = [ast.unparse(k.value).lower() for k in made.call.keywords if k.arg in ("enabled", None)]
        guarded = any(isinstance(n, ast.If) and _speaks_of_fsdp(ast.unparse(n.test)) for n in case.above(made.stmt))
        value = getattr(made.stmt, "value", None)
        chosen = isinstance(value, ast.IfExp) and _speaks_of_fsdp(ast.unparse(value))
        if case.names.resolve(made.call.func) in SCALERS and not guarded and not chosen and not any(map(_speaks_of_fsdp, switch)):
            yield Finding("AMP315", made.call.lineno, made.call.col_offset, f"`{made.text}`")


def _speaks_of_fsdp(text: str) -> bool:
    return "fsdp" in text.lower() or "shard" in text.lower()


# schedules -------------------------------------------------------------------------------------------


def _gated(case: Case, frame: Frame) -> Iterator[Finding]:
    """Schedules stepped under a comparison of the scale before and after the update that holds for the wrong steps."""
    scales = _scales(case, frame)
    if not scales:
        return
    for stmt in case.body(frame):
        if not isinstance(stmt, ast.If) or not isinstance(stmt.test, ast.Compare) or len(stmt.test.ops) != 1:
            continue
        left, right = (_time(case, n, scales) for n in (stmt.test.left, stmt.test.comparators[0]))
        if {left, right} != {"before", "after"}:
            continue
        op = type(stmt.test.ops[0])
        if left == "before":
            op = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}.get(op, op)
        wrong = {ast.Lt: "moves only when the step was skipped", ast.Eq: "also stands still when the scale grows"}.get(op, "")
        steps = [n for s in stmt.body for n in walk(s) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        schedules = [c for c in steps if getattr(c.func, "attr", "") == "step" and _is_schedule(case, c, frame)]
        if wrong and schedules and not stmt.orelse:
            yield Finding("AMP316", stmt.lineno, stmt.col_offset, f"`{ast.unparse(stmt.test)}`|{wrong}")


def _not_gated(case: Case, scope: Scope) -> Iterator[Finding]:
    """Schedules stepped beside the scaler's step in one loop, where nobody asks for the scale."""
    frame = case.frames.get(scope.number)
    if any(where is frame for _, where in case.calls_of_scaler("get_scale")):
        return
    loops = [s for s in scope.statements() if s.kind in ("for", "while")]

    def loop_of(stmt: Stmt) -> int:
        """The innermost loop that a statement stands in."""
        return max((o.number for o in loops if o.number < stmt.number < o.end), default=-1)

    stepped = {loop_of(s) for s in scope.statements() for e in s.events if e.kind is Kind.STEP and e.done} - {-1}
    for stmt in scope.statements():
        for event in stmt.events:
            if event.kind is Kind.SCHEDULE and loop_of(stmt) in stepped:
                yield Finding("AMP317", event.line, event.column, shown(case.statements[stmt.number]))


def _is_schedule(case: Case, call: ast.Call, frame: Frame) -> bool:
    return isinstance(call.func, ast.Attribute) and case.roles.of(call.func.value, frame) is Role.SCHEDULER


def _scales(case: Case, frame: Frame) -> dict[str, str]:
    """The names that hold the scale, and whether of before the update or after it."""
    updates = [c.lineno for c, where in case.calls_of_scaler("update") if where is frame]
    found: dict[str, str] = {}
    if len(updates) != 1:
        return {}
    for call, where in case.calls_of_scaler("get_scale"):
        stmt = case.statement_of(call)
        if where is frame and isinstance(stmt, ast.Assign) and stmt.value is call and len(stmt.targets) == 1:
            name = dotted(stmt.targets[0])
            found[name] = "" if name in found else "before" if call.lineno < updates[0] else "after"
    return found if "before" in found.values() else {}


def _time(case: Case, node: ast.expr, scales: dict[str, str]) -> str:
    """Of when the scale is that an expression holds."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get_scale":
        return "after" if case.names.is_scaler(node.func.value) else ""
    return scales.get(dotted(node), "")
