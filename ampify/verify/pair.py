"""The two programs that are compared: the original, and what ampify makes of it, without a byte being written beside them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampify import files, project
from ampify.files import FileError, Snapshot
from ampify.local import Local, readable
from ampify.report.streams import printable

if TYPE_CHECKING:
    from ampify.analysis.names import Names
    from ampify.convert import Options
    from ampify.job import Outcome
    from ampify.settings import Settings

FILES = 200  # that a script is made of, at most: as many as a conversion looks into
GRAD = "torch.autograd.grad("


class Program(NamedTuple):
    """A script as it is run: its path, and what is read in the place of files, by their real paths."""

    script: str
    sources: dict[str, bytes]


class Pair(NamedTuple):
    """Two programs that are to train the same, and lines on how they came to be."""

    original: Program
    converted: Program
    told: tuple[str, ...]


class NoPairError(Exception):
    """There is nothing to compare: lines that say why."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def against(script: str, converted: str) -> Pair:
    """Two scripts that are there both. Raises NoPairError if one is not."""
    _read(script)
    told = [f"{printable(script)} against {printable(converted)}"]
    parts = [_read(converted).data, *(files.read_optional(path) or b"" for path in _imported(files.identity(converted)))]
    if not any(map(_has_runtime, parts)):
        told.append(f"{printable(converted)} does not import ampify_runtime: no mode changes what it does")
    return Pair(Program(script, {}), Program(converted, {}), tuple(told))


def of(script: str, options: Options | Settings) -> Pair:
    """A script, with the local files that it imports, and its conversion; of one that ampify has converted already, with its
    original. Raises NoPairError."""
    local = [script, *_imported(_read(script).target)]
    outcomes = list(project.run(local, options, write=False, keep=True, jobs=1))
    _refuse(outcomes[0])
    erased = {o.path: source for o in outcomes if o.result.status == "already" and (source := _erased(o.path))}
    written = {o.path: o.result.output for o in outcomes if o.result.status == "converted"}
    if not erased and not any(map(_has_runtime, written.values())):  # its own mixed precision was mended, say
        raise NoPairError(*_why_nothing(script, outcomes))
    counts = {o.path: len(o.result.edits) for o in outcomes if o.path in written}
    told = [f"{printable(path)}: {count} edit{'s' * (count != 1)}" for path, count in counts.items()]
    told += [f"{printable(path)}: converted already; its original is without what ampify wrote" for path in erased]
    told += [
        f"{printable(o.path)}: refused, and left as it is: {o.result.diagnostics[0].message}"
        for o in outcomes[1:]
        if o.result.status == "refused"
    ]
    return Pair(_program(script, erased), _program(script, written), tuple(told))


def _read(path: str) -> Snapshot:
    try:
        return files.read(path)
    except FileError as problem:
        raise NoPairError(f"{printable(path)}: {problem.code} {problem.message}") from problem


def _program(script: str, sources: dict[str, bytes]) -> Program:
    return Program(script, {files.identity(path): source for path, source in sources.items()})


def _imported(path: str) -> Iterator[str]:
    """The local files that a script imports, and those that these import."""
    local, met, queue = Local(), {path}, [path]
    while queue and len(met) < FILES:
        for imported in local.outline(queue.pop(0)).imports:
            if imported not in met:
                met.add(imported)
                queue.append(imported)
                yield os.path.relpath(imported)


def _refuse(outcome: Outcome) -> None:
    from ampify.report import text

    if outcome.result.status in ("refused", "error"):
        raise NoPairError(*text.lines(outcome, done=False, verbose=False, quiet=False))


def _why_nothing(script: str, outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Why neither the script nor a file that it imports is converted."""
    from ampify.report import text

    outcomes = list(outcomes)
    name = printable(script)
    refused = [o for o in outcomes if o.result.status in ("refused", "error")]
    for outcome in refused:
        yield from text.lines(outcome, done=False, verbose=False, quiet=False)
    if refused:
        return
    if any(o.result.status in ("already", "converted") for o in outcomes):
        yield f"{name}: it has mixed precision of its own, so there is no float32 script to compare with"
        yield "  give both: ampify verify fp32.py --against mixed.py"
    else:
        yield f"{name}: there is no training step in it, nor in the local files that it imports, so nothing is converted"


def _has_runtime(source: bytes) -> bool:
    tree = readable(source)
    return tree is not None and bool(_names(tree).runtime)


def _erased(path: str) -> bytes | None:
    """The original of a file that ampify has converted, by its runtime; None of any other."""
    from ampify.erasure import erase

    tree = readable(files.read_optional(path))
    if tree is None or not (names := _names(tree)).runtime:
        return None
    erased = ast.unparse(ast.fix_missing_locations(erase(tree, names)))
    if GRAD in erased and "torch" not in names.imported:  # how the eraser spells it, whatever its name was
        erased = erased.replace(GRAD, f"__import__('torch').{GRAD.partition('.')[2]}")
    return erased.encode("utf-8", "surrogatepass") + b"\n"


def _names(tree: ast.Module) -> Names:
    from ampify.analysis.names import Names  # only here: start-up is measured

    return Names(tree)
