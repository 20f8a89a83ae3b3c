"""Syntax colours: which stretches of a file's lines are keywords, strings and the like."""

import keyword
import tokenize
from collections.abc import Sequence
from typing import NamedTuple

_STRINGS = frozenset(
    {"STRING", "FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END", "TSTRING_START", "TSTRING_MIDDLE", "TSTRING_END"}
)
_CONSTANTS = frozenset({"True", "False", "None"})


class Stretch(NamedTuple):
    """A part of one line, in characters, of a class: k(eyword), s(tring), c(omment), n(umber), d(efined name), a (decorator)."""

    start: int
    end: int
    kind: str


def highlight(lines: Sequence[str]) -> list[list[Stretch]]:
    """The stretches of each line, in order. What cannot be read as Python has none."""
    found: list[list[Stretch]] = [[] for _ in lines]
    source = iter([line.rstrip("\r\n") + "\n" for line in lines])
    before, first = "", True
    try:
        for token in tokenize.generate_tokens(lambda: next(source, "")):
            if kind := _kind(token, before, first):
                _mark(found, lines, token, kind)
            if token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
                first = token.type == tokenize.NEWLINE
                before = token.string
    except (SyntaxError, tokenize.TokenError):
        pass
    return found


def _kind(token: tokenize.TokenInfo, before: str, first: bool) -> str:
    name = tokenize.tok_name[token.type]
    if name in _STRINGS:
        return "s"
    if name == "COMMENT":
        return "c"
    if name == "NUMBER":
        return "n"
    if name == "NAME":
        if before in ("def", "class"):
            return "d"
        if token.string in _CONSTANTS:
            return "n"
        if before != "." and keyword.iskeyword(token.string):
            return "k"
        return "a" if before == "@" else ""
    return "a" if token.string == "@" and first else ""


def _mark(found: list[list[Stretch]], lines: Sequence[str], token: tokenize.TokenInfo, kind: str) -> None:
    (row, column), (last, end) = token.start, token.end
    for number in range(row, min(last, len(lines)) + 1):
        length = len(lines[number - 1].rstrip("\r\n"))
        start = column if number == row else 0
        stop = min(end if number == last else length, length)
        if start < stop:
            found[number - 1].append(Stretch(start, stop, kind))
