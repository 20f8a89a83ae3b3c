"""The standard streams, as they really are: closed, broken, full or unable to spell a file name."""

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import IO, Any, NoReturn


class StreamError(Exception):
    """A standard stream that cannot be used; one line for people."""


def printable(text: str) -> str:
    """The text on one line, without characters that could move a terminal's cursor, colour it or reorder its text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def read_input() -> bytes:
    """All of standard input. Raises StreamError."""
    if sys.stdin is None:
        raise StreamError("standard input is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise StreamError(f"cannot read standard input: {error.strerror}") from error


def write_output(data: bytes) -> None:
    """Write code or a report to standard output. Raises StreamError, but not for a reader who has seen enough."""
    if not data:
        return
    if sys.stdout is None:
        raise StreamError("standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _discard_from_now_on(sys.stdout)
    except OSError as error:
        _discard_from_now_on(sys.stdout)
        raise StreamError(f"cannot write to standard output: {error.strerror}") from error


def write_diff(data: bytes, *, coloured: bool = False) -> None:
    """Write a diff to standard output: byte for byte, as tools take it, but harmless on a terminal, and where it is coloured.
    Raises StreamError."""
    if data and sys.stdout is not None and (coloured or sys.stdout.isatty()):
        lines = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n").split("\n")
        shown: Iterable[str] = ("\t".join(map(printable, line.split("\t"))) for line in lines)
        if coloured:
            from ampify.report import colour

            shown = colour.paint(shown)
        data = "\n".join(shown).encode(sys.stdout.encoding, "backslashreplace")
    write_output(data)


def write_text(line: str) -> None:
    """Print one line for people to standard error, whatever is in it; where that is closed or full, there is nobody to tell."""
    if sys.stderr is None:
        return
    try:
        # Python opens standard error with backslashreplace: a name that it cannot encode is shown escaped.
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()
    except OSError:
        _discard_from_now_on(sys.stderr)


def leave(code: int) -> NoReturn:
    """End the process without taking it apart: to free each object of the libraries in turn takes as long as a conversion.
    What is written to the streams is flushed at once, and files are closed where they are written."""
    os._exit(code)


def discard_output() -> None:
    """Drop what standard output still holds, and what may come."""
    if sys.stdout is not None:
        _discard_from_now_on(sys.stdout)


def _discard_from_now_on(stream: IO[Any]) -> None:
    """Point the stream at nothing, so that neither the files still to come nor the exit of Python trip over it."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
