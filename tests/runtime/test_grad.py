"""Gradients that feed a loss: torch.autograd.grad's arguments and results, bit for bit, with a scaled inside."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.runtime.training import Load, batches, make_model

cross_entropy = torch.nn.functional.cross_entropy
MODES = ["off", "scale-only 1024", "scale-only 65536"]


@pytest.fixture(params=MODES)
def rt(request: pytest.FixtureRequest, load: Load) -> ModuleType:
    mode, _, scale = request.param.partition(" ")
    return load(mode, init_scale=scale or None)


@pytest.fixture
def scaled(load: Load) -> ModuleType:
    return load("scale-only", init_scale=1024)


class Plain:
    """The same training without a scaler."""

    grad = staticmethod(torch.autograd.grad)
    scale = staticmethod(lambda loss: loss)
    unscale_ = update = staticmethod(lambda *_: None)
    step = staticmethod(lambda optimizer, *args: optimizer.step(*args))


def wgan_gp(s: Any) -> list[Tensor]:
    torch.manual_seed(3)
    critic = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.LeakyReLU(0.2), torch.nn.Linear(16, 1))
    generator = torch.nn.Linear(4, 8)
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-2, betas=(0.5, 0.9)) for m in (critic, generator)]
    for real, _ in batches(4):
        fake = generator(torch.randn(16, 4))
        alpha = torch.rand(16, 1)
        mixed = (alpha * real + (1 - alpha) * fake.detach()).requires_grad_(True)
        value = critic(mixed)
        (gradient,) = s.grad(
            outputs=value,
            inputs=mixed,
            grad_outputs=torch.ones_like(value),
            create_graph=True,
            retain_graph=True,
            only_inputs=True,
        )
        penalty = ((gradient.norm(2, dim=1) - 1) ** 2).mean()
        optimizers[0].zero_grad()
        s.scale(critic(fake.detach()).mean() - critic(real).mean() + 10 * penalty).backward()
        s.step(optimizers[0])
        s.update()
        optimizers[1].zero_grad()
        s.scale(-critic(fake).mean()).backward()
        s.step(optimizers[1])
        s.update()
    return [*critic.parameters(), *generator.parameters()]


def r1(s: Any) -> list[Tensor]:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for images, target in batches(4):
        images.requires_grad_(True)
        output = model(images)
        gradient = s.grad(output.sum(), images, create_graph=True)[0]
        loss = cross_entropy(output, target) + 0.5 * gradient.square().sum(1).mean()
        optimizer.zero_grad()
        s.scale(loss).backward()
        s.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        s.step(optimizer)
        s.update()
    return list(model.parameters())


def maml(s: Any) -> list[Tensor]:
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 24).reshape(8, 3))
    bias = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight, bias], lr=1e-2)
    for images, target in batches(4):
        fast = [weight, bias]
        for _ in range(2):
            inner = cross_entropy(torch.tanh(images[:8] @ fast[0]) + fast[1], target[:8])
            fast = [p - 0.3 * g for p, g in zip(fast, s.grad(inner, fast, create_graph=True), strict=True)]
        optimizer.zero_grad()
        s.scale(cross_entropy(torch.tanh(images[8:] @ fast[0]) + fast[1], target[8:])).backward()
        s.step(optimizer)
        s.update()
    return [weight, bias]


def leak(s: Any) -> list[Tensor]:
    """Deep leakage from gradients (Zhu et al. 2019): LBFGS through gradients of gradients."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Sigmoid(), torch.nn.Linear(12, 3))
    images, target = batches(1)[0]
    true = [g.detach() for g in torch.autograd.grad(cross_entropy(model(images[:1]), target[:1]), list(model.parameters()))]
    dummy = torch.nn.Parameter(images[1:2].clone())
    optimizer = torch.optim.LBFGS([dummy], lr=1.0, max_iter=6)
    for _ in range(4):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(dummy), target[:1])
            found = s.grad(loss, list(model.parameters()), create_graph=True)
            difference = torch.stack([(a - b).square().sum() for a, b in zip(found, true, strict=True)]).sum()
            s.scale(difference).backward()
            return difference

        s.step(optimizer, closure)
        s.update()
    return [dummy]


@pytest.mark.parametrize("train", [wgan_gp, r1, maml, leak])
def test_bitwise(rt: ModuleType, train: Callable[[Any], list[Tensor]]) -> None:
    torch.manual_seed(0)
    expected = train(Plain)
    torch.manual_seed(0)
    found = train(rt.scaler)
    assert all(map(torch.equal, found, expected))
    assert all(p.isfinite().all() for p in expected)
    assert not any(rt.scaler.skipped.values())


