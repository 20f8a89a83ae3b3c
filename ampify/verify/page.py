"""What a verification came to, as one page that needs nothing else: no script, no font, no network."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from ampify.verify.compare import Comparison
from ampify.verify.text import HEADERS, cells, original_cells, summary

WIDTH, HEIGHT, EDGE = 720, 280, 48
COLOURS = ("--ink", "--one", "--two", "--three", "--four")  # of the curves, the original's first

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d5d9de; --dim: #667080;
  --good: #116329; --bad: #b3261e; --one: #0b62c4; --two: #b35c00; --three: #7a3fb0; --four: #00796b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #16181c; --line: #3a3f47; --dim: #9aa4b2;
  --good: #6fcf87; --bad: #ff8a80; --one: #74b3ff; --two: #ffb366; --three: #cda0ff; --four: #5fd3c4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .25rem 0; } .good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(n+4), td:nth-child(n+4) { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 4px; font-size: .85rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 12px; } svg .axis { stroke: var(--line); }
.key { display: inline-block; width: 1.5em; height: 3px; vertical-align: middle; margin-right: .4em; }
.keys span { margin-right: 1.25em; white-space: nowrap; }
"""


def render(comparison: Comparison, script: str, steps: int) -> bytes:
    """The page, in UTF-8."""
    return "\n".join(_page(comparison, script, steps)).encode("utf-8", "backslashreplace")


def _page(comparison: Comparison, script: str, steps: int) -> Iterator[str]:
    name = escape(script)
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>ampify verify {name}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>ampify verify {name}</h1>"
    kind = "good" if comparison.good else "bad"
    for number, line in enumerate(summary(comparison, steps)):
        yield f'<p class="{kind}"><strong>{escape(line)}</strong></p>' if not number else f"<pre>{escape(line)}</pre>"
    if comparison.rows:
        yield from _table(comparison)
        yield from _reasons(comparison)
        yield from _curves(comparison)
    yield "</body></html>"
    yield ""


def _table(comparison: Comparison) -> Iterator[str]:
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th>{escape(header)}</th>" for header in HEADERS)
    yield "</tr></thead><tbody>"
    yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in original_cells(comparison)) + "</tr>"
    for row in comparison.rows:
        kind = "good" if row.verdict.good else "bad"
        shown = [f'<td class="{kind}">{escape(c)}</td>' if n == 1 else f"<td>{escape(c)}</td>" for n, c in enumerate(cells(row))]
        yield f"<tr>{''.join(shown)}</tr>"
    yield "</tbody></table></div>"


def _reasons(comparison: Comparison) -> Iterator[str]:
    for row in comparison.rows:
        if row.verdict.reasons or row.verdict.notes or row.run.errors:
            yield f"<h2>{escape(row.mode)}: {escape(row.verdict.word)}</h2>"
        yield from (f"<p>{escape(reason)}</p>" for reason in row.verdict.reasons)
        yield from (f'<p class="dim">{escape(note)}</p>' for note in row.verdict.notes)
        if row.run.errors:
            yield f"<pre>{escape(chr(10).join(row.run.errors))}</pre>"


def _curves(comparison: Comparison) -> Iterator[str]:
    curves = {"original": comparison.original.losses(), **{row.mode: row.run.losses() for row in comparison.rows}}
    points = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    most = max(map(len, curves.values()))
    if not points or most < 2:
        return
    low, high = min(points), max(points)
    span = (high - low) or 1.0

    def place(step: int, value: float) -> str:
        x = EDGE + step / (most - 1) * (WIDTH - 2 * EDGE)
        return f"{x:.1f},{HEIGHT - EDGE - (value - low) / span * (HEIGHT - 2 * EDGE):.1f}"

    yield f"<h2>Loss at each step of {escape(comparison.original.first()[0].kind)}</h2>"
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss curves">'
    bottom, right = HEIGHT - EDGE, WIDTH - EDGE
    yield f'<path class="axis" fill="none" d="M{EDGE},{EDGE} V{bottom} H{right}"/>'
    yield f'<text x="{EDGE - 6}" y="{EDGE + 4}" text-anchor="end">{high:.4g}</text>'
    yield f'<text x="{EDGE - 6}" y="{bottom + 4}" text-anchor="end">{low:.4g}</text>'
    yield f'<text x="{EDGE}" y="{bottom + 18}">step 1</text><text x="{right}" y="{bottom + 18}" text-anchor="end">{most}</text>'
    for number, curve in enumerate(curves.values()):
        # Curves that are the same would hide each other: the later, the thinner and the more broken.
        dashes = "" if not number else f' stroke-dasharray="{8 - number} {2 * number}"'
        for piece in _finite_pieces(curve):
            dots = " ".join(place(step, value) for step, value in piece)
            style = f"stroke: var({COLOURS[number % len(COLOURS)]}); stroke-width: {3 - number / 2}"
            yield f'<polyline fill="none" style="{style}"{dashes} points="{dots}"/>'
    yield '</svg><p class="keys">'
    for number, mode in enumerate(curves):
        key = f'<i class="key" style="background: var({COLOURS[number % len(COLOURS)]})"></i>'
        yield f"<span>{key}{escape(mode)}</span>"
    yield "</p>"


def _finite_pieces(curve: Sequence[float]) -> Iterator[list[tuple[int, float]]]:
    """The stretches of a curve that can be drawn."""
    piece: list[tuple[int, float]] = []
    for step, value in enumerate(curve):
        if math.isfinite(value):
            piece.append((step, value))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece
