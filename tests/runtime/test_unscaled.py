"""unscaled_bwd: a backward that is not linear in the gradient does not see the loss scale, and all others see it as before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from tests.runtime.training import Load, one_parameter

Function = torch.autograd.Function


def make_functions(rt: ModuleType) -> dict[str, Any]:
    """Functions whose gradient depends on the size of the incoming one, and linear ones around them."""

    class Clipped(Function):
        @staticmethod
        @rt.full_precision_fwd
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sign()

        @staticmethod
        @rt.unscaled_bwd
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grad.clamp(-0.01, 0.01) * x + grad**2

    class Once(Function):
        @staticmethod
        @rt.full_precision_fwd
        def forward(ctx: Any, x: Tensor, y: Tensor, how: str) -> tuple[Tensor, Tensor]:
            return x.round(), y * 2

        @staticmethod
        @once_differentiable
        @rt.unscaled_bwd
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            return grads[0].clamp(max=0.003), grads[1].tanh() if ctx.needs_input_grad[1] else None, None

    class Inherited(Clipped):
        @staticmethod
        @rt.unscaled_bwd
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return Clipped.backward(ctx, grad).sign()

    class Solving(Function):
        @staticmethod
        @rt.full_precision_fwd
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.tanh()

        @staticmethod
        @rt.unscaled_bwd
        def backward(ctx: Any, grad: Tensor) -> Any:
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                y = Clipped.apply(x) * x
            return torch.autograd.grad(y, x, grad.clamp(-0.02, 0.02))

    class Recomputing(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sign()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                y = Clipped.apply(x) * x
            return torch.autograd.grad(y, x, grad)

    return {
        "plain": Clipped.apply,
        "several outputs": lambda x: sum(Once.apply(x, x * 2, "")),
        "not needed": lambda x: sum(Once.apply(x, x.detach(), "")),
        "calls another": Inherited.apply,
        "solves": Solving.apply,
        "in a linear one": Recomputing.apply,
        "checkpoint": lambda x: checkpoint(Clipped.apply, x, use_reentrant=False),
        "reentrant checkpoint": lambda x: checkpoint(lambda z: Clipped.apply(Clipped.apply(z)), x, use_reentrant=True),
        "in each other": lambda x: Solving.apply(checkpoint(Solving.apply, Clipped.apply(x), use_reentrant=True)),
    }


def ordinary(rt: Any, loss: Tensor, inputs: Tensor) -> None:
    rt.scaler.scale(loss).backward()


def tensors(rt: Any, loss: Tensor, inputs: Tensor) -> None:
    torch.autograd.backward(rt.scaler.scale([loss * 2, loss]))


def penalty(rt: Any, loss: Tensor, inputs: Tensor) -> None:
    (gradient,) = rt.scaler.grad(loss, inputs, create_graph=True)
    rt.scaler.scale(loss + (gradient**2).sum()).backward()


def attack(rt: Any, loss: Tensor, inputs: Tensor) -> None:
    """A gradient that nobody scales, between two that are."""
    (gradient,) = torch.autograd.grad(loss, inputs, retain_graph=True)
    rt.scaler.scale(loss + loss * gradient.sum()).backward(retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, inputs, retain_graph=True)
    rt.scaler.scale(loss * gradient.norm()).backward()


def train(rt: Any, name: str, backward: Callable[[Any, Tensor, Tensor], None]) -> list[Tensor]:
    function = make_functions(rt)[name]
    torch.manual_seed(0)
    first, last = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
    parameters = [*first.parameters(), *last.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(4):
        inputs = torch.randn(5, 4, requires_grad=True)
        optimizer.zero_grad()
        with rt.autocast():
            loss = (last(function(first(inputs))) ** 2).mean() + first(inputs).mean()
        backward(rt, loss, inputs)
        rt.scaler.step(optimizer)
        rt.scaler.update()
    return parameters


CASES = {
    "plain": [ordinary, tensors, penalty, attack],
    "several outputs": [ordinary, tensors, attack],
    "not needed": [ordinary],
    "calls another": [ordinary, attack],
    "solves": [ordinary, attack],
    "in a linear one": [ordinary, attack],
    "checkpoint": [ordinary, attack],
    "reentrant checkpoint": [ordinary, tensors],
    "in each other": [ordinary],
}


@pytest.mark.parametrize(("name", "backward"), [(name, one) for name, several in CASES.items() for one in several])
def test_the_loss_scale_changes_nothing(load: Load, name: str, backward: Any) -> None:
    expected = train(load("off"), name, backward)
    for scale in (1024, 65536):
        for one, other in zip(train(load("scale-only", init_scale=scale), name, backward), expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["fp16", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_comes_near(load: Load, name: str, mode: str) -> None:
    if name == "several outputs":  # rounds: a value on the other side of an edge is another value
        return
    expected = train(load("off"), name, ordinary)
    for one, other in zip(train(load(mode, "cpu", 1024), name, ordinary), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.03)


def test_without_the_decorator_it_would_differ(load: Load) -> None:
    """So the tests above can fail."""
    expected = train(load("off"), "plain", ordinary)
    rt = load("scale-only", init_scale=1024)
    rt.unscaled_bwd = lambda backward: backward  # type: ignore[attr-defined]
    assert not all(map(torch.equal, train(rt, "plain", ordinary), expected))


def seeing(rt: ModuleType) -> tuple[Any, list[Any]]:
    """The identity, and the gradients that its backward has seen."""
    seen: list[Any] = []

    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Tensor) -> Any:
            ctx.set_materialize_grads(False)
            return tuple(tensor.clone() for tensor in tensors)

        @staticmethod
        @rt.unscaled_bwd
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            """Documented."""
            seen.extend(grads)
            return tuple(None if grad is None else torch.nan_to_num(grad).clamp(-1, 1) for grad in grads)

    return Identity, seen


def test_a_backward_keeps_its_name(load: Load) -> None:
    rt = load("off")
    function, _ = seeing(rt)
    assert (function.backward.__name__, function.backward.__doc__) == ("backward", "Documented.")
    assert rt._in_force is None  # decorating decides nothing


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_small_gradients_are_seen_in_full(load: Load, dtype: torch.dtype) -> None:
    """Divided by the scale in fp16 they would be lost; what comes back is scaled, and of the input's dtype."""
    rt = load("fp16", "cpu", 65536)
    function, seen = seeing(rt)
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    rt.scaler.scale(function.apply(x)[0].float().sum() * 2.0**-26).backward()
    assert seen[0].dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert seen[0].tolist() == [2.0**-26] * 3
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert x.grad.tolist() == [2.0**-10] * 3


