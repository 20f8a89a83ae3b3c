"""One file of the page: its lines before and after, side by side, with what is said of them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ampify.diagnostics import Diagnostic, Severity
from ampify.files import UNREADABLE, UNWRITABLE
from ampify.job import BUG, Outcome
from ampify.report.html import markup, sides
from ampify.report.html.highlight import Stretch, highlight
from ampify.report.html.sides import Hunk, Row
from ampify.report.sources import decoded, original

LONGEST_GAP = 2_000  # lines that are there to be opened: a page is no archive
_WHOLE_FILE = frozenset({BUG, UNREADABLE, UNWRITABLE})


class Said(NamedTuple):
    """What is said at a place: of an edit, or a diagnostic by its severity."""

    kind: str
    code: str
    first: int
    last: int
    message: str
    help: str
    anchor: str


class File(NamedTuple):
    """What a file comes to on the page: its body, how many edits there are, findings of each severity, lines new and gone."""

    body: str
    edits: int
    findings: Counter[Severity]
    added: int
    removed: int


def render(outcome: Outcome, known: set[str]) -> File:
    """The body of a file's section. The first of each kind on the page has an anchor; `known` are those that have been."""
    result = outcome.result
    both = result.status == "converted"
    before = decoded(outcome.before if both else original(outcome)).lines
    after = decoded(result.output).lines if both else before
    edits = [Said("edit", e.code, e.line, e.end_line, e.message, "", _anchor("edit", e.code, known)) for e in result.edits]
    findings = [
        Said(d.severity, d.code, d.line, d.line, d.message, d.help, _anchor("finding", d.code, known)) for d in result.diagnostics
    ]
    apart = [s for d, s in zip(result.diagnostics, findings, strict=True) if not _has_place(d, before)]
    placed = [s for s in findings if s not in apart]
    rows = sides.rows(before, after)
    hunks = sides.hunks(rows, {said.first for said in placed}, before)
    table = _Table(before, after, both, rows, _above(rows, edits), placed)
    body = "".join(f'<div class="apart">{_paragraph(said)}</div>' for said in apart) + "".join(table.render(hunks))
    added = sum(row.changed and row.new is not None for row in rows)
    removed = sum(row.changed and row.old is not None for row in rows)
    return File(body, len(edits), Counter(d.severity for d in result.diagnostics), added, removed)


def _anchor(kind: str, code: str, known: set[str]) -> str:
    anchor = f"{kind}-{code}"
    if anchor in known:
        return ""
    known.add(anchor)
    return anchor


def _has_place(diagnostic: Diagnostic, before: Sequence[str]) -> bool:
    """Whether a diagnostic is about a line that there is."""
    return diagnostic.code not in _WHOLE_FILE and diagnostic.line <= len(before)


def _above(rows: Sequence[Row], edits: Iterable[Said]) -> dict[int, list[Said]]:
    """What is said above which row: of each change all its edits, at its beginning."""
    changed = [number for number, row in enumerate(rows) if row.changed]
    starts = {number: number if not number or not rows[number - 1].changed else -1 for number in changed}
    for number in changed:
        if starts[number] < 0:
            starts[number] = starts[number - 1]
    found: dict[int, list[Said]] = defaultdict(list)
    for edit in edits if changed else ():
        nearest = min(changed, key=lambda n: max(edit.first - rows[n].at, rows[n].at - edit.last, 0))
        found[starts[nearest]].append(edit)
    return found


