"""A notebook through convert(): its program is converted as any other, and told by cells and the lines of the JSON text."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from ampify.convert import AppliedEdit, Options, Result, Surroundings, convert
from ampify.diagnostics import Diagnostic, refusal
from ampify.notebooks.document import read
from ampify.notebooks.program import Program
from ampify.source import SourceError, is_candidate, not_rewritable

PRAGMAS = frozenset({"AMP197", "AMP198"})
LINE = re.compile(r"\bline (\d+)\b")

_T = TypeVar("_T", Diagnostic, AppliedEdit)


def convert_notebook(data: bytes, options: Options, around: Surroundings = Surroundings()) -> Result:
    """Convert a notebook's bytes: all but the sources of cells with edits stays byte for byte. Raises nothing, as convert()."""
    try:
        program = Program(read(data))
    except SourceError as error:
        return Result("error", data, diagnostics=(error.diagnostic,))
    if not program.parts:
        return Result("unchanged", data)
    if is_candidate(program.source) and (obstacle := not_rewritable(program.source)):
        return Result("refused", data, diagnostics=(refusal("AMP920", 1, 1, obstacle),))
    result = convert(program.source, options, around)
    told = tuple(_placed(d, program) for d in result.diagnostics if d.code not in PRAGMAS or not program.is_own(d.line))
    edits = tuple(_placed(e, program)._replace(end_line=program.place(e.end_line).line) for e in result.edits)
    result = result._replace(diagnostics=told, edits=edits)
    if result.status != "converted":
        return result._replace(output=data)
    output = program.back(result.output)
    if output is None or not _is_kept(data, output, result.output):
        bug = Diagnostic("AMP999", "error", 1, 1, "ampify failed: the cells do not hold what was converted", "please report this")
        return Result("error", data, diagnostics=(bug,), bug=True)
    return result._replace(output=output)


def python_of(data: bytes) -> bytes:
    """The program of a notebook, empty where its language is another one. Raises SourceError."""
    program = Program(read(data))
    return program.source if program.parts else b""


def _placed(told: _T, program: Program) -> _T:
    """A diagnostic or an edit by the line of the JSON text; the message says which line of which cell that is."""
    place = program.place(told.line)
    message = LINE.sub(lambda match: _named(program, int(match[1])), told.message)
    prefix = f"cell {place.cell}, line {place.within}: " if place.cell else ""
    return told._replace(line=place.line, message=prefix + message)


def _named(program: Program, line: int) -> str:
    place = program.place(line)
    return f"cell {place.cell}, line {place.within}" if place.cell else f"line {line}"


def _is_kept(before: bytes, after: bytes, program: bytes) -> bool:
    """Whether a notebook is the same but for the sources of its code cells, which make the program."""
    return _bare(before) == _bare(after) and Program(read(after)).source == program


def _bare(data: bytes) -> Any:
    """What is in a notebook besides the sources of code cells."""

    def bare(table: dict[str, Any]) -> dict[str, Any]:
        code = table.get("cell_type") == "code"
        return {k: bool(isinstance(v, list)) if code and k in ("source", "input") else v for k, v in table.items()}

    return json.loads(data.decode("utf-8-sig"), object_hook=bare)
