"""Colours of a diff on a terminal."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Literal

Choice = Literal["auto", "always", "never"]

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_REASON = re.compile(r"(# AMP\d{3})(.*)")
_BOLD, _RED, _GREEN, _YELLOW, _CYAN, _OFF = (f"\x1b[{code}m" for code in ("1", "31", "32", "33", "36", "0"))


def wanted(choice: Choice) -> bool:
    """Whether standard output is to be coloured: `auto`, on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    if choice != "auto":
        return choice == "always"
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a diff in colours. Which of them are headers is known by the counts of the hunks alone: a line that is taken
    out may begin like one."""
    old = new = 0  # lines that are left of the hunk
    for line in lines:
        sign = line[:1]
        if sign == "\\":
            yield line
        elif old > 0 or new > 0:
            old -= sign != "+"
            new -= sign != "-"
            yield _in(_GREEN if sign == "+" else _RED if sign == "-" else "", line)
        elif found := _HUNK.match(line):
            old, new = (1 if count is None else int(count) for count in found.groups())
            yield _in(_CYAN, line)
        elif reason := _REASON.match(line):
            yield _in(_BOLD + _YELLOW, reason[1]) + _in(_YELLOW, reason[2])
        else:
            yield _in(_BOLD, line)


def _in(colour: str, text: str) -> str:
    return f"{colour}{text}{_OFF}" if colour and text else text