class _Table:
    """The lines of a file, in two columns (or in one, of a file that stays as it is)."""

    def __init__(
        self,
        before: Sequence[str],
        after: Sequence[str],
        both: bool,
        rows: Sequence[Row],
        above: dict[int, list[Said]],
        placed: Iterable[Said],
    ) -> None:
        self._before, self._after, self._both, self._rows = before, after, both, rows
        self._colours = highlight(before), highlight(after) if both else []
        self._above = above
        self._below: dict[int, list[Said]] = defaultdict(list)  # by the line, from 1
        for said in placed:
            self._below[said.first].append(said)
        self._width = 4 if both else 2

    def render(self, hunks: Sequence[Hunk]) -> Iterator[str]:
        """The table; nothing if no line is worth showing."""
        if not hunks:
            return
        names = ("Line", "Before", "Line", "After") if self._both else ("Line", "Code")
        heads = "".join(f'<th scope="col">{name}</th>' for name in names)
        yield f'<table class="code{"" if self._both else " one"}"><thead><tr>{heads}</tr></thead><tbody>'
        number = 0
        for hunk in hunks:
            if hunk.hidden:
                yield self._gap(hunk, self._rows[number : number + hunk.hidden])
                number += hunk.hidden
            for row in hunk.rows:
                if number in self._above:
                    yield self._say(self._above[number])
                yield self._row(row)
                if row.old is not None and row.old + 1 in self._below:
                    yield self._say(self._below[row.old + 1])
                number += 1
        yield "</tbody></table>"

    def _gap(self, hunk: Hunk, rows: Sequence[Row]) -> str:
        """What is not shown, as nothing in it is changed: in attributes, of which the page's program makes rows if asked."""
        count = f"{hunk.hidden:,} line{'s' * (hunk.hidden != 1)}"
        scope = f" <code>{markup.line(hunk.scope + chr(10))}</code>" if hunk.scope else ""
        data = ""
        if hunk.hidden <= LONGEST_GAP:
            numbers = [row.old for row in rows if row.old is not None]
            text, colours = markup.packed([self._before[n] for n in numbers], [self._colours[0][n] for n in numbers])
            new = f' data-new="{(rows[0].new or 0) + 1}"' if self._both else ""
            data = f' data-old="{numbers[0] + 1}"{new} data-lines="{text}" data-colours="{colours}"'
        return f'<tr class="gap"{data}><td colspan="{self._width}"><span class="more">{count}</span>{scope}</td></tr>'

    def _say(self, said: Sequence[Said]) -> str:
        return f'<tr class="said {said[0].kind}"><td colspan="{self._width}">{"".join(map(_paragraph, said))}</td></tr>'

    def _row(self, row: Row) -> str:
        if not self._both:
            assert row.old is not None
            return f"<tr>{_number(row.old)}<td>{markup.line(self._before[row.old], self._colours[0][row.old])}</td></tr>"
        marks: tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]] = ((), ())
        if row.changed and row.old is not None and row.new is not None:
            marks = sides.differences(self._before[row.old], self._after[row.new])
        real = row.changed and not row.indented
        old = self._side(row.old, self._before, self._colours[0], marks[0], "del" if real else "")
        new = self._side(row.new, self._after, self._colours[1], marks[1], "ins" if real else "shift" if row.indented else "")
        return ('<tr class="changed">' if real else "<tr>") + f"{old}{new}</tr>"

    @staticmethod
    def _side(
        number: int | None, lines: Sequence[str], colours: Sequence[list[Stretch]], marks: Sequence[tuple[int, int]], kind: str
    ) -> str:
        if number is None:
            return '<td class="ln"></td><td class="none"></td>'
        shown = markup.line(lines[number], colours[number], marks)
        return _number(number) + (f'<td class="{kind}">' if kind else "<td>") + f"{shown}</td>"


def _number(line: int) -> str:
    return f'<td class="ln" data-n="{line + 1}"></td>'


def _paragraph(said: Said) -> str:
    lines = f"line {said.first}" if said.first == said.last else f"lines {said.first}–{said.last}"  # noqa: RUF001
    remedy = f'<span class="help">{markup.sentence(said.help)}</span>' if said.help else ""
    severity = f'<span class="severity">{said.kind}</span> ' if said.kind != "edit" else ""
    anchor = f' id="{said.anchor}"' if said.anchor else ""
    return (
        f'<p class="say {said.kind}"{anchor} tabindex="-1"><a class="id" href="#{said.code}">{said.code}</a> {severity}'
        f'<span class="what">{markup.sentence(said.message)}{remedy}</span> <span class="where">{lines}</span></p>'
    )
