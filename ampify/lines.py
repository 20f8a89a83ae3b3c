"""The lines of an output: those without edits are the original's, byte for byte and in their order, deeper in regions only."""

import ast
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ampify.analysis.syntax import header
from ampify.analysis.walk import walk

if TYPE_CHECKING:
    from ampify.convert import AppliedEdit
    from ampify.plan.edits import Plan

BOM = b"\xef\xbb\xbf"
INSERTIONS = frozenset(
    {"AMP103", "AMP105", "AMP107", "AMP109", "AMP112", "AMP301", "AMP303"}
)  # these stand before the line that they name
QUOTES = re.compile(rb"""[A-Za-z]*('''|\"\"\"|'|")""")


class Written(NamedTuple):
    """What a file has of ampify's: lines with a name or a form of ours, regions from their header to their last line, and the
    lines that are set apart by blank ones."""

    lines: set[int]
    regions: list[tuple[int, int]]
    apart: set[int]


def changed_line(
    original: bytes, output: bytes, pairs: Iterable[tuple[ast.stmt, ast.stmt]], written: Written, had: Written
) -> str:
    """What an output changes outside of its edits, or an empty string; `pairs` are the statements that erasing matches, and
    `had` what the original has of ampify's already."""
    if original.startswith(BOM) != output.startswith(BOM):
        return "the byte order mark"
    before, after = original.splitlines(keepends=True), output.splitlines(keepends=True)
    ends = [{line[len(line.rstrip(b"\r\n")) :] for line in lines} - {b""} for lines in (before, after)]
    if len(ends[0]) == 1 and ends[1] - ends[0]:
        return "the line ends"
    if original and original.endswith(b"\n") != output.endswith(b"\n"):
        return "the end of the last line"
    if not original.endswith(b"\n"):  # what was the last line may have got one behind it
        end = max(ends[1], default=b"\n")
        before[-1:], after[-1:] = [line + end for line in before[-1:]], [line + end for line in after[-1:]]
    old, new, edited = _touched(pairs, before, after, written.lines)
    for x, y in edited:
        if _quotes(x, before) != _quotes(y, after):
            return f"the quotes of line {y.lineno}"
        was, now = (lines[stmt.lineno - 1][: stmt.col_offset] for lines, stmt in ((before, x), (after, y)))
        if not _same(was, now, any(first < y.lineno <= last for first, last in written.regions)):
            return f"the indentation of line {y.lineno}"
    kept = _sequence(before, old | had.lines, [x.lineno for x, _ in edited])
    apart, at = _blank_round(written.apart, after), 0
    for number, line in _sequence(after, new, [y.lineno for _, y in edited]):
        if number in apart:
            while at < len(kept) and not kept[at][1].strip():
                at += 1
            continue
        deeper = any(first < number <= last for first, last in written.regions)
        if at == len(kept) or not _same(kept[at][1], line, deeper):
            return f"line {number}"
        at += 1
    return f"line {kept[at][0]} of the original" if at < len(kept) else ""


def _quotes(stmt: ast.stmt, lines: list[bytes]) -> list[bytes]:
    """How each string of a statement begins; of a compound one those of its header."""
    strings = [
        n for part in header(stmt) for n in walk(part) if isinstance(n, ast.Constant) and isinstance(n.value, (str, bytes))
    ]
    return [match.group() for n in strings if (match := QUOTES.match(lines[n.lineno - 1], n.col_offset))]


def _sequence(lines: list[bytes], left_out: set[int], starts: list[int]) -> list[tuple[int, bytes]]:
    """The lines by their numbers without those left out; but where an edited statement begins there is a mark for it."""
    marks = {number: b"edited %d" % index for index, number in enumerate(starts)}
    numbered = ((number, marks.get(number, b"") if number in left_out else line) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in numbered if number not in left_out or line]


def _blank_round(numbers: set[int], lines: list[bytes]) -> set[int]:
    """The blank lines next to some lines, and next to each other."""
    found: set[int] = set()
    for number in numbers:
        for step in (-1, 1):
            beside = number + step
            while 1 <= beside <= len(lines) and not lines[beside - 1].strip():
                found.add(beside)
                beside += step
    return found


