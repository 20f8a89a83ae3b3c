"""off and scale-only train bit-identically to plain fp32 code; fp16 and bf16 come as close as rounding allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, batches, make_model

STEPS = 12
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "fused adam": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}
CLIPS: dict[str, Callable[[Any], Any] | None] = {
    "no clip": None,
    "clip norm": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.5),
    "clip value": lambda p: torch.nn.utils.clip_grad_value_(p, 0.01),
}
cross_entropy = torch.nn.functional.cross_entropy


def plain(make_optimizer: Any, clip: Any = None, accumulate: int = 1) -> list[torch.Tensor]:
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    for number, (images, target) in enumerate(batches(STEPS), 1):
        loss = cross_entropy(model(images), target) / accumulate
        loss.backward()
        if number % accumulate == 0:
            if clip:
                clip(model.parameters())
            optimizer.step()
            optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


def converted(
    rt: ModuleType, make_optimizer: Any, clip: Any = None, accumulate: int = 1, unscale: bool = True
) -> list[torch.Tensor]:
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    for number, (images, target) in enumerate(batches(STEPS), 1):
        with rt.autocast():
            loss = cross_entropy(model(images), target) / accumulate
        rt.scaler.scale(loss).backward()
        if number % accumulate == 0:
            if clip:
                if unscale:
                    rt.scaler.unscale_(optimizer)
                clip(model.parameters())
            rt.scaler.step(optimizer)
            rt.scaler.update()
            optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(params=["off", "auto", "scale-only 1024", "scale-only 65536"])
def exact(request: pytest.FixtureRequest, load: Load) -> Iterator[ModuleType]:
    mode, _, scale = request.param.partition(" ")
    rt = load(mode, device="cpu", init_scale=scale or None)
    yield rt
    assert rt.scaler.is_enabled() == (mode == "scale-only")
    assert not any(rt.scaler.skipped.values())


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bitwise(exact: ModuleType, optimizer: str, clip: str) -> None:
    arguments = OPTIMIZERS[optimizer], CLIPS[clip]
    assert equal(converted(exact, *arguments), plain(*arguments))


@pytest.mark.parametrize("clip", CLIPS)
def test_bitwise_accumulation(exact: ModuleType, clip: str) -> None:
    arguments = OPTIMIZERS["adamw"], CLIPS[clip], 3
    assert equal(converted(exact, *arguments), plain(*arguments))


def test_bitwise_two_losses_and_two_optimizers(exact: ModuleType) -> None:
    def train(rt: ModuleType | None) -> list[torch.Tensor]:
        first, second = make_model(), make_model()
        optimizers = OPTIMIZERS["sgd"](first.parameters()), OPTIMIZERS["fused adam"](second.parameters())
        for images, target in batches(STEPS):
            one = cross_entropy(first(images) + 0.1 * second(images), target)
            two = second(images).square().mean() + first(images).abs().mean()
            if rt is None:
                one.backward(retain_graph=True)
                two.backward()
                torch.nn.utils.clip_grad_norm_(second.parameters(), 0.3)
                for optimizer in optimizers:
                    optimizer.step()
            else:
                rt.scaler.scale(one).backward(retain_graph=True)
                rt.scaler.scale(two).backward()
                rt.scaler.unscale_(optimizers[1])
                torch.nn.utils.clip_grad_norm_(second.parameters(), 0.3)
                for optimizer in optimizers:
                    rt.scaler.step(optimizer)
                rt.scaler.update()
            for optimizer in optimizers:
                optimizer.zero_grad()
        return [parameter.detach() for model in (first, second) for parameter in model.parameters()]

    assert equal(train(exact), train(None))


def test_bitwise_list_of_losses(exact: ModuleType) -> None:
    def gradients(scale: Any, divide: float) -> list[torch.Tensor]:
        model = make_model()
        images, target = batches(1)[0]
        losses = [cross_entropy(model(images), target), model(images).square().mean()]
        torch.autograd.backward(scale(losses))
        return [parameter.grad / divide for parameter in model.parameters()]

    assert equal(gradients(exact.scaler.scale, exact.scaler.get_scale()), gradients(lambda losses: losses, 1.0))


def test_scale_only_differs_when_a_clip_comes_too_early(load: Load) -> None:
    """The comparison above can fail: clipping scaled gradients is the mistake it is there to catch."""
    rt = load("scale-only", init_scale=1024)
    clip = CLIPS["clip norm"]
    assert not equal(converted(rt, OPTIMIZERS["sgd"], clip, unscale=False), plain(OPTIMIZERS["sgd"], clip))


@pytest.mark.parametrize(("mode", "tolerance"), [("fp16", 0.005), ("bf16", 0.03)])
def test_first_gradients_are_close(load: Load, mode: str, tolerance: float) -> None:
    def first_gradient(rt: ModuleType | None) -> torch.Tensor:
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        images, target = batches(1)[0]
        if rt is None:
            cross_entropy(model(images), target).backward()
        else:
            with rt.autocast():
                output = model(images)
                assert output.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}[mode]
                loss = cross_entropy(output, target)
            rt.scaler.scale(loss).backward()
            rt.scaler.unscale_(optimizer)
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    rt = load(mode)
    expected = first_gradient(None)
    error = (first_gradient(rt) - expected).norm() / expected.norm()
    assert 0 < error < tolerance
    assert rt.scaler.is_enabled() == (mode == "fp16")


@pytest.mark.parametrize("mode", ["fp16", "bf16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_half_precision_training_ends_near_fp32(load: Load, mode: str, optimizer: str) -> None:
    rt = load(mode, init_scale=1024)
    for half, full in zip(converted(rt, OPTIMIZERS[optimizer]), plain(OPTIMIZERS[optimizer]), strict=True):
        assert half.dtype == torch.float32
        assert torch.isfinite(half).all()
        torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)
    assert not any(rt.scaler.skipped.values())


def test_the_scaler_passes_through_without_a_trace_when_disabled(load: Load) -> None:
    for mode in ("off", "bf16"):
        scaler = load(mode).scaler
        losses = [torch.ones(1)]
        assert scaler.scale(losses) is losses
        assert scaler.scale(3.0) == 3.0
        assert scaler.scale(None) is None

        class Anything:
            def step(self, *args: Any, **kwargs: Any) -> Any:
                return args, kwargs

        def closure() -> float:
            return 1.0

        assert scaler.step(Anything(), closure, more=1) == ((closure,), {"more": 1})
        assert scaler.step_scheduler(Anything(), 0.5) == ((0.5,), {})
        assert scaler.unscale_(Anything()) is None
        assert scaler.update() is None
        assert scaler.was_taken(Anything())
        assert scaler.state_dict() == {}
        scaler.load_state_dict({"scale": 1})
        assert scaler.get_scale() == 1.0
        assert scaler.taken == {} == scaler.skipped
