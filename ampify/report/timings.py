"""Where the time of a run went, for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from time import perf_counter

from ampify.clock import STAGES
from ampify.job import Outcome

NAMES = {
    "read": "reading and parsing",
    "analysis": "analysis",
    "plan": "planning",
    "rules": "rules for numeric hazards",
    "render": "rendering, with the import of libcst",
    "others": "files rewritten with it",
    "proof": "proof",
}


class Stopwatch:
    """Adds up what conversions took, in however many processes, since it was made."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self._stages: defaultdict[str, float] = defaultdict(float)
        self._files = 0

    def measured(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Hands outcomes on, with a look at what each took."""
        for outcome in outcomes:
            self._files += bool(outcome.result.timings)
            for stage, seconds in outcome.result.timings:
                self._stages[stage] += seconds
            yield outcome

    def lines(self) -> list[str]:
        """A line a stage, with its share, and the time on the clock."""
        total = sum(self._stages.values())
        found = [f"{'stage':<38} {'ms':>9} {'share':>6}"] if total else []
        for stage in (s for s in STAGES if s in self._stages):
            found.append(f"{NAMES[stage]:<38} {self._stages[stage] * 1e3:>9.1f} {self._stages[stage] / total:>6.0%}")
        passed = (perf_counter() - self._started) * 1e3
        files = f"{self._files} file{'s' * (self._files != 1)} looked into"
        return [*found, f"{files}: {total * 1e3:.1f} ms of work; {passed:.1f} ms on the clock, without start-up"]
