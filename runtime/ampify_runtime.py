# ampify_runtime 0.1.0 (`ampify --runtime vendor` replaces a file that begins so, if its version is older)
"""Autocast and loss scaling for converted training scripts, in the mode in force when the script runs.

AMPIFY_MODE        auto (default): fp16 with loss scaling where torch reports an accelerator, off on the CPU;
                   fp16: half precision with loss scaling; bf16: bfloat16, which needs no loss scaling;
                   scale-only: loss scaling in fp32; off: every call passes through.
AMPIFY_DEVICE      a device type (cpu, cuda, mps, xpu, ...) instead of what torch reports.
AMPIFY_INIT_SCALE  the first loss scale, a power of two (default 65536), so that scaling is exact.
AMPIFY_REPORT      1 prints `scaler.report()` to stderr when the process exits (default 0).

These, or else `configure`, are read at the first use and never at import, so processes can fork and spawn before it.
Sources: the PyTorch notes "Automatic Mixed Precision examples", the torch.amp reference, and Micikevicius et al.,
"Mixed Precision Training" (ICLR 2018). Needs torch >= 2.4.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import itertools
import math
import os
import sys
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch.amp.grad_scaler import OptState
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

__all__ = [
    "GradScaler",
    "autocast",
    "configure",
    "custom_bwd",
    "custom_fwd",
    "full_precision",
    "full_precision_fwd",
    "scaler",
    "unscaled_bwd",
]

_T = TypeVar("_T")
_MODES = ("auto", "fp16", "bf16", "scale-only", "off")
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "maia", "xla", "ipu")
_RETRIES = 24  # of one evaluation by LBFGS; that many halvings leave nothing of a scale to blame
# Functions of libraries whose backward is not linear in the gradient, by module: adaptive solvers, which choose their steps by
# the size of what they solve for, and by an error that half precision would drown ("adjoint" of torchdiffeq and torchsde).
_NOT_LINEAR = {
    "torchdiffeq._impl.adjoint": "OdeintAdjointMethod",
    "torchsde._core.adjoint": "_SdeintAdjointMethod",
}
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
    if name == "report":
        if value in ("0", "1"):
            return value
        raise ValueError(f"{origin}: it must be 0, or 1 to print the scaler's report at exit")
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
        init_scale, report = _setting("init_scale", 65536.0), _setting("report", "0")
        if device is None:
            device = "cpu" if mode == "off" else _accelerator()
        effective = ("off" if device == "cpu" else "fp16") if mode == "auto" else mode
        _in_force = _Settings(mode, device, _DTYPES.get(effective), effective in ("fp16", "scale-only"), init_scale)
        if report == "1" and os.environ.get("RANK", "0") == "0":  # the other ranks have the same to say
            atexit.register(_print_report)
    return _in_force


def autocast(enabled: bool = True) -> contextlib.AbstractContextManager[Any]:
    """A new autocast region for the device type and dtype in force; a null context in off and scale-only.

    New each time: one entered again while open would leave autocast on. Forward and loss go inside, backward and
    parameter updates outside (torch.amp, "Autocasting"). Raises ValueError for a wrong setting.
    """
    settings = _settings()
    if settings.dtype is None:  # torch.autocast(enabled=False) would switch off a region of the caller's own
        return contextlib.nullcontext()
    _see_to_libraries()
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


def full_precision_fwd(fwd: Callable[..., Any]) -> Callable[..., Any]:
    """For an autograd.Function's forward, or setup_context, that has to compute in fp32, with its backward.

    In fp16 and bf16 it runs with autocast off, on half-precision arguments cast to fp32; no change in off and scale-only.
    Source: `cast_inputs` of `torch.amp.custom_fwd`.
    """

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        settings = _settings()
        if settings.dtype is None:
            return fwd(*args, **kwargs)
        with torch.autocast(settings.device, enabled=False):
            return fwd(*_widened(args), **_widened(kwargs))

    return decorated


def unscaled_bwd(bwd: Callable[..., Any]) -> Callable[..., Any]:
    """For an autograd.Function's backward that is not linear in the gradients: it gets them as they are without loss scaling.

    In the backward of a loss that a scaler has multiplied, gradients are divided by that scale, in fp32, and what it returns
    is multiplied by it again; with a power of two both are exact. Where a gradient overflowed in fp16, all that it returns is
    NaN, or a clamp would hide the overflow from the scaler. No change in any other backward.
    """
    global _unscaling
    _unscaling = True

    @functools.wraps(bwd)
    def decorated(ctx: Any, *gradients: Any) -> Any:
        scale = _scale_of_pass()
        return bwd(ctx, *gradients) if scale is None else _without_scale(scale, bwd, ctx, gradients)

    # As torch.compiler.disable does it: a compiled backward would be one that was traced when no gradient was scaled.
    decorated._torchdynamo_disable = True  # type: ignore[attr-defined]
    return decorated


_unscaling = False  # whether there is such a backward: only then is a scaled backward to be known as one
_UNSCALED = "ampify_runtime.unscaled"  # in what threads hand on to those of a backward: the pass whose scale is taken off


class _Pass:
    """A backward that runs on a scaled loss; the engine holds it for just as long, also if that fails."""

    def __init__(self, scale: torch.Tensor) -> None:
        self.scale = scale

    def __call__(self) -> None:
        """Nothing is left to do when it has run."""


_passes: MutableMapping[int, _Pass] = weakref.WeakValueDictionary()  # by the engine's number of a backward


def _scale_of_pass() -> torch.Tensor | None:
    """The scale of the gradients in the backward that runs here, or None if they are not scaled."""
    if not _passes:
        return None
    number = torch._C._current_graph_task_id()
    here = _passes.get(number)
    inside = torch._C._get_obj_in_tls(_UNSCALED) if torch._C._is_key_in_tls(_UNSCALED) else None
    if inside is not None:  # called by a backward whose scale is off, or in a pass that this one started
        return here.scale if here is not None and number != inside else None
    if here is None and number >= 0:  # inside one that is scaled, as in reentrant checkpoints
        here = next(reversed([*_passes.values()]), None)
    return None if here is None else here.scale


def _without_scale(scale: torch.Tensor, bwd: Callable[..., Any], ctx: Any, gradients: tuple[Any, ...]) -> Any:
    inverse, factor = scale.double().reciprocal().float(), scale
    plain = [_times(gradient, inverse) for gradient in gradients]
    if _settings().dtype is torch.float16:
        for gradient in plain:
            if isinstance(gradient, torch.Tensor):
                factor = factor + (gradient.detach() * 0).sum().to(factor, non_blocking=True)
    tls = torch._C
    before = tls._get_obj_in_tls(_UNSCALED) if tls._is_key_in_tls(_UNSCALED) else None
    tls._stash_obj_in_tls(_UNSCALED, tls._current_graph_task_id())
    try:
        found = bwd(ctx, *plain)
    finally:
        tls._stash_obj_in_tls(_UNSCALED, before)
    return tuple(_times(one, factor) for one in found) if isinstance(found, tuple) else _times(found, factor)


def _times(gradient: Any, factor: torch.Tensor) -> Any:
    """A gradient times a factor, a half-precision one as fp32; what is none, as it is."""
    if not isinstance(gradient, torch.Tensor) or not (gradient.is_floating_point() or gradient.is_complex()):
        return gradient
    return _promoted(gradient) * factor.to(gradient.device, non_blocking=True)


def _see_to_libraries() -> None:
    """Decorates the functions of libraries that are not linear, as if they were the script's, once they are imported."""
    for module in _NOT_LINEAR:
        if module in sys.modules:
            function = getattr(sys.modules[module], _NOT_LINEAR.pop(module), None)
            if function is not None:
                function.forward = staticmethod(full_precision_fwd(function.forward))
                function.backward = staticmethod(unscaled_bwd(function.backward))
            return _see_to_libraries()


