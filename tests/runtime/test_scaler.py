"""Overflow, missing gradients, wrappers, counts and states."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, batches, make_model, one_parameter, overflow


@pytest.fixture
def rt(load: Load) -> ModuleType:
    return load("scale-only", init_scale=1024)


def backward(rt: ModuleType, parameter: torch.nn.Parameter, factor: float = 1.0) -> None:
    """Adds `factor` to every element of the gradient, once unscaled."""
    rt.scaler.scale(parameter.sum() * factor).backward()


class Noam:
    """A warm-up wrapper as in The Annotated Transformer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.warmup, self.number = optimizer, 10, 0

    def step(self, *args: Any) -> str:
        self.number += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * self.number
        self.optimizer.step()
        return f"step {self.number}{args or ''}"


# --- overflow ---


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale_first", [False, True])
def test_an_overflow_skips_one_optimizer_and_halves_the_scale_once(rt: ModuleType, fused: bool, unscale_first: bool) -> None:
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [torch.optim.SGD([parameter], lr=1.0, fused=fused) for parameter in parameters]
    for parameter in parameters:
        backward(rt, parameter)
    overflow(optimizers[0])
    for optimizer in optimizers:
        if unscale_first:
            rt.scaler.unscale_(optimizer)
        rt.scaler.step(optimizer)
    rt.scaler.update()
    assert torch.equal(parameters[0], torch.ones(3))
    assert torch.equal(parameters[1], torch.zeros(3))  # a gradient of exactly 1.0
    assert rt.scaler.get_scale() == 512.0
    assert [rt.scaler.was_taken(optimizer) for optimizer in optimizers] == [False, True]
    assert rt.scaler.taken == {optimizers[0]: 0, optimizers[1]: 1}
    assert rt.scaler.skipped == {optimizers[0]: 1, optimizers[1]: 0}


def test_both_overflow_and_the_scale_still_halves_once(rt: ModuleType) -> None:
    pairs = [one_parameter(fused=True), one_parameter(), one_parameter(fused=True)]
    for parameter, optimizer in pairs:
        backward(rt, parameter)
        overflow(optimizer)
    for _, optimizer in pairs:
        rt.scaler.step(optimizer)
    rt.scaler.update()
    assert rt.scaler.get_scale() == 512.0
    assert list(rt.scaler.skipped.values()) == [1, 1, 1]


def test_a_nan_skips_and_the_next_step_is_taken(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    backward(rt, parameter, float("nan"))
    assert rt.scaler.step(optimizer) is None
    rt.scaler.update()
    optimizer.zero_grad()
    backward(rt, parameter)
    rt.scaler.step(optimizer)
    rt.scaler.update()
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)
    assert rt.scaler.was_taken(optimizer)
    assert (rt.scaler.taken[optimizer], rt.scaler.skipped[optimizer]) == (1, 1)


