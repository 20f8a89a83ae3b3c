"""convert(bytes, options) -> Result: the one path from a script to its mixed-precision version."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from ampify.clock import Clock, Timings
from ampify.diagnostics import Diagnostic
from ampify.source import LARGEST, SourceError, is_candidate, is_deep, not_rewritable, parse

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable, Iterator, Mapping

    from ampify.analysis.analyse import Reading
    from ampify.analysis.library import Finder, Seen
    from ampify.imports import Outline
    from ampify.plan.edits import Edit, Hazards, Need, Plan
    from ampify.plan.rules.search import Search
    from ampify.program import Elsewhere, Note, Refusal

SCALED = re.compile(rb"\*\s*\w+\s*\)\s*\.\s*backward\b")  # a product that goes backward

Status = Literal["converted", "already", "unchanged", "refused", "error"]


class Options(NamedTuple):
    """What the caller may choose.

    `dtype` pins the precision in the source. `runtime` says what the output builds on: `import`, the installed
    ampify_runtime; `vendor`, a copy of it beside the script, which the caller has to put there;
    `torch`, nothing but torch.amp. The rules (AMP2xx) in `skip` neither rewrite nor report nor refuse; with `unsafe` those
    that change values are applied too. With `timings` the result says what the stages took.
    """

    dtype: Literal["fp16", "bf16"] | None = None
    runtime: Literal["import", "vendor", "torch"] = "import"
    skip: frozenset[str] = frozenset()
    unsafe: bool = False
    timings: bool = False

    def of(self, path: str) -> Options:
        """The options of a file: for each the same. ampify.settings has others for some."""
        return self

    def vendors(self) -> bool:
        """Whether a file may get the runtime beside it."""
        return self.runtime == "vendor"


class AppliedEdit(NamedTuple):
    """One edit as a reviewer reads it; lines are 1-based and of the original, an insertion is at the line it precedes."""

    code: str
    line: int
    end_line: int
    message: str


class Result(NamedTuple):
    """The outcome for one file. `output` is the input unless `status` is `converted`; `bug` marks a failure of ampify itself.

    `needs` are the files that have to be rewritten with it, `parts` those with a part of its training steps, and `steps` those
    with training steps that a part of is here. `timings` has the stages with their seconds, if they were asked for."""

    status: Status
    output: bytes
    edits: tuple[AppliedEdit, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    bug: bool = False
    needs: tuple[Need, ...] = ()
    parts: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()
    timings: Timings = ()


class Surroundings(NamedTuple):
    """Where a file stands among others: its path, as `finder` knows it, and what finds the files that it imports, or that import
    it. With `need` the file is one that a converted script imports, and is rewritten for it; with `trains` a training step is
    known to be here, a part of which is elsewhere."""

    path: str = ""
    finder: Finder | None = None
    need: Need | None = None
    trains: bool = False


def convert(source: bytes, options: Options = Options(), around: Surroundings = Surroundings()) -> Result:
    """Convert one file's bytes. Does no I/O of its own and never raises on bad input: what is wrong is in the result."""
    clock = Clock()
    result = _guarded(source, options, around, clock)
    return result._replace(timings=clock.timings()) if options.timings else result


def _guarded(source: bytes, options: Options, around: Surroundings, clock: Clock) -> Result:
    try:
        wanted = around.need is not None or around.trains or is_candidate(source)
        if len(source) > LARGEST:
            return _refused(source, "AMP927", 1, 1, f"{len(source):,} bytes") if wanted else Result("unchanged", source)
        tree = parse(source)
        clock.lap("read")
        if not wanted:
            return Result("unchanged", source)
        return _convert(source, tree, options, around, clock)
    except SourceError as error:
        return Result("error", source, diagnostics=(error.diagnostic,))
    except RecursionError:
        return _refused(source, "AMP922", 1, 1, "")
    except Exception as error:  # the file is safe: nothing has been written
        return _bug(source, f"{type(error).__name__}: {error}")


