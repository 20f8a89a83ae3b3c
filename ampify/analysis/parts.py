"""Parts: whether all calls are in sight of a function that does a part of a training step for others."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles
from ampify.analysis.walk import children
from ampify.program import Refusal

# Methods that much else has too: a call of one on something unknown says nothing.
COMMON = frozenset({"backward", "forward", "step", "train", "update", "zero_grad"})


def find(tree: ast.Module, parts: list[Frame], roles: Roles) -> Iterator[Refusal]:
    """What may run one of the `parts` where nobody sees it: the scaler would be in one half of a training step only."""
    functions = {f.name for f in parts if f.owner is None}
    methods = {f.name for f in parts if f.owner is not None} - COMMON
    if not parts:
        return
    called = {id(call.func): (call, frame) for frame in roles.frames.all for call in frame.calls}
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        stack.extend(children(node))
        call, frame = called.get(id(node), (None, None))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in functions and call is None:
            yield _refusal(node, f"`{node.id}`, which does a part of it, is handed on")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in methods:
            if call is None or frame is None:
                yield _refusal(node, f"`{dotted(node) or node.attr}`, which does a part of it, is handed on")
            elif not roles.targets(call, frame):
                yield _refusal(node, f"nothing shows what `{ast.unparse(node)[:40]}` is a method of")


def _refusal(node: ast.expr, detail: str) -> Refusal:
    return Refusal("AMP904", node.lineno, node.col_offset, detail)
