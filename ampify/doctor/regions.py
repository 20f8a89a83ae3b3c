"""Regions: training steps under autocast, float16 without a scaler, contexts inside themselves (AMP321 to AMP324)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.names import AUTOCAST, dotted
from ampify.analysis.scalers import is_off
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.program import Compute, Kind, Scope, Stmt

LOOPS = ("for", "while")
WITHS = (ast.With, ast.AsyncWith)
COMPUTING = (Compute.FORWARD, Compute.MATMUL, Compute.LOSS)


def find(case: Case) -> Iterator[Finding]:
    """The findings of the regions in the file."""
    cleared = "clear_autocast_cache" in case.names.attributes or "clear_autocast_cache" in case.names.aliases
    for scope in case.reading.program.own():
        for stmt in scope.statements():
            if stmt.autocast and not _inside_region(case, scope, stmt):
                yield from _trained(case, stmt, stmt.walk(), cleared or not _caches(case, stmt))
        if _is_decorated(case, scope):
            yield from _trained(case, scope.body[0], scope.statements(), cleared)
    yield from _unscaled(case)
    yield from _entered_again(case)


def calls_of_region(case: Case, node: ast.AST) -> list[ast.Call]:
    """The calls that make the autocast contexts of a `with`."""
    found = []
    for item in node.items if isinstance(node, WITHS) else ():
        context = item.context_expr
        if isinstance(context, ast.Call) and case.names.is_autocast(context):
            found.append(context)
        elif isinstance(context, ast.Call) and not context.args and not context.keywords:
            found.extend(case.makers.get(dotted(context.func), ()))
        found.extend(case.contexts.get(dotted(context), ()))
    return [c for c in found if not is_off(c)]


def is_disabled(case: Case, node: ast.AST) -> bool:
    return isinstance(node, WITHS) and any(case.names.is_disabled(item.context_expr) for item in node.items)


def _caches(case: Case, stmt: Stmt) -> bool:
    """Whether a region keeps copies of weights."""
    calls = calls_of_region(case, case.statements[stmt.number])
    return bool(calls) and not any(k.arg in ("cache_enabled", None) for c in calls for k in c.keywords)


def _inside_region(case: Case, scope: Scope, stmt: Stmt) -> bool:
    """Whether a region stands in another."""
    return any(s.autocast and s.number < stmt.number < s.end for s in scope.statements())


def _is_decorated(case: Case, scope: Scope) -> bool:
    """Whether a function runs under autocast by its decorator."""
    frame = case.frames.get(scope.number)
    decorators = frame.node.decorator_list if frame is not None and not isinstance(frame.node, ast.Module) else []
    return bool(scope.body) and any(case.names.is_autocast(d) for d in decorators)


def _trained(case: Case, region: Stmt, inside: Iterator[Stmt], cleared: bool) -> Iterator[Finding]:
    """Backward passes and steps among the statements of a region; in a loop with a forward pass the weights go stale."""
    told: set[int] = set()
    for stmt in inside:
        node = case.statements.get(stmt.number)
        if node is None or stmt.number in told or any(is_disabled(case, above) for above in case.above(node)):
            continue
        if stmt.kind in LOOPS and not cleared and (step := _steps_and_computes(stmt)) is not None:
            told.update(s.number for s in stmt.walk())
            yield Finding("AMP323", step.line, step.column, f"{shown(case.statements[step.number])} changes the weights")
            continue
        kinds = {e.kind for e in stmt.events} & {Kind.BACKWARD, Kind.STEP}
        if kinds and stmt.kind not in LOOPS and stmt.kind not in ("if", "with", "try"):
            told.add(stmt.number)
            yield Finding("AMP322", stmt.line, stmt.column, shown(node))


def _steps_and_computes(loop: Stmt) -> Stmt | None:
    """The step of a loop that runs a forward pass and goes backward too."""
    inner = list(loop.walk())[1:]
    backward = any(e.kind is Kind.BACKWARD for s in inner for e in s.events)
    if not backward or not any(s.compute in COMPUTING for s in inner):
        return None
    return next((s for s in inner if s.kind == "simple" and any(e.kind is Kind.STEP for e in s.events)), None)


# float16 without a scaler ----------------------------------------------------------------------------


def _unscaled(case: Case) -> Iterator[Finding]:
    """Plain backward passes of losses that are computed in regions of float16 in the same function."""
    if _scales_somehow(case):
        return
    for scope in case.reading.program.own():
        frame = case.frames.get(scope.number)
        stepping = any(e.kind is Kind.STEP and not e.done for s in scope.run() for e in s.events)
        if frame is None or not stepping:
            continue
        computed, elsewhere = set[str](), set[str]()
        for stmt in case.body(frame):
            if not isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
                continue
            calls = [c for above in case.above(stmt) for c in calls_of_region(case, above)]
            targets = {dotted(n) for t in (stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]) for n in walk(t)}
            if calls and all(is_float16(case, c) for c in calls) and not any(is_disabled(case, a) for a in case.above(stmt)):
                computed |= targets
            elif (
                not isinstance(stmt, ast.AugAssign)
                and stmt.value is not None
                and not targets & {dotted(n) for n in walk(stmt.value)}
            ):
                elsewhere |= targets  # perhaps of no region
        computed -= elsewhere
        for place in scope.statements():
            for event in place.events:
                if event.kind is Kind.BACKWARD and not event.done and set(event.loss) & (computed - {""}):
                    yield Finding("AMP321", event.line, event.column, shown(case.statements[place.number]))


def _scales_somehow(case: Case) -> bool:
    """Whether a file may scale its losses in some way, or say elsewhere what autocast computes in."""
    attributes = case.names.attributes | case.names.loaded
    if any(word in attributes for word in ("set_autocast_gpu_dtype", "set_autocast_dtype", "scale_loss", "loss_scale")):
        return True
    made = {m.text.rpartition(".")[2] for m in case.made}
    for call in case.names.nodes.of(ast.Call):
        called = ast.unparse(call.func).lower()
        own = isinstance(call.func, ast.Attribute) and call.func.attr == "scale"
        if own or ("scaler" in called and not called.endswith("gradscaler")):
            return True
        if any("scaler" in dotted(a).lower() for a in (*call.args, *(k.value for k in call.keywords))):
            return True
    return any("scaler" in word.lower() and word not in made and word != "GradScaler" for word in attributes)


def is_float16(case: Case, call: ast.Call) -> bool:
    """Whether a region says float16, or nothing of the dtype and CUDA, or `device.type`, where that is the default."""
    name = case.names.resolve(call.func)
    older = ".cuda.amp" in name
    if any(k.arg is None for k in call.keywords) or name not in AUTOCAST or ".cpu." in name or ".xpu." in name:
        return False
    dtype = next((k.value for k in call.keywords if k.arg == "dtype"), call.args[1] if len(call.args) > 1 else None)
    if dtype is not None:
        return all(name in ("torch.float16", "torch.half") for name in _dtypes(case, dtype))
    device = next((k.value for k in call.keywords if k.arg == "device_type"), call.args[0] if call.args else None)
    chosen = isinstance(device, ast.Attribute) and device.attr == "type"  # on any accelerator
    return older or chosen or (isinstance(device, ast.Constant) and str(device.value).partition(":")[0] == "cuda")


def _dtypes(case: Case, node: ast.expr, depth: int = 4) -> set[str]:
    """The dtypes that an expression may be: of a condition both sides, of a dict one value or all; what is not known by its
    text."""
    if isinstance(node, ast.IfExp):
        return _dtypes(case, node.body, depth) | _dtypes(case, node.orelse, depth)
    if isinstance(node, ast.Subscript) and isinstance(node.value, (ast.Dict, ast.Name)):
        table = _bound(case, node.value) if isinstance(node.value, ast.Name) else node.value
        if isinstance(table, ast.Dict) and depth:
            key = _bound(case, node.slice) if isinstance(node.slice, ast.Name) else node.slice
            pairs = list(zip(table.keys, table.values, strict=True))
            if isinstance(key, ast.Constant) and not any(k is None for k, _ in pairs):
                pairs = [(k, v) for k, v in pairs if not isinstance(k, ast.Constant) or k.value == key.value]
            return {name for _, value in pairs for name in _dtypes(case, value, depth - 1)} or {""}
    bound = _bound(case, node) if isinstance(node, ast.Name) and depth else None
    return _dtypes(case, bound, depth - 1) if bound is not None else {case.names.resolve(node)}


def _bound(case: Case, node: ast.Name) -> ast.expr | None:
    """What a name is for certain: the one thing that it is assigned in the file, and no parameter."""
    values = case.names.assigned.get(node.id, [])
    stored = [n for n in case.names.nodes.of(ast.Name) if n.id == node.id and not isinstance(n.ctx, ast.Load)]
    executed = "exec" in case.names.loaded  # what may set any name of the file
    return values[0] if len(values) == len(stored) == 1 and node.id not in case.names.arguments and not executed else None


def on_cuda(case: Case, call: ast.Call) -> bool:
    """Whether a region is one of CUDA, as it is written."""
    device = next((k.value for k in call.keywords if k.arg == "device_type"), call.args[0] if call.args else None)
    older = case.names.resolve(call.func).startswith("torch.cuda.amp")
    return older or (isinstance(device, ast.Constant) and str(device.value).partition(":")[0] == "cuda")


# one context inside itself ---------------------------------------------------------------------------


def _entered_again(case: Case) -> Iterator[Finding]:
    """Contexts that are entered while they are."""
    for kind in WITHS:
        for node in case.names.nodes.of(kind):
            assert isinstance(node, WITHS)
            for text in {dotted(item.context_expr) for item in node.items} & case.contexts.keys():
                for above in case.above(node):
                    if isinstance(above, (*FUNCTIONS, ast.ClassDef)):
                        break
                    if isinstance(above, WITHS) and any(dotted(i.context_expr) == text for i in above.items):
                        yield Finding("AMP324", node.lineno, node.col_offset, f"`{text}`")
                        break
