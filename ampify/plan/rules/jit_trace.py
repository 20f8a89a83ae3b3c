"""Tracing under autocast

What it finds: `torch.jit.trace` in code that runs under autocast.

Why it matters: the trace keeps the casts of the moment. With the cache of cast weights it raises "Cannot insert a Tensor that
requires grad as a constant".

Before and after: nothing is written. Regions are planned round a trace, never over it; what is left is one inside a function
that a region calls. A traced model follows autocast.

Safety: display.

Source: torch.autocast (`cache_enabled`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.vocabulary import TRACES
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.site import Site


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """One call of torch.jit.trace."""
    if isinstance(node, ast.Call) and at.resolve(node.func) in TRACES:
        yield Finding(node)


RULE = Rule(
    "AMP227",
    "jit-trace",
    "display",
    "a model is traced under autocast, where tracing fails or keeps the casts",
    advice="trace it outside of the forward pass that trains, or in a function of its own",
    calls=frozenset({"trace", "trace_module"}),
    find=find,
)
