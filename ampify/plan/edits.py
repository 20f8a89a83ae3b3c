"""Edits: what a plan asks the renderer to do, each anchored to a statement by its index in source order."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from ampify.program import Note, Refusal


class Wrap(NamedTuple):
    """`with autocast():` or its like round the statements from `first` to `last` of one block."""

    first: int
    last: int
    code: str


class Insert(NamedTuple):
    """A statement of its own before or after statement `at`. `{scaler}` in `text` is the scaler's local name."""

    at: int
    after: bool
    text: str
    code: str


class Rewrite(NamedTuple):
    """The `call`-th call of method `method` in statement `at` goes through the scaler."""

    at: int
    method: str  # the name it is called by: backward, step, grad, state_dict
    call: int
    form: str  # scale (the receiver), scale_tensors (the first argument), step, step_scheduler, grad,
    # beside (the scaler's state, under `key`)
    code: str
    key: str = ""


Edit = Wrap | Insert | Rewrite


class Import(NamedTuple):
    """What to import from the runtime, as pairs (name, local name), after statement `after` (-1: at the top)."""

    names: tuple[tuple[str, str], ...]
    after: int
    setup: tuple[str, ...] = ()  # statements behind it; `{scaler}` and the like are local names, as in Insert; "": a blank line
    relative: bool = False  # of the vendored runtime in the script's own package: `from .ampify_runtime import ...`


class Plan(NamedTuple):
    """The edits of a file, or the refusals that stand against them; never both."""

    edits: tuple[Edit, ...] = ()
    imports: Import | None = None
    names: Mapping[str, str] = MappingProxyType({})  # local names of the runtime's: {"autocast": ..., "scaler": ...}
    region: str = "{autocast}()"  # the context of a region
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[Note, ...] = ()
