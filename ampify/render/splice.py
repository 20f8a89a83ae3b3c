"""splice(source, splices, names) -> bytes: text put round stretches of the source, whose every other byte stays; replace: text in
their place."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping, Sequence

from ampify.plan.edits import Replace, Splice

BOM = b"\xef\xbb\xbf"


def splice(source: bytes, splices: Sequence[Splice], names: Mapping[str, str]) -> bytes:
    """The source with the texts of the splices; those of a wider stretch go outside of those of one inside it."""
    if not splices:
        return source
    lines, mark, encoding = _lines(source)
    at: dict[tuple[int, int], list[tuple[tuple[int, ...], str]]] = {}
    for order, one in enumerate(dict.fromkeys(splices)):
        # At one place closing texts come before opening ones; of two stretches that begin or end there, the longer is outside.
        length = (one.end[0] - one.start[0], one.end[1] - one.start[1])
        if one.before:
            at.setdefault(one.start, []).append(((1, -length[0], -length[1], order), one.before))
        if one.after:
            at.setdefault(one.end, []).append(((0, *length, order), one.after))
    for (line, column), texts in sorted(at.items(), reverse=True):
        text = "".join(text for _, text in sorted(texts)).format(**names).encode()
        row = lines[line - 1]
        if text.endswith(b"\n"):  # a line of its own, indented as the one that it goes above
            text = text.removesuffix(b"\n") + row[len(row.rstrip(b"\r\n")) :] + row[:column]
        lines[line - 1] = row[:column] + text + row[column:]
    return mark + b"".join(lines).decode().encode(encoding)


def replace(source: bytes, edits: Sequence[Replace]) -> bytes:
    """The source with stretches replaced that do not overlap; texts for one place go there in the order given."""
    if not edits:
        return source
    lines, mark, encoding = _lines(source)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    data, pieces, at = b"".join(lines), list[bytes](), 0
    for edit in sorted(dict.fromkeys(edits), key=lambda e: (e.start, e.end)):
        first, last = (starts[line - 1] + column for line, column in (edit.start, edit.end))
        if first < at:
            raise ValueError(f"edits overlap in line {edit.start[0]}")
        pieces += [data[at:first], edit.text.encode()]
        at = last
    return mark + b"".join([*pieces, data[at:]]).decode().encode(encoding)


def _lines(source: bytes) -> tuple[list[bytes], bytes, str]:
    """The lines of a source in UTF-8, its byte order mark and its encoding."""
    encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0].removesuffix("-sig")
    mark = BOM if source.startswith(BOM) else b""
    return source.removeprefix(BOM).decode(encoding).encode().splitlines(keepends=True), mark, encoding
