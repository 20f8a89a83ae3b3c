"""Operators: damage to converted scripts. Each gives the ways in which it can spoil one, as new texts."""

import re
from collections.abc import Callable, Iterator

Operator = Callable[[str], Iterator[str]]
OPERATORS: dict[str, Operator] = {}

UPDATE = re.compile(r"^ *scaler\.update\(\)$")
UNSCALE = re.compile(r"^ *scaler\.unscale_\((.+)\)$")
STEP = re.compile(r"^ *scaler\.step\((.+)\)$")
REGION = re.compile(r"^ *with autocast\(\):$")
IMPORT = re.compile(r"^from ampify_runtime import .*$")
OWN = re.compile(r"scaler|autocast|ampify_runtime|full_precision|_bwd\b|_fwd\b")


def operator(function: Operator) -> Operator:
    OPERATORS[function.__name__.replace("_", " ")] = function
    return function


def indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def found(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[list[str], int]]:
    """A fresh list of the lines, and the number of one that matches, for each that does."""
    for number, line in enumerate(text.split("\n")):
        if pattern.search(line):
            yield text.split("\n"), number


def removing(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for lines, at in found(text, pattern):
        del lines[at]
        yield "\n".join(lines)


def region_end(lines: list[str], at: int) -> int:
    """One past the last line of the region that begins in line `at`."""
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or indent(lines[end]) > indent(lines[at])):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def simple(line: str) -> bool:
    """Whether a line is a statement of its own, as far as looks tell."""
    text = line.strip()
    if (
        not text
        or text.startswith(("#", "@", ")", "]", "}", "'", '"', "import ", "from "))
        or text.endswith((":", ",", "(", "[", "{", "\\"))
    ):
        return False
    return text.count("(") == text.count(")") and text.count("[") == text.count("]") and '"""' not in text
