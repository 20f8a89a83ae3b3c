"""Optimizers that call a closure train as in fp32, and an overflow leaves nothing behind."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, batches, make_model, one_parameter

INF, NAN = float("inf"), float("nan")
cross_entropy = torch.nn.functional.cross_entropy
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=5, history_size=4),
    "strong wolfe": lambda p: torch.optim.LBFGS(p, lr=1.0, max_iter=5, line_search_fn="strong_wolfe"),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "fused adam": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
    "sam": lambda p: SAM(p, lr=0.1),
    "search": lambda p: LineSearch(p, lr=1.0),
    "wrapped lbfgs": lambda p: Wrapper(torch.optim.LBFGS(p, lr=0.1, max_iter=5)),
    "wrapped sgd": lambda p: Wrapper(torch.optim.SGD(p, lr=0.1, momentum=0.9)),
}
LBFGS = ["lbfgs", "strong wolfe", "wrapped lbfgs"]
OTHERS = [name for name in OPTIMIZERS if name not in LBFGS]


class SAM(torch.optim.SGD):
    """Sharpness-aware minimization (Foret et al. 2021): climbs on the gradients there are, then descends from those above."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        for p in parameters:
            self.state[p]["old"] = p.clone()
            p.add_(p.grad * (0.05 / (norm + 1e-12)))
        with torch.enable_grad():
            loss = closure()
        for p in parameters:
            p.copy_(self.state[p]["old"])
        super().step()
        return loss


