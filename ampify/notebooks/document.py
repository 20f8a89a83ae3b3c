"""A notebook's JSON text: where the sources of its cells are, and the same text with other sources, else byte for byte.

Versions 3 and 4 of the notebook format (https://nbformat.readthedocs.io). Nothing is written but the value of a changed
source, in the style that is there: a list with a string a line, or one string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ampify.diagnostics import Diagnostic
from ampify.source import SourceError

BOM = b"\xef\xbb\xbf"
SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()
UNREADABLE, UNPARSED = "AMP991", "AMP992"


class Cell(NamedTuple):
    """A code cell in Python, by its number among the code cells, from 1: its text, where the value of its source stands in the
    JSON text, and the lines there of the lines of the cell."""

    number: int
    text: str
    start: int
    end: int
    lines: tuple[int, ...]


class Document(NamedTuple):
    """The JSON text of a notebook, and its code cells; none where they are not in Python."""

    mark: bytes  # a byte order mark, or nothing
    text: str
    cells: tuple[Cell, ...]

    def written(self, sources: dict[int, str]) -> bytes:
        """The notebook with other texts in some of its cells, by their numbers."""
        pieces, at = [], 0
        for cell in self.cells:
            if sources.get(cell.number, cell.text) != cell.text:
                pieces += [self.text[at : cell.start], _value(self.text[cell.start : cell.end], sources[cell.number], self.text)]
                at = cell.end
        return self.mark + "".join([*pieces, self.text[at:]]).encode()


def read(data: bytes) -> Document:
    """A notebook. Raises SourceError where it is none."""
    mark = BOM if data.startswith(BOM) else b""
    try:
        text = data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _error(UNREADABLE, line, 1, "cannot be decoded as utf-8", "save it as UTF-8") from None
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise _error(UNPARSED, error.lineno, error.colno, f"is not a notebook's JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise _error(UNPARSED, 1, 1, f"is not a notebook's JSON: {error}") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("cells", whole.get("worksheets")), list):
        raise _error(UNPARSED, 1, 1, "is not a notebook: it has no cells")
    cells = list(_cells(text, whole)) if _language(whole) == "python" else []
    return Document(mark, text, tuple(cells))


def _language(whole: dict[str, Any]) -> str:
    """The language of a notebook's kernel; Python where nothing is said of it."""
    metadata = _table(whole.get("metadata"))
    named = (_table(metadata.get("language_info")).get("name"), _table(metadata.get("kernelspec")).get("language"))
    said = next((name for name in named if isinstance(name, str)), "python").lower()
    return "python" if said in ("python", "ipython", "python3") else said


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cells(text: str, whole: dict[str, Any]) -> Iterator[Cell]:
    """The code cells, with their places."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    number = 0
    for place, cell in _listed(text, whole):
        if cell.get("cell_type") != "code":
            continue
        number += 1
        own = _table(_table(cell.get("metadata")).get("vscode")).get("languageId", cell.get("language", "python"))
        found = place.get("source", place.get("input"))
        source = cell.get("source", cell.get("input", ""))
        lines = source if isinstance(source, list) else [source]
        if found is None or own != "python" or not all(isinstance(line, str) for line in lines):
            continue
        start, end = found
        first = _line(starts, start)
        at = [_line(starts, s) for s, _ in _items(text, start)] if isinstance(source, list) else [first]
        of_lines = [n for line, n in zip(lines, at, strict=True) for _ in range(max(line.count("\n"), 1))]
        joined = "".join(lines)
        of_lines += [of_lines[-1] if of_lines else first] * (joined.count("\n") + 1 - len(of_lines))
        yield Cell(number, joined, start, end, tuple(of_lines))


def _line(starts: list[int], at: int) -> int:
    from bisect import bisect_right

    return bisect_right(starts, at)


# places in the text -----------------------------------------------------------------------------------

Span = tuple[int, int]


def _listed(text: str, whole: dict[str, Any]) -> Iterator[tuple[dict[str, Span], dict[str, Any]]]:
    """The cells, each as the places of its values and as what they are."""
    top = _members(text, SPACE.match(text).end())  # type: ignore[union-attr]
    if "cells" in top:
        blocks = [(top["cells"], whole["cells"])]
    else:
        sheets = zip(_items(text, top["worksheets"][0]), whole["worksheets"], strict=True)
        held = [(at, sheet) for (at, _), sheet in sheets if isinstance(_table(sheet).get("cells"), list)]
        blocks = [(_members(text, at)["cells"], sheet["cells"]) for at, sheet in held]
    for (start, _), cells in blocks:
        for (at, _), cell in zip(_items(text, start), cells, strict=True):
            if isinstance(cell, dict):
                yield _members(text, at), cell


def _members(text: str, at: int) -> dict[str, Span]:
    """The places of the values of the object at a place; of a key that is there twice the last, as json has it."""
    found: dict[str, Span] = {}
    if text[at] != "{":
        return found
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = DECODER.raw_decode(text, start)
        found[key] = (start, end)
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _items(text: str, at: int) -> list[Span]:
    """The places of the values of the list at a place."""
    found: list[Span] = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = DECODER.raw_decode(text, at)
        found.append((at, end))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    """The place behind white space."""
    match = SPACE.match(text, at)
    assert match is not None  # it matches nothing as well
    return match.end()


# a source anew ----------------------------------------------------------------------------------------


def _value(old: str, source: str, text: str) -> str:
    """The JSON of a source, in the style of the old one; lines that it had are spelled as they were."""
    ascii_only = text.isascii() and "\\u" in text
    if not old.startswith("["):
        return json.dumps(source, ensure_ascii=ascii_only)
    items = _items(old, 0)
    spelled = {DECODER.raw_decode(old, start)[0]: old[start:end] for start, end in items}
    lines = [spelled.get(line) or json.dumps(line, ensure_ascii=ascii_only) for line in re.findall(r"[^\n]*\n|[^\n]+", source)]
    before, after = (old[1 : items[0][0]], old[items[-1][1] :]) if items else ("", "]")
    between = old[items[0][1] : items[1][0]] if len(items) > 1 else "," + before if before else ", "
    return "[" + before + between.join(lines) + after


def _error(code: str, line: int, column: int, message: str, remedy: str = "open it in Jupyter and save it again") -> SourceError:
    return SourceError(Diagnostic(code, "error", line, column, message, remedy))
