"""Models under torch.compile

What it finds: `torch.compile` of a model, or `model.compile()`.

Why it matters: a compiled model takes its backward to run under autocast too if its forward did, while what ampify writes
runs it outside. Gradients are right either way; operations of the backward may run in another precision than in eager mode.

Before and after: nothing is written.

Safety: display.

Source: torch._functorch.config.backward_pass_autocast ("same_as_forward", "off").
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.roles import Role
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File


def survey(file: File) -> Iterator[Finding]:
    """The first model that is compiled."""
    for frame in file.frames.all:
        for call in frame.calls:
            method = isinstance(call.func, ast.Attribute) and call.func.attr == "compile"
            if file.resolve(call.func) == "torch.compile":
                models = call.args[:1]
            else:
                models = [call.func.value] if method and isinstance(call.func, ast.Attribute) else []
            if any(file.roles.of(model, frame) is Role.MODEL for model in models):
                yield Finding(call)
                return


RULE = Rule(
    "AMP224",
    "compile",
    "display",
    "the compiled model assumes that its backward runs under autocast as its forward does",
    advice='to have it as in eager mode: torch._functorch.config.backward_pass_autocast = "off"',
    words=frozenset({"compile"}),
    survey=survey,
    severity="info",
)
