"""Whether a run trained the same as the original: to the bit, or within what rounding in half precision does."""

import math
from typing import Literal, NamedTuple

from ampify.verify.records import Run, Step

# Gradients are sums of products that were rounded many times, one behind the other. Such an error grows as the square root of
# their number, in units of the roundoff (N. Higham and T. Mary, "A New Approach to Probabilistic Rounding Error Analysis", SIAM
# J. Sci. Comput. 41, 2019): 40 units are 1,600 of them. A unit is 2^-11 in float16 and 2^-8 in bfloat16, so that is 2 % and 16 %.
UNITS = 40
ROUNDOFF = {"fp16": 2.0**-11, "bf16": 2.0**-8}
# Small batches through batch normalization are worse, by far. What is beyond the tolerance is compared with what rounding alone
# does to the original, run with autocast round its outermost modules. It may be that far off, and as far again.
FLOORS = 2.0
FARTHEST = 0.5  # nothing is left of a gradient that is further off
UNSCALED = "unscaled_backward"

Word = Literal["identical", "close", "different", "failed", "not repeatable"]

# By what they are counted as: one, several, and what is wrong with them.
MISTAKES = {
    "clip_on_scaled": ("clip", "clips", "of gradients that were still scaled: unscale_ has to come before"),
    "step_on_scaled": ("optimizer step", "optimizer steps", "past the scaler, on gradients that were still scaled"),
    "backward_in_autocast": ("backward pass", "backward passes", "under autocast: the region has to end before"),
    "step_in_autocast": ("optimizer step", "optimizer steps", "under autocast: the region has to end before"),
    "unscaled_backward": ("backward pass", "backward passes", "from a loss that was not scaled, beside others that were"),
}


