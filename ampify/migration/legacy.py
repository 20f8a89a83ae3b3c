"""The old spellings: which names of torch.cuda.amp and torch.cpu.amp there are, and what each is in torch.amp."""

from __future__ import annotations

import re
from typing import NamedTuple

PACKAGES = re.compile(r"torch\.(cuda|cpu)\.amp(?:\.(autocast_mode|grad_scaler|common))?(?:\.(.*))?")
MODULES = frozenset({"autocast_mode", "grad_scaler", "common"})
AUTOCAST = ("enabled", "dtype", "cache_enabled")  # the old constructor's arguments, in their order
# What torch.amp, or its module of the same name, has too; with what it needs besides.
MOVED = frozenset({"autocast", "GradScaler", "custom_fwd", "custom_bwd", "OptState"})
DTYPES = {"cuda": "float16", "cpu": "bfloat16"}  # what the old constructor of a region takes without being asked
EXPORTED = {"cuda": frozenset({"autocast", "custom_bwd", "custom_fwd", "GradScaler", "amp_definitely_not_available"})}
EXPORTED["cpu"] = frozenset({"autocast", "GradScaler", "autocast_mode", "grad_scaler"})


class Symbol(NamedTuple):
    """Something of an old package: the device that it is for, its name, or that of a module, or nothing for the package
    itself; and what is asked of it further."""

    device: str
    name: str
    rest: str = ""

    @property
    def is_module(self) -> bool:
        return not self.name or self.name in MODULES


def symbol(name: str) -> Symbol | None:
    """What a qualified name is of the old packages; None for any other."""
    match = PACKAGES.fullmatch(name)
    if match is None:
        return None
    device, module, rest = match.groups()
    if rest is None:
        return Symbol(device, module or "")
    own, _, further = rest.partition(".")
    return Symbol(device, own, further)
