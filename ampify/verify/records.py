"""What an observed run left behind: its steps, process by process, as `ampify_observe` wrote them down."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ampify import files


class Step(NamedTuple):
    """One step that an optimizer tried. What a scaler left out has no gradients, parameters and rates. `distance` is that of an
    optimizer's first gradients from the reference's: of all together, the parameter that it is mostly due to, and of that."""

    place: str
    optimizer: int
    kind: str
    attempt: int
    taken: bool
    seconds: float
    memory: int
    device: str
    losses: tuple[float, ...]
    clips: tuple[float | None, ...]
    scale: float | None
    counts: dict[str, int]
    gradients: tuple[str, ...] = ()
    norms: tuple[float | None, ...] = ()
    parameters: tuple[str, ...] = ()
    lr: tuple[float | None, ...] = ()
    names: tuple[str, ...] = ()
    distance: tuple[float, int, float] | None = None

    @property
    def loss(self) -> float:
        """What went backward since the step before, added up."""
        return math.fsum(self.losses) if all(map(math.isfinite, self.losses)) else math.nan


class Run(NamedTuple):
    """One run of a program. `failure` says why it did not come to its end, `errors` has the last lines that it wrote."""

    steps: dict[str, tuple[Step, ...]]
    failure: str = ""
    errors: tuple[str, ...] = ()

    def all(self) -> Iterator[Step]:
        """The steps of all processes."""
        for steps in self.steps.values():
            yield from steps

    def first(self) -> tuple[Step, ...]:
        """The steps of the process that is shown for all: the main one, if it trains."""
        return next(iter(self.steps.values()), ())

    @property
    def device(self) -> str:
        """The device type that it trains on."""
        return next((step.device for step in self.all()), "cpu")

    @property
    def skipped(self) -> int:
        """How many steps a scaler left out."""
        return sum(not step.taken for step in self.all())

    @property
    def memory(self) -> int:
        """The most that one of its processes had, in bytes."""
        return max((step.memory for step in self.all()), default=0)

    @property
    def seconds(self) -> float | None:
        """The median of what a step takes. The first ones are left out, where there are others: they warm up."""
        taken = [step.seconds for step in self.first()]
        taken = sorted(taken[2:] if len(taken) > 4 else taken[1:])
        return (taken[len(taken) // 2] + taken[(len(taken) - 1) // 2]) / 2 if taken else None

    def count(self, what: str) -> int:
        """How often something happened in all of its processes, until their last steps."""
        return sum(steps[-1].counts.get(what, 0) for steps in self.steps.values() if steps)

    def losses(self) -> list[float]:
        """The loss at each step of the first optimizer of the process that is shown; none if nothing went backward."""
        steps = self.first()
        if not any(step.losses for step in steps):
            return []
        return [step.loss for step in steps if step.optimizer == steps[0].optimizer]


def read(directory: str) -> dict[str, tuple[Step, ...]]:
    """The steps of each process of a run, the main one first."""
    found: dict[str, list[Step]] = {}
    for entry in sorted(files.entries(directory), key=lambda entry: int(entry.name.split("-")[1].partition(".")[0])):
        data = files.read_optional(f"{directory}/{entry.name}") or b""
        steps = [_step(json.loads(line)) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
        if steps:
            place, number = steps[0].place, 2
            while place in found:
                place, number = f"{steps[0].place} ({number})", number + 1
            found[place] = steps
    return {place: tuple(found[place]) for place in sorted(found, key=lambda place: (place != "main", len(place), place))}


def made(directory: str) -> int:
    """How many steps the optimizer that is furthest has tried, as far as the last lines tell."""
    tried = 0
    for entry in files.entries(directory):
        lines = (files.read_optional(f"{directory}/{entry.name}") or b"").rpartition(b"\n")[0]
        if lines:
            tried = max(tried, _step(json.loads(lines.rpartition(b"\n")[2])).attempt + 1)
    return tried


def _step(line: dict[str, Any]) -> Step:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in line.items()}
    return Step(**values)