class LineSearch(torch.optim.SGD):
    """Halves its step until the loss falls: many evaluations a step, some of them without a gradient."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"]]
        directions = [p.grad.clone() for p in parameters]
        group = self.param_groups[0]
        group["lr"] *= 2.0
        for _ in range(4):
            for p, direction in zip(parameters, directions, strict=True):
                p.sub_(direction, alpha=group["lr"])
            with torch.enable_grad():
                if closure() < loss:
                    break
            for p, direction in zip(parameters, directions, strict=True):
                p.add_(direction, alpha=group["lr"])
            group["lr"] *= 0.5
        return loss


class Wrapper:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.steps = optimizer, 0

    def zero_grad(self, **kwargs: Any) -> None:
        self.optimizer.zero_grad(**kwargs)

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return self.optimizer.step(closure)


def fit(
    rt: ModuleType | None,
    optimizer: str,
    *,
    clip: bool = False,
    zero: str = "none",
    bad: tuple[int, ...] = (),
    steps: int = 5,
) -> tuple[list[torch.Tensor], Any, int]:
    """Train; evaluations numbered in `bad` overflow. Returns losses and parameters, optimizer and the number of evaluations."""
    model = make_model()
    opt: Any = OPTIMIZERS[optimizer](model.parameters())
    evaluations, values = 0, []
    for images, target in batches(steps):

        def evaluate(images: torch.Tensor = images, target: torch.Tensor = target, count: bool = True) -> torch.Tensor:
            nonlocal evaluations
            evaluations += count
            if zero != "never":
                opt.zero_grad(set_to_none=zero == "none")
            with rt.autocast() if rt else nullcontext():
                loss = cross_entropy(model(images), target)
            (rt.scaler.scale(loss) if rt else loss).backward()
            if count and evaluations in bad:
                next(model.parameters()).grad.view(-1)[0] = INF if evaluations % 2 else NAN
            if clip:
                if rt:
                    rt.scaler.unscale_(opt)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            return loss

        if optimizer == "sam":  # its first gradients come from outside
            opt.zero_grad()
            loss = cross_entropy(model(images), target)
            (rt.scaler.scale(loss) if rt else loss).backward()
        if rt:
            before = {id(p): p.detach().clone() for p in model.parameters()}
            value = rt.scaler.step(opt, evaluate)
            taken = rt.scaler.was_taken(opt)
            assert value is not None  # a skipped step has the closure's value: scripts print it
            value = value if taken else None
            assert taken or all(torch.equal(p, before[id(p)]) for p in model.parameters())
            rt.scaler.update()
        else:
            value = opt.step(evaluate)
        values.append(value)
    losses = [value.detach() for value in values if value is not None]
    return [*losses, *(parameter.detach() for parameter in model.parameters())], opt, evaluations


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def rt(load: Load) -> Iterator[ModuleType]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True")  # torch's LBFGS does
        yield load("scale-only", init_scale=2**20)


# --- as in fp32 ---


@pytest.mark.parametrize("zero", ["none", "zeros", "never"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bitwise(rt: ModuleType, optimizer: str, clip: bool, zero: str) -> None:
    parameters, _, evaluations = fit(None, optimizer, clip=clip, zero=zero)
    scaled, _, same = fit(rt, optimizer, clip=clip, zero=zero)
    assert equal(scaled, parameters)
    assert evaluations == same >= 5
    assert not torch.equal(parameters[-1], list(make_model().parameters())[-1])
    assert float(parameters[0]) == pytest.approx(1.1, abs=0.2)  # the loss of the first step, not scaled
    assert list(rt.scaler.taken.values()) == [5]
    assert rt.scaler.state_dict()["_growth_tracker"] == 5  # one a step, however often it evaluates


@pytest.mark.parametrize("zero", ["none", "zeros", "never"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", LBFGS)
def test_lbfgs_repeats_what_overflowed_and_stays_bitwise(rt: ModuleType, optimizer: str, clip: bool, zero: str) -> None:
    parameters, _, evaluations = fit(None, optimizer, clip=clip, zero=zero)
    scaled, _, more = fit(rt, optimizer, clip=clip, zero=zero, bad=(1, 2, 7, 11))
    assert equal(scaled, parameters)
    assert more == evaluations + 4
    assert rt.scaler.get_scale() == 2.0 ** (20 - 4)  # once for each, and not again in update()
    assert rt.scaler.report(as_dict=True)["history"][:2] == [(0, 2.0**20), (1, 2.0**17)]
    steps = rt.scaler.report(as_dict=True)["steps"]
    assert steps == [{"optimizer": "LBFGS", "taken": 5, "skipped": 0, "retried": 4}]


@pytest.mark.parametrize("mode", ["off", "bf16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_disabled_it_is_the_optimizers_own_step(load: Load, optimizer: str, mode: str) -> None:
    rt = load(mode)
    scaled, _, evaluations = fit(rt, optimizer)
    parameters, _, same = fit(None, optimizer)
    if mode == "off":
        assert equal(scaled, parameters)
        assert evaluations == same
    assert rt.scaler.report(as_dict=True)["steps"] == []


@pytest.mark.parametrize("optimizer", ["lbfgs", "strong wolfe"])
def test_fp16_ends_near_fp32_from_any_scale(load: Load, optimizer: str) -> None:
    for scale in (1024.0, 2.0**30):
        rt = load("fp16", init_scale=scale)
        scaled, _, _ = fit(rt, optimizer, steps=3)
        for half, full in zip(scaled, fit(None, optimizer, steps=3)[0], strict=True):
            torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)
        retried = rt.scaler.report(as_dict=True)["steps"][0]["retried"]
        assert (retried > 5) == (scale > 1024.0)
        assert rt.scaler.get_scale() == scale / 2.0**retried


@pytest.mark.parametrize("call", ["positional", "keyword", "lambda", "partial", "arguments"])
def test_every_way_to_pass_a_closure(rt: ModuleType, call: str) -> None:
    parameter, optimizer = one_parameter()

    def closure(extra: float = 1.0) -> torch.Tensor:
        optimizer.zero_grad()
        loss = parameter.sum() * extra
        rt.scaler.scale(loss).backward()
        return loss

    if call == "positional":
        value = rt.scaler.step(optimizer, closure)
    elif call == "keyword":
        value = rt.scaler.step(optimizer, closure=closure)
    elif call == "lambda":
        value = rt.scaler.step(optimizer, lambda: closure(1.0))
    elif call == "partial":
        value = rt.scaler.step(optimizer, functools.partial(closure, 1.0))
    else:

        class Calls(torch.optim.SGD):
            def step(self, closure: Any = None, *, factor: float = 1.0) -> Any:
                assert closure.__name__ == "closure"
                value = closure(extra=factor)
                super().step()
                return value

        optimizer = Calls([parameter], lr=0.1)
        value = rt.scaler.step(optimizer, factor=1.0, closure=closure)
    assert float(value) == 3.0
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        rt.scaler.step(optimizer, closure)
    rt.scaler.update()
    assert rt.scaler.taken == {optimizer: 1}


def test_an_optimizer_that_evaluates_only_the_loss(rt: ModuleType) -> None:
    """As zeroth-order methods and `closure(backward=False)`; the gradients stay as they were."""

    class LossOnly(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return [closure().item(), closure().item()]

    parameter, _ = one_parameter()
    optimizer = LossOnly([parameter], lr=0.1)
    assert rt.scaler.step(optimizer, lambda: parameter.sum()) == [3.0, 3.0]
    rt.scaler.update()
    rt.scaler.scale(torch.ones(()))
    rt.scaler.update(rt.scaler.get_scale())
    parameter.grad = torch.tensor([0.1, 0.3])
    rt.scaler._scaled = False
    rt.scaler.step(optimizer, lambda: parameter.sum())
    assert torch.equal(parameter.grad, torch.tensor([0.1, 0.3]))


def test_a_model_is_not_a_closure(rt: ModuleType) -> None:
    class TakesModel(torch.optim.SGD):
        def step(self, model: Any = None) -> Any:
            assert isinstance(model, torch.nn.Module)
            return super().step()

    parameter, _ = one_parameter()
    optimizer = TakesModel([parameter], lr=0.1)
    rt.scaler.scale(parameter.sum()).backward()
    rt.scaler.step(optimizer, torch.nn.Identity())
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)


def test_a_callable_that_is_never_called_still_steps_on_unscaled_gradients(rt: ModuleType) -> None:
    class Ignores(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step()

    parameter, _ = one_parameter()
    optimizer = Ignores([parameter], lr=0.1)
    rt.scaler.scale(parameter.sum()).backward()
    rt.scaler.step(optimizer, lambda: 0.0)
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)


def test_two_optimizers_with_closures_share_an_update(rt: ModuleType) -> None:
    """Leftover gradients of the second are unscaled ones, although the first has just scaled a loss."""

    def train(scaled: bool) -> list[torch.Tensor]:
        pairs = [one_parameter(), one_parameter()]
        for _ in range(3):
            for parameter, optimizer in pairs:
                if scaled:  # a gradient for a loss, or for its own sake: it leaves nothing scaled behind
                    assert torch.equal(rt.scaler.grad(parameter.square().sum(), parameter)[0], 2.0 * parameter)

                def closure(parameter: torch.Tensor = parameter) -> torch.Tensor:  # gradients add up
                    loss = parameter.square().sum()
                    (rt.scaler.scale(loss) if scaled else loss).backward()
                    return loss

                if scaled:
                    rt.scaler.step(optimizer, closure)
                else:
                    optimizer.step(closure)
            rt.scaler.update()
        return [parameter.detach() for parameter, _ in pairs]

    assert equal(train(True), train(False))


def test_steps_with_and_without_a_closure_take_turns(rt: ModuleType) -> None:
    def train(scaled: bool) -> list[torch.Tensor]:
        (parameter, optimizer), (other, other_optimizer) = one_parameter(), one_parameter()

        def closure() -> torch.Tensor:  # gradients add up
            loss = parameter.square().sum()
            (rt.scaler.scale(loss) if scaled else loss).backward()
            return loss

        for _ in range(3):
            other_optimizer.zero_grad()
            loss = other.square().sum()
            (rt.scaler.scale(loss) if scaled else loss).backward()
            if scaled:
                rt.scaler.step(other_optimizer)
                rt.scaler.update()
                rt.scaler.step(optimizer, closure)
                rt.scaler.update()
            else:
                other_optimizer.step()
                optimizer.step(closure)
        return [parameter.detach(), other.detach()]

    assert equal(train(True), train(False))


def test_a_schedule_after_a_closure(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    for factor, rate in ((INF, 0.1), (1.0, 0.05)):

        def closure(factor: float = factor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (parameter * factor).sum()
            rt.scaler.scale(loss).backward()
            return loss

        rt.scaler.step(optimizer, closure)
        rt.scaler.update()
        rt.scaler.step_scheduler(scheduler)
        assert optimizer.param_groups[0]["lr"] == rate


# --- overflow ---


@pytest.mark.parametrize("zero", ["none", "never"])
@pytest.mark.parametrize("optimizer", OTHERS)
def test_others_skip_a_step_and_nothing_has_changed(rt: ModuleType, optimizer: str, zero: str) -> None:
    """Evaluations 3 and 4 are at least one step's, and for the line search not its first."""
    fit(rt, optimizer, bad=(3, 4), zero=zero)
    (steps,) = rt.scaler.report(as_dict=True)["steps"]
    assert steps["skipped"] in (1, 2)
    assert steps["taken"] == 5 - steps["skipped"]
    assert rt.scaler.get_scale() == 2.0 ** (20 - steps["skipped"])


