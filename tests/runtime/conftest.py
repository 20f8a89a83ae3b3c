"""Fresh copies of the runtime, each with settings of its own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import VARIABLES, Load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load(mode, device, init_scale)`: a copy of the module that has not been used yet, and is the one to pickle."""

    def fresh(mode: str | None = None, device: str | None = None, init_scale: Any = None) -> ModuleType:
        for variable, value in zip(VARIABLES, (mode, device, init_scale), strict=True):
            if value is not None:
                monkeypatch.setenv(variable, str(value))
        spec = importlib.util.find_spec("ampify_runtime")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "ampify_runtime", module)
        spec.loader.exec_module(module)
        return module

    return fresh


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch reports a CUDA device."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
