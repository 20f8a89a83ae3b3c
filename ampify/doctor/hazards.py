"""Hazards: what raises in the author's own regions for certain, of what the rules look for where they write (AMP201, AMP210,
AMP212, AMP214, AMP216)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.regions import calls_of_region, is_disabled, is_float16, on_cuda
from ampify.plan.rules.search import Search, file_of
from ampify.plan.rules.site import Site

LARGEST = 65504
BCE = frozenset({"torch.nn.functional.binary_cross_entropy", "torch.binary_cross_entropy"})
BCE_LOSS = frozenset({"torch.nn.BCELoss", "torch.nn.modules.loss.BCELoss"})
WITHS = (ast.With, ast.AsyncWith)
# On CUDA all of these raise for float16 and bfloat16, and autocast leaves them alone.
LINALG = frozenset("inv det slogdet cholesky qr svd svdvals eig eigh eigvals eigvalsh solve lu lu_factor".split())
OLDER = frozenset("inverse det logdet slogdet cholesky qr svd quantile nanquantile".split())
SINGLE = frozenset("sum mean max min norm prod std var item amax amin".split())  # may give a tensor of one element, which is cast
IN_PLACE = frozenset({"index_add_", "index_copy_", "scatter_", "scatter_add_", "masked_scatter_"})


def find(case: Case) -> Iterator[Finding]:
    """The hazards in the regions of each function."""
    file = None
    for frame in case.file.frames.all:
        for stmt in case.body(frame):
            for call in _calls(stmt):
                regions = [r for above in case.above(call) for r in calls_of_region(case, above)]
                if not regions or any(is_disabled(case, above) for above in case.above(call)):
                    continue
                if all(on_cuda(case, r) for r in regions) and _is_bce(case, call, frame):
                    yield Finding("AMP201", call.lineno, call.col_offset, shown(call))
                elif all(is_float16(case, r) for r in regions) and _fills_beyond(call):
                    file = file or file_of(case.reading, (), Search())
                    assert isinstance(call.func, ast.Attribute)
                    if Site(file, frame, stmt, "AMP210").of(call.func.value) is Precision.HALF:
                        yield Finding("AMP210", call.lineno, call.col_offset, shown(call))
            if _is_simple(stmt) and (regions := _regions(case, stmt)):
                file = file or file_of(case.reading, (), Search())
                yield from _raising(case, stmt, regions, Site(file, frame, stmt, "AMP212"))


def _regions(case: Case, stmt: ast.stmt) -> list[ast.Call]:
    """The contexts that a statement is under for certain; none where autocast is switched off again."""
    above = list(case.above(stmt))
    return [] if any(is_disabled(case, a) for a in above) else [r for a in above for r in calls_of_region(case, a)]


def _raising(case: Case, stmt: ast.stmt, regions: list[ast.Call], at: Site) -> Iterator[Finding]:
    """What a statement does with values that are half for certain, and that raises for them."""
    brain = all(_dtype(case, r) == "torch.bfloat16" for r in regions)
    on = all(on_cuda(case, r) and (is_float16(case, r) or _dtype(case, r) == "torch.bfloat16") for r in regions)
    if not brain and not on and not all(is_float16(case, r) for r in regions):
        return
    if isinstance(stmt, ast.Assign) and len(stmt.targets) == 1 and isinstance(target := stmt.targets[0], ast.Subscript):
        if at.tensor(target.slice) and _is_mixed(target.value, stmt.value, at):
            yield Finding("AMP212", stmt.lineno, stmt.col_offset, shown(stmt))
    for call in _calls(stmt):
        name, method = at.resolve(call.func), call.func.attr if isinstance(call.func, ast.Attribute) else ""
        given = call.args[0] if call.args and not isinstance(call.args[0], ast.Starred) else None
        if (
            method in IN_PLACE
            and isinstance(call.func, ast.Attribute)
            and len(call.args) == (2 if method == "masked_scatter_" else 3)
        ):
            if _is_mixed(call.func.value, call.args[-1], at):
                yield Finding("AMP212", call.lineno, call.col_offset, shown(call))
        elif on and given is not None and at.of(given) is Precision.HALF and _is_without_half(name):
            yield Finding("AMP214", call.lineno, call.col_offset, shown(call))
        elif brain and method == "numpy" and isinstance(call.func, ast.Attribute) and not name.startswith(("torch.", "numpy.")):
            if at.of(call.func.value) is Precision.HALF:
                yield Finding("AMP216", call.lineno, call.col_offset, shown(call))


def _is_without_half(name: str) -> bool:
    """Whether an operation of torch's has no half precision."""
    module, _, last = name.rpartition(".")
    return (module == "torch.linalg" and last in LINALG) or (module == "torch" and last in OLDER)


def _is_mixed(destination: ast.expr, source: ast.expr, at: Site) -> bool:
    """Whether values in half go to places of a float32 tensor."""
    if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute) and source.func.attr in SINGLE:
        return False
    bound = [b.value for b in at.frame.bindings.get(dotted(source), [])]
    if any(isinstance(v, ast.Call) and isinstance(v.func, ast.Attribute) and v.func.attr in SINGLE for v in bound):
        return False
    return at.of(source) is Precision.HALF and at.of(destination) is Precision.FULL


def _dtype(case: Case, call: ast.Call) -> str:
    """The dtype of a region, if it is written out."""
    given = next((k.value for k in call.keywords if k.arg == "dtype"), call.args[1] if len(call.args) > 1 else None)
    older = ".cuda." in case.names.resolve(call.func) or ".cpu." in case.names.resolve(call.func)
    return case.names.resolve(given) if given is not None and not (older and len(call.args) > 1) else ""


def _is_simple(stmt: ast.stmt) -> bool:
    return isinstance(stmt, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return))


def _calls(stmt: ast.stmt) -> Iterator[ast.Call]:
    """The calls of a simple statement."""
    if _is_simple(stmt):
        yield from (node for node in walk(stmt) if isinstance(node, ast.Call))


def _is_bce(case: Case, call: ast.Call, frame: Frame) -> bool:
    """Whether a call is binary cross entropy of probabilities, of torch's own for certain."""
    if case.names.resolve(call.func) in BCE:
        return True
    if isinstance(call.func, ast.Call):
        return case.names.resolve(call.func.func) in BCE_LOSS
    bound = case.file.frames.lookup(dotted(call.func), frame) if dotted(call.func) else []
    made = [b.value for b in bound if isinstance(b.value, ast.Call) and not b.path]
    return bool(made) and len(made) == len(bound) and all(case.names.resolve(m.func) in BCE_LOSS for m in made)


def _fills_beyond(call: ast.Call) -> bool:
    """Whether a call fills with a number that float16 has not."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("masked_fill", "masked_fill_") or len(call.args) != 2:
        return False
    try:
        value = ast.literal_eval(call.args[1])
    except (ValueError, TypeError, SyntaxError):
        return False
    return isinstance(value, (int, float)) and LARGEST < abs(value) < float("inf")