_M = TypeVar("_M", bound=torch.nn.Module)


def full_precision(module: _M) -> _M:
    """Let a module without parameters, a loss or a sigmoid, compute in fp32 wherever it runs; returns the module itself.

    In fp16 and bf16 its forward runs with autocast off, on half-precision arguments cast to fp32; no change in off and
    scale-only. Its class becomes a subclass of the same name, so copies, pickles, replicas and its state_dict are what they
    were. Source: `binary_cross_entropy` in the "Autocast Op Reference". Raises TypeError for anything but a module.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"full_precision() takes a torch.nn.Module, not {type(module).__name__!r}")
    if not issubclass(type(module), _FullPrecision):
        module.__class__ = _in_full_precision(cast(Any, type(module)))
    return module


class _FullPrecision:
    """The methods that `full_precision` puts before those of a module's class."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        settings = _settings()
        own = super().forward  # type: ignore[misc]
        if settings.dtype is None:
            return own(*args, **kwargs)
        with torch.autocast(settings.device, enabled=False):
            return own(*_widened(args), **_widened(kwargs))

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By the module's own class: this one cannot be imported.
        _, arguments, *state = cast(tuple[Any, ...], super().__reduce_ex__(max(2, protocol)))
        return _new_in_full_precision, (type(self).__bases__[1], *arguments[1:]), *state


