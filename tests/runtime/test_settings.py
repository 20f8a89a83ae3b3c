"""Mode, device and initial scale: where they come from, when they are read, and what a wrong one says."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import warnings
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, one_parameter

# --- the table of modes ---


@pytest.mark.parametrize(
    ("mode", "device", "dtype", "scaling"),
    [
        (None, None, None, False),
        ("auto", None, None, False),
        ("auto", "cpu", None, False),
        ("auto", "cuda", torch.float16, True),
        ("auto", "mps", torch.float16, True),
        ("fp16", None, torch.float16, True),
        ("bf16", None, torch.bfloat16, False),
        ("bf16", "xpu", torch.bfloat16, False),
        ("scale-only", None, None, True),
        ("scale-only", "cuda", None, True),
        ("off", None, None, False),
        ("off", "cuda", None, False),
    ],
)
def test_modes_without_an_accelerator(
    load: Load, mode: str | None, device: str | None, dtype: torch.dtype | None, scaling: bool
) -> None:
    settings = load(mode, device)._settings()
    assert (settings.device, settings.dtype, settings.scaling) == (device or "cpu", dtype, scaling)
    assert settings.init_scale == 65536.0


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        (None, None, ("cuda", torch.float16, True)),
        ("bf16", None, ("cuda", torch.bfloat16, False)),
        ("scale-only", None, ("cuda", None, True)),
        ("off", None, ("cpu", None, False)),  # off asks for no device at all
        ("auto", "cpu", ("cpu", None, False)),
        ("fp16", "cpu", ("cpu", torch.float16, True)),
    ],
)
def test_modes_with_an_accelerator(load: Load, mode: str | None, device: str | None, expected: Any) -> None:
    settings = load(mode, device)._settings()
    assert (settings.device, settings.dtype, settings.scaling) == expected


@pytest.mark.parametrize("available", ["cuda", "mps", "xpu", None])
def test_torch_before_accelerator(load: Load, monkeypatch: pytest.MonkeyPatch, available: str | None) -> None:
    monkeypatch.delattr(torch, "accelerator")
    for name, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps), ("xpu", torch.xpu)):
        monkeypatch.setattr(backend, "is_available", lambda name=name: name == available)
    assert load()._settings().device == (available or "cpu")


def test_an_accelerator_without_autocast_counts_as_none(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    settings = load()._settings()
    assert (settings.device, settings.scaling) == ("cpu", False)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: [loss], lambda loss: iter([loss])])
def test_auto_passes_through_when_the_first_loss_is_on_the_cpu(load: Load, wrap: Any) -> None:
    rt = load()
    rt.scaler.load_state_dict(torch.amp.GradScaler("cpu").state_dict())
    parameter, optimizer = one_parameter()
    with pytest.warns(UserWarning, match="the first loss is on the CPU although torch has 'cuda'") as caught:
        torch.autograd.backward(rt.scaler.scale(wrap(parameter.sum())))
    assert [warning.filename for warning in caught] == [__file__]
    rt.scaler.unscale_(optimizer)
    rt.scaler.step(optimizer)
    rt.scaler.update()
    assert torch.equal(parameter, torch.tensor([1.0, 2.0]) - 0.1)
    assert not rt.scaler.is_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rt.scaler.scale(parameter) is parameter


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("mode", ["auto", "fp16", "scale-only"])
def test_other_first_losses_are_scaled(load: Load, mode: str) -> None:
    rt = load(mode)
    rt.scaler.scale(torch.ones((), device="meta" if mode == "auto" else "cpu"))
    assert rt.scaler.is_enabled()
    rt.scaler._scale = torch.tensor(2.0)  # a meta tensor could not be copied to the CPU
    assert rt.scaler.scale(torch.ones(())) == 2.0  # only the first decides
    assert rt.scaler.is_enabled()


# --- wrong values ---

MODES = "auto, fp16, bf16, scale-only, off"
DEVICES = "cpu, cuda, mps, xpu"
WRONG = [
    ("mode", "fp8", MODES),
    ("mode", "FP16", MODES),
    ("mode", "", MODES),
    ("mode", "two\nlines", MODES),
    ("device", "cuda:0", f"write 'cuda'; a device type with autocast in this torch is one of {DEVICES}"),
    ("device", "gpu", DEVICES),
    ("device", "meta", DEVICES),
    ("device", "", DEVICES),
    ("init_scale", "1000", "power of two"),
    ("init_scale", "0", "power of two"),
    ("init_scale", "-2", "power of two"),
    ("init_scale", "inf", "power of two"),
    ("init_scale", "nan", "power of two"),
    ("init_scale", "1e300", "power of two"),
    ("init_scale", str(2.0**127), "power of two"),
    ("init_scale", "many", "power of two"),
    ("init_scale", "", "power of two"),
]


@pytest.mark.parametrize("use", [lambda rt: rt.autocast(), lambda rt: rt.scaler.state_dict()])
@pytest.mark.parametrize(("setting", "value", "expected"), WRONG)
def test_a_wrong_variable_is_one_line(load: Load, setting: str, value: str, expected: str, use: Any) -> None:
    rt = load(**{setting: value})
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^AMPIFY_{setting.upper()}=") as caught:
            use(rt)
        message = str(caught.value)
        assert repr(value) in message
        assert expected in message
        assert "\n" not in message


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [*WRONG, ("device", torch.device("cuda", 0), "write 'cuda'"), ("device", 0, DEVICES), ("init_scale", [], "power")],
)
def test_a_wrong_argument_is_one_line_and_changes_nothing(load: Load, setting: str, value: Any, expected: str) -> None:
    rt = load()
    with pytest.raises(ValueError, match=rf"^configure\({setting}=") as caught:
        rt.configure(**{"mode": "bf16", setting: value})
    assert repr(value) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert rt._settings().mode == "auto"


@pytest.mark.parametrize("scale", ["1", "0.5", "1024", "1024.0", "16777216"])
def test_powers_of_two_are_taken(load: Load, scale: str) -> None:
    assert load("scale-only", init_scale=scale).scaler.get_scale() == float(scale)


# --- configure ---


def test_configure_before_the_first_use(load: Load) -> None:
    rt = load()
    rt.configure(mode="fp16", init_scale=8)
    rt.configure(device="cpu")
    assert rt.scaler.get_scale() == 8.0
    with rt.autocast():
        assert torch.get_autocast_dtype("cpu") == torch.float16


def test_a_variable_wins_over_configure(load: Load) -> None:
    rt = load("off", init_scale=4)
    rt.configure(mode="bf16", device="cuda", init_scale=8)
    assert rt._settings() == ("off", "cuda", None, False, 4.0)


@pytest.mark.parametrize("use", [lambda rt: rt.autocast(), lambda rt: rt.scaler.is_enabled()])
def test_configure_after_the_first_use(load: Load, use: Any) -> None:
    rt = load()
    use(rt)
    with pytest.raises(RuntimeError, match=r"^configure\(\) came after .*'auto' on 'cpu'.*right after the import"):
        rt.configure(mode="bf16")
    assert rt._settings().mode == "auto"


def test_configure_again_with_the_same_settings(load: Load) -> None:
    # Each converted module of a program pins its precision; one may be imported after the first use.
    rt = load()
    rt.configure(mode="bf16")
    rt.autocast()
    rt.configure(mode="bf16")
    with pytest.raises(RuntimeError, match=r"^configure\(\) came after"):
        rt.configure(mode="bf16", init_scale=8)


def test_a_variable_that_wins_makes_a_late_configure_harmless(load: Load) -> None:
    rt = load("off")
    rt.autocast()
    rt.configure(mode="fp16")
    assert rt._settings().mode == "off"


def test_a_variable_set_after_the_import_still_counts(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    rt = load()
    monkeypatch.setenv("AMPIFY_MODE", "fp16")
    assert rt.scaler.is_enabled()
    monkeypatch.setenv("AMPIFY_MODE", "off")
    assert rt.scaler.is_enabled()  # but not after the first use


# --- import, fork, spawn ---


def test_importing_decides_and_touches_nothing() -> None:
    """In a process of its own: a wrong mode does not matter, torch is asked for no device and warns of nothing."""
    program = """
