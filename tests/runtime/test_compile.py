"""torch.compile'd models and training steps call the runtime as others do (backends that need no C++ compiler)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, batches, make_model

cross_entropy = torch.nn.functional.cross_entropy


@pytest.fixture(autouse=True)
def forget_compiled_code() -> None:
    torch._dynamo.reset()


def train(rt: ModuleType, compiled: str | None, backend: str) -> list[torch.Tensor]:
    """Five steps, of which the third overflows."""
    model = make_model()
    forward: Any = torch.compile(model, backend=backend) if compiled == "model" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with rt.autocast():
            loss = cross_entropy(forward(images), target)
        optimizer.zero_grad()
        rt.scaler.scale(loss).backward()
        rt.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        rt.scaler.step(optimizer)
        rt.scaler.update()
        return loss

    run: Any = torch.compile(step, backend=backend) if compiled == "step" else step
    for number, (images, target) in enumerate(batches(5)):
        run(images * float("inf") if number == 2 else images, target)
    assert (rt.scaler.skipped[optimizer], rt.scaler.taken[optimizer]) == (1, 4)
    assert rt.scaler.get_scale() == 512.0
    rt.scaler.update(1024.0)
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("mode", ["scale-only", "fp16"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("compiled", ["model", "step"])
def test_compiled_training_equals_eager(load: Load, compiled: str, backend: str, mode: str) -> None:
    rt = load(mode, init_scale=1024)
    exact = (compiled, backend, mode) == ("model", "eager", "scale-only")  # the compiler rounds a traced AdamW differently
    tolerance = 0.0 if exact else 1e-5 if mode == "scale-only" else 5e-3
    for one, other in zip(train(rt, compiled, backend), train(rt, None, backend), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=0.0, atol=tolerance)


def test_a_compiled_closure(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)

    def fit(compiled: bool, scaled: bool) -> list[torch.Tensor]:
        model = make_model()
        forward: Any = torch.compile(model, backend="eager") if compiled else model
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
        images, target = batches(1)[0]

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(forward(images), target)
            (rt.scaler.scale(loss) if scaled else loss).backward()
            return loss

        for _ in range(3):
            if scaled:
                rt.scaler.step(optimizer, closure)
                rt.scaler.update()
            else:
                optimizer.step(closure)
        return [parameter.detach() for parameter in model.parameters()]

    assert all(map(torch.equal, fit(True, True), fit(False, False)))