class Verdict(NamedTuple):
    """What a run comes to. `distance` is that of the first gradients from the original's, relative, and `limit` what is allowed;
    `reasons` say why it is not the same, `notes` what else there is to know."""

    word: Word
    steps: int
    distance: float | None = None
    limit: float | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it trained the same."""
        return self.word in ("identical", "close")


def exact(original: Run, run: Run, scaled: bool = False) -> Verdict:
    """The verdict on a run that has to be the original, bit by bit: at every step of every optimizer the gradients, the
    parameters after it, learning rates, losses and norms that clipping saw. `scaled` says that the scaler has to be at work."""
    difference = _first_difference(original, run)
    common = sum(min(len(steps), len(run.steps.get(place, ()))) for place, steps in original.steps.items())
    if not difference and not run.failure and scaled and not run.count("scale"):
        return Verdict("different", common, reasons=("no loss was scaled: what was converted did not run",))
    if not difference and not run.failure:
        return Verdict("identical", common, notes=tuple(mistakes(original, run)))
    found = [*mistakes(original, run), *unscaled(run)]
    if run.failure:
        return Verdict("failed", common, reasons=(run.failure, *found))
    return Verdict("different", common, reasons=(difference, *found))


def near(original: Run, run: Run, mode: str, floor: float = 0.0) -> Verdict:
    """The verdict on a run in half precision: of each optimizer the first gradients are compared, as trainings drift apart from
    there on. `floor` is how far rounding alone moves them. In float64, which autocast leaves alone, it may be identical."""
    steps = list(run.all())
    limit = max(UNITS * ROUNDOFF[mode], min(FLOORS * floor, FARTHEST))
    found = mistakes(original, run)
    if run.failure:
        return Verdict("failed", len(steps), None, limit, (run.failure, *found))
    reasons = []
    if {place: len(s) for place, s in original.steps.items()} != {place: len(s) for place, s in run.steps.items()}:
        reasons.append(_lengths(original, run))
    firsts = [(step, distance) for step in steps if step.attempt == 0 and (distance := _distance(original, step)) is not None]
    worst = max((distance[0] for _, distance in firsts), default=None)
    for step, (far, number, share) in firsts:
        if not far <= limit:
            reasons.append(
                f"{_where(run, step)}: the gradients are {percent(far)} off, where rounding explains "
                f"{percent(limit)}; mostly that of {_name(run, step, number)}, which is {percent(share)} off"
            )
            break
    if steps and not any(step.taken for step in steps):
        reasons.append("no step was taken: all gradients overflowed")
    elif lost := next((s for s in steps if s.taken and not math.isfinite(s.loss) and _had_a_loss(original, s)), None):
        reasons.append(f"{_where(run, lost)}: the loss is {lost.loss}, and the original's is not")
    if steps and not run.count("autocast"):
        reasons.append("nothing ran under autocast: what was converted did not run")
    reasons += [*found, *(unscaled(run) if reasons else ())]
    notes = []
    if worst is None and not reasons:
        reasons.append("no first step in common: nothing could be compared")
    if floor and not reasons:
        notes.append(f"rounding alone moves the gradients of this script by {percent(floor)}, so {percent(limit)} is allowed")
    if worst == 0.0 and not reasons:
        notes.append("the first gradients are the original's: nothing of what they come from ran in half precision")
    same: Word = "identical" if not _first_difference(original, run) else "close"
    return Verdict("different" if reasons else same, len(steps), worst, limit, tuple(reasons), tuple(notes))


def _distance(original: Run, step: Step) -> tuple[float, int, float] | None:
    """How far the first gradients of an optimizer are from the original's; of those that were too large to be kept, how far their
    norms are, which is no more than that. None of a step that was left out."""
    if step.distance is not None or not step.taken:
        return step.distance
    firsts = (s for s in original.steps.get(step.place, ()) if (s.optimizer, s.attempt) == (step.optimizer, 0))
    expected = [norm or 0.0 for norm in next(firsts, step).norms]
    found = [norm or 0.0 for norm in step.norms]
    if len(expected) != len(found) or not any(expected):
        return None
    apart = [abs(a - b) if math.isfinite(b) else math.inf for a, b in zip(expected, found, strict=True)]
    worst = max(range(len(apart)), key=apart.__getitem__)
    share = apart[worst] / expected[worst] if expected[worst] else math.inf
    return math.hypot(*apart) / math.hypot(*expected), worst, share


def mistakes(original: Run, run: Run) -> list[str]:
    """Mistakes in the use of scaler and autocast, whatever the numbers are, that the original does not make."""
    found = [_counted(name, run) for name in MISTAKES if name != UNSCALED and run.count(name) > original.count(name)]
    if run.count("scale") and not run.count("update") and max(map(len, run.steps.values())) > 1:
        found.append("losses are scaled, and scaler.update() is never called")
    return found


def unscaled(run: Run) -> list[str]:
    """Losses that went backward past the scaler. That can be right: where the numbers are, nothing is said of them."""
    return [_counted(UNSCALED, run)] if run.count(UNSCALED) else []


def _counted(name: str, run: Run) -> str:
    one, many, what = MISTAKES[name]
    count = run.count(name)
    return f"{count} {one if count == 1 else many} {what}"


def percent(share: float) -> str:
    """A share as people write it."""
    if not math.isfinite(share):
        return "infinitely far"
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:,.0f} %"


def _first_difference(original: Run, run: Run) -> str:
    """In words, where two runs first differ; empty if they do not."""
    for place, steps in original.steps.items():
        for expected, got in zip(steps, run.steps.get(place, ()), strict=False):
            if (expected.optimizer, expected.attempt) != (got.optimizer, got.attempt):
                return f"{_where(original, expected)} comes next, and here {_where(run, got)}"
            if difference := _difference(original, expected, got):
                return f"{_where(run, got)}: {difference}"
    return _lengths(original, run) if _made(original) != _made(run) else ""


def _difference(original: Run, expected: Step, got: Step) -> str:
    if got.taken != expected.taken:
        return "the scaler left it out" if expected.taken else "it was taken, and the original's was left out"
    for number, (one, other) in enumerate(zip(expected.gradients, got.gradients, strict=False)):
        if one != other:
            norms = f"its norm is {_number(got.norms[number])} instead of {_number(expected.norms[number])}"
            return f"the gradient of {_name(original, expected, number)} differs; {norms}"
    if len(expected.gradients) != len(got.gradients):
        return f"it has {len(got.gradients)} parameters instead of {len(expected.gradients)}"
    if repr(expected.losses) != repr(got.losses):
        return f"the loss is {got.loss:.9g} instead of {expected.loss:.9g}"
    if repr(expected.clips) != repr(got.clips):
        return f"clipping saw norms of {_numbers(got.clips)} instead of {_numbers(expected.clips)}"
    if expected.lr != got.lr:
        return f"the learning rate is {_numbers(got.lr)} instead of {_numbers(expected.lr)}"
    for number, (one, other) in enumerate(zip(expected.parameters, got.parameters, strict=False)):
        if one != other:
            return f"after the step {_name(original, expected, number)} differs, though its gradient does not"
    return ""


def _lengths(original: Run, run: Run) -> str:
    return f"it tried {_made(run)} steps, and the original {_made(original)}"


def _made(run: Run) -> int:
    return sum(len(steps) for steps in run.steps.values())


def _where(run: Run, step: Step) -> str:
    """A step as people speak of it."""
    several = len({s.optimizer for s in run.steps[step.place]}) > 1 if step.place in run.steps else False
    which = f"optimizer {step.optimizer + 1} ({step.kind})" if several else step.kind
    process = "" if len(run.steps) == 1 else f" in {step.place}"
    return f"step {step.attempt + 1} of {which}{process}"


def _name(run: Run, step: Step, number: int) -> str:
    firsts = (s for s in run.steps.get(step.place, ()) if s.optimizer == step.optimizer and s.names)
    names = next(firsts, step).names
    return names[number] if number < len(names) else f"parameter {number}"


def _had_a_loss(original: Run, step: Step) -> bool:
    known = (s for s in original.steps.get(step.place, ()) if (s.optimizer, s.attempt) == (step.optimizer, step.attempt))
    return any(math.isfinite(s.loss) for s in known)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _numbers(values: tuple[float | None, ...]) -> str:
    return ", ".join(map(_number, values)) or "none"
