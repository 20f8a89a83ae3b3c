"""Trains a generated script in this process, and records it as tests/fixtures_suite/compare.py reads it.

Nothing stays behind: the runtime is a fresh module for each run, and what is patched of torch is put back.
"""

import builtins
import contextlib
import io
import os
import random
import sys
import traceback
import types
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # optimizers import it at their first use; not while modules are exchanged
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

RUNTIME = Path(__file__).resolve().parents[2] / "runtime" / "ampify_runtime.py"
INIT_SCALE = 1024

# `growing` is scale-only with a scale that doubles at every update(): still exact, and an update() at a wrong place is not.
MODES = {"original": "off", "off": "off", "scale-only": "scale-only", "growing": "scale-only"}


class _Watcher:
    """What optimizers, backward passes and layers of one run did."""

    def __init__(self, mode: str) -> None:
        self.mode, self.open, self.regions, self.closure = mode, 0, 0, False
        self.steps: list[tuple[int, list[torch.Tensor | None], list[torch.Tensor]]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.problems: list[str] = []
        self.grads: list[torch.Tensor | None] = []
        self.scaled: dict[int, torch.Tensor] = {}  # kept alive, so that an id stays its own

    def complain(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.open:
            self.complain("an optimizer steps inside a region")
        self.closure = len(args) > 1 or bool(kwargs)  # it makes the gradients while the optimizer steps
        self.grads = _gradients(optimizer)

    def after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        number = next((i for i, known in enumerate(self.optimizers) if known is optimizer), len(self.optimizers))
        self.optimizers[number:] = [optimizer]
        grads = _gradients(optimizer) if self.closure else self.grads
        self.steps.append((number, grads, [p.detach().clone() for p in _parameters(optimizer)]))

    def before_forward(self, module: nn.Module, _: Any) -> None:
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
        if isinstance(module, nn.Linear) and trained and not self.open:
            self.complain("a layer computes outside of regions in training")

    @contextlib.contextmanager
    def region(self, enabled: bool = True) -> Iterator[None]:
        before, self.open = self.open, self.open + 1 if enabled else 0
        self.regions += 1
        try:
            yield
        finally:
            self.open = before

    def backward(self, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        if self.open:
            self.complain("a backward inside a region")
        if self.mode in ("scale-only", "growing") and not all(id(root) in self.scaled for root in roots):
            self.complain("a backward of a loss that is not scaled")
        return _BACKWARD(tensors, *args, **kwargs)


_BACKWARD = torch.autograd.backward


def run(source: bytes, mode: str) -> dict[str, Any]:
    """The record of a run: its steps, its final state, what it printed, and every rule that it was seen to break."""
    watcher = _Watcher(mode)
    printed, error = io.StringIO(), ""
    main = types.ModuleType("generated")
    main.__dict__.update(__builtins__=builtins, __file__="generated.py", __name__="__main__")
    environment = {"AMPIFY_MODE": MODES[mode], "AMPIFY_DEVICE": "cpu", "AMPIFY_INIT_SCALE": str(INIT_SCALE)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        stack.enter_context(contextlib.redirect_stdout(printed))
        warnings.simplefilter("always")
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # for tensors this small, more take many times longer
        stack.callback(register_optimizer_step_pre_hook(watcher.before_step).remove)
        stack.callback(register_optimizer_step_post_hook(watcher.after_step).remove)
        if mode != "original":
            runtime = _runtime(watcher)
            stack.enter_context(mock.patch.dict(sys.modules, {"ampify_runtime": runtime}))
            stack.enter_context(mock.patch.object(torch.autograd, "backward", watcher.backward))
            stack.callback(nn.modules.module.register_module_forward_pre_hook(watcher.before_forward).remove)
            stack.callback(lambda: _look_for_pending(runtime, watcher))
        random.seed(0)
        torch.manual_seed(0)
        try:
            exec(compile(source, "generated.py", "exec"), main.__dict__)
        except SystemExit as stop:
            error = f"SystemExit({stop.code!r})" if stop.code else ""
        except Exception:
            error = traceback.format_exc()
    return {
        "steps": watcher.steps,
        "problems": watcher.problems,
        "optimizers": [o.state_dict() for o in watcher.optimizers],
        "state": dict(_tensors(main.__dict__)),
        "random": (torch.get_rng_state(), random.getstate()),
        "printed": printed.getvalue(),
        "warnings": sorted({f"{w.category.__name__}: {w.message}" for w in caught}),
        "error": error,
        "regions": watcher.regions,
    }


@cache
def _code() -> types.CodeType:
    return compile(RUNTIME.read_bytes(), str(RUNTIME), "exec")


def _runtime(watcher: _Watcher) -> Any:
    runtime: Any = types.ModuleType("ampify_runtime")
    with mock.patch.dict(sys.modules, {"ampify_runtime": runtime}):
        exec(_code(), runtime.__dict__)
    scale = runtime.GradScaler.scale

    def watched(scaler: Any, outputs: Any) -> Any:
        result = scale(scaler, outputs)
        for tensor in [result] if isinstance(result, torch.Tensor) else result:
            watcher.scaled[id(tensor)] = tensor
        return result

    runtime.GradScaler.scale = watched
    runtime.autocast = watcher.region
    if watcher.mode == "growing":
        runtime.scaler.set_growth_interval(1)
    return runtime


def _look_for_pending(runtime: Any, watcher: _Watcher) -> None:
    states = runtime.scaler._per_optimizer_states.values() if runtime.scaler.is_enabled() else ()
    if any(state["found_inf_per_device"] for state in states):
        watcher.complain("an optimization step ended without update()")


def _gradients(optimizer: torch.optim.Optimizer) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.detach().clone() for p in _parameters(optimizer)]


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _tensors(space: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors, and those of modules, that a script's global names stand for."""
    for name, value in list(space.items()):
        if isinstance(value, torch.Tensor):
            yield name, value.detach().clone()
        elif isinstance(value, nn.Module):
            yield from ((f"{name}.{key}", tensor.detach().clone()) for key, tensor in value.state_dict().items())
