"""Writing: settled files in the place of the old ones, those that need each other all or none, and the runtime beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ampify import files
from ampify.convert import Options
from ampify.files import FileError, Snapshot
from ampify.graph import connected
from ampify.job import Draft, Job, Outcome, digest, failed
from ampify.source import NOTEBOOK

if TYPE_CHECKING:
    from ampify.settings import Settings


class Writer:
    """Puts settled files in the place of the old ones. With `keep` what was there and what is stays in the outcomes."""

    def __init__(self, options: Options | Settings, *, write: bool, keep: bool) -> None:
        self._options, self._write, self._keep = options, write, keep

    def finish(self, job: Job) -> dict[str, Outcome]:
        """The outcomes of a job's files by their real paths; those that others need are written first."""
        supplied: set[str] = set()  # the directories that have the runtime, or would get it
        found: dict[str, Outcome] = {}
        for group in _groups(job):
            found.update(self._group(group, job, supplied))
        return found

    def _group(self, group: list[Draft], job: Job, supplied: set[str]) -> dict[str, Outcome]:
        """Writes files that belong together, all or none."""
        written: list[tuple[Draft, Snapshot]] = []
        found: dict[str, Outcome] = {}
        at = group[0]
        try:
            if self._write and len(group) > 1:
                for at in group:
                    files.check_writable(files.read(at.shown))
            for at in group:
                found[at.path] = self._one(at, at.path not in job.needed, supplied, written)
        except BaseException as error:
            self._undo(written)
            if not isinstance(error, FileError):
                raise
            others = f"was not written: {os.path.relpath(at.path)}, which is converted with it, could not be"
            problems = {d.path: error if d is at else FileError(files.UNWRITABLE, others) for d in group}
            return {d.path: failed(d.shown, problems[d.path]) for d in group}
        return found

    def _one(self, draft: Draft, script: bool, supplied: set[str], written: list[tuple[Draft, Snapshot]]) -> Outcome:
        """A vendored runtime lies beside the scripts, from where their modules find it too."""
        if draft.result.status != "converted":
            return Outcome(draft.shown, b"", draft.result)
        snapshot = files.read(draft.shown)
        if digest(snapshot.data) != draft.digest:
            raise FileError(files.UNWRITABLE, files.CHANGED)
        outcome = Outcome(draft.shown, snapshot.data, draft.result)
        spelling = all(edit.code.startswith("AMP3") for edit in draft.result.edits)  # which needs no runtime
        if script and self._options.of(draft.path).runtime == "vendor" and not spelling:
            outcome = self._with_runtime(outcome, snapshot, supplied)
        if self._write:
            written.append((draft, snapshot))
            files.write(snapshot, draft.result.output)
        if self._keep:
            return outcome
        return outcome._replace(before=b"", result=outcome.result._replace(output=b"", needs=()))

    @staticmethod
    def _undo(written: list[tuple[Draft, Snapshot]]) -> None:
        """Gives files their old contents back, unless somebody else has changed them."""
        for draft, before in reversed(written):
            try:
                now = files.read(draft.shown)
                if now.data == draft.result.output:
                    files.write(now, before.data)
            except FileError:
                continue

    def _with_runtime(self, outcome: Outcome, script: Snapshot, supplied: set[str]) -> Outcome:
        """The outcome with what it needs beside the script, once a directory. It is written before the script is: at no moment
        there is a script without its runtime. Raises FileError."""
        from ampify import vendor

        line = next((e.line for e in outcome.result.edits if e.code == "AMP107"), 1)
        notebook = script.path.endswith(NOTEBOOK)  # which no package has as a module
        notes = [vendor.package_note(script, outcome.result.output, line) if not notebook else None]
        directory = os.path.dirname(script.target)
        copy = vendor.beside(script) if directory not in supplied else None
        if copy is not None:
            notes.append(copy.diagnostic(line))
            if self._write:
                files.check_writable(script)
                copy.write()
        supplied.add(directory)
        diagnostics = (*outcome.result.diagnostics, *(n for n in notes if n is not None))
        return outcome._replace(result=outcome.result._replace(diagnostics=diagnostics), copy=copy)


def _groups(job: Job) -> Iterator[list[Draft]]:
    """The files that are to be written all or none, the needed ones first: a file, and those that need it or that it needs."""
    linked: dict[str, list[str]] = {path: [] for path in job.drafts}
    for path, draft in job.drafts.items():
        for need in draft.needs if draft.result.status == "converted" else ():
            if need.path in linked and job.drafts[need.path].result.status == "converted":
                linked[path].append(need.path)
                linked[need.path].append(path)
    for group in connected(linked):
        yield [job.drafts[p] for p in sorted(group, key=lambda p: (p not in job.needed, p))]
