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
    """A statement of its own before or after statement `at`. `{scaler}` in `text` is the scaler's local name; with `key`, its
    state is saved or loaded by that."""

    at: int
    after: bool
    text: str
    code: str
    key: str = ""


class Rewrite(NamedTuple):
    """The `call`-th call of method `method` in statement `at` goes through the scaler."""

    at: int
    method: str  # the name it is called by: backward, step, grad, state_dict
    call: int
    form: str  # scale (the receiver), scale_tensors (the first argument), step, step_scheduler, grad,
    # beside (the scaler's state, under `key`)
    code: str
    key: str = ""


class Disable(NamedTuple):
    """`with autocast(enabled=False):` round the simple statement `at`."""

    at: int
    code: str


class Splice(NamedTuple):
    """Text before and after a stretch of statement `at`; `{torch}` and the like are local names, as in Insert.

    `start` and `end` are (line, column) as in a syntax tree: lines from 1, columns in bytes of UTF-8.
    """

    at: int
    start: tuple[int, int]
    end: tuple[int, int]
    before: str
    after: str
    code: str


class Replace(NamedTuple):
    """Text in place of a stretch of the source, which may be empty; `start` and `end` are as in Splice. Only migrations, which
    are of spellings, replace what is there."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


Edit = Wrap | Insert | Rewrite | Disable | Splice


def anchor(edit: Edit) -> int:
    """The statement that an edit is at."""
    return edit.first if isinstance(edit, Wrap) else edit.at


def moved(edit: Edit, by: int) -> Edit:
    """The same edit in a file whose statements are counted from elsewhere."""
    if isinstance(edit, Wrap):
        return edit._replace(first=edit.first + by, last=edit.last + by)
    return edit._replace(at=edit.at + by)


class Need(NamedTuple):
    """What makes a script need another file rewritten with it: a hazard, or a part of its training step, which asks for `edits`.

    `entries` are the names that regions of other files call in it, `asked` the codes of the rules that other files' code
    makes look there.
    """

    path: str
    line: int
    code: str
    hazard: str
    grave: bool = True  # it cannot stay
    entries: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    edits: "tuple[Edit, ...]" = ()

    def joined(self, other: "Need") -> "Need":
        """What two files need of the same one."""
        return self._replace(
            code=other.code if other.grave and not self.grave else self.code,
            grave=self.grave or other.grave,
            entries=self.entries | other.entries,
            asked=self.asked | other.asked,
            edits=tuple(dict.fromkeys((*self.edits, *other.edits))),
        )


class Hazards(NamedTuple):
    """What the rules want done about numeric hazards: edits, reasons against converting the file, notes, and what other files
    need."""

    edits: list[Edit]
    refusals: list[Refusal]
    notes: list[Note]
    needs: list[Need]


class Import(NamedTuple):
    """What to import from the runtime, as pairs (name, local name), after statement `after` (-1: at the top)."""

    names: tuple[tuple[str, str], ...]
    after: int
    setup: tuple[str, ...] = ()  # statements behind it; `{scaler}` and the like are local names, as in Insert; "": a blank line
    relative: bool = False  # of the vendored runtime in the script's own package: `from .ampify_runtime import ...`


class Plan(NamedTuple):
    """The edits of a file, or the refusals that stand against them; never both. `imports` is None if it needs none."""

    edits: tuple[Edit, ...] = ()
    imports: Import | None = None
    names: Mapping[str, str] = MappingProxyType({})  # local names of the runtime's: {"autocast": ..., "scaler": ...}
    region: str = "{autocast}()"  # the context of a region
    disabled: str = "{autocast}(enabled=False)"  # and of what is kept out of one
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[Note, ...] = ()
    needs: tuple[Need, ...] = ()
