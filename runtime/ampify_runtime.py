# ampify_runtime 0.1.0 (`ampify --runtime vendor` replaces a file that begins so, if its version is older)
"""Autocast and loss scaling for converted training scripts, in the mode in force when the script runs.

AMPIFY_MODE        auto (default): fp16 with loss scaling where torch reports an accelerator, off on the CPU;
                   fp16: half precision with loss scaling; bf16: bfloat16, which needs no loss scaling;
                   scale-only: loss scaling in fp32; off: every call passes through.
AMPIFY_DEVICE      a device type (cpu, cuda, mps, xpu, ...) instead of what torch reports.
AMPIFY_INIT_SCALE  the first loss scale, a power of two (default 65536), so that scaling is exact.

These, or else `configure`, are read at the first use and never at import, so processes can fork and spawn before it.
Sources: the PyTorch notes "Automatic Mixed Precision examples", the torch.amp reference, and Micikevicius et al.,
"Mixed Precision Training" (ICLR 2018). Needs torch >= 2.4.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["GradScaler", "autocast", "configure", "custom_bwd", "custom_fwd", "scaler"]

_T = TypeVar("_T")
_MODES = ("auto", "fp16", "bf16", "scale-only", "off")
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "maia", "xla", "ipu")
_STATE = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


class _Settings(NamedTuple):
    mode: str
    device: str
    dtype: torch.dtype | None  # None: autocast leaves everything alone
    scaling: bool
    init_scale: float


_configured: dict[str, Any] = {}
_in_force: _Settings | None = None


def configure(mode: str | None = None, device: str | None = None, init_scale: float | None = None) -> None:
    """Choose mode, device type or initial scale in the script; an environment variable that is set wins.

    Every converted module of a program may call it. Raises ValueError for a wrong value, and RuntimeError for one that
    would change a setting after the first use of autocast or the scaler.
    """
    given = {"mode": mode, "device": device, "init_scale": init_scale}
    chosen = {k: _checked(k, v, f"configure({k}={v!r})") for k, v in given.items() if v is not None}
    new = {k: v for k, v in chosen.items() if f"AMPIFY_{k.upper()}" not in os.environ and _configured.get(k) != v}
    if new and _in_force is not None:
        raise RuntimeError(
            f"configure() came after the first use of ampify_runtime ({_in_force.mode!r} on {_in_force.device!r}): "
            "call it right after the import, or set AMPIFY_MODE, AMPIFY_DEVICE or AMPIFY_INIT_SCALE"
        )
    _configured.update(chosen)


def _checked(name: str, value: Any, origin: str) -> Any:
    if name == "mode":
        if value in _MODES:
            return value
        raise ValueError(f"{origin}: the mode must be one of {', '.join(_MODES)}")
    if name == "device":
        if isinstance(value, str) and _has_autocast(value):
            return value
        allowed, kind = [device for device in _DEVICES if _has_autocast(device)], str(value).partition(":")[0]
        hint = f"write {kind!r}; " if kind in allowed else ""
        raise ValueError(f"{origin}: {hint}a device type with autocast in this torch is one of {', '.join(allowed)}")
    with contextlib.suppress(TypeError, ValueError):
        # A power of two scales without rounding, and the scale and its inverse must be normal fp32 numbers.
        if math.frexp(float(value))[0] == 0.5 and 2.0**-126 <= float(value) <= 2.0**126:
            return float(value)
    raise ValueError(f"{origin}: the initial scale must be a power of two from 2**-126 to 2**126, such as 65536")


def _has_autocast(device: str) -> bool:
    try:
        return ":" not in device and torch.amp.is_autocast_available(device)
    except RuntimeError:  # no device type of this torch
        return False


def _setting(name: str, default: Any) -> Any:
    variable = f"AMPIFY_{name.upper()}"
    if variable in os.environ:
        return _checked(name, os.environ[variable], f"{variable}={os.environ[variable]!r}")
    return _configured.get(name, default)


def _accelerator() -> str:
    if hasattr(torch, "accelerator"):  # torch >= 2.6
        current = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        found = current.type if current is not None else "cpu"
    else:
        backends: dict[str, Any] = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
        found = next((name for name, backend in backends.items() if backend.is_available()), "cpu")
    return found if _has_autocast(found) else "cpu"


def _settings() -> _Settings:
    """The settings in force, decided at the first use. Raises ValueError for a wrong environment variable."""
    global _in_force
    if _in_force is None:
        mode, device = _setting("mode", "auto"), _setting("device", None)
        init_scale = _setting("init_scale", 65536.0)
        if device is None:
            device = "cpu" if mode == "off" else _accelerator()
        effective = ("off" if device == "cpu" else "fp16") if mode == "auto" else mode
        _in_force = _Settings(mode, device, _DTYPES.get(effective), effective in ("fp16", "scale-only"), init_scale)
    return _in_force


def autocast(enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """A new autocast region for the device type and dtype in force; a null context in off and scale-only.

    New each time: one entered again while open would leave autocast on. Forward and loss go inside, backward and
    parameter updates outside (torch.amp, "Autocasting"). Raises ValueError for a wrong setting.
    """
    settings = _settings()
    if settings.dtype is None:  # torch.autocast(enabled=False) would switch off a region of the caller's own
        return contextlib.nullcontext()
    return torch.autocast(settings.device, settings.dtype) if enabled else torch.autocast(settings.device, enabled=False)


def custom_fwd(fwd: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.amp.custom_fwd` for an autograd.Function's forward, with the device type in force at the call.

    No change in off and scale-only. Source: "Autocast and Custom Autograd Functions" in the AMP examples.
    """
    return _at_call(torch.amp.custom_fwd, fwd)