def test_no_gradient_stays_none(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)
    function, seen = seeing(rt)
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    rt.scaler.scale(function.apply(x, y)[1].sum() / 2).backward()
    assert seen[0] is None
    assert seen[1].tolist() == [0.5, 0.5]
    assert x.grad is None
    assert y.grad is not None
    assert y.grad.tolist() == [512, 512]


def test_the_scale_is_the_one_in_force(load: Load) -> None:
    rt = load("scale-only", init_scale=4)
    function, seen = seeing(rt)
    scaler = rt.GradScaler(growth_interval=1)
    parameter, optimizer = one_parameter()
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(function.apply(parameter)[0].sum() / 2).backward()
        assert parameter.grad is not None
        assert parameter.grad.tolist() == [2.0 ** (step + 1)] * 2
        scaler.step(optimizer)
        scaler.update()
    assert [grad.tolist() for grad in seen] == [[0.5, 0.5]] * 3


def test_an_overflow_is_not_hidden(load: Load) -> None:
    """A clamp makes a finite gradient of inf; the step must be skipped all the same."""
    rt = load("fp16", "cpu", 65536)
    function, _ = seeing(rt)
    parameter, optimizer = one_parameter()
    rt.scaler.scale((function.apply(parameter.half())[0] * 2).sum()).backward()
    rt.scaler.step(optimizer)
    rt.scaler.update()
    assert not rt.scaler.was_taken(optimizer)
    assert parameter.tolist() == [1.0, 2.0]


def test_what_is_infinite_in_float32_is_the_backwards_own_affair(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)
    function, _ = seeing(rt)
    parameter, optimizer = one_parameter()
    rt.scaler.scale((function.apply(parameter)[0] * torch.tensor([float("nan"), 2.0])).sum()).backward()
    rt.scaler.step(optimizer)
    assert rt.scaler.was_taken(optimizer)
    assert torch.equal(parameter, torch.tensor([1.0, 2.0 - 0.1]))


@pytest.mark.parametrize("mode", ["off", "bf16"])
def test_where_nothing_is_scaled_the_gradient_itself_arrives(load: Load, mode: str) -> None:
    rt = load(mode, "cpu")
    function, seen = seeing(rt)
    x = torch.ones(2, requires_grad=True)
    loss = rt.scaler.scale(function.apply(x)[0].sum())
    assert not loss._backward_hooks
    loss.backward()
    assert seen[0].tolist() == [1, 1]


