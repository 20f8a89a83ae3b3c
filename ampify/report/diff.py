"""Unified diffs in the file's own bytes, as `git apply` takes them."""

import difflib
import os
from collections.abc import Iterator, Sequence

from ampify.convert import AppliedEdit
from ampify.job import Outcome
from ampify.report.paths import relative

_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


def render(outcome: Outcome, *, explain: bool = False) -> bytes:
    """The diff of one file, and of the runtime beside it; empty if it stays as it is. Paths are relative to the current
    directory.

    With `explain` the reasons of the edits stand above each hunk, in lines that begin with `#`, as no line of a diff does:
    without these lines it is the diff again, which git takes.
    """
    before, after = outcome.before, outcome.result.output
    if outcome.result.status != "converted" or before == after:
        return b""
    diff = _file(outcome.path, before, after, outcome.result.edits if explain else ())
    if outcome.copy is not None:
        old = outcome.copy.before
        diff += _file(outcome.copy.path, old.data if old is not None else None, outcome.copy.data)
    return diff


def _file(path: str, before: bytes | None, after: bytes, edits: Sequence[AppliedEdit] = ()) -> bytes:
    """The diff of one file; None: there was none before."""
    name = relative(path)
    old = b"/dev/null\n" if before is None else _header("a/" + name)
    hunks = list(_hunks(before or b"", after))
    if edits:
        from ampify.report.reasons import above

        hunks = [reasons + hunk for reasons, hunk in zip(above(hunks, edits), hunks, strict=True)]
    return b"".join([b"--- " + old, b"+++ " + _header("b/" + name), *hunks])


def _hunks(before: bytes, after: bytes) -> Iterator[bytes]:
    changes = difflib.unified_diff(_split(before), _split(after))
    next(changes, None)  # the two header lines, which difflib would not quote
    next(changes, None)
    hunk: list[bytes] = []
    for line in changes:
        if line.startswith("@@") and hunk:
            yield b"".join(hunk)
            hunk = []
        hunk.append(line.encode("latin-1"))
        if not line.endswith("\n"):
            hunk.append(b"\n\\ No newline at end of file\n")
    if hunk:
        yield b"".join(hunk)


def _split(data: bytes) -> list[str]:
    # Latin-1 gives every byte back. Only a newline ends a line: git does not know of form feeds and their like.
    *lines, last = data.decode("latin-1").split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def _header(name: str) -> bytes:
    """A name as git writes it: quoted like a C string if it has unusual bytes, and closed by a tab if it has spaces."""
    data = os.fsencode(name)
    quoted = "".join(
        "\\" + _ESCAPES[byte] if byte in _ESCAPES else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in data
    )
    spelled = data if quoted == name else f'"{quoted}"'.encode("ascii")
    return spelled + (b"\t\n" if b" " in data else b"\n")
