"""Devices: device types with an index, custom_fwd without one (AMP325, AMP326)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ampify.doctor.base import Finding
from ampify.doctor.case import Case

TYPED = frozenset(
    {"torch.autocast", "torch.amp.autocast", "torch.amp.autocast_mode.autocast", "torch.amp.GradScaler", "torch.GradScaler"}
)
CUSTOM = frozenset({"torch.amp.custom_fwd", "torch.amp.custom_bwd"})


def find(case: Case) -> Iterator[Finding]:
    """The findings of arguments that are wrong by themselves."""
    for call in case.names.nodes.of(ast.Call):
        if case.names.resolve(call.func) in TYPED:
            given = [*call.args[:1], *(k.value for k in call.keywords if k.arg in ("device_type", "device"))]
            for node in given:
                if _has_index(node):
                    yield Finding("AMP325", node.lineno, node.col_offset, f"`{ast.unparse(node)}`")
    for frame in case.file.frames.all:
        if isinstance(frame.node, ast.Module):
            continue
        for decorator in frame.node.decorator_list:
            bare = not isinstance(decorator, ast.Call)
            name = case.names.resolve(decorator if bare else decorator.func)  # type: ignore[attr-defined]
            words = [] if not isinstance(decorator, ast.Call) else [k.arg for k in decorator.keywords]
            if name in CUSTOM and "device_type" not in words and None not in words:
                yield Finding("AMP326", decorator.lineno, decorator.col_offset, f"`{name.rpartition('.')[2]}`")


def _has_index(node: ast.expr) -> bool:
    """Whether a device type is written out with an index: `"cuda:0"`, or `f"cuda:{rank}"`."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
        return isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+:", str(node.value)) is not None
    return isinstance(node, ast.Constant) and re.fullmatch(r"[a-z]+:\d+", str(node.value)) is not None
