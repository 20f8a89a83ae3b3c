"""Side by side: which line of the original stands beside which of the converted file, and what differs within them."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

CONTEXT = 3  # lines that are shown round what is changed or spoken of
_LARGEST = 2_500  # pairs of lines of one change that are compared with each other
_LONGEST = 250_000  # pairs of words of two lines that are
_ALIKE = 0.3  # how much two lines have to have in common to stand beside each other, of 1
_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\w+|.", re.DOTALL)
_SCOPE = re.compile(r"\s*(?:async\s+def|def|class)\s")


class Row(NamedTuple):
    """Two lines beside each other, counted from 0; None where there is none. `at` is the line of the original, counted from 1,
    that stands here, or before which the new line was put. Of what is `changed` some is only indented otherwise."""

    old: int | None
    new: int | None
    changed: bool
    at: int
    indented: bool = False


class Hunk(NamedTuple):
    """Rows that are shown together, how many before them are not, and the function or class that they begin in."""

    rows: tuple[Row, ...]
    hidden: int
    scope: str


def rows(before: Sequence[str], after: Sequence[str]) -> list[Row]:
    """All lines of both files, side by side."""
    if before is after:
        return [Row(n, n, False, n + 1) for n in range(len(before))]
    found: list[Row] = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after).get_opcodes():
        if kind == "equal":
            found += [Row(a, b, False, a + 1) for a, b in zip(range(i, j), range(k, m), strict=True)]
            continue
        at = i + 1
        for a, b in _aligned(before[i:j], after[k:m]):
            if a is None or b is None:
                found.append(Row(None if a is None else i + a, None if b is None else k + b, True, at))
            else:
                old, new = before[i + a], after[k + b]
                found.append(Row(i + a, k + b, old != new, at, old != new and old.lstrip(" \t") == new.lstrip(" \t")))
            at += a is not None
    return found


def hunks(found: Sequence[Row], spoken_of: set[int], before: Sequence[str]) -> list[Hunk]:
    """The rows that are worth showing: what is changed, or `spoken_of` by its line (from 1), and some lines around."""
    wanted = [n for n, row in enumerate(found) if row.changed or (row.old is not None and row.old + 1 in spoken_of)]
    spans: list[list[int]] = []
    for number in wanted:
        first, end = max(0, number - CONTEXT), min(len(found), number + CONTEXT + 1)
        first, end = first if first > 1 else 0, end if end < len(found) - 1 else len(found)  # one line is shown, not counted
        if spans and first <= spans[-1][1] + 1:
            spans[-1][1] = end
        else:
            spans.append([first, end])
    shown, result = 0, []
    for first, end in spans:
        result.append(Hunk(tuple(found[first:end]), first - shown, _scope(before, found[first].at - 1) if first > shown else ""))
        shown = end
    if spans and shown < len(found):
        result.append(Hunk((), len(found) - shown, ""))
    return result


def differences(old: str, new: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The stretches of two lines, in characters, that are not in the other."""
    a, b = _PIECE.findall(old), _PIECE.findall(new)
    if len(a) * len(b) > _LONGEST:
        return [], []
    olds: list[tuple[int, int]] = []
    news: list[tuple[int, int]] = []
    for kind, i, j, k, m in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind != "equal":
            _add(olds, len("".join(a[:i])), len("".join(a[:j])))
            _add(news, len("".join(b[:k])), len("".join(b[:m])))
    return olds, news


def _add(stretches: list[tuple[int, int]], start: int, end: int) -> None:
    if start < end:
        stretches.append((start, end))


def _scope(before: Sequence[str], line: int) -> str:
    """The function or class that a line (from 0) is in, as its first line says; empty at the top level."""
    inner = next((_indent(text) for text in before[line:] if text.strip()), 0)
    for text in reversed(before[:line]):
        if text.strip() and _indent(text) < inner:
            if _SCOPE.match(text):
                return text.strip()
            inner = _indent(text)
    return ""


def _indent(line: str) -> int:
    expanded = line.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def _aligned(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int | None, int | None]]:
    """The lines of one change beside each other, so that they have the most in common; those that resemble none stand alone."""
    if len(old) * len(new) > _LARGEST:
        yield from ((n if n < len(old) else None, n if n < len(new) else None) for n in range(max(len(old), len(new))))
        return
    words = [_words(line) for line in old], [_words(line) for line in new]
    alike = [[_alike(a, b, x, y) for b, y in zip(new, words[1], strict=True)] for a, x in zip(old, words[0], strict=True)]
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]  # what the lines from here on have in common at most
    for i in reversed(range(len(old))):
        for k in reversed(range(len(new))):
            together = best[i + 1][k + 1] + alike[i][k] if alike[i][k] >= _ALIKE else 0.0
            best[i][k] = max(best[i + 1][k], best[i][k + 1], together)
    i = k = 0
    while i < len(old) or k < len(new):
        both = i < len(old) and k < len(new)
        if both and alike[i][k] >= _ALIKE and best[i][k] == best[i + 1][k + 1] + alike[i][k]:
            yield i, k
            i, k = i + 1, k + 1
        elif i < len(old) and (k == len(new) or best[i][k] == best[i + 1][k]):
            yield i, None
            i += 1
        else:
            yield None, k
            k += 1


def _words(line: str) -> frozenset[str]:
    return frozenset(_WORD.findall(line))


def _alike(a: str, b: str, x: frozenset[str], y: frozenset[str]) -> float:
    if a.strip() == b.strip():
        return 1.0 if a.strip() else 0.5
    shared = len(x & y)
    return 0.45 * (shared / len(x | y) + shared / min(len(x), len(y))) if shared else 0.0
