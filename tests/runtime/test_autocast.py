"""Regions are fresh, nest, and leave a caller's own alone; custom functions follow the mode in force."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from tests.runtime.training import Load

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def product_dtype() -> torch.dtype:
    return torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype


@pytest.mark.parametrize("mode", DTYPES)
def test_regions_nest(load: Load, mode: str) -> None:
    rt = load(mode)
    assert product_dtype() == torch.float32
    with rt.autocast() as outer:
        assert product_dtype() == DTYPES[mode]
        with rt.autocast() as inner:
            assert inner is not outer or inner is None
            assert product_dtype() == DTYPES[mode]
        assert product_dtype() == DTYPES[mode]
        with rt.autocast(enabled=False):
            assert product_dtype() == torch.float32
            with rt.autocast():
                assert product_dtype() == DTYPES[mode]
            assert product_dtype() == torch.float32
        assert product_dtype() == DTYPES[mode]
    assert product_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("mode", ["fp16", "bf16", "scale-only", "off"])
@pytest.mark.parametrize("enabled", [True, False])
def test_every_region_is_a_new_object(load: Load, mode: str, enabled: bool) -> None:
    rt = load(mode)
    regions = [rt.autocast(enabled) for _ in range(3)]
    assert len({id(region) for region in regions}) == 3
    kind: Any = torch.autocast if mode in DTYPES else contextlib.nullcontext
    assert all(isinstance(region, kind) for region in regions)


@pytest.mark.parametrize("mode", ["scale-only", "off", "auto"])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_callers_own_region_is_left_alone(load: Load, mode: str, enabled: bool) -> None:
    rt = load(mode)
    with torch.autocast("cpu", torch.bfloat16), rt.autocast(enabled=enabled):
        assert product_dtype() == torch.bfloat16
    with rt.autocast(enabled=enabled):
        assert product_dtype() == torch.float32


def test_a_region_ends_with_an_exception(load: Load) -> None:
    rt = load("bf16")
    with pytest.raises(KeyError), rt.autocast():
        raise KeyError
    assert product_dtype() == torch.float32


def make_linear(fwd: Any, bwd: Any) -> tuple[type[torch.autograd.Function], list[Any]]:
    """y = x @ w; its backward multiplies a saved fp32 tensor with the gradient of a half-precision output."""
    seen: list[Any] = []

    class Linear(torch.autograd.Function):
        @staticmethod
        @fwd
        def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            """Documented."""
            ctx.save_for_backward(x, w)
            seen.append((torch.is_autocast_enabled("cpu"), hasattr(ctx, "_fwd_used_autocast")))
            return x.mm(w)

        @staticmethod
        @bwd
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            x, w = ctx.saved_tensors
            seen.append((torch.is_autocast_enabled("cpu"), hasattr(ctx, "_fwd_used_autocast")))
            return grad.mm(w.t()), x.t().mm(grad)

    return Linear, seen


@pytest.mark.parametrize("mode", DTYPES)
def test_a_custom_backward_runs_as_its_forward_did(load: Load, mode: str) -> None:
    rt = load(mode)
    function, seen = make_linear(rt.custom_fwd, rt.custom_bwd)
    assert rt._in_force is None  # decorating decides nothing
    assert (function.forward.__name__, function.forward.__doc__) == ("forward", "Documented.")
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    for _ in range(2):
        with rt.autocast():
            y = function.apply(x, w)
        assert y.dtype == DTYPES[mode]
        y.sum().backward()
    function.apply(x, w).sum().backward()
    assert seen == [(True, True)] * 4 + [(False, True)] * 2
    torch.testing.assert_close(w.grad, 3 * x.detach().sum(0)[:, None].expand(3, 2), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("mode", ["scale-only", "off"])
def test_a_custom_function_is_not_changed(load: Load, mode: str) -> None:
    rt = load(mode)
    function, seen = make_linear(rt.custom_fwd, rt.custom_bwd)
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    with rt.autocast():
        y = function.apply(x, w)
    y.sum().backward()
    assert seen == [(False, False)] * 2
    assert torch.equal(w.grad, x.detach().t().mm(torch.ones(4, 2)))


def test_without_the_decorators_it_fails(load: Load) -> None:
    """So the tests above can."""
    rt = load("fp16")
    function, _ = make_linear(lambda forward: forward, lambda backward: backward)
    with rt.autocast():
        y = function.apply(torch.randn(4, 3, requires_grad=True), torch.randn(3, 2, requires_grad=True))
    with pytest.raises(RuntimeError, match="same dtype"):
        y.sum().backward()
