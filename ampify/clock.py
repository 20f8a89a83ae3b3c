"""Clock: what the stages of a conversion take."""

from __future__ import annotations

from time import perf_counter

STAGES = ("read", "analysis", "plan", "rules", "render", "others", "proof")  # in their order; `others`: files rewritten with it
Timings = tuple[tuple[str, float], ...]  # stages, with seconds


class Clock:
    """Measures from one lap to the next; a stage may have several."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}
        self._since = perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a lap, which was spent on a stage."""
        now = perf_counter()
        self._stages[stage] = self._stages.get(stage, 0.0) + now - self._since
        self._since = now

    def timings(self) -> Timings:
        """The stages so far, in seconds."""
        return tuple(self._stages.items())