import os, sys, warnings
warnings.simplefilter("error")
os.environ["AMPIFY_MODE"] = "wrong"
import torch
def asked(*_): raise AssertionError("asked for a device")
torch.accelerator.is_available = torch.cuda.is_available = torch.cuda.device_count = asked
torch.accelerator.current_accelerator = asked
torch.cuda.amp.common.amp_definitely_not_available = asked
before = set(sys.modules)
import ampify_runtime, pickle
pickle.loads(pickle.dumps(ampify_runtime.scaler))
ampify_runtime.configure(mode="fp16")
ampify_runtime.custom_fwd(ampify_runtime.custom_bwd(print))
assert ampify_runtime._in_force is None and not torch.cuda.is_initialized()
new = {name.partition(".")[0] for name in set(sys.modules) - before} - {"ampify_runtime", "torch"}
assert new <= sys.stdlib_module_names, new
"""
    done = subprocess.run([sys.executable, "-c", program], env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _train_in_child(runtime: ModuleType, scaler: torch.amp.GradScaler, pipe: Connection) -> None:
    torch.set_num_threads(1)
    parameter, optimizer = one_parameter()
    with runtime.autocast():
        half = torch.mm(torch.ones(1, 1), torch.ones(1, 1)).dtype
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    pipe.send((parameter.tolist(), half, scaler.get_scale(), runtime._settings().mode))


def _spawned(scaler: torch.amp.GradScaler, pipe: Connection) -> None:
    import ampify_runtime

    _train_in_child(ampify_runtime, scaler, pipe)


@pytest.mark.parametrize("used_before", [False, True])
def test_fork(load: Load, used_before: bool) -> None:
    rt = load("fp16", init_scale=1024)
    if used_before:
        rt.scaler.scale(torch.ones(()))
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_train_in_child, args=(rt, rt.scaler, send))
    child.start()
    assert receive.poll(60)
    expected = (torch.tensor([1.0, 2.0]) - 0.1).tolist()
    assert receive.recv() == (expected, torch.float16, 1024.0, "fp16")
    child.join()
    assert (rt._in_force is not None) == used_before


def test_spawn(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scaler that has been used goes to a child, which reads the environment for itself."""
    rt = load("fp16", init_scale=1024)
    rt.scaler.scale(torch.ones(()))
    rt.scaler.update(256.0)
    monkeypatch.setenv("PYTHONPATH", _environment()["PYTHONPATH"])
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=_spawned, args=(rt.scaler, send))
    child.start()
    assert receive.poll(60)
    expected = (torch.tensor([1.0, 2.0]) - 0.1).tolist()
    assert receive.recv() == (expected, torch.float16, 256.0, "fp16")
    child.join()