def test_a_backward_that_failed_is_over(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)
    function, seen = seeing(rt)

    class Failing(Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            raise MemoryError

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(MemoryError):
        rt.scaler.scale(Failing.apply(x).sum()).backward()
    function.apply(x)[0].sum().backward()
    assert seen[0].tolist() == [1, 1]


def test_others_pay_nothing(load: Load) -> None:
    rt = load("scale-only")
    parameter, _ = one_parameter()
    assert not rt.scaler.scale(parameter.sum())._backward_hooks
    seeing(rt)
    assert rt.scaler.scale(parameter.sum())._backward_hooks


def solver() -> tuple[ModuleType, list[Any]]:
    """A library with a function as torchdiffeq's, by its name: its backward goes by the size of the gradient."""
    seen: list[Any] = []

    class OdeintAdjointMethod(Function):
        @staticmethod
        def forward(ctx: Any, rtol: float, y: Tensor, *parameters: Tensor) -> Tensor:
            ctx.save_for_backward(y, *parameters)
            return y * parameters[0]

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            seen.append(grads[0])
            y, parameter = ctx.saved_tensors
            step = 0.5 if grads[0].norm() < 1 else 0.25
            return None, grads[0] * parameter * step, (grads[0] * y).sum(0) * step

    module = ModuleType("torchdiffeq._impl.adjoint")
    module.OdeintAdjointMethod = OdeintAdjointMethod  # type: ignore[attr-defined]
    return module, seen


def solve(rt: Any, function: Any) -> list[Tensor]:
    torch.manual_seed(0)
    parameter, last = torch.nn.Parameter(torch.rand(3)), torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD([parameter, *last.parameters()], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        y = torch.rand(4, 3, requires_grad=True)
        loss = last(function.apply(0.1, y, parameter)).mean()
        torch.autograd.grad(loss, y, retain_graph=True)
        rt.scaler.scale(loss).backward()
        rt.scaler.step(optimizer)
        rt.scaler.update()
    return [parameter, *last.parameters()]


def test_a_solver_of_a_library_sees_plain_gradients(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    results, gradients = [], []
    for mode in ("off", "scale-only"):
        rt = load(mode, init_scale=1024)
        library, seen = solver()
        monkeypatch.delitem(sys.modules, library.__name__, raising=False)
        parameter, _ = one_parameter()
        rt.scaler.scale(parameter.sum()).backward()  # before the library is imported
        monkeypatch.setitem(sys.modules, library.__name__, library)
        results.append(solve(rt, library.OdeintAdjointMethod))
        results.append(solve(rt, library.OdeintAdjointMethod))
        gradients.append(seen)
    assert all(map(torch.equal, results[0], results[2]))
    assert all(map(torch.equal, results[1], results[3]))
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("mode", ["fp16", "bf16"])
def test_a_solver_of_a_library_computes_in_float32(load: Load, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """From its first forward, which comes before the first loss is scaled."""
    rt = load(mode, "cpu", 1024)
    library, seen = solver()
    monkeypatch.setitem(sys.modules, library.__name__, library)
    parameter = torch.nn.Parameter(torch.rand(3))
    y = torch.rand(4, 3, dtype=torch.bfloat16 if mode == "bf16" else torch.float16, requires_grad=True)
    with rt.autocast():
        assert (y @ torch.rand(3, 3)).dtype == y.dtype
        result = library.OdeintAdjointMethod.apply(0.1, y, parameter)
    assert result.dtype == torch.float32
    rt.scaler.scale(result.sum() / 64).backward()
    assert y.grad is not None
    assert y.grad.dtype == y.dtype
    assert [(grad.dtype, grad.max().item()) for grad in seen] == [(torch.float32, 1 / 64)]


def test_two_copies_of_the_runtime(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vendored copies of several folders: each takes off what it has multiplied."""
    library, _ = solver()
    monkeypatch.setitem(sys.modules, library.__name__, library)
    expected = solve(load("off"), library.OdeintAdjointMethod)
    for rt in (load("scale-only", init_scale=1024), load("scale-only", init_scale=4096)):
        assert all(map(torch.equal, solve(rt, library.OdeintAdjointMethod), expected))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_does_not_trace_it(load: Load, backend: str) -> None:
    """Its backward would be traced with the forward, when no gradient is scaled yet."""
    results = []
    for mode in ("off", "scale-only"):
        torch._dynamo.reset()
        rt = load(mode, init_scale=1024)
        clipped = make_functions(rt)["plain"]
        parameter, optimizer = one_parameter()
        forward = torch.compile(lambda x, clipped=clipped: (clipped(x) * x).sum(), backend=backend)
        for _ in range(3):
            optimizer.zero_grad()
            rt.scaler.scale(forward(parameter)).backward()
            rt.scaler.step(optimizer)
            rt.scaler.update()
        results.append(parameter)
    assert torch.equal(*results)
