"""Forward passes in threads of one's own

What it finds: a function that a thread runs, or an executor, with a forward pass in it that is in no region.

Why it matters: autocast belongs to the thread that entered it. A region round the place that starts the thread does nothing
inside, and the forward pass there runs in float32, which is right but gains nothing; mixed with half values of the other
thread it raises `mat1 and mat2 must have the same dtype`.

Before and after: nothing is written. Forwards under `no_grad` get a region of their own inside the function, and a thread
that trains refuses the file (AMP911).

Safety: display. DataParallel's own threads take autocast over.

Source: "Automatic Mixed Precision examples" ("Working with Multiple GPUs": the autocast state is thread-local).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.forward import level_of
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File
from ampify.program import Compute


def survey(file: File) -> Iterator[Finding]:
    """The places where threads are started that run a model outside of regions."""
    for frame in file.frames.all:
        for call in frame.calls:
            attr = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if file.resolve(call.func) == "threading.Thread":
                targets = [k.value for k in call.keywords if k.arg == "target"]
            else:
                targets = call.args[:1] if attr == "submit" else []
            for target in targets:
                if any(_runs_model(function, file) for function in _functions(target, frame, file)):
                    yield Finding(call, (), f"`{dotted(target)}`")


def _functions(target: ast.expr, frame: Frame, file: File) -> list[Frame]:
    return file.roles.targets(ast.Call(target, [], []), frame)


def _runs_model(function: Frame, file: File) -> bool:
    """Whether a function calls a model in a statement that is in no region."""
    for stmt in file.statements[function]:
        if not file.under(stmt):
            for node in file.nodes[stmt]:
                if isinstance(node, ast.Call) and level_of(node, function, file.roles) is Compute.FORWARD:
                    return True
    return False


RULE = Rule(
    "AMP226",
    "threads",
    "display",
    "a thread runs a model without autocast, which holds in the thread that enters it only",
    advice="enter `autocast()` inside the function that the thread runs",
    words=frozenset({"Thread", "submit"}),
    survey=survey,
)
