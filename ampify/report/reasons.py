"""Which edits a hunk of a diff is made of, and the lines that say so above it."""

import re
from collections.abc import Iterator, Sequence

from ampify.convert import AppliedEdit
from ampify.report.streams import printable

_START = re.compile(rb"@@ -(\d+)")


def above(hunks: Sequence[bytes], edits: Sequence[AppliedEdit]) -> list[bytes]:
    """The reasons of the edits, a line each, that belong above each of the hunks."""
    changed = [list(_changed(hunk)) for hunk in hunks]
    said: list[list[str]] = [[] for _ in hunks]
    for edit in edits:
        said[min(range(len(hunks)), key=lambda number: _distance(edit, changed[number]))].append(_line(edit))
    return ["".join(lines).encode("utf-8", "backslashreplace") for lines in said]


def _changed(hunk: bytes) -> Iterator[int]:
    """The lines of the original that a hunk takes out, or puts something before."""
    found = _START.match(hunk)
    assert found
    line = int(found[1])
    for text in hunk.split(b"\n")[1:]:
        if text[:1] in b"+-" and text:
            yield line
        line += text[:1] in (b" ", b"-")


def _distance(edit: AppliedEdit, lines: Sequence[int]) -> int:
    """How far an edit is from the next of the lines, which are in order; 0 if it is about one of them."""
    return min(max(edit.line - line, line - edit.end_line, 0) for line in lines)


def _line(edit: AppliedEdit) -> str:
    lines = f"line {edit.line}" if edit.line == edit.end_line else f"lines {edit.line}-{edit.end_line}"
    return f"# {edit.code} {lines}: {printable(edit.message)}\n"
