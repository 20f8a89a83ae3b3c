"""The text of the files that a report shows."""

import io
import re
import tokenize
from typing import NamedTuple

from ampify import files
from ampify.job import Outcome

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Text(NamedTuple):
    """A file as text: its lines with their ends, as Python counts them, without a byte order mark; and how it is encoded."""

    lines: tuple[str, ...]
    encoding: str


def original(outcome: Outcome) -> bytes:
    """The file as it was before ampify, or empty: of files that are left alone the outcome has no bytes, but they are there."""
    return outcome.before or (files.read_optional(outcome.path) if outcome.result.status != "converted" else None) or b""


def decoded(data: bytes) -> Text:
    """The text of a file, whatever is in it: what cannot be decoded is shown as escapes."""
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        text = data.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError):
        encoding, text = "utf-8", data.decode("utf-8", "backslashreplace")
    return Text(tuple(_LINE.findall(text)), encoding.removesuffix("-sig"))
