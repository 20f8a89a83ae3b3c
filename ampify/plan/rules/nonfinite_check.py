"""Checks for infinity and NaN that end the training when a gradient overflows

What it finds: an assertion, `raise`, `exit`, `break` or `return` that depends on whether gradients, or their norm, are finite;
`clip_grad_norm_(..., error_if_nonfinite=True)`; autograd's anomaly detection.

Why it matters: in float16 the scale grows until gradients overflow now and then. The scaler skips that step and goes on with
half the scale, but these checks end the training: "The total norm of order 2.0 for gradients from `parameters` is non-finite,
so it cannot be clipped", "Function 'MulBackward0' returned nan values in its 0th output".

Before and after: nothing is written, as a check can be neither dropped nor weakened safely. `continue` in place of `raise`
is right, or the check on the loss: it is computed before it is scaled, so that a check of it ends the training only where
the forward pass itself overflows.

Safety: display. In bfloat16, and where autocast is off, the checks mean what they always did.

Source: torch.amp.GradScaler (`growth_interval`); torch.nn.utils.clip_grad_norm_; torch.autograd.detect_anomaly.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.walk import walk
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File

TESTS = frozenset({"isfinite", "isnan", "isinf"})
NORMS = frozenset({"clip_grad_norm_", "clip_grad_norm", "get_total_norm"})
EXITS = frozenset({"exit", "quit", "sys.exit", "os._exit", "os.abort"})
ANOMALY = frozenset({"torch.autograd.set_detect_anomaly", "torch.autograd.detect_anomaly"})


def survey(file: File) -> Iterator[Finding]:
    """The checks in functions that train."""
    for frame in file.frames.all:
        for call in frame.calls:
            if file.resolve(call.func) in ANOMALY and not any(_is(a, False) for a in (*call.args, *_mode(call))):
                yield Finding(call, (), f"`{ast.unparse(call)[:50]}`")
            elif dotted(call.func).rpartition(".")[2] in NORMS and any(
                k.arg == "error_if_nonfinite" and not _is(k.value, False) for k in call.keywords
            ):
                yield Finding(call, (), "`error_if_nonfinite`")
        if any(isinstance(call.func, ast.Attribute) and call.func.attr == "backward" for call in frame.calls):
            yield from _checks(frame, file)


def _checks(frame: Frame, file: File) -> Iterator[Finding]:
    norms: set[str] = set()
    for stmt in file.statements[frame]:
        if isinstance(stmt, (ast.Assign, ast.AugAssign)) and _of_gradients(stmt.value, norms):
            norms |= {dotted(t) for t in (stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target])} - {""}
        if isinstance(stmt, ast.Assert):
            if any(_of_gradients(test, norms) for test, _ in _tests(stmt.test)):
                yield Finding(stmt, (), f"`{ast.unparse(stmt)[:50]}`")
        elif isinstance(stmt, ast.If):
            for test, nonfinite in _tests(stmt.test):
                if _of_gradients(test, norms) and _ends(stmt.body if nonfinite else stmt.orelse):
                    yield Finding(stmt, (), f"`if {ast.unparse(stmt.test)[:50]}`")
                    break


def _tests(node: ast.expr, negated: bool = False) -> Iterator[tuple[ast.Call, bool]]:
    """The calls in a condition that test for infinity or NaN, and whether it holds where there is one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield from _tests(node.operand, not negated)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _tests(child, negated)
    name = dotted(node.func) if isinstance(node, ast.Call) else ""
    last = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else name
    if isinstance(node, ast.Call) and last in TESTS:
        yield node, (last == "isfinite") == negated


def _of_gradients(node: ast.expr, norms: set[str]) -> bool:
    """Whether an expression is made of gradients, or of names that are."""
    return any(
        (isinstance(n, ast.Attribute) and n.attr == "grad" and isinstance(n.ctx, ast.Load) and dotted(n) != "torch.autograd.grad")
        or (isinstance(n, ast.Call) and dotted(n.func).rpartition(".")[2] in NORMS)
        or (isinstance(n, (ast.Name, ast.Attribute)) and dotted(n) in norms)
        for n in walk(node)
    )


def _ends(block: list[ast.stmt]) -> bool:
    """Whether a block leaves the loop for good."""
    for stmt in block:
        call = stmt.value if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) else None
        if isinstance(stmt, (ast.Raise, ast.Break, ast.Return)) or (call is not None and dotted(call.func) in EXITS):
            return True
    return False


def _mode(call: ast.Call) -> list[ast.expr]:
    return [k.value for k in call.keywords if k.arg == "mode"]


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


RULE = Rule(
    "AMP221",
    "nonfinite-check",
    "display",
    "in float16 an overflow now and then is normal and costs one step, but here it would end the training",
    advice="skip the step with `continue`, check the loss instead, or train in bfloat16",
    words=TESTS | {"error_if_nonfinite", "set_detect_anomaly", "detect_anomaly"},
    survey=survey,
)
