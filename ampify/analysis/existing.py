"""Existing mixed precision: how a file uses AMP, or a framework that brings its own, already."""

import ast

from ampify.analysis.names import Names

FRAMEWORKS = (
    "accelerate",
    "lightning",
    "pytorch_lightning",
    "lightning_fabric",
    "deepspeed",
    "composer",
)  # with one of their own
FLOAT32 = ("parallel", "optimizers")  # of apex, what float32 training has of it as well
AMP = ("torch.cuda.amp", "torch.cpu.amp", "torch.amp", "torch.autocast", "torch.xpu.amp", "apex", *FRAMEWORKS)


def amp_in_use(names: Names) -> str:
    """The name of the mixed precision a file uses, or an empty string. Names imported and never used do not count."""
    aliases = {local: full for local, full in names.aliases.items() if _is_amp(full) and not _is_float32(names, local, full)}
    for local in aliases:
        if local in names.loaded:
            return _short(aliases[local])
    for module in names.stars:
        if _is_amp(module) and module.startswith("torch."):
            return _short(module)
    for node in names.nodes.of(ast.Attribute) if not names.attributes.isdisjoint(("amp", "autocast")) else ():
        name = names.resolve(node)
        if name.startswith("torch.") and _is_amp(name):
            return _short(name)
    return ""


def framework(names: Names) -> str:
    """The framework that brings mixed precision of its own and that a file imports, or an empty string."""
    bases = {target.partition(".")[0] for target in names.aliases.values()}
    return next((name for name in FRAMEWORKS if name in bases), "")


def _is_float32(names: Names, local: str, full: str) -> bool:
    """Whether all that a file has of apex by a name has no part in mixed precision: distributed training, optimizers."""
    base, _, rest = full.partition(".")
    if base != "apex" or rest:
        return base == "apex" and rest.partition(".")[0] in FLOAT32
    uses = [n for n in names.nodes.of(ast.Name) if n.id == local and isinstance(n.ctx, ast.Load)]
    parts = [n for n in names.nodes.of(ast.Attribute) if isinstance(n.value, ast.Name) and n.value.id == local]
    return len(uses) == len(parts) and all(part.attr in FLOAT32 for part in parts)


def _is_amp(name: str) -> bool:
    return any(name == amp or name.startswith(amp + ".") for amp in AMP)


def _short(name: str) -> str:
    return next(amp for amp in AMP if name == amp or name.startswith(amp + "."))
