"""Pragmas: the comments by which an author has statements, lines or a whole file left alone.

`# ampify: skip` at the end of a line holds for the statement of that line, or for the block whose header it is;
`# ampify: off` and `# ampify: on`, each on a line of its own, for the statements between;
`# ampify: skip-file`, anywhere, for the whole file.

The edits of a training step belong together: where one of its statements is left alone, all are. Only comments count,
whatever strings look like. Other comments may stand before one on its line: `# noqa  # ampify: skip`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ampify.analysis.syntax import blocks_of
from ampify.diagnostics import Diagnostic, pragma

PRAGMA = re.compile(r"#\s*ampify:\s*([^\s,;#]*)")
LEFT, IDLE = "AMP197", "AMP198"
SKIP, OFF, ON, FILE = WORDS = ("skip", "off", "on", "skip-file")


class Pragma(NamedTuple):
    """A pragma at its line (from 1) and column (from 0), and the lines that it holds for; `wrong` says why it holds for none."""

    word: str
    line: int
    column: int
    lines: frozenset[int] = frozenset()
    wrong: str = ""


def read(source: bytes, tree: ast.Module) -> tuple[Pragma, ...]:
    """The pragmas of a file, in the order of their lines."""
    last = source.count(b"\n") + source.count(b"\r") + 1
    statements = _Statements(tree)
    found: list[Pragma] = []
    opened: Pragma | None = None
    for word, line, column, alone in _comments(source):
        each = Pragma(word, line, column)
        if word not in WORDS:
            each = each._replace(wrong=f"`{word}` is none of {', '.join(WORDS)}")
        elif word == FILE:
            each = each._replace(lines=frozenset(range(1, last + 1)))
        elif word == SKIP:
            held = frozenset() if alone else statements.at(line)
            own = "it stands on a line of its own: `skip` goes to the end of the line, `off` and `on` round several"
            each = each._replace(lines=held, wrong="" if held else own)
        elif not alone:
            each = each._replace(wrong=f"`{word}` goes to a line of its own, `skip` to the end of one")
        elif (word == OFF) is (opened is not None):
            each = each._replace(wrong="it is off already" if opened is not None else "there is no `off` before it")
        elif word == OFF:
            opened = each
        elif opened is not None:
            found[found.index(opened)] = opened._replace(lines=statements.between(opened.line, line))
            opened = None
        found.append(each)
    if opened is not None:  # to the end of the file
        found[found.index(opened)] = opened._replace(lines=statements.between(opened.line, last + 1))
    return tuple(found)


def said(tree: ast.Module, found: Collection[Diagnostic], used: Collection[int] | None = ()) -> tuple[Diagnostic, ...]:
    """The diagnostics of a file with what is to be said of its pragmas: what they leave alone is in those that were `found`, and
    those that do nothing are added. `used` are lines at which they do something besides; None where it is not known."""
    pragmas: tuple[Pragma, ...] = vars(tree).get("pragmas", ())
    left = list(dict.fromkeys(d for d in found if d.code == LEFT))
    others = [d for d in found if d.code != LEFT]
    at = {d.line for d in left}.union(used or ())
    whole = next((p for p in pragmas if p.word == FILE and at), None)
    if whole is not None:
        left = [pragma(LEFT, whole.line, whole.column + 1, "the file")]
    for each in pragmas:
        if each.wrong:
            others.append(pragma(IDLE, each.line, each.column + 1, each.wrong))
        elif each.word != ON and used is not None and whole is None and at.isdisjoint(each.lines):
            others.append(pragma(IDLE, each.line, each.column + 1, "there is nothing to leave alone"))
    return tuple(sorted((*left, *others), key=lambda d: (d.line, d.column)))


def _comments(source: bytes) -> Iterator[tuple[str, int, int, bool]]:
    """What looks like a pragma in comments: its word, line, column, and whether it stands on a line of its own."""
    try:
        tokens = [t for t in tokenize.tokenize(io.BytesIO(source).readline) if t.type == tokenize.COMMENT]
        lines = [(t.string, t.start[0], t.start[1], not t.line[: t.start[1]].strip()) for t in tokens]
    except (tokenize.TokenError, SyntaxError):  # Python reads it all the same; to leave too much alone is safe
        text = enumerate(source.decode("latin-1").splitlines(), 1)
        lines = [(line, number, 0, line.lstrip().startswith("#")) for number, line in text]
    for comment, line, column, alone in lines:
        for match in PRAGMA.finditer(comment):
            yield match[1], line, column + match.start(), alone


class _Statements:
    """Which statements stand on a line."""

    def __init__(self, tree: ast.Module) -> None:
        self._on: dict[int, list[ast.stmt]] = {}  # by the lines of simple statements, and of headers
        self._all: list[ast.stmt] = []
        self._blocks: list[list[ast.stmt]] = []
        stack = [tree.body]
        while stack:
            block = stack.pop()
            self._blocks.append(block)
            for stmt in block:
                inner = [b for b in blocks_of(stmt) if b]
                last = min((_start(b[0]) - 1 for b in inner), default=_end(stmt))
                self._all.append(stmt)
                for line in range(_start(stmt), max(last, stmt.lineno) + 1):
                    self._on.setdefault(line, []).append(stmt)
                stack.extend(inner)

    def at(self, line: int) -> frozenset[int]:
        """The lines of the statements of a line; of `else:` and its like, those of the block below."""
        held = self._on.get(line) or min(
            (b for b in self._blocks if b and _start(b[0]) > line), key=lambda b: _start(b[0]), default=[]
        )
        return frozenset(n for stmt in held for n in range(_start(stmt), _end(stmt) + 1))

    def between(self, first: int, last: int) -> frozenset[int]:
        """The lines of the statements that begin between two lines, but for what goes on behind the second."""
        held = [stmt for stmt in self._all if first < _start(stmt) < last]
        return frozenset(n for stmt in held for n in range(_start(stmt), min(_end(stmt), last) + 1))


def _start(stmt: ast.stmt) -> int:
    """The line that a statement begins on, with its decorators."""
    decorators: list[ast.expr] = getattr(stmt, "decorator_list", [])
    return min([stmt.lineno, *(d.lineno for d in decorators)])


def _end(stmt: ast.stmt) -> int:
    return stmt.end_lineno or stmt.lineno
