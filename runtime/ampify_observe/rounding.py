"""What rounding alone does to a script that knows nothing of mixed precision: its outermost modules compute under autocast, and
its losses are scaled. How far the first gradients are from those of fp32 then is what any conversion has to be forgiven."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ampify_observe import tensors

SCALE = 1024.0  # small gradients would be lost without one


def install(dtype: torch.dtype) -> None:
    """Patches torch in this process."""
    call, backward = torch.nn.Module.__call__, torch.autograd.backward
    inside: list[torch.nn.Module] = []
    unscaled: set[int] = set()  # parameters whose gradients have the scale off since the last backward

    @functools.wraps(call)
    def rounded(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if inside or isinstance(module, torch.nn.modules.loss._Loss):
            return call(module, *args, **kwargs)
        device = next((p.device.type for p in module.parameters()), "cpu")
        inside.append(module)
        try:
            with torch.autocast(device, dtype):
                return _widened(call(module, *args, **kwargs), dtype)
        finally:
            inside.pop()

    @functools.wraps(backward)
    def scaled(given: Any, *args: Any, **kwargs: Any) -> Any:
        roots = [given] if isinstance(given, torch.Tensor) else list(given)
        unscaled.clear()
        return backward([root * SCALE for root in roots], *args, **kwargs)

    def unscale(parameters: Iterable[torch.Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None and id(parameter) not in unscaled:
                unscaled.add(id(parameter))
                parameter.grad = parameter.grad / SCALE

    def unscaling(clip: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(clip)
        def clipped(given: Any, *args: Any, **kwargs: Any) -> Any:
            parameters = [given] if isinstance(given, torch.Tensor) else list(given)
            unscale(parameters)
            return clip(parameters, *args, **kwargs)

        return clipped

    torch.nn.Module.__call__ = rounded  # type: ignore[method-assign]
    torch.autograd.backward = scaled  # type: ignore[assignment]
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        hooked = unscaling(getattr(torch.nn.utils.clip_grad, name))
        setattr(torch.nn.utils.clip_grad, name, hooked)
        setattr(torch.nn.utils, name, hooked)
    register_optimizer_step_pre_hook(lambda optimizer, *_: unscale(tensors.parameters(optimizer)))


def _widened(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == dtype else value
    if isinstance(value, (tuple, list)):
        items = [_widened(item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _widened(item, dtype) for key, item in value.items()} if isinstance(value, dict) else value