@functools.cache
def _in_full_precision(kind: type) -> type:
    own = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (_FullPrecision, kind), own)


def _new_in_full_precision(kind: type, *args: Any) -> Any:
    made = _in_full_precision(kind)
    return made.__new__(made, *args)


def _widened(value: Any) -> Any:
    """Half-precision tensors as fp32, also inside tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, (tuple, list)):
        items = [_widened(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _widened(item) for key, item in value.items()} if isinstance(value, dict) else value


class _Steps:
    """The steps one optimizer attempted; a fused one's found_inf stays on its device until someone asks."""

    def __init__(self, optimizer: Optimizer, forget: Callable[[Any], Any]) -> None:
        self.optimizer = weakref.ref(optimizer, forget)
        self.name = type(optimizer).__name__
        self.attempted = self.skipped = self.retried = 0
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


class _Overflow(BaseException):
    """Leaves an optimizer's step from inside its closure, with the closure's value. Not an Exception, which an optimizer might
    catch."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


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
        # "cpu": for "cuda" torch would look for one now, and warn. What depends on the mode is left to the properties.
        super().__init__("cpu", 1.0, growth_factor, backoff_factor, growth_interval)
        del self._device, self._enabled, self._init_scale
        self._asked = (device, init_scale, enabled)
        self._start_counting()

    def _start_counting(self) -> None:
        self._steps: dict[int, _Steps] = {}  # by the id of the optimizer, while that lives
        self._advanced: MutableMapping[Any, tuple[int, int]] = WeakIdKeyDictionary()  # by scheduler
        self._recent: deque[_Steps] = deque(maxlen=64)  # for the report, which outlives the optimizers
        self._history: deque[tuple[int, float]] = deque(maxlen=256)
        self._updates = 0
        self._overflowed = self._warned = False
        self._scaled = False  # whether gradients outside of a closure may be scaled ones

    # What depends on the mode, resolved at the first use. Not by __getattr__, which would slow every attribute down.
    @functools.cached_property
    def _device(self) -> str:  # type: ignore[override]
        return self._asked[0] or _settings().device

    @functools.cached_property
    def _enabled(self) -> bool:  # type: ignore[override]
        return self._asked[2] and _settings().scaling

    @functools.cached_property
    def _init_scale(self) -> float:  # type: ignore[override]
        return _settings().init_scale if self._asked[1] is None else self._asked[1]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__() if "_enabled" in self.__dict__ else self.__dict__
        own = ("_device", "_enabled", "_steps", "_advanced", "_recent")  # the process that loads it has its own
        return {name: value for name, value in state.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_counting()

    def scale(self, outputs: _T) -> _T:
        """Multiply a loss, or each of an iterable, by the scale, a half-precision one as fp32: 65536 is inf in fp16.

        When disabled it returns its argument itself; in auto a first loss on the CPU disables it, with one warning.
        Raises ValueError for anything but tensors.
        """
        self._scaled = True
        if isinstance(outputs, torch.Tensor) and self._enabled and (scale := self._scale) is not None:
            if outputs.dtype is torch.float32 and outputs.device == scale.device:  # nearly always
                return cast(_T, self._known(outputs * scale))
        return self._times_scale(outputs)

    def _known(self, scaled: Any) -> Any:
        """The scaled losses, whose backward is known as a scaled one where that matters."""
        _see_to_libraries()
        if _unscaling:
            for loss in (scaled,) if isinstance(scaled, torch.Tensor) else scaled:
                if not isinstance(loss, torch.Tensor):
                    self._known(loss)
                elif loss.requires_grad:
                    loss.register_hook(self._begin)  # type: ignore[no-untyped-call]
        return scaled

    def _begin(self, gradient: torch.Tensor) -> None:
        """A backward begins at a scaled loss: the hook of that one comes before all else."""
        number = torch._C._current_graph_task_id()
        if number not in _passes:
            _passes[number] = begun = _Pass(cast(torch.Tensor, self._scale))
            torch.autograd.Variable._execution_engine.queue_callback(begun)

    def _times_scale(self, outputs: _T) -> _T:
        if not self._enabled:
            return outputs
        losses = _promoted(outputs)
        if self._scale is None and _settings().mode == "auto" and _first_device(losses) == "cpu":
            self._enabled = False
            device = _settings().device
            warnings.warn(
                f"ampify: the first loss is on the CPU although torch has {device!r}, so no loss is scaled: train on "
                f"{device!r}, or set AMPIFY_MODE",
                stacklevel=3,
            )
            return outputs if isinstance(outputs, torch.Tensor) else cast(_T, losses)
        return cast(_T, self._known(super().scale(losses)))

    def grad(self, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """`torch.autograd.grad(outputs, inputs, ...)` for a gradient that feeds a loss: scaled inside, so that it does not
        underflow in fp16, and returned unscaled, a half-precision one as fp32.

        An overflow stays inf or NaN, so the step that it reaches is skipped. Source: "Gradient penalty" in the AMP examples.
        """
        gradients = torch.autograd.grad(self._times_scale(outputs), inputs, *args, **kwargs)
        if not self._enabled:
            return gradients
        inverse = cast(torch.Tensor, self._scale).double().reciprocal().float()

        def unscaled(gradient: torch.Tensor | None) -> torch.Tensor | None:
            return None if gradient is None else _promoted(gradient) * inverse.to(gradient.device, non_blocking=True)

        if isinstance(gradients, dict):  # of a dict of inputs, in newer versions of torch
            return {name: unscaled(gradient) for name, gradient in gradients.items()}
        return tuple(map(unscaled, gradients))

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale before they are read ("Working with Unscaled Gradients"); none is fine.

        Raises RuntimeError when called twice for a step, TypeError for a wrapper around no or several optimizers.
        """
        if self._enabled and self._has_gradients(inner := _unwrapped(optimizer)):
            super().unscale_(inner)

    def _has_gradients(self, optimizer: Optimizer) -> bool:
        # A rank of FSDP1 may own no piece of any parameter, and must still hear of the others' overflows.
        for param in _parameters(optimizer):
            if param.grad is not None:
                return True
        return self._scale is not None and _is_sharded(optimizer)

    def _unscale_grads_(
        self, optimizer: Optimizer, inv_scale: torch.Tensor, found_inf: torch.Tensor, allow_fp16: bool
    ) -> dict[torch.device, torch.Tensor]:
        grads = [grad for param in _parameters(optimizer) if (grad := param.grad) is not None]
        sharded, device = _is_sharded(optimizer), found_inf.device
        if not sharded and _are_plain(grads, device):
            # What torch does, without its sorting by device and dtype, which costs more than that.
            torch._amp_foreach_non_finite_check_and_unscale_(grads, found_inf, inv_scale)
            return {device: found_inf}
        found = super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16 or sharded)
        if sharded:  # as torch's ShardedGradScaler: every rank sees other gradients, and all must skip together
            total = torch.stack([found_inf, *(one.to(found_inf.device) for one in found.values())]).max()
            torch.distributed.all_reduce(total, torch.distributed.ReduceOp.MAX)
            found = {total.device: total}
        return found

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Unscale, and `optimizer.step(*args, **kwargs)` unless a gradient is inf or NaN; its value, None if skipped.

        Without gradients the optimizer just steps. A wrapper around one optimizer steps itself, if that one's gradients
        are finite. A closure scales its own backward and returns the loss unscaled. If its gradients overflow, the step
        is skipped, all is as before, and the value is the closure's; LBFGS, whose line search needs a number, lowers the
        scale and evaluates again.
        Raises RuntimeError for a second step before `update`, AssertionError if there are gradients but nothing was
        scaled, TypeError for two closures and for a wrapper around no or several optimizers.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or kwargs:
            closures = [arg for arg in (*args, *kwargs.values()) if callable(arg) and not isinstance(arg, torch.nn.Module)]
            if closures:
                return self._step_with_closure(closures, optimizer, args, kwargs)
            if kwargs.get("closure", self) is None:  # which torch refuses
                del kwargs["closure"]
        inner = _unwrapped(optimizer)
        state = self._per_optimizer_states[id(inner)]
        ready = state["stage"] is OptState.READY
        if ready and not self._has_gradients(inner):
            result = optimizer.step(*args, **kwargs)
            self._count(inner, 0.0)
        elif inner is optimizer and getattr(inner, "_step_supports_amp_scaling", False):
            result = super().step(inner, *args, **kwargs)
            device = cast(torch.Tensor, self._scale).device
            found = [found_inf.to(device) for found_inf in state["found_inf_per_device"].values()]
            total: Any = sum(found)  # a new tensor: update() adds the other optimizers' found_inf in place
            self._count(inner, total.clamp(max=1.0) if len(found) > 1 else total)
        else:  # as torch's step, which reads found_inf and tells nobody: so counting needs no read of its own
            self._refuse_second_step(state)
            if ready:
                super().unscale_(inner)
            found_inf = _found_inf(state)
            result = None if found_inf else optimizer.step(*args, **kwargs)
            state["stage"] = OptState.STEPPED
            self._count(inner, found_inf)
        return result

    @staticmethod
    def _refuse_second_step(state: dict[str, Any]) -> None:
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")

    def _step_with_closure(self, closures: list[Any], optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Let the optimizer call a closure that unscales at once, so that no evaluation depends on another's scale."""
        if len(closures) > 1:
            raise TypeError("scaler.step() can scale the gradients of one closure only, and this call has several")
        inner, closure, was_scaled = _unwrapped(optimizer), closures[0], self._scaled
        state = self._per_optimizer_states[id(inner)]
        self._refuse_second_step(state)
        if state["stage"] is OptState.READY and was_scaled:  # a backward before the step, as SAM's
            self.unscale_(inner)
        before = [(param, param.grad) for param in _parameters(inner)]
        # torch's own optimizers but LBFGS evaluate once, before they change anything.
        simple = type(optimizer).__module__.startswith("torch.optim.") and not isinstance(inner, torch.optim.LBFGS)
        restore = None if simple else _snapshot(inner)
        evaluate = self._evaluation(inner, closure)
        result, found_inf = None, _found_inf(state)
        if not found_inf:
            try:
                arguments = [evaluate if arg is closure else arg for arg in args]
                result = optimizer.step(*arguments, **{k: evaluate if v is closure else v for k, v in kwargs.items()})
            except _Overflow as overflow:
                found_inf, result = 1.0, overflow.value  # `optimizer.step(closure).item()` must not fail where it is skipped
                if restore is not None:
                    restore()
                for param, gradient in before:  # infs would stay if the closure does not zero the gradients
                    param.grad = gradient
        self._per_optimizer_states[id(inner)]["stage"] = OptState.STEPPED
        self._scaled = was_scaled
        self._count(inner, found_inf)
        return result

    def _evaluation(self, optimizer: Optimizer, closure: Callable[..., Any]) -> Callable[..., Any]:
        """The closure, leaving unscaled gradients; raises _Overflow if they are not finite, for LBFGS after 24 retries."""
        retries = _RETRIES if isinstance(optimizer, torch.optim.LBFGS) else 0

        @functools.wraps(closure)
        def evaluate(*args: Any, **kwargs: Any) -> Any:
            before = [(param, param.grad) for param in _parameters(optimizer)]
            first_scale = None
            for attempt in range(1 + retries):
                if attempt:
                    scale, growth_tracker = self._check_scale_growth_tracker("step")
                    first_scale = scale.clone() if first_scale is None else first_scale
                    scale.mul_(self._backoff_factor)
                    growth_tracker.zero_()
                    self._steps_of(optimizer).retried += 1
                    self._overflowed = True
                for param, grad in before:  # to gradients that the closure does not zero it adds scaled ones
                    param.grad = None if grad is None else self._times_scale(grad).to(grad.dtype)
                self._per_optimizer_states.pop(id(optimizer), None)
                value = closure(*args, **kwargs)
                state = self._per_optimizer_states[id(optimizer)]
                if state["stage"] is OptState.READY:
                    self.unscale_(optimizer)
                if not _found_inf(state):
                    return value
            if first_scale is not None:  # it is not to blame, so update() lowers it once, as for any skipped step
                cast(torch.Tensor, self._scale).copy_(first_scale)
            raise _Overflow(value)

        return evaluate

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Adapt the scale, once after the last step of an iteration; nothing happens if no gradient was looked at.

        Warns once when the scale falls below 1. Source: "Working with Multiple Models, Losses, and Optimizers".
        """
        if not self._enabled:
            return
        states = self._per_optimizer_states
        found = [found_inf for state in states.values() for found_inf in state["found_inf_per_device"].values()]
        if new_scale is None and not found:
            states.clear()
            return
        scale, growth_tracker = self._check_scale_growth_tracker("update")
        if new_scale is None and len(found) == 1 and found[0].device == scale.device:  # nothing to add up
            factors = self._growth_factor, self._backoff_factor, self._growth_interval
            torch._amp_update_scale_(scale, growth_tracker, found[0], *factors)
            states.clear()
        else:
            super().update(new_scale)
        self._updates += 1
        self._scaled = False
        if self._overflowed:
            self._overflowed = False
            if (lowered := self._read_scale(skipped=True)) < 1.0 and not self._warned:
                self._warned = True
                warnings.warn(
                    f"ampify: the loss scale fell to {lowered:g} because step after step overflowed: look for inf or NaN in "
                    "the data and the loss, lower the learning rate, or set AMPIFY_MODE=bf16",
                    stacklevel=2,
                )

    def _read_scale(self, skipped: bool = False) -> float:
        """The scale, which goes into the history if it is new, or if it grew and fell back to what it was."""
        scale = self.get_scale()
        if not self._history:
            self._history.append((0, self._init_scale))
        if skipped or self._history[-1][1] != scale:
            self._history.append((self._updates, scale))
        return scale

    def _steps_of(self, optimizer: Optimizer) -> _Steps:
        number, all_steps = id(optimizer), self._steps
        steps = all_steps.get(number)
        if steps is None:
            steps = all_steps[number] = _Steps(optimizer, lambda _: all_steps.pop(number, None))
            self._recent.append(steps)
        return steps

    def _count(self, optimizer: Optimizer, found_inf: float | torch.Tensor) -> None:
        self._steps_of(optimizer).add(found_inf)
        if not isinstance(found_inf, torch.Tensor) and found_inf:
            self._overflowed = True

    def _counts(self, own: list[Optimizer] | None = None) -> list[tuple[Optimizer, int, int]]:
        """Optimizers with their attempted and taken steps; waits for the device if one is fused."""
        alive = [(optimizer, steps) for steps in self._steps.values() if (optimizer := steps.optimizer()) is not None]
        wanted = [(o, s) for o, s in alive if not own or any(o is one for one in own)]
        self._settle(steps for _, steps in wanted)
        return [(optimizer, steps.attempted, steps.attempted - steps.skipped) for optimizer, steps in wanted]

    def _settle(self, counts: Iterable[_Steps]) -> None:
        for steps in counts:
            self._overflowed |= steps.settle()

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
        steps = self._steps.get(id(_unwrapped(optimizer)))
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

    def report(self, as_dict: bool = False) -> Any:
        """The steps of the last 64 optimizers, also of deleted ones, and the last 256 values of the scale, as text or dict.

        The scale is read after a skipped step and by this method only, so that no other step waits for the device: growth
        in between shows in the next entry, and a fused optimizer's skip once someone asks for it.
        """
        settings = _settings()
        self._settle(self._recent)
        scale = self._read_scale()
        keys = ("optimizer", "taken", "skipped", "retried")
        steps_of = [(s.name, s.attempted - s.skipped, s.skipped, s.retried) for s in self._recent]
        precision = str(settings.dtype or torch.float32).removeprefix("torch.")
        if as_dict:
            return {
                "mode": settings.mode,
                "precision": precision,
                "device": self._device,
                "scaling": self._enabled,
                "scale": scale,
                "updates": self._updates,
                "steps": [dict(zip(keys, one, strict=True)) for one in steps_of],
                "history": list(self._history),
            }
        scaling = f"loss scale {scale:g} after {self._updates} updates" if self._enabled else "losses are not scaled"
        lines = [f"ampify: mode {settings.mode}, {precision} on {self._device}, {scaling}"]
        for name, taken, skipped, retried in steps_of:
            lines.append(f"  {name}: {taken} steps taken, {skipped} skipped, {retried} evaluations repeated")
        if self._enabled:
            lines.append("  scale after update " + ", ".join(f"{number}: {value:g}" for number, value in self._history))
        return "\n".join(lines)

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


def _parameters(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    return itertools.chain.from_iterable([group["params"] for group in optimizer.param_groups])


def _is_sharded(optimizer: Optimizer) -> bool:
    """Whether it has parameters of FSDP1, whose ranks see different gradients; those of DDP and FSDP2 agree by themselves."""
    return (
        "torch.distributed.fsdp" in sys.modules
        and torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and any(getattr(param, "_fsdp_flattened", False) for param in _parameters(optimizer))
    )


def _are_plain(grads: list[torch.Tensor], device: torch.device) -> bool:
    """Whether they are dense fp32 tensors without a graph, all on one device."""
    for grad in grads:  # a loop, as a generator costs twice its time
        if grad.dtype is not torch.float32 or grad.device != device or grad.is_sparse or grad.requires_grad:
            return False
    return bool(grads)


def _found_inf(state: dict[str, Any]) -> float:
    return float(sum([found.item() for found in state["found_inf_per_device"].values()]))


def _snapshot(optimizer: Optimizer) -> Callable[[], None]:
    """What puts its parameters, their state and the settings of their groups back to what they are now."""
    values = [(param, param.detach().clone()) for param in _parameters(optimizer)]
    old_state = getattr(optimizer, "state", {})
    kept: dict[int, Any] = {id(param): param for param, _ in values}
    if type(optimizer) is torch.optim.LBFGS:  # a long history, which it adds to and never writes to
        histories = (value for own in old_state.values() for value in own.values() if isinstance(value, list))
        kept |= {id(item): item for history in histories for item in history}
    state = copy.deepcopy(dict(old_state), kept)
    groups = [{k: copy.deepcopy(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]

    def restore() -> None:
        with torch.no_grad():
            for param, value in values:
                param.copy_(value)
        old_state.clear()
        old_state.update(state)
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            group.update(settings)

    return restore


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


def _print_report() -> None:
    print(scaler.report(), file=sys.stderr)


scaler = GradScaler()