def test_a_path_that_unscales_and_does_not_step_still_backs_off(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    for scale in (512.0, 256.0):
        optimizer.zero_grad()
        backward(rt, parameter)
        overflow(optimizer)
        rt.scaler.unscale_(optimizer)
        rt.scaler.update()
        assert rt.scaler.get_scale() == scale
    assert rt.scaler.taken == {}


def test_a_scale_below_one_warns_once(load: Load) -> None:
    rt = load("scale-only", init_scale=2)
    parameter, optimizer = one_parameter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            optimizer.zero_grad()
            backward(rt, parameter)
            overflow(optimizer)
            rt.scaler.step(optimizer)
            rt.scaler.update()
            assert len(caught) == (rt.scaler.get_scale() < 1)
    assert "the loss scale fell to 0.5" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_counting_reads_nothing_that_torch_does_not_read(rt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def counted(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def read(self: torch.Tensor, *args: Any) -> Any:
            nonlocal reads
            reads += 1
            return original(self, *args)

        return read

    for name in ("item", "__bool__", "__float__", "__int__", "tolist", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))

    def train(scaler: torch.amp.GradScaler, fused: bool, first_overflows: bool) -> int:
        nonlocal reads
        pairs = [one_parameter(fused=fused), one_parameter(fused=fused)]
        reads = 0
        for number in range(600):
            for parameter, optimizer in pairs:
                optimizer.zero_grad()
                scaler.scale(parameter.sum()).backward()
                if first_overflows and number == 0:
                    overflow(optimizer)
                scaler.step(optimizer)
            scaler.update()
        return reads

    for fused in (True, False):
        scaler = rt.GradScaler()
        expected = train(torch.amp.GradScaler("cpu", init_scale=1024.0), fused, False)
        assert expected == (0 if fused else 1200)
        assert train(scaler, fused, False) == expected
        assert list(scaler.taken.values()) == [] or set(scaler.taken.values()) == {600}
    assert train(rt.scaler, False, True) == expected + 1  # the scale is looked at after a skipped step only


def test_a_long_fused_training_is_counted_right(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter(fused=True)
    for number in range(600):
        optimizer.zero_grad()
        backward(rt, parameter)
        if number % 64 == 0:
            overflow(optimizer)
        rt.scaler.step(optimizer)
        rt.scaler.update()
        rt.scaler.update(1024.0)
    assert len(rt.scaler._steps[id(optimizer)].pending) < 300
    assert rt.scaler.skipped == {optimizer: 10}
    assert rt.scaler.taken == {optimizer: 590}
    assert rt.scaler.skipped == {optimizer: 10}  # asking again changes nothing


def test_counts_do_not_keep_an_optimizer_alive(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    backward(rt, parameter)
    rt.scaler.step(optimizer)
    rt.scaler.update()
    assert len(rt.scaler.taken) == 1
    del optimizer
    gc.collect()
    assert rt.scaler.taken == {}


# --- what plain training accepts ---


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_without_gradients_just_steps(rt: ModuleType, fused: bool) -> None:
    parameter, optimizer = one_parameter()
    idle = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], fused=fused)
    idle_steps: list[Any] = []
    idle.register_step_post_hook(lambda *_: idle_steps.append(1))
    for _ in range(2):
        backward(rt, parameter)
        for one in (idle, optimizer):
            rt.scaler.unscale_(one)
            rt.scaler.step(one)
        rt.scaler.update()
    assert len(idle_steps) == 2
    assert rt.scaler.taken == {optimizer: 2, idle: 2}


def test_steps_and_updates_before_any_loss_was_scaled(rt: ModuleType) -> None:
    _, optimizer = one_parameter()
    for _ in range(2):
        rt.scaler.unscale_(optimizer)
        rt.scaler.step(optimizer)
        rt.scaler.update()
    assert rt.scaler.was_taken(optimizer)
    assert rt.scaler.get_scale() == 1024.0
    pickle.dumps(rt.scaler)  # which torch allows between iterations only


def test_gradients_that_arrive_after_an_idle_unscale_are_unscaled(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    rt.scaler.unscale_(optimizer)
    backward(rt, parameter)
    rt.scaler.step(optimizer)
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)


def test_gradients_that_were_never_scaled_are_refused(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    parameter.sum().backward()
    with pytest.raises(AssertionError, match=r"did not use scaler\.scale"):
        rt.scaler.step(optimizer)


def test_an_update_with_nothing_recorded_does_nothing(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    rt.scaler.update()
    for _ in range(3):
        backward(rt, parameter)
        rt.scaler.update()
    rt.scaler.step(optimizer)
    rt.scaler.update()
    rt.scaler.update()
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1 * 3)
    assert rt.scaler.state_dict()["_growth_tracker"] == 1


def test_the_protocol_is_still_torchs(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    backward(rt, parameter)
    rt.scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="unscale_\\(\\) has already been called"):
        rt.scaler.unscale_(optimizer)
    rt.scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
        rt.scaler.step(optimizer)


def test_step_returns_what_the_optimizer_returns(rt: ModuleType) -> None:
    class Chatty(torch.optim.SGD):
        def step(self, closure: Any = None, *, more: int = 0) -> Any:
            super().step()
            return f"more {more}"

    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = Chatty([parameter], lr=0.1)
    backward(rt, parameter)
    assert rt.scaler.step(optimizer, more=3) == "more 3"
    rt.scaler.update()
    assert rt.scaler.step(optimizer, None, more=4) == "more 4"
    rt.scaler.update()
    assert rt.scaler.step(optimizer, closure=None) == "more 0"
    rt.scaler.update()
    overflow(optimizer)
    assert rt.scaler.step(optimizer) is None


# --- losses ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_a_half_precision_loss_is_scaled_in_fp32(load: Load, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    scaler = load("fp16").scaler
    loss = torch.full(shape, 2.0, dtype=dtype)
    for scaled in (scaler.scale(loss), scaler.scale([loss])[0], scaler.scale(((loss,),))[0][0]):
        assert scaled.dtype == torch.float32
        assert torch.equal(scaled, torch.full(shape, 131072.0))


def test_a_one_element_half_loss_trains(load: Load) -> None:
    rt = load("fp16", init_scale=1024)
    parameter, optimizer = one_parameter()
    with rt.autocast():
        loss = (parameter.half().sum() * 2).reshape(1)
    rt.scaler.scale(loss).backward()
    rt.scaler.step(optimizer)
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1 * 2)


def test_other_losses_keep_their_dtype_and_lists_their_type(rt: ModuleType) -> None:
    full, double = torch.ones(()), torch.ones((), dtype=torch.float64)
    assert rt.scaler.scale(full).dtype == torch.float32
    assert rt.scaler.scale(double).dtype == torch.float64
    scaled = rt.scaler.scale((full, [double]))
    assert isinstance(scaled, tuple)
    assert isinstance(scaled[1], list)
    scaled = rt.scaler.scale(loss for loss in (full, double))
    assert [float(loss) for loss in scaled] == [1024.0, 1024.0]


@pytest.mark.parametrize("wrong", [None, 0.0, "loss", {"a": torch.ones(())}, ["loss"]])
def test_anything_else_is_refused(rt: ModuleType, wrong: Any) -> None:
    with pytest.raises(ValueError, match="takes a tensor or an iterable of tensors"):
        rt.scaler.scale(wrong)


# --- wrappers ---


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale_first", [False, True])
def test_a_wrapper_steps_itself_if_its_optimizer_is_finite(rt: ModuleType, fused: bool, unscale_first: bool) -> None:
    parameter, optimizer = one_parameter(fused=fused)
    wrapper = Noam(optimizer)
    for bad in (True, False):
        optimizer.zero_grad()
        backward(rt, parameter)
        if bad:
            overflow(optimizer)
        if unscale_first:
            rt.scaler.unscale_(wrapper)
            assert bad or torch.equal(parameter.grad, torch.ones(2))
        assert rt.scaler.step(wrapper, "x") == (None if bad else "step 1('x',)")
        with pytest.raises(RuntimeError, match="already been called"):
            rt.scaler.step(wrapper)
        rt.scaler.update()
        assert rt.scaler.was_taken(wrapper) == rt.scaler.was_taken(optimizer) == (not bad)
    assert wrapper.number == 1
    torch.testing.assert_close(parameter, torch.tensor([0.9, 1.9]))
    assert rt.scaler.get_scale() == 512.0
    assert rt.scaler.taken == {optimizer: 1}


def test_a_wrapper_and_its_optimizer_share_one_state(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    backward(rt, parameter)
    rt.scaler.unscale_(optimizer)
    rt.scaler.step(Noam(optimizer))
    torch.testing.assert_close(parameter, torch.tensor([0.9, 1.9]))
    assert rt.scaler.step(Noam(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]))) == "step 1"


def test_a_wrapper_that_passes_attributes_on_shares_the_state_too(rt: ModuleType) -> None:
    class Proxy(Noam):
        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["optimizer"], name)

    parameter, optimizer = one_parameter(fused=True)
    backward(rt, parameter)
    rt.scaler.unscale_(optimizer)
    assert rt.scaler.step(Proxy(optimizer)) == "step 1"
    torch.testing.assert_close(parameter, torch.tensor([0.9, 1.9]))
    assert rt.scaler.taken == {optimizer: 1}


