"""Existing mixed precision: how a file uses AMP, or a framework that brings its own, already."""

import ast

from ampify.analysis.names import Names
from ampify.analysis.walk import walk

AMP = (
    "torch.cuda.amp", "torch.cpu.amp", "torch.amp", "torch.autocast", "torch.xpu.amp", "apex", "accelerate", "lightning",
    "pytorch_lightning", "lightning_fabric", "deepspeed", "composer",
)  # fmt: skip


def amp_in_use(tree: ast.Module, names: Names) -> str:
    """The name of the mixed precision a file uses, or an empty string. Names imported and never used do not count."""
    aliases = {local: full for local, full in names.aliases.items() if _is_amp(full)}
    for node in walk(tree):
        if isinstance(node, ast.Name) and node.id in aliases and isinstance(node.ctx, ast.Load):
            return _short(aliases[node.id])
        if isinstance(node, ast.Attribute):
            name = names.resolve(node)
            if name.startswith("torch.") and _is_amp(name):
                return _short(name)
    return ""


def _is_amp(name: str) -> bool:
    return any(name == amp or name.startswith(amp + ".") for amp in AMP)


def _short(name: str) -> str:
    return next(amp for amp in AMP if name == amp or name.startswith(amp + "."))
