"""Small models, data and mistakes that the runtime's tests share."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

VARIABLES = ("AMPIFY_MODE", "AMPIFY_DEVICE", "AMPIFY_INIT_SCALE")
Load = Callable[..., ModuleType]


def make_model() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.LayerNorm(32), torch.nn.GELU(), torch.nn.Linear(32, 3))


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(16, 8, generator=generator), torch.randint(0, 3, (16,), generator=generator)) for _ in range(count)]


def overflow(optimizer: torch.optim.Optimizer) -> None:
    """One gradient becomes inf, as if fp16 had overflowed."""
    grad = optimizer.param_groups[0]["params"][0].grad
    assert grad is not None
    grad.view(-1)[0] = float("inf")


def one_parameter(**kwargs: Any) -> tuple[torch.nn.Parameter, torch.optim.SGD]:
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    return parameter, torch.optim.SGD([parameter], lr=0.1, **kwargs)
