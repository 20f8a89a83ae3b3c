"""What a verification came to, for people: a table, the reasons, the loss."""

from collections.abc import Iterator, Sequence

from ampify.report.streams import printable
from ampify.verify.compare import EXACT, Comparison, Row
from ampify.verify.judge import percent
from ampify.verify.plot import plot
from ampify.verify.records import Run

HEADERS = ("mode", "verdict", "gradients", "skipped", "ms/step", "peak MiB")


def lines(comparison: Comparison, steps: int) -> Iterator[str]:
    """The report, in plain text."""
    original = comparison.original
    if not comparison.rows:
        yield from summary(comparison, steps)
        return
    yield from _table([HEADERS, original_cells(comparison), *map(cells, comparison.rows)])
    for row in comparison.rows:
        said = [*row.verdict.reasons, *row.verdict.notes]
        if said:
            yield ""
            yield f"{row.mode}: {row.verdict.word}"
            yield from (f"  {printable(each)}" for each in said)
        yield from (f"  | {printable(each)}" for each in row.run.errors)
    curves: dict[str, Sequence[float]] = {"original": original.losses()}
    curves |= {row.mode: row.run.losses() for row in comparison.rows if row.verdict.word != "identical" and row.run.losses()}
    if drawn := plot(curves):
        yield ""
        yield f"loss at each step of {original.first()[0].kind}, in {original.first()[0].place}"
        yield from drawn
    yield ""
    yield from summary(comparison, steps)


def original_cells(comparison: Comparison) -> tuple[str, ...]:
    """The first row of the table."""
    return ("original", "", "", *_costs(comparison.original, comparison.original.skipped))


def cells(row: Row) -> tuple[str, ...]:
    """The row of a mode."""
    verdict = row.verdict
    if row.mode in EXACT:
        gradients = f"{_steps(verdict.steps)}, bit by bit" if verdict.word == "identical" else ""
    elif verdict.distance is None or verdict.limit is None:
        gradients = ""
    else:
        gradients = f"{percent(verdict.distance)} off, {percent(verdict.limit)} allowed"
    return (row.mode, verdict.word, gradients, *_costs(row.run, row.skipped))


def _costs(run: Run, skipped: int) -> tuple[str, str, str]:
    seconds = run.seconds
    return (
        str(skipped),
        "" if seconds is None else f"{seconds * 1000:.1f}",
        f"{run.memory / 2**20:.0f}" if run.memory else "",
    )


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(w) if number < 3 else cell.rjust(w) for number, (cell, w) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()


def summary(comparison: Comparison, steps: int) -> Iterator[str]:
    """What it comes to; where there was nothing to compare with, with the last lines that the original wrote."""
    original = comparison.original
    if original.failure:
        yield f"the original fails, so there is nothing to compare with: {original.failure}"
        yield from (f"  | {printable(each)}" for each in original.errors)
    elif not comparison.rows:
        yield "the original made no step of an optimizer of torch's, so there is nothing to compare with"
    else:
        yield _outcome(comparison, steps)


def _outcome(comparison: Comparison, steps: int) -> str:
    original = comparison.original
    seen = max(step.attempt for step in original.all()) + 1
    where = f"{_steps(seen)} on {original.device}"
    if seen < steps:
        where += f" (the script makes no more than that, of {steps})"
    if comparison.good:
        return f"The conversion trains the same: {where}."
    said = {"different": "does NOT train the same in", "failed": "does NOT run in"}
    modes = {word: [row.mode for row in comparison.rows if row.verdict.word == word] for word in said}
    if wrong := [f"{said[word]} {', '.join(found)}" for word, found in modes.items() if found]:
        return f"The conversion {', and '.join(wrong)}: {where}."
    return f"Nothing is proved, as the script is not repeatable: {where}."