def _same(old: bytes, new: bytes, deeper: bool) -> bool:
    """Whether two lines are the same, but for white space that one has more of in front where it stands `deeper`."""
    bare = new.lstrip(b" \t")
    return old == new or (deeper and old.lstrip(b" \t") == bare and len(new) > len(old))


def _touched(
    pairs: Iterable[tuple[ast.stmt, ast.stmt]], before: list[bytes], after: list[bytes], ours: set[int]
) -> tuple[set[int], set[int], list[tuple[ast.stmt, ast.stmt]]]:
    """The lines that edits are in, of the original and of the output, and the statements of their own lines that are edited."""
    old: set[int] = set()
    new = set(ours)
    alone: list[tuple[ast.stmt, ast.stmt]] = []
    previous: tuple[range, range] | None = None
    for x, y in sorted(pairs, key=lambda pair: (pair[0].lineno, pair[0].col_offset, -(pair[0].end_lineno or 0))):
        spans = _own_lines(x), _own_lines(y)
        glued = _behind_another(x, before), _behind_another(y, after)
        edited = not ours.isdisjoint(spans[1])
        if previous is not None and any(glued):
            edited = edited or glued[0] != glued[1]
            if edited or not new.isdisjoint(previous[1]):
                old.update(previous[0])
                new.update(previous[1])
                edited = True
        if edited:
            old.update(spans[0])
            new.update(spans[1])
            if not any(glued):
                alone.append((x, y))
        previous = spans
    return old, new, alone


def _own_lines(stmt: ast.stmt) -> range:
    """The lines of a statement, of a compound one those of its header."""
    body = getattr(stmt, "body", None) or getattr(stmt, "cases", None)
    if not body:
        return range(stmt.lineno, (stmt.end_lineno or stmt.lineno) + 1)
    if isinstance(stmt, (ast.If, ast.While, ast.For, ast.AsyncFor, ast.With, ast.AsyncWith)):  # a region may follow at once
        return range(stmt.lineno, max(getattr(n, "end_lineno", None) or stmt.lineno for n in header(stmt)) + 1)
    first = body[0].pattern.lineno if isinstance(body[0], ast.match_case) else body[0].lineno
    return range(stmt.lineno, max(first, stmt.lineno + 1))


def _behind_another(stmt: ast.stmt, lines: list[bytes]) -> bool:
    """Whether a statement stands behind another, or a header, in its line."""
    ahead = lines[stmt.lineno - 1].removeprefix(BOM if stmt.lineno == 1 else b"")[: stmt.col_offset]
    return bool(ahead.strip())


# of a rendering -------------------------------------------------------------------------------------


def joined_lines(source: bytes, numbers: dict[ast.stmt, tuple[int, int]], plan: "Plan") -> set[int]:
    """The lines that something is inserted into, as they hold more than the statement before or behind which it is to stand."""
    from ampify.plan.edits import Insert

    at = {edit.at for edit in plan.edits if isinstance(edit, Insert)}
    lines = source.splitlines()
    joined: set[int] = set()
    for stmt, (index, _) in numbers.items():
        if index in at:
            first, last = stmt.lineno, stmt.end_lineno or stmt.lineno
            if lines[first - 1][: stmt.col_offset].strip() or lines[last - 1][stmt.end_col_offset :].lstrip().startswith(b";"):
                joined.update((first, last))
    return joined


def keeps_lines(source: bytes, output: bytes, edits: "tuple[AppliedEdit, ...]", joined: set[int]) -> bool:
    """Whether all lines outside of edits are in the output, byte for byte and in order: libcst loses some white space. A last
    line without an end may get one."""
    edited = joined.union(line for e in edits if e.code not in INSERTIONS for line in range(e.line, e.end_line + 1))
    lines, written = source.splitlines(keepends=True), iter(output.splitlines(keepends=True))
    if lines and not lines[-1].endswith((b"\n", b"\r")) and len(lines) not in edited:
        *lines, last = lines
        kept = [line in written for number, line in enumerate(lines, 1) if number not in edited]
        return all(kept) and any(line.rstrip(b"\r\n") == last for line in written)
    return all(line in written for number, line in enumerate(lines, 1) if number not in edited)
