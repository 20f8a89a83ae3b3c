"""Models in float64

What it finds: a model made `.double()`, or float64 as the default of the file.

Why it matters: autocast leaves float64 alone, so that the script trains as before and gains nothing.

Before and after: nothing is written.

Safety: display. Scaling float64 gradients by a power of two is exact.

Source: "Autocast Op Reference" ("ops that run in float64 are not eligible").
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.roles import Role
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import DOUBLE, File


def survey(file: File) -> Iterator[Finding]:
    """The first place that makes a model one of float64."""
    for frame in file.frames.all:
        for call in frame.calls:
            given = {file.resolve(a) for a in (*call.args, *(k.value for k in call.keywords))}
            if file.resolve(call.func) in ("torch.set_default_dtype", "torch.set_default_tensor_type") and given & DOUBLE:
                yield Finding(call)
                return
            if isinstance(call.func, ast.Attribute) and file.roles.of(call.func.value, frame) is Role.MODEL:
                if call.func.attr == "double" or (call.func.attr == "to" and given & DOUBLE):
                    yield Finding(call)
                    return


RULE = Rule(
    "AMP223",
    "float64",
    "display",
    "the model works in float64, which autocast leaves alone",
    advice="nothing to do; float32 would gain from mixed precision",
    words=frozenset({"double", "float64", "DoubleTensor"}),
    survey=survey,
    severity="info",
)