@pytest.mark.parametrize("optimizer", [*LBFGS, "search", "sam"])
def test_a_skipped_step_restores_state_and_settings(rt: ModuleType, optimizer: str) -> None:
    """Step 3 overflows in its second evaluation; what follows is as if it had never been."""

    def contents(opt: Any) -> Any:
        inner = opt.optimizer if isinstance(opt, Wrapper) else opt
        state = [dict(own) for own in inner.state.values()]
        settings = [{k: v for k, v in group.items() if k != "params"} for group in inner.param_groups]
        return torch.utils._pytree.tree_map(lambda v: v.tolist() if isinstance(v, torch.Tensor) else v, [state, settings])

    parameters, opt, before = fit(rt, optimizer, steps=2)
    first = before + (1 if optimizer == "sam" else 2)
    skipped_parameters, skipped_opt, _ = fit(rt, optimizer, steps=3, bad=tuple(range(first, first + 25)))
    assert list(rt.scaler.skipped.values()) == [0, 1]
    assert equal(skipped_parameters, parameters)
    assert contents(skipped_opt) == contents(opt)


def test_retries_end_and_the_scale_is_lowered_once(rt: ModuleType) -> None:
    parameters, _, evaluations = fit(None, "lbfgs", steps=1)
    scaled, _, more = fit(rt, "lbfgs", steps=2, bad=tuple(range(3, 38)))  # 35 in a row: 25 end the first step
    assert rt.scaler.report(as_dict=True)["steps"] == [{"optimizer": "LBFGS", "taken": 1, "skipped": 1, "retried": 24 + 10}]
    assert rt.scaler.get_scale() == 2.0 ** (20 - 1 - 10)
    assert more == 2 + 25 + 10 + evaluations
    assert not equal(scaled, parameters)
    assert all(p.isfinite().all() for p in scaled)


