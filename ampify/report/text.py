"""Lines for people: what became of each file, why, and a summary."""

from collections import Counter
from collections.abc import Iterator

from ampify.convert import Status
from ampify.diagnostics import NOTES, Diagnostic
from ampify.files import UNREADABLE, UNWRITABLE
from ampify.job import BUG, Outcome
from ampify.report.streams import printable

# About the file as a whole: a line and a column would say nothing.
_WHOLE_FILE = frozenset({BUG, UNREADABLE, UNWRITABLE})

# (done, only looked at), for the summary, in its order.
WORDS: dict[Status, tuple[str, str]] = {
    "converted": ("converted", "would be converted"),
    "already": ("already in mixed precision", "already in mixed precision"),
    "unchanged": ("left unchanged", "would be left unchanged"),
    "refused": ("refused", "would be refused"),
    "error": ("failed", "would fail"),
}


def lines(outcome: Outcome, *, done: bool, verbose: bool, quiet: bool) -> Iterator[str]:
    """The lines about one file. `done` says whether files are written; quiet keeps the errors only."""
    result = outcome.result
    if quiet and result.status != "error" and not result.bug:
        return
    path = printable(outcome.path)
    if result.status == "converted":
        yield f"{'converted' if done else 'would convert'} {path}: {_count(len(result.edits), 'edit')}"
        if verbose:
            for edit in result.edits:
                yield f"  {path}:{edit.line}: {edit.code} {printable(edit.message)}"
    elif verbose and result.status in ("already", "unchanged"):
        yield f"{WORDS[result.status][0]} {path}"
    for diagnostic in result.diagnostics:
        if diagnostic.severity == "info" and diagnostic.code not in NOTES and not verbose:
            continue  # of a rule, and nothing to be done about
        yield from _diagnostic(path, diagnostic)


def summary(statuses: Counter[Status], *, done: bool) -> str:
    """One line at the end, such as `2 files converted, 1 file refused.`"""
    parts = [
        f"{_count(statuses[status], 'file')} {words[0] if done else words[1]}"
        for status, words in WORDS.items()
        if statuses[status]
    ]
    return f"{', '.join(parts)}." if parts else "No Python files found: nothing to do."


def _diagnostic(path: str, diagnostic: Diagnostic) -> Iterator[str]:
    place = path if diagnostic.code in _WHOLE_FILE else f"{path}:{diagnostic.line}:{diagnostic.column}"
    yield f"{place}: {diagnostic.code} {printable(diagnostic.message)}"
    if diagnostic.help:
        yield f"  {printable(diagnostic.help)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
