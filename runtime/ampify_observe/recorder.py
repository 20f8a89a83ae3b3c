"""What every optimizer of a process sees at each of its steps, written down as the steps are made."""

import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ampify_observe import tensors
from ampify_observe.scaling import Scaling
from ampify_observe.settings import Settings
from ampify_observe.tensors import Tensors

REFUSALS = 3  # to be stopped, by a script that catches everything


class Enough(SystemExit):
    """Ends a process that has made the steps that it was to make."""

    def __init__(self) -> None:
        super().__init__(0)


class _Known:
    """An optimizer that was met: its number in the process, and the steps that it has tried."""

    def __init__(self, number: int) -> None:
        self.number, self.tried = number, 0


class _Step:
    """A step under way, from its beginning: an optimizer may run others in its own step."""

    def __init__(self, skipped: bool, rates: list[float | None]) -> None:
        self.skipped, self.rates = skipped, rates
        self.gradients: dict[str, Any] | None = None


class Recorder:
    """Hooks torch. Each step is a line in the file of its process, also one that a scaler leaves out: nothing has to be saved at
    the end, however that comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scaling = Scaling(self._outside)
        self._keep = settings.keep
        self._start()

    def _start(self) -> None:
        self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()
        self._met = 0
        self._under_way: list[_Step] = []
        self._file: TextIO | None = None
        self._begun = time.perf_counter()
        self._own = 0.0  # seconds since then that were spent here
        self._stops = 0
        self._scaling.start()

    def install(self) -> None:
        """Begins to observe this process, and what is forked from it."""
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)
        self._scaling.install(self._through_scaler)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    # steps -----------------------------------------------------------------------------------------------------------

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = self._meet(optimizer)
        with self._outside(optimizer):
            found_inf = getattr(optimizer, "found_inf", None)  # of a fused optimizer, which leaves the step out itself
            rates = [None if group.get("lr") is None else float(group["lr"]) for group in optimizer.param_groups]
            step = _Step(found_inf is not None and float(found_inf) != 0.0, rates)
            self._under_way.append(step)
            self._scaling.stepping(optimizer)
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            if not callable(closure):
                step.gradients = self._look(optimizer, known)
                return None

        @functools.wraps(closure)
        def observed(*a: Any, **k: Any) -> Any:
            value = closure(*a, **k)
            if step.gradients is None:  # what the step begins with
                with self._outside(optimizer):
                    step.gradients = self._look(optimizer, known)
            return value

        if "closure" in kwargs:
            return args, {**kwargs, "closure": observed}
        return (args[0], observed, *args[2:]), kwargs

    def _after(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        step = self._under_way.pop()
        known = self._known[optimizer]
        with self._outside(optimizer) as seconds:
            look = step.gradients if step.gradients is not None else self._look(optimizer, known)
            after = [tensors.digest(tensors.local(p)) for p in tensors.parameters(optimizer)]
            self._write(optimizer, known, seconds, taken=not step.skipped, lr=step.rates, parameters=after, **look)

    def _through_scaler(self, optimizer: Any, step: Callable[[], Any]) -> Any:
        """A step through a scaler, which may leave it out."""
        inner = _inside(optimizer)
        if inner is None:
            return step()
        known = self._meet(inner)
        tried, outer = known.tried, self._under_way
        self._under_way = []
        try:
            result = step()
        finally:
            self._under_way = outer
        if known.tried == tried:
            with self._outside(inner) as seconds:
                self._write(inner, known, seconds, taken=False)
        return result

    def _meet(self, optimizer: Any) -> _Known:
        """What is known of an optimizer; raises Enough where it has tried all of its steps."""
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = _Known(self._met)
            self._met += 1
        if known.tried >= self._settings.steps:
            self._stops += 1
            if self._stops > REFUSALS:
                sys.stdout.flush()
                os._exit(0)
            raise Enough
        return known

    # what is written --------------------------------------------------------------------------------------------------

    def _look(self, optimizer: Any, known: _Known) -> dict[str, Any]:
        """The gradients of a step; of an optimizer's first one also how far they are from the reference's."""
        found = tensors.gradients(optimizer)
        seen: dict[str, Any] = {
            "gradients": [tensors.digest(each) for each in found],
            "norms": [tensors.norm(each) for each in found],
        }
        if known.tried == 0:
            seen["names"] = tensors.names(tensors.parameters(optimizer))
            if (distance := self._compare(found, known)) is not None:
                seen["distance"] = distance
        return seen

    def _compare(self, found: Tensors, known: _Known) -> tuple[float, int, float] | None:
        name = f"{_place().replace(' ', '-')}-{known.number}.pt"
        if self._keep and sum(each.numel() for each in found if each is not None) <= tensors.LARGEST:
            torch.save([None if each is None else each.cpu() for each in found], os.path.join(self._keep, name))
        path = os.path.join(self._settings.reference, name)
        if not self._settings.reference or not os.path.exists(path):
            return None
        return tensors.distance(found, torch.load(path, weights_only=True))

    def _write(self, optimizer: Any, known: _Known, seconds: float, **more: Any) -> None:
        first = next(iter(tensors.parameters(optimizer)), None)
        device = "cpu" if first is None else first.device.type
        line = {
            "place": _place(),
            "optimizer": known.number,
            "kind": type(optimizer).__name__,
            "attempt": known.tried,
            "seconds": seconds,
            "memory": _peak(device),
            "device": device,
            **self._scaling.since_last(),
            **more,
        }
        known.tried += 1
        if self._file is None:
            path = os.path.join(self._settings.record, f"{os.getpid()}-{time.time_ns()}.jsonl")
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._begun, self._own = time.perf_counter(), 0.0

    @contextmanager
    def _outside(self, optimizer: Any = None) -> Iterator[float]:
        """What is done in it counts as no time of the script's; gives the seconds that this has taken since its last step."""
        if optimizer is not None and any(p.device.type == "cuda" for p in tensors.parameters(optimizer)):
            torch.cuda.synchronize()
        now = time.perf_counter()
        begun = self._begun
        try:
            yield now - begun - self._own
        finally:
            if self._begun == begun:
                self._own += time.perf_counter() - now


def _place() -> str:
    """Which of a program's processes this is."""
    if "RANK" in os.environ:
        return f"rank {os.environ['RANK']}"
    number = getattr(multiprocessing.current_process(), "_identity", ())
    return f"process {'.'.join(map(str, number))}" if number else "main"


def _inside(optimizer: Any) -> Any:
    """The optimizer of torch's that is one, or that is in a wrapper with a step of its own; None if there is none, or several."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    inside = {id(v): v for v in getattr(optimizer, "__dict__", {}).values() if isinstance(v, Optimizer)}
    return next(iter(inside.values())) if len(inside) == 1 else None


def _peak(device: str) -> int:
    """The most memory that the process has had, in bytes: of the device, or on the CPU of everything in it."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