def test_growth_starts_again_after_a_repeated_evaluation(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)
    rt.scaler.set_growth_interval(3)
    fit(rt, "lbfgs", steps=2)
    assert rt.scaler.state_dict()["_growth_tracker"] == 2
    fit(rt, "lbfgs", steps=1, bad=(2,))
    assert rt.scaler.state_dict()["_growth_tracker"] == 1
    assert rt.scaler.get_scale() == 512.0
    fit(rt, "lbfgs", steps=2)
    assert rt.scaler.get_scale() == 1024.0


def test_infs_do_not_stay_in_gradients_that_nobody_zeroes(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    for factor, expected in ((1.0, 0.9), (INF, 0.9), (1.0, 0.7)):  # the third step has gradients of 1 + 1

        def closure(factor: float = factor) -> torch.Tensor:
            loss = (parameter * factor).sum()
            rt.scaler.scale(loss).backward()
            return loss

        rt.scaler.step(optimizer, closure)
        rt.scaler.update()
        assert float(parameter.detach()[0]) == pytest.approx(expected)


def test_sam_skips_when_its_first_gradients_overflow(rt: ModuleType) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = SAM([parameter], lr=0.1)
    rt.scaler.scale((parameter * INF).sum()).backward()
    assert rt.scaler.step(optimizer, lambda: pytest.fail("evaluated")) is None
    rt.scaler.update()
    assert rt.scaler.get_scale() == 2.0**19
    assert torch.equal(parameter, torch.ones(2))


def test_an_optimizer_that_catches_exceptions_does_not_catch_ours(rt: ModuleType) -> None:
    class Careful(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            try:
                return super().step(closure)
            except Exception:
                return "went on"

    parameter, _ = one_parameter()
    optimizer = Careful([parameter], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (parameter * INF).sum()
        rt.scaler.scale(loss).backward()
        return loss

    assert rt.scaler.step(optimizer, closure) is not None
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]))


def test_errors_of_the_closure_come_out(rt: ModuleType) -> None:
    _, optimizer = one_parameter()

    def closure() -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        rt.scaler.step(optimizer, closure)


def test_two_closures_are_refused(rt: ModuleType) -> None:
    _, optimizer = one_parameter()
    with pytest.raises(TypeError, match="one closure only"):
        rt.scaler.step(optimizer, lambda: 0.0, other=lambda: 1.0)


@pytest.mark.usefixtures("accelerator")
def test_auto_finds_the_cpu_inside_a_closure(load: Load) -> None:
    rt = load()
    parameter, optimizer = one_parameter()
    parameter.grad = torch.ones(2)  # left over; the closure adds to it

    def closure() -> torch.Tensor:
        loss = parameter.sum()
        rt.scaler.scale(loss).backward()
        return loss

    with pytest.warns(UserWarning, match="the first loss is on the CPU"):
        rt.scaler.step(optimizer, closure)
    rt.scaler.update()
    assert not rt.scaler.is_enabled()
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1 * 2)
    rt.scaler.step(optimizer, closure)


def test_sparse_gradients_left_over(rt: ModuleType) -> None:
    def train(scaled: bool) -> torch.Tensor:
        torch.manual_seed(0)
        embedding = torch.nn.Embedding(5, 2, sparse=True)
        optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)

        def closure() -> torch.Tensor:  # does not zero
            loss = embedding(torch.tensor([1, 1, 3])).square().sum()
            (rt.scaler.scale(loss) if scaled else loss).backward()
            return loss

        for _ in range(3):
            if scaled:
                rt.scaler.step(optimizer, closure)
                rt.scaler.update()
            else:
                optimizer.step(closure)
        return embedding.weight.detach()

    assert torch.equal(train(True), train(False))
