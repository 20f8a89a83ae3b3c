"""Job: the files of one call; those that depend on each other are converted together, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampify import files
from ampify.convert import Options, Result, Surroundings, convert
from ampify.diagnostics import Diagnostic
from ampify.files import FileError, Snapshot
from ampify.local import Local

if TYPE_CHECKING:
    from ampify.plan.edits import Need
    from ampify.vendor import Copy

BUG = "AMP999"
STATES = "AMP196"  # what is needed of files that save and load, which nothing depends on


class Outcome(NamedTuple):
    """What became of one file. `before` is what was read of it: empty if it could not be. `copy` is the runtime put beside it."""

    path: str
    before: bytes
    result: Result
    copy: Copy | None = None


class _Draft(NamedTuple):
    """A file that is converted in memory, and waits for those that it depends on, or that depend on it."""

    snapshot: Snapshot
    outcome: Outcome

    @property
    def result(self) -> Result:
        return self.outcome.result

    def refused(self, code: str, detail: str) -> _Draft:
        from ampify.diagnostics import refusal

        result = self.result._replace(
            status="refused", output=self.outcome.before, edits=(), diagnostics=(refusal(code, 1, 1, detail),), needs=()
        )
        return self._replace(outcome=self.outcome._replace(result=result))


class Job:
    """Converts the files of one call, each once. `given` are their paths as the user gave them, by their real ones."""

    def __init__(self, options: Options, given: dict[str, str], *, write: bool) -> None:
        self.options, self.given, self.write = options, given, write
        self.local = Local(given)
        self.drafts: dict[str, _Draft] = {}  # by real path, as is the next
        self.unable: dict[str, _Draft] = {}  # what could not be rewritten for others
        self.supplied: set[str] = set()  # the directories that have the runtime, or would get it

    def outcomes(self) -> Iterator[Outcome]:
        """What becomes of every file: of those that stand alone as they are done, then of the others."""
        for real, path in self.given.items():
            try:
                draft = self._draft(path, files.read(path))
            except FileError as problem:
                yield failed(path, b"", problem)
                continue
            if self._stands_alone(real, draft):
                yield self._finish(draft)
            else:
                self.drafts[real] = draft
        yield from self._together()

    def _stands_alone(self, real: str, draft: _Draft) -> bool:
        """Whether a file can be written before the others are known. One without a training step may be needed by any of them."""
        result = draft.result
        if result.needs or result.steps or result.parts:
            return False
        before = draft.outcome.before
        if result.status == "unchanged" and len(self.given) > 1 and (b"torch" in before or b"state_dict" in before):
            return False
        return not any(True for _ in self.local.importers(real))

    def _draft(self, path: str, snapshot: Snapshot, need: Need | None = None, trains: bool = False) -> _Draft:
        around = Surroundings(snapshot.target, self.local, need, trains)
        return _Draft(snapshot, convert_bytes(path, snapshot.data, self.options, around))

    # files that depend on each other ----------------------------------------------------------------------

    def _together(self) -> Iterator[Outcome]:
        """Settles which of the drafts can be converted with all that they need, and writes those."""
        for draft in list(self.drafts.values()):
            for real in sorted(draft.result.steps):
                self._train(real)
        alone = dict(self.drafts)
        while True:
            needed = self._needed()
            for real, need in needed.items():
                if real in alone:
                    self.drafts[real] = self._draft(self.given[real], alone[real].snapshot, need)
                    if need.code == STATES and self.drafts[real].result.status != "converted":
                        self.drafts[real] = alone[real]  # nobody depends on it
            dropped = dict(self._dropped(needed))
            if not dropped:
                break
            self.unable.update((r, self.drafts[r]) for r in needed if r in alone and self.drafts[r].result.status != "converted")
            self.drafts.update((r, alone[r]) for r in needed if r in alone)  # to be converted again for those that are left
            self.drafts.update(dropped)
            alone.update(dropped)
        self.drafts.update((r, d) for r, d in self.unable.items() if self.drafts[r].result.status == "unchanged")
        written = sorted(self.drafts.items(), key=lambda item: item[0] not in needed)  # before those that need them
        done = {real: self._finish(self._told(real, draft, needed), real not in needed) for real, draft in written}
        yield from (done[real] for real in self.given if real in done)

    def _train(self, real: str) -> None:
        """Drafts a file in which a training step is said to be, whatever its bytes look like."""
        draft = self.drafts.get(real)
        if draft is not None and draft.result.status == "unchanged":
            self.drafts[real] = self._draft(draft.outcome.path, draft.snapshot, trains=True)

    def _needed(self) -> dict[str, Need]:
        """What each file has to be rewritten with, for all drafts that need it."""
        needed: dict[str, Need] = {}
        for draft in self.drafts.values():
            for need in draft.result.needs:
                real = files.identity(need.path)
                if real == files.identity(draft.snapshot.path):
                    continue
                needed[real] = need if real not in needed else needed[real].joined(need)
        return needed

    def _dropped(self, needed: dict[str, Need]) -> Iterator[tuple[str, _Draft]]:
        """The drafts that cannot have what they need, as refusals."""
        converted = {real for real in needed if real in self.drafts and self.drafts[real].result.status == "converted"}
        for real, draft in self.drafts.items():
            missing = [n for n in draft.result.needs if n.grave and files.identity(n.path) not in converted]
            if draft.result.status == "converted" and missing:
                place = f"{os.path.relpath(missing[0].path)}:{missing[0].line}"
                if missing[0].edits:
                    yield real, draft.refused("AMP926", place)
                else:
                    yield real, draft.refused("AMP925", f"{place}: {missing[0].code} {missing[0].hazard}")
                continue
            if draft.result.status == "converted" and (why := self._disagreement(real, draft)):
                yield real, draft.refused("AMP904", why)

    def _disagreement(self, real: str, draft: _Draft) -> str:
        """Why a part of a training step that is in another file cannot be written as this one needs it; empty if it can."""
        for part in sorted(draft.result.parts):
            for other, its in self.drafts.items():
                settled = its.result.status in ("already", "unchanged")
                if (
                    other != real
                    and not settled
                    and part in its.result.parts
                    and self._asks(its, part) != self._asks(draft, part)
                ):
                    return f"{os.path.relpath(part)} does a part of it, and of another in {os.path.relpath(other)}"
        return ""

    @staticmethod
    def _asks(draft: _Draft | None, path: str) -> tuple[object, ...] | None:
        """The edits that a draft asks for in another file; None if it is not converted."""
        if draft is None or draft.result.status != "converted":
            return None
        return next((n.edits for n in draft.result.needs if n.path == path and n.edits and n.grave), ())

    def _told(self, real: str, draft: _Draft, needed: dict[str, Need]) -> _Draft:
        """A draft with what is to be said of hazards that stay in other files, or of the step that it does a part of."""
        result = draft.result
        if result.steps and real not in needed and result.status in ("unchanged", "already"):
            first = os.path.relpath(min(result.steps))
            if any(s in self.drafts and self.drafts[s].result.status in ("refused", "error") for s in result.steps):
                return draft.refused("AMP904", f"it does a part of the one in {first}, which is not converted")
        left = [n for n in result.needs if not n.grave and self._status(n) != "converted"]
        if result.status != "converted" or not left:
            return draft
        told = (_left(n) for n in left if n.code != STATES or self.options.dtype != "bf16")
        result = result._replace(diagnostics=(*result.diagnostics, *told))
        return draft._replace(outcome=draft.outcome._replace(result=result))

    def _status(self, need: Need) -> str:
        real = files.identity(need.path)
        return self.drafts[real].result.status if real in self.drafts else ""

    # writing --------------------------------------------------------------------------------------------------

    def _finish(self, draft: _Draft, script: bool = True) -> Outcome:
        """Writes what is converted. A vendored runtime lies beside the scripts, from where their modules find it too."""
        snapshot, outcome = draft
        if outcome.result.status != "converted":
            return outcome
        try:
            if self.options.runtime == "vendor" and script:
                outcome = self._with_runtime(outcome, snapshot)
            if self.write:
                files.write(snapshot, outcome.result.output)
        except FileError as problem:
            return failed(outcome.path, snapshot.data, problem)
        return outcome

    def _with_runtime(self, outcome: Outcome, script: Snapshot) -> Outcome:
        """The outcome with what it needs beside the script, once a directory. It is written before the script is: at no moment
        there is a script without its runtime. Raises FileError."""
        from ampify import vendor

        line = next((e.line for e in outcome.result.edits if e.code == "AMP107"), 1)
        notes = [vendor.package_note(script, outcome.result.output, line)]
        directory = os.path.dirname(script.target)
        copy = vendor.beside(script) if directory not in self.supplied else None
        if copy is not None:
            notes.append(copy.diagnostic(line))
            if self.write:
                files.check_writable(script)
                copy.write()
        self.supplied.add(directory)
        diagnostics = (*outcome.result.diagnostics, *(n for n in notes if n is not None))
        return outcome._replace(result=outcome.result._replace(diagnostics=diagnostics), copy=copy)


def convert_bytes(path: str, source: bytes, options: Options, around: Surroundings = Surroundings()) -> Outcome:
    """convert(), with an exception that escapes it turned into a result: it is our bug, and other files are waiting."""
    try:
        return Outcome(path, source, convert(source, options, around))
    except Exception as error:
        diagnostic = Diagnostic(BUG, "error", 1, 1, bug_report(error), "The file is left as it is.")
        return Outcome(path, source, Result("error", source, (), (diagnostic,), bug=True))


def bug_report(error: Exception) -> str:
    """One line about an exception that should not have been, with the place that a maintainer needs."""
    place = ""
    trace = error.__traceback__
    while trace:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"ampify itself failed; please report this: {type(error).__name__}: {error} ({place})"


def failed(path: str, before: bytes, problem: FileError) -> Outcome:
    """The outcome of a file that cannot be read or written."""
    diagnostic = Diagnostic(problem.code, "error", 1, 1, problem.message)
    return Outcome(path, before, Result("error", before, (), (diagnostic,)))


def _left(need: Need) -> Diagnostic:
    """What is said of a hazard that stays in a file that was not given."""
    if need.code == STATES:
        from ampify.diagnostics import note

        return note(STATES, 1, f"{need.hazard} in {os.path.relpath(need.path)}:{need.line}")
    message = f"in a file that was not given, or not converted: {os.path.relpath(need.path)}:{need.line}: {need.hazard}"
    return Diagnostic(need.code, "warning", 1, 1, message, "give that file too, or the directory, to have it rewritten")
