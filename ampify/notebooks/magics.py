"""What is no Python in a cell: magics, shell commands and requests for help, each put aside as a statement, and put back.

After IPython's "Input transformations" (https://ipython.readthedocs.io): only where a statement may begin, and only in cells that
are no Python as they are.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

PYTHON_INSIDE = frozenset({"time", "capture"})  # cell magics that run the cell, once, in the notebook's own names
MAGIC = re.compile(r"[ \t]*(?:[%!?]|[^#'\"\n]*[\w\])]\?{1,2}[ \t]*\r?$)")
ASSIGNED = re.compile(r"([ \t]*[A-Za-z_][\w.,\[\] \t]*=[ \t]*)(?:!|%[A-Za-z_])")
CELL_MAGIC = re.compile(r"\s*%%[ \t]*(\w+)")
FUTURE = re.compile(r"from[ \t]+__future__[ \t]+import[^(\\]*$")
TOKEN = re.compile(r"'''|\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|#.*|[()\[\]{}]")


def is_other_language(cell: str) -> bool:
    """Whether a cell magic takes the cell for something else than Python in the notebook's own names."""
    match = CELL_MAGIC.match(cell)
    return match is not None and match[1] not in PYTHON_INSIDE


class Aside(NamedTuple):
    """Lines that are put aside, and the first of the lines in their place; there are as many."""

    stands: str
    lines: str


def put_aside(cell: str, mark: Callable[[], str], first: bool = True) -> tuple[str, list[Aside]]:
    """A cell, which ends with a line's end, as Python, and what was put aside; `mark` makes a new statement for each.

    Imports from __future__ too, but for those of the `first` cell: other code runs before them.
    """
    future = not first and "__future__" in cell
    if CELL_MAGIC.match(cell) is None and not future and _parses(cell):
        return cell, []
    aside: list[Aside] = []
    lines: list[str] = []
    for line, is_magic in _told_apart(cell, future):
        if is_magic:
            head, _, rest = line.partition("\n")
            bound = ASSIGNED.match(head)
            left = bound[1] if bound is not None else head[: len(head) - len(head.lstrip())]
            end = "\r\n" if line.endswith("\r\n") else "\n"
            aside.append(Aside(left + mark(), line))
            line = aside[-1].stands + end + f"#{end}" * rest.count("\n")
        lines.append(line)
    return "".join(lines), aside


def put_back(cell: str, aside: list[Aside]) -> str | None:
    """A cell with what was put aside in its place again; None where that is gone or has moved."""
    for stands, lines in aside:
        found = re.findall(rf"^{re.escape(stands)}\r?\n(?:#\r?\n){{{lines.count(chr(10)) - 1}}}", cell, re.MULTILINE)
        if len(found) != 1:
            return None
        cell = cell.replace(found[0], lines, 1)
    return cell


def _parses(cell: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(cell)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _told_apart(cell: str, future: bool) -> Iterator[tuple[str, bool]]:
    """The lines of a cell, each with its end, and whether it is one for IPython; what such a line goes on with is with it."""
    quote, depth, goes_on = "", 0, False
    lines = iter(re.findall(r"[^\n]*\n", cell))
    for line in lines:
        begins = not quote and not depth and not goes_on
        if begins and (MAGIC.match(line.rstrip("\n")) or ASSIGNED.match(line) or (future and FUTURE.match(line))):
            while line.rstrip("\r\n").endswith("\\") and (more := next(lines, "")):
                line += more
            yield line, True
            continue
        quote, depth = _after(line, quote, depth)
        goes_on = not quote and line.rstrip("\r\n").endswith("\\")
        yield line, False


def _after(line: str, quote: str, depth: int) -> tuple[str, int]:
    """In which string, and in how many brackets, a line ends."""
    at = 0
    while True:
        if quote:
            end = re.compile(r"(?:\\.|[^\\])*?" + quote, re.DOTALL).match(line, at)
            if end is None:
                return quote, depth
            at, quote = end.end(), ""
        token = TOKEN.search(line, at)
        if token is None:
            return "", depth
        at = token.end()
        if token[0] in ("'''", '"""'):
            quote = token[0]
        elif token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth = max(depth - 1, 0)
