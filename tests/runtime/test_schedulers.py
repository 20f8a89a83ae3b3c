"""A schedule holds still only if every step attempted since it last advanced was skipped."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from tests.runtime.training import Load, one_parameter, overflow


@pytest.fixture
def rt(load: Load) -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a scheduler that steps before its optimizer, above all
        yield load("scale-only", init_scale=1024)


def iteration(rt: ModuleType, *pairs: tuple[torch.nn.Parameter, torch.optim.Optimizer], bad: bool = False) -> None:
    """One step of every optimizer; with `bad` the first overflows."""
    for parameter, optimizer in pairs:
        optimizer.zero_grad()
        rt.scaler.scale(parameter.sum()).backward()
    if bad:
        overflow(pairs[0][1])
    for _, optimizer in pairs:
        rt.scaler.step(optimizer)
    rt.scaler.update()


@pytest.mark.parametrize("fused", [False, True])
def test_per_batch_it_advances_once_a_taken_step(rt: ModuleType, fused: bool) -> None:
    pair = one_parameter(fused=fused)
    scheduler = lr_scheduler.StepLR(pair[1], 1, gamma=0.5)
    rates = []
    for bad in (True, True, False, True, False):
        iteration(rt, pair, bad=bad)
        rt.scaler.step_scheduler(scheduler)
        rates.append(pair[1].param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.025]


def test_the_warning_this_avoids_is_real(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.StepLR(pair[1], 1)
    iteration(rt, pair, bad=True)
    rt.scaler.step_scheduler(scheduler)
    with pytest.raises(UserWarning, match=r"Detected call of `lr_scheduler\.step"):
        scheduler.step()


def test_per_epoch_one_taken_step_is_enough(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.MultiStepLR(pair[1], [1, 2], gamma=0.5)
    for epoch, expected in [((True, False, True), 0.05), ((True, True, True), 0.05), ((False, True, True), 0.025)]:
        for bad in epoch:
            iteration(rt, pair, bad=bad)
        rt.scaler.step_scheduler(scheduler)
        assert pair[1].param_groups[0]["lr"] == expected


def test_with_no_step_attempted_it_advances(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.ExponentialLR(pair[1], 0.5)
    iteration(rt, pair)
    for _ in range(3):
        rt.scaler.step_scheduler(scheduler)
    assert pair[1].param_groups[0]["lr"] == 0.1 * 0.5**3


def test_one_cycle_never_exceeds_its_steps(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.OneCycleLR(pair[1], max_lr=0.1, total_steps=5)
    for number in range(7):
        iteration(rt, pair, bad=number in (0, 4))
        rt.scaler.step_scheduler(scheduler)
    assert scheduler.last_epoch == 5
    iteration(rt, pair, bad=True)
    rt.scaler.step_scheduler(scheduler)
    iteration(rt, pair)
    with pytest.raises(ValueError, match="Tried to step 6 times"):
        rt.scaler.step_scheduler(scheduler)


def test_a_plateau_gets_its_metric(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.ReduceLROnPlateau(pair[1], factor=0.5, patience=1)
    for bad, metric in ((False, 1.0), (False, 2.0), (True, 3.0)):
        iteration(rt, pair, bad=bad)
        rt.scaler.step_scheduler(scheduler, metric)
    assert (scheduler.num_bad_epochs, scheduler.last_epoch) == (1, 2)
    iteration(rt, pair)
    rt.scaler.step_scheduler(scheduler, metrics=3.0)
    assert pair[1].param_groups[0]["lr"] == 0.05


@dataclass
class OwnScheduler:
    """Not hashable, and without an optimizer unless it is given one."""

    calls: list[Any] = field(default_factory=list)

    def step(self, *args: Any, **kwargs: Any) -> int:
        self.calls.append((args, kwargs))
        return len(self.calls)


def test_only_its_own_optimizer_counts(rt: ModuleType) -> None:
    first, second = one_parameter(), one_parameter()
    schedulers = [lr_scheduler.StepLR(optimizer, 1, gamma=0.5) for _, optimizer in (first, second)]
    anyone = OwnScheduler()
    iteration(rt, first, second, bad=True)
    for scheduler in schedulers:
        rt.scaler.step_scheduler(scheduler)
    assert rt.scaler.step_scheduler(anyone, 3, key="word") == 1  # one of all was taken
    assert anyone.calls == [((3,), {"key": "word"})]
    assert [optimizer.param_groups[0]["lr"] for _, optimizer in (first, second)] == [0.1, 0.05]


def test_without_an_optimizer_all_must_have_been_skipped(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = OwnScheduler()
    iteration(rt, pair, bad=True)
    assert rt.scaler.step_scheduler(scheduler) is None
    iteration(rt, pair)
    assert rt.scaler.step_scheduler(scheduler) == 1
    assert len(scheduler.calls) == 1


def test_schedulers_of_one_optimizer_are_judged_apart(rt: ModuleType) -> None:
    """The per-batch one holds after the second step; the per-epoch one saw the first."""
    pair = one_parameter()
    per_batch, per_epoch = OwnScheduler(), OwnScheduler()
    for bad in (False, True):
        iteration(rt, pair, bad=bad)
        rt.scaler.step_scheduler(per_batch)
    rt.scaler.step_scheduler(per_epoch)
    assert (len(per_batch.calls), len(per_epoch.calls)) == (1, 1)


@pytest.mark.parametrize("kind", ["sequential", "chained", "parts only", "wrapper"])
def test_composed_schedulers_follow_their_parts(rt: ModuleType, kind: str) -> None:
    pair, busy = one_parameter(), one_parameter()
    parts = [lr_scheduler.ConstantLR(pair[1], 0.5, 2), lr_scheduler.ExponentialLR(pair[1], 0.5)]
    scheduler: Any
    if kind == "sequential":
        scheduler = lr_scheduler.SequentialLR(pair[1], parts, [2])
    elif kind == "chained":
        scheduler = lr_scheduler.ChainedScheduler(parts)
    else:
        scheduler = OwnScheduler()
        if kind == "parts only":
            scheduler._schedulers = parts
        else:
            scheduler.optimizer = type("Wrapper", (), {})()
            scheduler.optimizer.inner = pair[1]
    before = pair[1].param_groups[0]["lr"]
    iteration(rt, pair, busy, bad=True)
    rt.scaler.step_scheduler(scheduler)
    held = before == pair[1].param_groups[0]["lr"] and not getattr(scheduler, "calls", None)
    assert held
    assert parts[1].last_epoch == (-1 if kind == "sequential" else 0)
    iteration(rt, pair, busy)
    rt.scaler.step_scheduler(scheduler)
    rt.scaler.step_scheduler(scheduler)
    assert parts[1].last_epoch > -1 if not hasattr(scheduler, "calls") else len(scheduler.calls) == 2


def test_the_schedulers_own_state_is_not_touched(rt: ModuleType) -> None:
    pair = one_parameter()
    scheduler = lr_scheduler.StepLR(pair[1], 1)
    keys = set(scheduler.state_dict())
    iteration(rt, pair)
    rt.scaler.step_scheduler(scheduler)
    assert set(scheduler.state_dict()) == keys


def test_disabled_it_only_passes_on(load: Load) -> None:
    rt = load("bf16")
    assert rt.scaler.step_scheduler(OwnScheduler()) == 1
