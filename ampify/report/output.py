"""A report for other programs, or as a page, on standard output."""

import importlib
from collections.abc import Iterable, Iterator

from ampify.job import Outcome
from ampify.report import streams


def write(report: str, outcomes: Iterable[Outcome], *, done: bool) -> Iterator[Outcome]:
    """Writes a report of the format, some of which can begin before the last outcome is known; hands the outcomes on."""
    seen: list[Outcome] = []

    def noted() -> Iterator[Outcome]:
        for outcome in outcomes:
            seen.append(outcome)
            yield outcome

    for part in importlib.import_module(f"ampify.report.{report}").render(noted(), done=done):
        streams.write_output(part)
    yield from seen
