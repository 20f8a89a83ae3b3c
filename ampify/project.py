"""Many files: which ones the user's paths lead to, and the exit code that their outcomes come to."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from ampify import files
from ampify.batch import Batch, Progress
from ampify.convert import Options, Result
from ampify.files import FileError
from ampify.job import Job, Outcome, failed

if TYPE_CHECKING:
    from ampify.ignore import Selection
    from ampify.settings import Settings


def run(
    paths: Iterable[str],
    options: Options | Settings,
    *,
    write: bool,
    keep: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    selection: Selection | None = None,
) -> Generator[Outcome, None, None]:
    """Convert every file that the paths lead to, each once, one outcome a file, in the order of the paths.

    Of directories the `selection` says which files to take. With `write` the converted files are replaced on disk; with `keep`
    their outcomes have the bytes. Up to `jobs` processes do the work, by default as many as there are processors. Whatever is
    wrong with one file is in its outcome and never stops the others.
    """
    order: list[str | Outcome] = []  # real paths, and what is known from the start
    given: dict[str, str] = {}
    for path, problem in discover(paths, selection):
        if problem:
            order.append(failed(path, problem))
        elif (real := files.identity(path)) not in given:
            order.append(real)
            given[real] = path

    def finish(job: Job) -> dict[str, Outcome]:
        if all(draft.result.status != "converted" for draft in job.drafts.values()):
            return {path: Outcome(draft.shown, b"", draft.result) for path, draft in job.drafts.items()}
        from ampify.writing import Writer  # only here: start-up is measured

        return Writer(options, write=write, keep=keep).finish(job)

    yield from Batch(given, options, finish, jobs, progress).outcomes(order)


def exit_code(outcomes: Iterable[Outcome], *, check: bool, allow_refused: bool) -> int:
    """The first of 123, 3, 1 that applies to any file, else 0."""
    codes = {_code_of(outcome.result, check, allow_refused) for outcome in outcomes}
    return next((code for code in (123, 3, 1) if code in codes), 0)


def discover(paths: Iterable[str], selection: Selection | None = None) -> Iterator[tuple[str, FileError | None]]:
    """Every file to convert: each named one, and the `.py` files and notebooks of a directory; with a problem if unusable."""
    for path in paths:
        if files.is_directory(path):
            from ampify import directories  # only here: start-up is measured

            yield from directories.walk(path, selection)
        else:
            yield path, None


def _code_of(result: Result, check: bool, allow_refused: bool) -> int:
    if result.bug:
        return 123
    if result.status == "error" or (result.status == "refused" and not allow_refused):
        return 3
    mistakes = any(d.severity == "error" and d.code.startswith("AMP3") for d in result.diagnostics)
    return 1 if check and (result.status == "converted" or mistakes) else 0
