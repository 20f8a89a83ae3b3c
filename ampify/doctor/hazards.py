"""Hazards: what raises in the author's own regions for certain (AMP201, AMP210), of what the rules look for where they write."""

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


def _calls(stmt: ast.stmt) -> Iterator[ast.Call]:
    """The calls of a simple statement."""
    if isinstance(stmt, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return)):
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
