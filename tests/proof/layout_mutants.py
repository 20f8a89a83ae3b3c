"""Damage to the layout of the file."""

import io
import re
import tokenize
from collections.abc import Iterator

from tests.proof.operators import OWN, found, operator, region_end, simple


@operator
def other_line_ends(text: str) -> Iterator[str]:
    yield text.replace("\n", "\r\n")
    yield text.replace("\n", "\r\n", 1)


@operator
def a_byte_order_mark(text: str) -> Iterator[str]:
    yield "\ufeff" + text


@operator
def another_end_of_the_file(text: str) -> Iterator[str]:
    yield text.rstrip("\n") if text.endswith("\n") else text + "\n"
    yield text + "\n\n"


@operator
def white_space_behind_a_line(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"\S$")):
        if not OWN.search(lines[at]):
            lines[at] += "  "
            yield "\n".join(lines)


@operator
def white_space_inside_a_line(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^[^\"'#]* = [^\"'#]*$")):
        if not OWN.search(lines[at]):
            lines[at] = lines[at].replace(" = ", "  =  ", 1)
            yield "\n".join(lines)


@operator
def drop_an_empty_line(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^$")):
        if 0 < at < len(lines) - 1:
            del lines[at]
            yield "\n".join(lines)


@operator
def add_an_empty_line(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^\S")):
        lines.insert(at + 1, "")
        yield "\n".join(lines)


@operator
def other_quotes(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and re.fullmatch(r'"[^"\'\\\n]+"', token.string):
            lines = text.split("\n")
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + "'" + token.string[1:-1] + "'" + line[column + len(token.string) :]
            if not OWN.search(line):
                yield "\n".join(lines)


@operator
def move_a_comment(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *#")):
        if at + 2 < len(lines) and lines[at + 1].strip() and "#" not in lines[at + 1] and simple(lines[at + 1]):
            lines[at : at + 2] = [lines[at + 1], lines[at]]
            yield "\n".join(lines)


@operator
def indent_otherwise(text: str) -> Iterator[str]:
    """The body of a function deeper than it was."""
    for lines, at in found(text, re.compile(r"^def .*:$")):
        end = region_end(lines, at)
        if '"""' not in "\n".join(lines[at:end]):
            lines[at + 1 : end] = ["  " + line if line.strip() else line for line in lines[at + 1 : end]]
            yield "\n".join(lines)
