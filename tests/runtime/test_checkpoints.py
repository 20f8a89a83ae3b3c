"""A training that stops, is saved and resumes elsewhere ends bit for bit where the uninterrupted one does."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, batches, make_model

STEPS, STOP = 14, 5
cross_entropy = torch.nn.functional.cross_entropy


class Training:
    """A model with everything a checkpoint holds."""

    def __init__(self, rt: ModuleType, kind: str) -> None:
        self.rt, self.kind = rt, kind
        self.model = make_model()
        self.optimizer: Any
        if kind == "lbfgs":
            self.optimizer = torch.optim.LBFGS(self.model.parameters(), lr=0.1, max_iter=3)
        else:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        rt.scaler.set_growth_interval(4)

    def run(self, first: int, last: int) -> list[float]:
        """Steps 2 and 9 overflow; returns the scale after each step."""
        scales = []
        for number, (images, target) in list(enumerate(batches(STEPS)))[first:last]:
            factor = float("inf") if number in (2, 9) else 1.0

            def evaluate(images: torch.Tensor = images, target: torch.Tensor = target, factor: float = factor) -> Any:
                with self.rt.autocast():
                    loss = cross_entropy(self.model(images), target)
                self.optimizer.zero_grad()
                self.rt.scaler.scale(loss * factor).backward()
                return loss

            if self.kind == "lbfgs":
                self.rt.scaler.step(self.optimizer, evaluate)
            else:
                evaluate()
                self.rt.scaler.step(self.optimizer)
            self.rt.scaler.update()
            scales.append(self.rt.scaler.get_scale())
        return scales

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state | {"scaler": self.rt.scaler.state_dict()}, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rt.scaler.load_state_dict(state.get("scaler", {}))

    @property
    def values(self) -> list[torch.Tensor]:
        return [parameter.detach() for parameter in self.model.parameters()]


@pytest.mark.parametrize("scaled_before", [False, True])
@pytest.mark.parametrize("kind", ["adamw", "lbfgs"])
@pytest.mark.parametrize("mode", ["scale-only", "fp16"])
def test_resumed_equals_uninterrupted(load: Load, tmp_path: Path, mode: str, kind: str, scaled_before: bool) -> None:
    whole = Training(load(mode, init_scale=1024), kind)
    scales = whole.run(0, STEPS)
    assert scales == [1024.0] * 2 + [512.0] * 4 + [1024.0] * 3 + [512.0] * 4 + [1024.0]  # it skips, and grows after 4 steps

    first = Training(load(mode, init_scale=1024), kind)
    assert first.run(0, STOP) == scales[:STOP]
    assert first.rt.scaler.state_dict()["_growth_tracker"] == 2
    first.save(tmp_path / "checkpoint.pt")

    second = Training(load(mode, init_scale=1024), kind)
    if scaled_before:
        second.run(0, 1)  # it has a scale of its own already
    second.load(tmp_path / "checkpoint.pt")
    assert second.run(STOP, STEPS) == scales[STOP:]
    assert all(map(torch.equal, second.values, whole.values))


def test_without_the_scalers_state_it_would_not_be_equal(load: Load, tmp_path: Path) -> None:
    whole = Training(load("fp16", init_scale=1024), "adamw")
    scales = whole.run(0, STEPS)
    first = Training(load("fp16", init_scale=1024), "adamw")
    first.run(0, STOP)
    first.save(tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["scaler"]
    torch.save(state, tmp_path / "old.pt")
    second = Training(load("fp16", init_scale=1024), "adamw")
    second.load(tmp_path / "old.pt")  # an old checkpoint loads all the same
    assert second.run(STOP, STEPS) != scales[STOP:]


@pytest.mark.parametrize("mode", ["off", "bf16"])
def test_a_checkpoint_goes_through_a_run_without_scaling(load: Load, tmp_path: Path, mode: str) -> None:
    rt = load(mode)
    torch.save(rt.scaler.state_dict(), tmp_path / "scaler.pt")
    rt = load("scale-only", init_scale=64)
    saved = rt.scaler.state_dict()
    rt.scaler.load_state_dict(torch.load(tmp_path / "scaler.pt", weights_only=True))
    assert rt.scaler.state_dict() == saved
    rt = load(mode)
    rt.scaler.load_state_dict(saved)
    assert rt.scaler.state_dict() == {}


def test_the_history_of_a_resumed_run_starts_at_its_scale(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)
    rt.scaler.load_state_dict(torch.amp.GradScaler("cpu", init_scale=32.0).state_dict())
    assert rt.scaler.report(as_dict=True)["history"] == [(0, 32.0)]