CALLS: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "positional": lambda grad, x, w: grad((x * w).sum(), x, None, True, True),
    "list": lambda grad, x, w: grad([(x * w).sum(), x.square().sum()], [x, w]),
    "tuple and weights": lambda grad, x, w: grad((x * w, x), (x, w), (torch.ones(3), torch.full((3,), 2.0))),
    "unused": lambda grad, x, w: grad(x.sum(), [x, w], allow_unused=True),
    "materialized": lambda grad, x, w: grad(x.sum(), [x, w], materialize_grads=True),
    "batched": lambda grad, x, w: grad(x * w, x, torch.eye(3), is_grads_batched=True),
    "keywords": lambda grad, x, w: grad(outputs=x @ w, inputs=(w,), retain_graph=False),
    "double": lambda grad, x, w: grad((x.double() * w.double()).sum(), w),
    "of itself": lambda grad, x, w: grad(x, x, torch.ones(3)),
}


@pytest.mark.parametrize("call", CALLS)
def test_results_are_torchs(rt: ModuleType, call: str) -> None:
    def result(grad: Any) -> tuple[Tensor | None, ...]:
        x = torch.tensor([1.0, -2.0, 0.3], requires_grad=True)
        w = torch.tensor([0.5, 0.7, 1.1], requires_grad=True)
        return CALLS[call](grad, x, w)

    expected, found = result(torch.autograd.grad), result(rt.scaler.grad)
    assert type(found) is tuple
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.equal(one, other)
            assert one.dtype == other.dtype
            assert one.requires_grad == other.requires_grad


def test_a_dict_of_inputs_gives_a_dict(scaled: ModuleType) -> None:
    x = torch.ones(2, requires_grad=True)
    try:
        expected: Any = torch.autograd.grad((x * 3).sum(), {"x": x})
    except (TypeError, AttributeError):  # an older torch
        return
    found = scaled.scaler.grad((x * 3).sum(), {"x": x})
    assert found.keys() == expected.keys()
    assert torch.equal(found["x"], expected["x"])


def test_errors_are_torchs(rt: ModuleType) -> None:
    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        rt.scaler.grad(x.sum(), w)


def test_a_half_output_is_promoted_and_a_half_gradient_does_not_underflow(load: Load) -> None:
    rt = load("fp16", init_scale=1024)
    x = torch.ones(2, dtype=torch.float16, requires_grad=True)
    (plain,) = torch.autograd.grad((x.float() * 1e-8).sum(), x)
    assert plain.tolist() == [0.0, 0.0]
    (found,) = rt.scaler.grad((x.float() * 1e-8).sum(), x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((2,), 1e-8), rtol=0.01, atol=0.0)
    output = (x * 200).sum().reshape(1)  # 400 * 256 is beyond fp16
    (found,) = load("fp16", init_scale=256).scaler.grad(output, x, torch.ones_like(output))
    assert torch.equal(found, torch.full((2,), 200.0))


@pytest.mark.parametrize("kind", ["penalty", "inner loop"])
def test_an_overflow_inside_reaches_the_step(scaled: ModuleType, kind: str) -> None:
    """The gradient is fine; scaled, it is not."""
    s = scaled.scaler
    x, p = torch.full((2,), 1e-30, requires_grad=True), torch.nn.Parameter(torch.tensor([1e-30, 1e-30]))
    optimizer = torch.optim.SGD([p], lr=0.1)
    steep = (x * p * 2.0**90).sum() * 2.0**35  # d/dx = p * 2**125, about 4e7; a graph with 2**125 in it
    (gradient,) = s.grad(steep, x if kind == "penalty" else p, create_graph=True)
    assert torch.equal(gradient.isfinite(), torch.tensor([False, False]))
    if kind == "penalty":
        loss = gradient.square().mean() * 1e-20
    else:
        loss = (p - 0.1 * gradient).square().sum()
    s.scale(loss).backward()
    assert s.step(optimizer) is None
    s.update()
    assert s.get_scale() == 512.0
    assert p.tolist() == pytest.approx([1e-30, 1e-30])


@pytest.mark.usefixtures("accelerator")
def test_auto_on_the_cpu_passes_through(load: Load) -> None:
    rt = load()
    x = torch.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match="the first loss is on the CPU") as caught:
        found = rt.scaler.grad([x.sum()], [x])
    assert [warning.filename for warning in caught] == [__file__]
    assert torch.equal(found[0], torch.ones(2))
    assert not rt.scaler.is_enabled()