def custom_bwd(bwd: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.amp.custom_bwd`, for the backward of a `custom_fwd` forward: it runs in that one's autocast state."""
    return _at_call(torch.amp.custom_bwd, bwd)


def _at_call(decorator: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.cache
    def decorated() -> Callable[..., Any]:
        settings = _settings()
        return function if settings.dtype is None else decorator(function, device_type=settings.device)

    return functools.wraps(function)(lambda *args, **kwargs: decorated()(*args, **kwargs))


class _Steps:
    """The steps one optimizer attempted; a fused one's found_inf stays on its device until someone asks."""

    def __init__(self) -> None:
        self.attempted = self.skipped = 0
        self.last: float | torch.Tensor = 0.0  # not 0: found_inf
        self.pending: list[torch.Tensor] = []

    def add(self, found_inf: float | torch.Tensor) -> None:
        self.attempted += 1
        self.last = found_inf
        if not isinstance(found_inf, torch.Tensor):
            self.skipped += found_inf > 0
        elif len(self.pending) < 256:
            self.pending.append(found_inf)
        else:  # bounded memory, and still nothing read
            self.pending = [torch.stack([*self.pending, found_inf]).sum()]

    def settle(self) -> bool:
        """Read what is pending; whether a step had been skipped."""
        newly = int(torch.stack(self.pending).sum().item()) if self.pending else 0
        self.skipped += newly
        self.pending = []
        return newly > 0


class GradScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler` in the mode in force (all passes through in off and bf16), forgiving as plain training is.

    Small gradients survive fp16 because the loss is scaled; the gradients are unscaled before the update, and a step
    whose gradients overflowed is skipped (Micikevicius et al. 2018, 3.2). Not thread-safe. Raises AssertionError for a
    growth factor <= 1 or a backoff factor >= 1.
    """

    def __init__(
        self,
        device: str | None = None,
        init_scale: float | None = None,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        # "cpu": for "cuda" torch would look for one now, and warn. What depends on the mode is left to __getattr__.
        super().__init__("cpu", 1.0, growth_factor, backoff_factor, growth_interval)
        del self._device, self._enabled, self._init_scale
        self._asked = (device, init_scale, enabled)
        self._start_counting()

    def _start_counting(self) -> None:
        self._steps: MutableMapping[Any, _Steps] = WeakIdKeyDictionary()
        self._advanced: MutableMapping[Any, tuple[int, int]] = WeakIdKeyDictionary()  # by scheduler
        self._overflowed = self._warned = False

    def __getattr__(self, name: str) -> Any:
        """Resolve the mode when an attribute that depends on it is first missed; later ones are found without us."""
        if name not in ("_device", "_enabled", "_init_scale"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        settings = _settings()
        device, init_scale, enabled = self._asked
        self._device = device or settings.device
        self._enabled = enabled and settings.scaling
        if "_init_scale" not in self.__dict__:  # else it was unpickled
            self._init_scale = settings.init_scale if init_scale is None else init_scale
        return self.__dict__[name]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__() if "_enabled" in self.__dict__ else self.__dict__
        own = ("_device", "_enabled", "_steps", "_advanced")  # the process that loads it has its own
        return {name: value for name, value in state.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_counting()

    def scale(self, outputs: _T) -> _T:
        """Multiply a loss, or each of an iterable, by the scale, a half-precision one as fp32: 65536 is inf in fp16.

        When disabled it returns its argument itself; in auto a first loss on the CPU disables it, with one warning.
        Raises ValueError for anything but tensors.
        """
        if not self._enabled:
            return outputs
        losses = _promoted(outputs)
        if self._scale is None and _settings().mode == "auto" and _first_device(losses) == "cpu":
            self._enabled = False
            device = _settings().device
            warnings.warn(
                f"ampify: the first loss is on the CPU although torch has {device!r}, so no loss is scaled: train on "
                f"{device!r}, or set AMPIFY_MODE",
                stacklevel=2,
            )
            return outputs if isinstance(outputs, torch.Tensor) else cast(_T, losses)
        return cast(_T, super().scale(losses))

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale before they are read ("Working with Unscaled Gradients"); none is fine.

        Raises RuntimeError when called twice for a step, TypeError for a wrapper around no or several optimizers.
        """
        if self._enabled and _has_gradients(inner := _unwrapped(optimizer)):
            super().unscale_(inner)

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Unscale, and `optimizer.step(*args, **kwargs)` unless a gradient is inf or NaN; its value, None if skipped.

        Without gradients the optimizer just steps. A wrapper around one optimizer steps itself, if that one's gradients
        are finite. Raises RuntimeError for a closure and for a second step before `update`, AssertionError if there are
        gradients but nothing was scaled, TypeError for a wrapper around no or several optimizers.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if any(callable(arg) for arg in (*args, *kwargs.values())):  # a positional one torch feeds scaled gradients
            raise RuntimeError(
                "scaler.step() takes no closure while losses are scaled: run scaler.scale(loss).backward() before it "
                "and leave the closure out, or set AMPIFY_MODE to bf16 or off"
            )
        if kwargs.get("closure", self) is None:  # which torch refuses too
            del kwargs["closure"]
        inner = _unwrapped(optimizer)
        state = self._per_optimizer_states[id(inner)]
        if state["stage"] is OptState.READY and not _has_gradients(inner):
            result = optimizer.step(*args, **kwargs)
            self._count(inner, 0.0)
        elif inner is not optimizer and state["stage"] is not OptState.STEPPED:
            if state["stage"] is OptState.READY:
                super().unscale_(inner)
            result = self._maybe_opt_step(optimizer, state, *args, **kwargs)
            state["stage"] = OptState.STEPPED
        else:
            result = super().step(inner, *args, **kwargs)
            if getattr(inner, "_step_supports_amp_scaling", False):  # the others are counted in _maybe_opt_step
                device = cast(torch.Tensor, self._scale).device
                found = [found_inf.to(device) for found_inf in state["found_inf_per_device"].values()]
                total: Any = sum(found)  # a new tensor: update() adds the other optimizers' found_inf in place
                self._count(inner, total.clamp(max=1.0) if len(found) > 1 else total)
        return result

    def _maybe_opt_step(self, optimizer: Any, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # As torch's, which reads found_inf here and tells nobody: so counting needs no read of its own.
        found_inf = sum(found.item() for found in optimizer_state["found_inf_per_device"].values())
        result = None if found_inf else optimizer.step(*args, **kwargs)
        self._count(_unwrapped(optimizer), found_inf)
        return result

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Adapt the scale, once after the last step of an iteration; nothing happens if no gradient was looked at.

        Warns once when the scale falls below 1. Source: "Working with Multiple Models, Losses, and Optimizers".
        """
        if not self._enabled:
            return
        if new_scale is None and not any(s["found_inf_per_device"] for s in self._per_optimizer_states.values()):
            self._per_optimizer_states.clear()
            return
        super().update(new_scale)
        if self._overflowed and not self._warned and (scale := self.get_scale()) < 1.0:
            self._warned = True
            warnings.warn(
                f"ampify: the loss scale fell to {scale:g} because step after step overflowed: look for inf or NaN in "
                "the data and the loss, lower the learning rate, or set AMPIFY_MODE=bf16",
                stacklevel=2,
            )
        self._overflowed = False

    def _count(self, optimizer: Optimizer, found_inf: float | torch.Tensor) -> None:
        if (steps := self._steps.get(optimizer)) is None:
            steps = self._steps[optimizer] = _Steps()
        steps.add(found_inf)
        self._overflowed |= not isinstance(found_inf, torch.Tensor) and found_inf > 0

    def _counts(self, own: list[Optimizer] | None = None) -> list[tuple[Optimizer, int, int]]:
        """Optimizers with their attempted and taken steps; waits for the device if one is fused."""
        wanted = [(o, s) for o, s in self._steps.items() if not own or any(o is one for one in own)]
        for _, steps in wanted:
            self._overflowed |= steps.settle()
        return [(optimizer, steps.attempted, steps.attempted - steps.skipped) for optimizer, steps in wanted]

    @property
    def taken(self) -> dict[Optimizer, int]:
        """The number of steps taken by each optimizer, while scaling. Waits for the device if one is fused."""
        return Counter({optimizer: taken for optimizer, _, taken in self._counts()})

    @property
    def skipped(self) -> dict[Optimizer, int]:
        """The number of steps skipped by each optimizer. Waits for the device if one is fused."""
        return Counter({optimizer: attempted - taken for optimizer, attempted, taken in self._counts()})

    def was_taken(self, optimizer: Optimizer) -> bool:
        """Whether its last attempted step was taken; when disabled, True, as no step is ever skipped."""
        if not self._enabled:
            return True
        steps = self._steps.get(_unwrapped(optimizer))
        return steps is not None and not steps.last

    def step_scheduler(self, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        """`scheduler.step(*args, **kwargs)`, unless every step since it last advanced was skipped: then it holds still.

        The steps of its own optimizers count, of all if it has none. Scheduling by attempts would run ahead of the
        updates, and torch warns of a scheduler that steps before its optimizer.
        """
        if self._enabled:
            counts = self._counts(_optimizers_of(scheduler))
            attempted, taken = sum(count[1] for count in counts), sum(count[2] for count in counts)
            before = self._advanced.get(scheduler, (0, 0))
            if attempted > before[0] and taken == before[1]:
                return None
            self._advanced[scheduler] = (attempted, taken)
        return scheduler.step(*args, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; {}, of a disabled scaler or an older checkpoint, leaves the scale alone.

        Does nothing when disabled. Raises ValueError for anything else.
        """
        if not self._enabled or state_dict == {}:
            return
        numbers = isinstance(state_dict, Mapping) and [state_dict.get(name) for name in _STATE]
        if not numbers or not all(isinstance(number, (int, float)) for number in numbers):
            raise ValueError(
                f"scaler.load_state_dict() needs what scaler.state_dict() returned, with a number for each of "
                f"{', '.join(_STATE)}; pass {{}} to keep the scale as it is"
            )
        super().load_state_dict(state_dict)


def _promoted(outputs: Any) -> Any:
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(map(_promoted, outputs))
    if isinstance(outputs, Iterable) and not isinstance(outputs, (str, Mapping)):
        return [_promoted(output) for output in outputs]  # a list, for it can be read only once
    raise ValueError(f"scaler.scale() takes a tensor or an iterable of tensors, not {type(outputs).__name__!r}")


def _first_device(losses: Any) -> str | None:
    while isinstance(losses, (list, tuple)) and losses:
        losses = losses[0]
    return losses.device.type if isinstance(losses, torch.Tensor) else None


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(param.grad is not None for group in optimizer.param_groups for param in group["params"])


def _unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer that owns the gradients: itself, or the only one inside a wrapper with a step() of its own."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    inside = {id(v): v for v in getattr(optimizer, "__dict__", {}).values() if isinstance(v, Optimizer)}
    if len(inside) == 1:  # even if it has the param_groups too: one optimizer, one state
        return next(iter(inside.values()))
    if hasattr(optimizer, "param_groups"):
        return cast(Optimizer, optimizer)
    raise TypeError(
        f"the scaler needs a torch optimizer or a wrapper around exactly one, and {type(optimizer).__name__!r} "
        f"holds {len(inside)}: pass the torch optimizer itself"
    )


def _optimizers_of(scheduler: Any) -> list[Optimizer]:
    """A scheduler's own optimizer, with those of chained or sequential parts."""
    found = [optimizer for part in getattr(scheduler, "_schedulers", ()) for optimizer in _optimizers_of(part)]
    with contextlib.suppress(TypeError):  # it has none, or something else by that name
        found.append(_unwrapped(getattr(scheduler, "optimizer", None)))
    return found


scaler = GradScaler()