def test_an_optimizer_of_another_library_is_taken_as_it_is(rt: ModuleType) -> None:
    class Foreign:
        def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
            self.param_groups = [{"params": parameters}]

        def step(self) -> list[float]:
            return [value for group in self.param_groups for p in group["params"] for value in p.grad.tolist()]

    parameter, _ = one_parameter()
    foreign = Foreign([parameter])
    backward(rt, parameter)
    assert rt.scaler.step(foreign) == [1.0, 1.0]
    assert rt.scaler.taken == {foreign: 1}


def test_a_wrapper_around_none_or_two_is_refused(rt: ModuleType) -> None:
    parameter, optimizer = one_parameter()
    backward(rt, parameter)
    two = Noam(optimizer)
    two.other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    for wrong, count in ((two, 2), (object(), 0), (None, 0)):
        for method in (rt.scaler.step, rt.scaler.unscale_):
            with pytest.raises(TypeError, match=f"holds {count}: pass the torch optimizer itself"):
                method(wrong)
    two.other = optimizer  # the same one twice is one
    assert rt.scaler.step(two) == "step 1"


# --- checkpoints and copies ---


def trained(rt: ModuleType) -> torch.amp.GradScaler:
    parameter, optimizer = one_parameter()
    for bad in (True, False, False):
        optimizer.zero_grad()
        backward(rt, parameter)
        if bad:
            overflow(optimizer)
        rt.scaler.step(optimizer)
        rt.scaler.update()
    return rt.scaler


