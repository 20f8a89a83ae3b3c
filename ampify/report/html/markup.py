"""Text as HTML: escaped, coloured, with what cannot be seen made visible."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from ampify.report.html.highlight import Stretch, highlight
from ampify.report.streams import printable

LONGEST = 2_000  # characters of a line that are shown: some files hold their data in one

_LABEL = re.compile(r"(?:(?:What|Why) it [a-z ]+|What was seen|What helps|Before|After|Safety|Source|By hand)[^:.]*:\s*")
_CODE = re.compile(r"`([^`]+)`")


def text(said: str) -> str:
    """Words of ours, in which other people's may be quoted; what stands in backquotes is code."""
    parts = _CODE.split(printable(said))
    return "".join(f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(parts))


def sentence(said: str) -> str:
    """The same, beginning with a capital."""
    return text(said[:1].upper() + said[1:])


def line(shown: str, stretches: Sequence[Stretch] = (), marks: Sequence[tuple[int, int]] = ()) -> str:
    """One line of code, with its colours, and `marks` where it differs from the line beside it."""
    code = shown.rstrip("\r\n")
    end = "" if len(code) < len(shown) else '<span class="odd">no line end</span>'
    if len(code) > LONGEST:
        end = f'<span class="odd">{len(code) - LONGEST:,} characters more</span>'
        code = code[:LONGEST]
    spans = [Stretch(start, stop, "mark") for start, stop in marks]
    places = {min(place, len(code)) for each in (*stretches, *spans) for place in (each.start, each.end)}
    out: list[str] = []
    marked = False
    colour, mark = _Cursor(stretches), _Cursor(spans)
    for start, stop in pairwise(sorted(places | {0, len(code)})):
        if bool(mark.at(start)) != marked:
            marked = not marked
            out.append("<mark>" if marked else "</mark>")
        part = _visible(code[start:stop])
        kind = colour.at(start)
        out.append(f'<span class="{kind}">{part}</span>' if kind else part)
    return "".join(out) + ("</mark>" if marked else "") + end


def packed(lines: Sequence[str], colours: Sequence[Sequence[Stretch]]) -> tuple[str, str]:
    """Lines for an attribute, and their colours for another: how far a stretch is from the one before, how long it is, and its
    kind. What has unprintable characters, or is very long, has no colours."""
    texts: list[str] = []
    kinds: list[str] = []
    for shown, stretches in zip(lines, colours, strict=True):
        code = shown.rstrip("\r\n")
        plain = code.replace("\t", "").isprintable() and len(code) <= LONGEST
        at, said = 0, ""
        for stretch in stretches if plain else ():
            said += f"{stretch.start - at}_{stretch.end - stretch.start}{stretch.kind}"
            at = stretch.end
        texts.append(escape("\t".join(map(printable, code[:LONGEST].split("\t")))) + ("" if len(code) <= LONGEST else "…"))
        kinds.append(said)
    return "\n".join(texts), " ".join(kinds)


def block(code: str) -> str:
    """A piece of Python of several lines."""
    lines = code.splitlines(keepends=True)
    coloured = (line(each.rstrip("\n") + "\n", found) for each, found in zip(lines, highlight(lines), strict=True))
    return "<pre><code>" + "\n".join(coloured) + "</code></pre>"


def manual(page: str) -> Iterator[str]:
    """A page of the manual: paragraphs, and code where it is indented."""
    code: list[str] = []
    for part in [*page.split("\n\n"), ""]:
        if part.startswith("    "):
            code.append(part)
            continue
        if code:
            yield block(_dedented("\n\n".join(code)))
            code = []
        if part:
            label = _LABEL.match(part)
            lead = f"<b>{escape(label[0])}</b>" if label else ""
            yield f"<p>{lead}{text(' '.join(part[label.end() if label else 0 :].split()))}</p>"


class _Cursor:
    """Says what kind of stretch a place is in; places are asked for in order."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._left = sorted(stretches, reverse=True)

    def at(self, place: int) -> str:
        while self._left and self._left[-1].end <= place:
            self._left.pop()
        return self._left[-1].kind if self._left and self._left[-1].start <= place else ""


def _visible(part: str) -> str:
    """Code whose unprintable characters are shown as escapes: they could reorder what a reviewer sees."""
    if part.isprintable():
        return escape(part)
    return "".join(
        escape(c) if c.isprintable() or c == "\t" else f'<span class="odd">{escape(printable(c))}</span>' for c in part
    )


def _dedented(code: str) -> str:
    return "\n".join(row.removeprefix("    ") for row in code.split("\n"))
