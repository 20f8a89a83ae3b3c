"""Layout: the tokens of a file by the positions of syntax trees, and edits of calls that keep to the author's style."""

from __future__ import annotations

import ast
import io
import tokenize
from bisect import bisect_left
from typing import NamedTuple

from ampify.plan.edits import Replace

Place = tuple[int, int]  # (line, column) as in a syntax tree
BOM = b"\xef\xbb\xbf"
BLANK = frozenset({tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT})


class Token(NamedTuple):
    kind: int
    text: str
    start: Place
    end: Place


class Slots(NamedTuple):
    """The arguments of a call as they are written: where each begins and ends, parentheses of their own included."""

    opened: Place  # behind the opening parenthesis
    arguments: list[tuple[Place, Place]]
    closed: Place  # in front of the closing one


class Layout:
    """The tokens of a source."""

    def __init__(self, source: bytes) -> None:
        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0].removesuffix("-sig")
        text = source.removeprefix(BOM).decode(encoding)
        self.lines = text.encode().splitlines(keepends=True)
        self.tokens: list[Token] = []
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            self.tokens.append(Token(token.type, token.string, self._place(token.start), self._place(token.end)))
        self._starts = [token.start for token in self.tokens]
        single = sum(t.text.startswith("'") and not t.text.startswith("'''") for t in self.tokens if t.kind == tokenize.STRING)
        double = sum(t.text.startswith('"') and not t.text.startswith('"""') for t in self.tokens if t.kind == tokenize.STRING)
        self.quote = "'" if single > double else '"'
        self.newline = "\r\n" if self.lines and self.lines[0].endswith(b"\r\n") else "\n"

    def _place(self, place: Place) -> Place:
        line, column = place
        if line > len(self.lines) or self.lines[line - 1].isascii():
            return place
        return line, len(self.lines[line - 1].decode()[:column].encode())

    def quoted(self, text: str) -> str:
        """A string as the file writes its strings."""
        return f"{self.quote}{text}{self.quote}"

    @property
    def unit(self) -> str:
        """How much deeper the first block of the file stands."""
        return next((t.text for t in self.tokens if t.kind == tokenize.INDENT), "    ")

    def indent(self, line: int) -> str:
        """The white space that a line begins with."""
        row = self.lines[line - 1]
        return row[: len(row) - len(row.lstrip(b" \t"))].decode()

    def between(self, start: Place, end: Place) -> list[Token]:
        """The tokens of a stretch."""
        return self.tokens[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def of(self, node: ast.stmt | ast.expr | ast.alias) -> list[Token]:
        """The tokens of a node, comments inside it included."""
        return [t for t in self.between(*span(node)) if t.kind == tokenize.COMMENT or t.kind not in BLANK]

    def is_fresh(self, place: Place) -> bool:
        """Whether nothing but white space is ahead in the line."""
        return not self.lines[place[0] - 1][: place[1]].strip()

    def slots(self, call: ast.Call) -> Slots:
        """The arguments of a call as they are written."""
        tokens = [t for t in self.between(span(call.func)[1], span(call)[1]) if t.kind not in BLANK]
        opening = next(i for i, t in enumerate(tokens) if t.text == "(")
        depth, found = 0, list[tuple[Place, Place]]()
        first: Place | None = None
        last: Place | None = None
        for token in tokens[opening:]:
            depth -= token.text in (")", "]", "}") and token.kind == tokenize.OP
            if first is not None and last is not None and ((depth == 1 and token.text == ",") or depth == 0):
                found.append((first, last))
                first = None
            elif depth >= 1 and not (depth == 1 and token.text == ","):
                first = first or token.start
                last = token.end
            depth += token.text in ("(", "[", "{") and token.kind == tokenize.OP
            if depth == 0:
                return Slots(tokens[opening].end, found, token.start)
        raise ValueError("a call that does not end")

    def first(self, call: ast.Call, text: str, behind: int = 0) -> Replace:
        """An argument written before the others of a call, `behind` some of them; on a line of its own where they are."""
        slots = self.slots(call)
        if len(slots.arguments) <= behind:
            return self.last(call, text)
        at = slots.arguments[behind][0]
        alone = all(self.is_fresh(start) for start, _ in slots.arguments)
        gap = self.newline + self.lines[at[0] - 1][: at[1]].decode() if alone else " "
        return Replace(at, at, f"{text},{gap}")

    def last(self, call: ast.Call, text: str) -> Replace:
        """An argument written behind the others of a call, before a comma that ends them."""
        slots = self.slots(call)
        if not slots.arguments:
            return Replace(slots.opened, slots.opened, text)
        start, at = slots.arguments[-1]
        alone = all(self.is_fresh(start) for start, _ in slots.arguments)
        gap = self.newline + self.lines[start[0] - 1][: start[1]].decode() if alone else " "
        return Replace(at, at, f",{gap}{text}")


def span(node: ast.stmt | ast.expr | ast.alias) -> tuple[Place, Place]:
    """Where a node begins and ends."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