def test_state_before_the_first_scale_is_torchs(rt: ModuleType) -> None:
    assert isinstance(rt.scaler, torch.amp.GradScaler)
    assert rt.scaler.state_dict() == torch.amp.GradScaler("cpu", init_scale=1024.0).state_dict()


def test_state_goes_to_torchs_scaler_and_back(rt: ModuleType) -> None:
    state = trained(rt).state_dict()
    assert (state["scale"], state["_growth_tracker"]) == (512.0, 2)
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(state)
    fresh = rt.GradScaler()
    fresh.load_state_dict(other.state_dict())
    assert fresh.state_dict() == state
    rt.scaler.load_state_dict({**state, "scale": 64.0})  # after the first scale as well
    assert float(rt.scaler.scale(torch.ones(()))) == 64.0


def test_an_empty_state_leaves_the_scale_alone(load: Load, rt: ModuleType) -> None:
    before = trained(rt).state_dict()
    rt.scaler.load_state_dict({})
    assert rt.scaler.state_dict() == before
    rt.scaler.load_state_dict(load("off").scaler.state_dict())
    assert rt.scaler.state_dict() == before


@pytest.mark.parametrize("wrong", [{"scale": 1.0}, {"state": {}}, None, [1, 2], "x", 3])
def test_a_state_of_another_shape_is_refused(rt: ModuleType, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"needs what scaler\.state_dict\(\) returned.*pass \{\} to keep") as caught:
        rt.scaler.load_state_dict(wrong)
    assert "\n" not in str(caught.value)
    assert rt.scaler.get_scale() == 1024.0


def test_a_state_without_numbers_is_refused(rt: ModuleType) -> None:
    state = rt.scaler.state_dict() | {"growth_interval": "2000"}
    with pytest.raises(ValueError, match="a number for each"):
        rt.scaler.load_state_dict(state)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_go_on_where_the_original_was(rt: ModuleType, how: str) -> None:
    scaler = trained(rt)
    twin = copy.deepcopy(scaler) if how == "deepcopy" else pickle.loads(pickle.dumps(scaler))
    assert type(twin) is rt.GradScaler
    assert twin is not scaler
    assert twin.state_dict() == scaler.state_dict()
    assert twin.taken == {}
    parameter, optimizer = one_parameter()
    twin.scale(parameter.sum()).backward()
    twin.step(optimizer)
    twin.update()
    assert twin.taken == {optimizer: 1}
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)


def test_a_pickle_follows_the_mode_of_the_process_that_loads_it(load: Load, rt: ModuleType) -> None:
    pickled = pickle.dumps(trained(rt))
    assert not pickle.loads(load_in(load, "off", pickled)).is_enabled()
    rt = load("scale-only")
    assert pickle.loads(pickled).get_scale() == 512.0
    parameter, optimizer = one_parameter()
    backward(rt, parameter)
    rt.scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled at the beginning"):
        pickle.dumps(rt.scaler)


def load_in(load: Load, mode: str, pickled: bytes) -> bytes:
    load(mode)
    return pickled


def test_torchs_own_methods_resolve_the_mode(load: Load) -> None:
    for ask, expected in {
        "is_enabled": True,
        "get_scale": 4096.0,
        "get_growth_factor": 2.0,
        "get_backoff_factor": 0.5,
        "get_growth_interval": 2000,
    }.items():
        assert getattr(load("fp16", init_scale=4096).scaler, ask)() == expected
        assert getattr(load("off").scaler, ask)() == {"is_enabled": False, "get_scale": 1.0}.get(ask, expected)
    assert not hasattr(load("fp16").scaler, "no_such_thing")


def test_a_scaler_of_the_users_own(load: Load) -> None:
    rt = load("fp16")
    own = rt.GradScaler("cpu", 256.0, growth_interval=1)
    assert rt._in_force is None
    parameter, optimizer = one_parameter()
    own.scale(parameter.sum()).backward()
    own.step(optimizer)
    own.update()
    assert own.get_scale() == 512.0
    own.update(torch.tensor(8.0))
    assert own.get_scale() == 8.0
    assert not rt.GradScaler(enabled=False).is_enabled()
    with pytest.raises(AssertionError, match="growth factor"):
        rt.GradScaler(growth_factor=0.5)


def test_sparse_gradients_and_clipping_go_through(rt: ModuleType) -> None:
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    sparse = torch.optim.SparseAdam(embedding.parameters())
    rt.scaler.scale(embedding(torch.tensor([1, 1, 3])).sum()).backward()
    rt.scaler.step(sparse)
    rt.scaler.update()
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters())
    images, _ = batches(1)[0]
    rt.scaler.scale(model(images).sum()).backward()
    rt.scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    model.zero_grad()
    model(images).sum().backward()
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
