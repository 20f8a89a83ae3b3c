"""Job: the files of one component, converted together: those that depend on each other all, or not at all."""

from __future__ import annotations

import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampify import files
from ampify.convert import Options, Result, Surroundings, convert
from ampify.diagnostics import Diagnostic
from ampify.files import FileError
from ampify.source import NOTEBOOK

if TYPE_CHECKING:
    from ampify.analysis.library import Finder
    from ampify.plan.edits import Need
    from ampify.settings import Settings
    from ampify.vendor import Copy

BUG = "AMP999"
LEFT = "AMP197"  # what pragmas leave alone
STATES = "AMP196"  # what is needed of files that save and load, which nothing depends on


class Outcome(NamedTuple):
    """What became of one file. `before` and the result's output are kept of converted files only, and only where a diff is
    wanted. `copy` is the runtime put beside it."""

    path: str
    before: bytes
    result: Result
    copy: Copy | None = None


class Request(NamedTuple):
    """A file that is to be converted in memory; `path` is its real one, `shown` the user's. `need` and `trains` are those of
    ampify.convert.Surroundings."""

    path: str
    shown: str
    need: Need | None = None
    trains: bool = False


class Draft(NamedTuple):
    """A file that is converted in memory, and waits for those that it depends on, or that depend on it. The output is there only
    if it was converted, and of the bytes that it was converted from a digest."""

    path: str
    shown: str
    result: Result
    digest: str = ""

    def refused(self, code: str, detail: str) -> Draft:
        """The same file as one that is refused."""
        from ampify.diagnostics import refusal

        told = (refusal(code, 1, 1, detail),)
        return self._replace(result=self.result._replace(status="refused", output=b"", edits=(), diagnostics=told, needs=()))

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it needs of other files."""
        return tuple(need for need in self.result.needs if need.path != self.path)


def draft(request: Request, options: Options | Settings, finder: Finder | None) -> Draft:
    """Converts a file in memory."""
    try:
        snapshot = files.read(request.shown)
    except FileError as problem:
        return Draft(request.path, request.shown, failed(request.shown, problem).result)
    around = Surroundings(snapshot.target, finder, request.need, request.trains)
    result = convert_bytes(request.shown, snapshot.data, options.of(request.path), around).result
    if result.status != "converted":
        return Draft(request.path, request.shown, result._replace(output=b""))
    return Draft(request.path, request.shown, result, digest(snapshot.data))


Drafts = Generator[list[Request], list[Draft], None]


class Job:
    """Settles which files of a component can be converted with all that they need.

    `given` has their paths as the user gave them, by their real ones; `known` what is known of some without a draft.
    """

    def __init__(self, given: dict[str, str], options: Options | Settings, known: Iterable[Draft] = ()) -> None:
        self._given, self._options = dict(sorted(given.items())), options
        self.drafts: dict[str, Draft] = {known.path: known for known in known}  # by real path, as are the next
        self.needed: dict[str, Need] = {}  # what files have to be rewritten with for others
        self._rewritten: dict[str, tuple[Need, Draft]] = {}  # what they are with that
        self._unable: dict[str, Draft] = {}  # what could not be rewritten for others

    def settle(self) -> Drafts:
        """Yields which drafts it has to have next, and is sent those; in the end `drafts` are what is to be written."""
        yield from self._draft(self._request(path) for path in self._given if path not in self.drafts)
        self.drafts = {path: self.drafts[path] for path in self._given}
        yield from self._train()
        alone = dict(self.drafts)
        while True:
            self.needed = self._join_needs()
            yield from self._rewrite(alone)
            dropped = dict(self._dropped())
            if not dropped:
                break
            for path in (p for p in self.needed if p in alone):
                if self.drafts[path].result.status != "converted":
                    self._unable[path] = self.drafts[path]
                self.drafts[path] = alone[path]  # to be converted again for those that are left
            self.drafts.update(dropped)
            alone.update(dropped)
        self.drafts.update((p, d) for p, d in self._unable.items() if self.drafts[p].result.status == "unchanged")
        for path, draft in list(self.drafts.items()):
            self.drafts[path] = self._told(draft)

    def _request(self, path: str, need: Need | None = None, trains: bool = False) -> Request:
        return Request(path, self._given[path], need, trains)

    def _draft(self, requests: Iterable[Request]) -> Drafts:
        if wanted := list(requests):
            drafts = yield wanted
            self.drafts.update((draft.path, draft) for draft in drafts)

    def _train(self) -> Drafts:
        """Drafts the files in which a training step is said to be, whatever their bytes look like."""
        tried: set[str] = set()
        while True:
            said = {path for draft in self.drafts.values() for path in draft.result.steps} - tried
            tried |= said
            anew = [p for p in sorted(said) if p in self.drafts and self.drafts[p].result.status == "unchanged"]
            if not anew:
                return
            yield from self._draft(self._request(path, trains=True) for path in anew)

    def _rewrite(self, alone: dict[str, Draft]) -> Drafts:
        """Drafts what files have to be for others, unless it was done before."""
        wanted = {path: need for path, need in self.needed.items() if path in self.drafts}
        anew = [path for path, need in wanted.items() if path not in self._rewritten or self._rewritten[path][0] != need]
        yield from self._draft(self._request(path, wanted[path]) for path in anew)
        self._rewritten.update((path, (wanted[path], self.drafts[path])) for path in anew)
        for path, need in wanted.items():
            self.drafts[path] = self._rewritten[path][1]
            if need.code == STATES and self.drafts[path].result.status != "converted":
                self.drafts[path] = alone[path]  # nobody depends on it

    def _join_needs(self) -> dict[str, Need]:
        """What each file has to be rewritten with, for all drafts that need it."""
        needed: dict[str, Need] = {}
        for draft in self.drafts.values():
            for need in draft.needs:
                needed[need.path] = need if need.path not in needed else needed[need.path].joined(need)
        return needed

    def _dropped(self) -> Iterator[tuple[str, Draft]]:
        """The drafts that cannot have what they need, as refusals."""
        sharing: dict[str, list[Draft]] = {}  # by a part of a training step
        for draft in self.drafts.values():
            for part in draft.result.parts if draft.result.status not in ("already", "unchanged") or _is_left(draft) else ():
                sharing.setdefault(part, []).append(draft)
        apart = {part: drafts for part, drafts in sharing.items() if len({_asks(d, part) for d in drafts}) > 1}
        for path, draft in self.drafts.items():
            if draft.result.status != "converted":
                continue
            missing = [need for need in draft.result.needs if need.grave and not self._is_rewritten(need)]
            if missing:
                place = f"{os.path.relpath(missing[0].path)}:{missing[0].line}"
                if missing[0].edits:
                    yield path, draft.refused("AMP926", place)
                else:
                    yield path, draft.refused("AMP925", f"{place}: {missing[0].code} {missing[0].hazard}")
            elif why := self._disagreement(draft, apart):
                yield path, draft.refused("AMP904", why)

    def _is_rewritten(self, need: Need) -> bool:
        return need.path in self.needed and need.path in self.drafts and self.drafts[need.path].result.status == "converted"

    @staticmethod
    def _disagreement(draft: Draft, apart: dict[str, list[Draft]]) -> str:
        """Why a part of a training step that is in another file cannot be written as this one needs it; empty if it can."""
        for part in sorted(draft.result.parts.intersection(apart)):
            own = _asks(draft, part)
            other = next(o for o in apart[part] if _asks(o, part) != own)
            return f"{os.path.relpath(part)} does a part of it, and of another in {os.path.relpath(other.path)}"
        return ""

    def _told(self, draft: Draft) -> Draft:
        """A draft with what is to be said of hazards that stay in other files, or of the step that it does a part of."""
        result = draft.result
        if result.steps and draft.path not in self.needed and result.status in ("unchanged", "already"):
            first = os.path.relpath(min(result.steps))
            if any(s in self.drafts and self.drafts[s].result.status in ("refused", "error") for s in result.steps):
                return draft.refused("AMP904", f"it does a part of the one in {first}, which is not converted")
        if result.status != "converted":
            return draft
        left = [n for n in result.needs if not n.grave and self._status(n.path) != "converted"]
        told = (_left(n) for n in left if n.code != STATES or self._options.of(draft.path).dtype != "bf16")
        return draft._replace(result=result._replace(diagnostics=(*result.diagnostics, *told)))

    def _status(self, path: str) -> str:
        return self.drafts[path].result.status if path in self.drafts else ""


def _is_left(draft: Draft) -> bool:
    """Whether pragmas leave training steps of a file alone, so that its parts elsewhere have to stay as they are."""
    return any(d.code == LEFT for d in draft.result.diagnostics)


def _asks(draft: Draft, path: str) -> tuple[object, ...] | None:
    """The edits that a draft asks for in another file; None if it is not converted."""
    if draft.result.status != "converted":
        return None
    return next((n.edits for n in draft.result.needs if n.path == path and n.edits and n.grave), ())


def digest(data: bytes) -> str:
    """By which the bytes of a file are known again: somebody else's change is to be noticed, not an attack. (hashlib would load
    OpenSSL: start-up is measured.)"""
    return f"{len(data)}-{zlib.crc32(data):x}-{zlib.adler32(data):x}"


# results --------------------------------------------------------------------------------------------------


def convert_bytes(path: str, source: bytes, options: Options, around: Surroundings = Surroundings()) -> Outcome:
    """convert(), with an exception that escapes it turned into a result: it is our bug, and other files are waiting."""
    try:
        if path.endswith(NOTEBOOK):
            from ampify.notebooks.convert import convert_notebook  # few files: start-up is measured

            return Outcome(path, source, convert_notebook(source, options, around))
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


def failed(path: str, problem: FileError) -> Outcome:
    """The outcome of a file that cannot be read or written."""
    diagnostic = Diagnostic(problem.code, "error", 1, 1, problem.message)
    return Outcome(path, b"", Result("error", b"", (), (diagnostic,)))


def _left(need: Need) -> Diagnostic:
    """What is said of a hazard that stays in a file that was not given."""
    if need.code == STATES:
        from ampify.diagnostics import note

        return note(STATES, 1, f"{need.hazard} in {os.path.relpath(need.path)}:{need.line}")
    message = f"in a file that was not given, or not converted: {os.path.relpath(need.path)}:{need.line}: {need.hazard}"
    return Diagnostic(need.code, "warning", 1, 1, message, "give that file too, or the directory, to have it rewritten")