def _convert(source: bytes, tree: ast.Module, options: Options, around: Surroundings, clock: Clock) -> Result:
    # Imported here: a file without a training step pays for none of it.
    from ampify.analysis.library import Library
    from ampify.analysis.together import elsewhere
    from ampify.plan.checkpoints import keys
    from ampify.plan.planner import make_module_plan, make_plan
    from ampify.plan.rules.search import Search, find

    library, need = Library(around.finder), around.need
    file = library.add(tree, around.path)
    reading = file.reading
    if reading.program.skips is not None:
        from ampify.plan.skips import settled  # few files: start-up is measured

        reading = reading._replace(program=settled(reading.program))
    program = reading.program
    clock.lap("analysis")
    if program.amp and (around.need is None or around.need.edits):
        done = _renewed(source, tree, options, around, clock) if around.need is None else None
        return done or Result("already", source)
    if need is None and not around.trains and SCALED.search(source):
        if done := _renewed(source, tree, options, around, clock, by_hand=True):
            return done
    search = Search(options.skip, options.unsafe)
    if need is not None:
        search = search._replace(entries=need.entries, asked=need.asked)

    def rules(edits: list[Edit]) -> Hazards:  # called only if there is something to convert
        nonlocal search
        clock.lap("plan")
        others = (library.around if need is None else library.imported_by)(file)
        search = search._replace(modules=tuple((f.path, f.reading) for f in others if f.speaks_of_torch))
        found = find(reading, edits, search)
        if options.runtime == "torch":
            found.refusals.extend(_beyond_torch(search))
        clock.lap("rules")
        return found

    def others() -> Elsewhere:
        found = elsewhere(file)
        if options.runtime != "vendor":
            return found
        # The runtime lies beside the script: from there on files find it, and only by its plain name it is one for all.
        apart = {p for p in found.starts if program.relative or not p.startswith(os.path.dirname(around.path) + os.sep)}
        return found._replace(fixed=found.fixed | apart)

    given = need.edits if need is not None else ()
    runtime = "import" if need is not None and options.runtime == "vendor" else options.runtime  # it lies beside the script
    states = tuple(e for e in given if keys([e]))
    if need is not None and given == states and (program.stepless or not program.trains()):
        plan = make_module_plan(program, options.runtime, rules, states)
    else:
        plan = make_plan(program, options.dtype if need is None else None, runtime, rules, given, others)
        if need is not None and not plan.edits and not plan.refusals:
            plan = make_module_plan(program, options.runtime, rules)
    clock.lap("plan")
    if plan.refusals:
        result = Result("refused", source, diagnostics=tuple(_diagnostic(r) for r in plan.refusals))
    elif not plan.edits and not any(n.grave for n in plan.needs):
        told = tuple(_note(n) for n in plan.notes)
        result = Result("already" if program.runtime else "unchanged", source, diagnostics=told, needs=plan.needs)
    elif obstacle := not_rewritable(source):
        result = _refused(source, "AMP920", 1, 1, obstacle)
    else:
        result = _render(source, reading, plan, search, around, options, clock)
    if program.skips is not None:
        from ampify.plan import skips

        result = result._replace(diagnostics=skips.told(result.status, result.diagnostics, reading, search, need is not None))
    return result._replace(parts=program.parts_elsewhere(), steps=program.steps_elsewhere())


def _renewed(
    source: bytes, tree: ast.Module, options: Options, around: Surroundings, clock: Clock, by_hand: bool = False
) -> Result | None:
    """A file with mixed precision in it, or that scales its loss `by_hand`, as torch.amp has it now and mended, or converted."""
    from ampify.already import renewed
    from ampify.migration.results import without_scaling
    from ampify.proof import ProofError

    def again(left: bytes) -> Result:
        return _guarded(left, options, around, clock)

    try:
        done = (without_scaling if by_hand else renewed)(source, tree, options, around, again)
        if done is None or "pragmas" not in vars(tree):
            return done
        from ampify.pragmas import said

        return done._replace(diagnostics=said(tree, done.diagnostics, None if by_hand or done.status == "refused" else ()))
    except ProofError as error:
        return _bug(source, str(error))


def _beyond_torch(search: Search) -> Iterator[Refusal]:
    """What plain torch.amp cannot do, of what the files use that a script imports."""
    from ampify.program import Refusal

    for path, reading in search.modules:
        for line, name in reading.program.unscaled:
            detail = f"`{name}`, whose backward the loss scale has to be taken off, in {os.path.relpath(path)}:{line}"
            yield Refusal("AMP923", 1, 0, detail)


