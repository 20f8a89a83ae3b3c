"""The runs of a verification, one mode after the other, and what they come to."""

from collections.abc import Callable
from typing import NamedTuple

from ampify.verify import judge
from ampify.verify.judge import Verdict
from ampify.verify.pair import Pair
from ampify.verify.records import Run
from ampify.verify.runs import Runner

EXACT = ("off", "scale-only")
HALF = {"fp16": "float16", "bf16": "bfloat16"}  # the modes in half precision, with torch's names of their dtypes
MODES = (*EXACT, *HALF)
EXACT_SCALE = 1024.0
RETRIES, FAR_BELOW = 3, 256.0


class Row(NamedTuple):
    """A mode, its run, and the verdict on that. `skipped` are the steps left out at the scale that the script begins with."""

    mode: str
    run: Run
    verdict: Verdict
    skipped: int


class Comparison(NamedTuple):
    """The original's run, and those of its conversion in each mode."""

    original: Run
    rows: tuple[Row, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the conversion trains the same, in all modes that were asked for."""
        return bool(self.rows) and all(row.verdict.good for row in self.rows)


class _Verification:
    def __init__(self, pair: Pair, runner: Runner) -> None:
        self._pair, self._runner = pair, runner
        self.original = runner.run("original", pair.original, {}, "--keep", runner.kept)
        self._repeatable: bool | None = None  # unknown until there is reason to ask

    def row(self, mode: str) -> Row:
        """Runs the conversion in a mode."""
        if mode in EXACT:
            first = run = self._converted(mode, EXACT_SCALE)
            verdict = judge.exact(self.original, run, scaled=mode == "scale-only")
        else:
            run, first = self._in_half(mode)
            verdict = self._near(mode, run)
            if first.skipped:
                verdict = verdict._replace(notes=(*verdict.notes, _overflows(first, run)))
        if verdict.word == "different" and not self._is_repeatable():
            why = "the original differs from itself when it is run again: that says nothing of the conversion"
            verdict = verdict._replace(word="not repeatable", reasons=(why, *verdict.reasons))
        return Row(mode, run, verdict, first.skipped)

    def _near(self, mode: str, run: Run) -> Verdict:
        verdict = judge.near(self.original, run, mode)
        far = verdict.distance is not None and verdict.limit is not None and verdict.distance > verdict.limit
        if not (far and self._is_repeatable()) and not run.failure:
            return verdict
        extra = ("--reference", self._runner.kept, "--rounding", HALF[mode])
        rounded = self._runner.run("rounding alone", self._pair.original, {}, *extra)
        if run.failure and run.errors[-1:] == rounded.errors[-1:]:
            return verdict._replace(notes=("the original fails in the same way with autocast round its modules",))
        floors = [step.distance[0] for step in rounded.all() if step.distance is not None]
        return judge.near(self.original, run, mode, 0.0 if rounded.failure else max(floors, default=0.0))

    def _in_half(self, mode: str) -> tuple[Run, Run]:
        """A run whose first gradients can be compared, and the first one: that may begin with steps that overflow, while the
        scale is too high. Then the lowest scale that it came to is begun with, or one far below if it never stepped."""
        first = run = self._converted(mode, self._runner.request.scale)
        for _ in range(RETRIES):
            firsts = [step for step in run.all() if step.attempt == 0]
            if run.failure or all(step.taken for step in firsts):
                break
            lower = min((step.scale for step in run.all() if step.taken and step.scale), default=None)
            begun = min((step.scale for step in firsts if step.scale), default=1.0)
            run = self._converted(mode, max(1.0, begun / FAR_BELOW if lower is None else min(lower, begun / 2)))
        return run, first

    def _converted(self, mode: str, scale: float) -> Run:
        environment = {"AMPIFY_MODE": mode, "AMPIFY_DEVICE": self.original.device, "AMPIFY_INIT_SCALE": f"{scale:.0f}"}
        extra = ("--reference", self._runner.kept) if mode in HALF else ()
        return self._runner.run(mode, self._pair.converted, environment, *extra)

    def _is_repeatable(self) -> bool:
        """Whether the original does the same when it is run again."""
        if self._repeatable is None:
            again = self._runner.run("original again", self._pair.original, {})
            self._repeatable = judge.exact(self.original, again).word == "identical"
        return self._repeatable


def compare(
    pair: Pair,
    modes: tuple[str, ...],
    runner: Runner,
    told: Callable[[Row], None],
) -> Comparison:
    """Runs both programs and compares them; each row is told as it is known. Without a row, the original could not be followed:
    it fails, or never steps."""
    work = _Verification(pair, runner)
    if work.original.failure or not any(True for _ in work.original.all()):
        return Comparison(work.original)
    rows = []
    for mode in modes:
        rows.append(work.row(mode))
        told(rows[-1])
    return Comparison(work.original, tuple(rows))


def _overflows(first: Run, run: Run) -> str:
    """What is to be said of steps that were left out while the loss scale was too high."""
    scales = [step.scale for step in first.all() if step.scale]
    count = f"{first.skipped} {'step' if first.skipped == 1 else 'steps'} left out, as gradients overflowed"
    told = f"{count} at a loss scale of {scales[0]:g}, which is normal at the beginning"
    if first is run:
        return f"{told}; from there on it is behind the original"
    again = next((step.scale for step in run.all() if step.scale), 0.0)
    return f"{told}; compared in a run that begins at {again:g}"
