"""What rounding alone does to a script that knows nothing of mixed precision: its outermost modules compute under autocast, and
its losses are scaled. How far the first gradients are from those of fp32 then is what any conversion has to be forgiven."""

import functools
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ampify_observe import tensors

SCALE = 1024.0  # small gradients would be lost without one


def install(dtype: torch.dtype) -> None:
    """Patches torch in this process. Clipping is left out, or it would see scaled gradients."""
    call, backward = torch.nn.Module.__call__, torch.autograd.backward
    inside: list[torch.nn.Module] = []

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
        return backward([root * SCALE for root in roots], *args, **kwargs)

    def unscale(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        for parameter in tensors.parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad = parameter.grad / SCALE

    torch.nn.Module.__call__ = rounded  # type: ignore[method-assign]
    torch.autograd.backward = scaled  # type: ignore[assignment]
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        setattr(torch.nn.utils.clip_grad, name, lambda *_, **__: torch.tensor(1.0))
        setattr(torch.nn.utils, name, getattr(torch.nn.utils.clip_grad, name))
    register_optimizer_step_pre_hook(unscale)


def _widened(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == dtype else value
    if isinstance(value, (tuple, list)):
        items = [_widened(item, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _widened(item, dtype) for key, item in value.items()} if isinstance(value, dict) else value
