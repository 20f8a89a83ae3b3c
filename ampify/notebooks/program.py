"""The cells of a notebook as one program, as they run one after the other, and the program's text back in the cells.

Between two cells stands a statement of its own, which no edit goes beyond: what is in one cell stays in one.
"""

from __future__ import annotations

import ast
import warnings
from itertools import count
from typing import NamedTuple

from ampify.diagnostics import Diagnostic
from ampify.notebooks.document import UNPARSED, Cell, Document
from ampify.notebooks.magics import Aside, is_other_language, put_aside, put_back
from ampify.source import SourceError

HEAD = "# cells of a notebook"  # twice: no coding line is read below the second line
SKIP = "  # ampify: skip"


class Part(NamedTuple):
    """A cell in the program: its first line there, its text there, and what was put aside of it."""

    cell: Cell
    line: int
    text: str
    aside: list[Aside]


class Place(NamedTuple):
    """A line of the program in the notebook: its line in the JSON text, the cell, and the line in that; 0 where it is in none."""

    line: int
    cell: int = 0
    within: int = 0


class Program:
    """The program of a notebook. Raises SourceError where a cell is no Python."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._end = "\r\n" if any("\r\n" in cell.text for cell in document.cells) else "\n"
        self._token = _unused("".join(cell.text for cell in document.cells))
        self._marks = count(1)
        self.parts: list[Part] = []
        self._own: set[int] = set()  # the lines of what is put in
        pieces = [f"{HEAD}{self._end}"] * 2
        line = 3
        for cell in document.cells:
            if is_other_language(cell.text):
                continue
            part = self._part(cell, line)
            border = self._border(cell) + self._end
            pieces += [part.text, border]
            self._own.update(line + n for n, text in enumerate(part.text.split("\n")) if text.rstrip("\r") in _stands(part))
            line += part.text.count("\n")
            self._own.add(line)
            line += 1
            self.parts.append(part)
        self.source = "".join(pieces).encode()

    def _part(self, cell: Cell, line: int) -> Part:
        text = cell.text if not cell.text or cell.text.endswith("\n") else cell.text + ("\r\n" if "\r\n" in cell.text else "\n")
        python, aside = put_aside(text, lambda: f"'{self._token}:{next(self._marks)}'{SKIP}", first=not self.parts)
        _check(python, cell)
        return Part(cell, line, python, aside)

    def _border(self, cell: Cell) -> str:
        return f"'{self._token}:cell {cell.number}'{SKIP}"

    def is_own(self, line: int) -> bool:
        """Whether a line of the program is none of the notebook's."""
        return line in self._own

    def place(self, line: int) -> Place:
        """Where a line of the program is."""
        part = next((p for p in reversed(self.parts) if p.line <= line), None)
        if part is None:
            return Place(self.parts[0].cell.lines[0] if self.parts else 1)
        within = min(line - part.line, len(part.cell.lines) - 1)
        return Place(part.cell.lines[within], part.cell.number, within + 1)

    def back(self, source: bytes) -> bytes | None:
        """The notebook with the text of a converted program in its cells; None where the program is not in them any more."""
        text = source.decode()
        head, *_ = text.split(self._end, 2)
        if head != HEAD:
            return None
        text = text.removeprefix(f"{HEAD}{self._end}" * 2)
        sources: dict[int, str] = {}
        for part in self.parts:
            end = "\r\n" if part.text.endswith("\r\n") else "\n"
            own, border, text = text.partition(self._border(part.cell) + self._end)
            cell = put_back(own, part.aside) if border and (not own or own.endswith("\n")) else None
            if cell is None:
                return None
            sources[part.cell.number] = cell if part.cell.text.endswith("\n") else cell.removesuffix(end)
        return self.document.written(sources) if not text else None


def _stands(part: Part) -> set[str]:
    return {aside.stands for aside in part.aside}


def _unused(text: str) -> str:
    """What stands in the text nowhere."""
    return next(token for n in count() if (token := f"ampify:{n}") not in text)


def _check(python: str, cell: Cell) -> None:
    """Raises SourceError for a cell that does not parse by itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            python.encode()
            ast.parse(python)
    except SyntaxError as error:
        within = min(error.lineno or 1, len(cell.lines))
        message = f"cell {cell.number}, line {within}: cannot be parsed: {error.msg}"
        raise SourceError(
            Diagnostic(UNPARSED, "error", cell.lines[within - 1], error.offset or 1, message, "fix the syntax error")
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        what = "it is nested too deeply" if isinstance(error, (RecursionError, MemoryError)) else str(error)
        message = f"cell {cell.number}: cannot be parsed: {what}"
        raise SourceError(Diagnostic(UNPARSED, "error", cell.lines[0], 1, message)) from None