def _render(
    source: bytes, reading: Reading, plan: Plan, search: Search, around: Surroundings, options: Options, clock: Clock
) -> Result:
    from ampify.lines import joined_lines, keeps_lines
    from ampify.proof import ProofError, prove
    from ampify.render.emit import UnreadableError, emit

    if is_deep(reading.tree):
        return _refused(source, "AMP922", 1, 1, "")
    edits = applied(reading.numbers, plan)
    try:
        output = emit(source, plan)
        if not keeps_lines(source, output, edits, joined_lines(source, reading.numbers, plan)):
            return _refused(source, "AMP920", 1, 1, "libcst does not reproduce it")
        clock.lap("render")
        for need in (n for n in plan.needs if n.edits and n.grave):
            assert around.finder is not None  # from where the other file is known
            other = _converted_for(need, around.finder, around.path, options)
            if other.status != "converted":
                reasons = "; ".join(f"{d.code} {d.message}" for d in other.diagnostics)
                return _refused(source, "AMP926", 1, 1, f"{os.path.relpath(need.path)}:{need.line}, refused itself: {reasons}")
            around = around._replace(finder=_Instead(around.finder, need.path, parse(other.output), around.path))
            clock.lap("others")
        prove(source, output, search, around.path, around.finder)
        clock.lap("proof")
    except UnreadableError as error:
        return _refused(source, "AMP920", error.line, error.column, "libcst does not read it")
    except ProofError as error:
        return _bug(source, str(error))
    return Result("converted", output, edits, tuple(_note(n) for n in plan.notes), needs=plan.needs)


class _Instead:
    """Finds what another finder does, but has a tree of its own for one file; and knows that a script imports it."""

    def __init__(self, finder: Finder, path: str, tree: ast.Module | None, script: str) -> None:
        from ampify.analysis.library import Seen

        self._finder, self._path, self._script = finder, path, script
        self._own = Seen(tree) if tree is not None else None

    def imported(self, path: str, level: int, name: str) -> str | None:
        return self._finder.imported(path, level, name)

    def importers(self, path: str) -> Iterable[str]:
        return dict.fromkeys((*self._finder.importers(path), *((self._script,) if path == self._path else ())))

    def seen(self, path: str) -> Seen | None:
        return self._own if path == self._path and self._own is not None else self._finder.seen(path)

    def outline(self, path: str) -> Outline:
        return self._finder.outline(path)

    def source(self, path: str) -> bytes | None:
        return self._finder.source(path)


def _converted_for(need: Need, finder: Finder, script: str, options: Options) -> Result:
    """Another file, converted with what a script needs there."""
    source = finder.source(need.path) or b""
    return convert(source, options, Surroundings(need.path, _Instead(finder, need.path, None, script), need))


def applied(
    numbers: dict[ast.stmt, tuple[int, int]], plan: Plan, texts: Mapping[str, str] = MappingProxyType({})
) -> tuple[AppliedEdit, ...]:
    """The plan's edits as a reviewer reads them, in the order of their lines; `texts` has what those do that are of no table."""
    from ampify.diagnostics import EDITS
    from ampify.plan.edits import Insert, Splice, Wrap
    from ampify.plan.rules import MESSAGES

    at = {index: (stmt.lineno, stmt.end_lineno or stmt.lineno) for stmt, (index, _) in numbers.items()}
    found = []
    for edit in plan.edits:
        if isinstance(edit, Wrap):
            first, last = at[edit.first][0], at[edit.last][1]
        elif isinstance(edit, Insert):
            first = last = at[edit.at][1] + 1 if edit.after else at[edit.at][0]
        elif isinstance(edit, Splice):
            first, last = edit.start[0], edit.end[0]
        else:
            first, last = at[edit.at]
        found.append(AppliedEdit(edit.code, first, last, texts.get(edit.code) or EDITS.get(edit.code) or MESSAGES[edit.code]))
    if plan.imports is not None and (plan.imports.names or "enabled" in plan.names):
        code = "AMP109" if "enabled" in plan.names else "AMP107"
        line = at[plan.imports.after][1] + 1 if plan.imports.after >= 0 else 1
        found.append(AppliedEdit(code, line, line, EDITS[code]))
    return tuple(sorted(set(found), key=lambda e: (e.line, e.code)))


def _diagnostic(refusal: Refusal) -> Diagnostic:
    from ampify.diagnostics import refusal as described

    return described(refusal.code, refusal.line, refusal.column + 1, refusal.detail)


def _note(note: Note) -> Diagnostic:
    from ampify.diagnostics import NOTES, PRAGMAS, pragma
    from ampify.diagnostics import note as told
    from ampify.plan.rules.search import described

    if note.code in PRAGMAS:
        return pragma(note.code, note.line, note.column + 1, note.detail)
    return told(note.code, note.line, note.detail, note.column + 1) if note.code in NOTES else described(note)


def _refused(source: bytes, code: str, line: int, column: int, detail: str) -> Result:
    from ampify.diagnostics import refusal

    return Result("refused", source, diagnostics=(refusal(code, line, column, detail),))


def _bug(source: bytes, message: str) -> Result:
    remedy = "the file is untouched; please report this, with the file if you can"
    return Result(
        "error",
        source,
        diagnostics=(Diagnostic("AMP999", "error", 1, 1, f"ampify failed: {message}", remedy),),
        bug=True,
    )
