"""Run one training script in this process and record what it did: meant for a forked child, as it patches torch."""

import builtins
import contextlib
import gc
import io
import os
import random
import sys
import traceback
import types
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ampify_observe import cuda_policy

# The layers autocast is for: they have weights and a half-precision kernel.
_LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.modules.rnn.RNNCellBase,
    nn.MultiheadAttention,
)

# The environment of each mode. `growing` is scale-only with a scale that doubles at every update(): still exact, and
# an update() at the wrong place (inside an effective batch, between two steps that share a backward) is not.
MODES: dict[str, dict[str, str]] = {
    "original": {},
    "off": {"AMPIFY_MODE": "off"},
    "scale-only": {"AMPIFY_MODE": "scale-only"},
    "growing": {"AMPIFY_MODE": "scale-only"},
    "fp16": {"AMPIFY_MODE": "fp16"},
    "bf16": {"AMPIFY_MODE": "bf16"},
    # The same with CUDA's policy on the CPU: see ampify_observe/cuda_policy.py.
    "cuda-fp16": {"AMPIFY_MODE": "fp16"},
    "cuda-bf16": {"AMPIFY_MODE": "bf16"},
    # On the accelerator that torch reports, and on the CPU if it reports none.
    "gpu-original": {},
    "gpu-fp16": {"AMPIFY_MODE": "fp16"},
    "gpu-bf16": {"AMPIFY_MODE": "bf16"},
    # Of what `--runtime torch` writes: as it runs without a GPU, and with its scaler or its autocast on, on the CPU.
    "torch": {},
    "torch scaling": {},
    "torch growing": {},
    "torch half": {},
}
INIT_SCALE = 1024
_SCALED = frozenset({"scale-only", "growing", "fp16", "cuda-fp16", "gpu-fp16", "torch scaling", "torch growing"})
_AUTOCAST = frozenset({"fp16", "bf16", "cuda-fp16", "cuda-bf16", "gpu-fp16", "gpu-bf16", "torch half"})

Record = dict[str, Any]


def saved_run(source: bytes, path: str, mode: str) -> bytes:
    """The record of a run, as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(run_script(source, path, mode), buffer)
    return buffer.getvalue()


def run_script(source: bytes, path: str, mode: str) -> Record:
    """Execute a script as `__main__` in a mode; its steps, its final state, and every rule it was seen to break.

    steps: (optimizer's number, gradients it saw, parameters after it), one for each step taken. An exception is in
    `error`, as a traceback.
    """
    device = _use_accelerator() if mode.startswith("gpu-") else "cpu"
    if mode.startswith("cuda-"):
        cuda_policy.install()
    os.environ.update(MODES[mode], AMPIFY_INIT_SCALE=str(INIT_SCALE), AMPIFY_DEVICE=device)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    watcher = _Watcher(mode, device)
    watcher.left_alone = b"# ampify: " in source
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules["__main__"], sys.argv = main, [path]
    error, printed = "", io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            exec(compile(source, path, "exec"), main.__dict__)
        except SystemExit as stop:
            error = f"SystemExit({stop.code!r})" if stop.code else ""
        except BaseException:
            error = traceback.format_exc()
    watcher.finish()
    return {
        "steps": watcher.steps,
        "problems": watcher.problems,
        "optimizers": [o.state_dict() for o in watcher.optimizers],
        "state": dict(_reachable(main.__dict__, "", 5, set())),
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
        "printed": printed.getvalue(),
        "warnings": sorted({f"{w.category.__name__}: {w.message}" for w in caught}),
        "error": error,
    }


def _use_accelerator() -> str:
    """Let what a script makes lie on the accelerator; its device type.

    No dropout: there the masks drawn may depend on the dtype, and so on the mode.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = accelerator.type if accelerator is not None else "cpu"
    torch.set_default_device(device)
    attention = nn.functional.scaled_dot_product_attention

    def attend(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *args: Any, **kwargs: Any) -> Any:
        return attention(query, key, value, attn_mask, 0.0, *args, **kwargs)

    nn.functional.scaled_dot_product_attention = attend
    nn.functional.dropout = lambda input, *_, **__: input
    return device


class _Watcher:
    """Hooks every optimizer, backward and layer forward of the process."""

    def __init__(self, mode: str, device: str) -> None:
        self.mode, self.device = mode, device
        self.left_alone = False  # pragmas may have steps left out
        self.steps: list[tuple[int, list[torch.Tensor | None], list[torch.Tensor]]] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.problems: list[str] = []
        self._grads: list[torch.Tensor | None] = []
        self._scaled: dict[int, torch.Tensor] = {}  # kept alive, so that an id stays its own
        self._unscaled: set[torch.Tensor] = set()  # what backward passes of unscaled losses have reached
        self._scalers: list[Any] = []
        register_optimizer_step_pre_hook(self._before_step)
        register_optimizer_step_post_hook(self._after_step)
        if mode.startswith("torch"):
            self._replace_torch_amp()
        elif not mode.endswith("original"):
            self._watch_runtime()

    def _watch_runtime(self) -> None:
        import ampify_runtime

        self._scalers.append(ampify_runtime.scaler)
        self._watch_scaling(ampify_runtime.GradScaler)
        if self.mode == "growing":
            ampify_runtime.scaler.set_growth_interval(1)

    def _replace_torch_amp(self) -> None:
        """A machine without CUDA; on it a scaler and an autocast that are on where the mode says so."""
        torch.cuda.is_available = lambda: False
        watcher, scaling, half = self, self.mode in _SCALED, self.mode in _AUTOCAST

        class Scaler(torch.amp.GradScaler):
            def __init__(self, device: str, enabled: bool) -> None:
                assert device == "cuda"
                super().__init__("cpu", INIT_SCALE, enabled=scaling)
                if watcher.mode == "torch growing":
                    self.set_growth_interval(1)
                watcher._scalers.append(self)

        class Autocast(torch.autocast):
            def __init__(self, device: str, dtype: torch.dtype | None = None, enabled: bool = True) -> None:
                assert device == "cuda"
                super().__init__("cpu", dtype=dtype, enabled=half and dtype is not None)  # without: what is kept out

        torch.amp.GradScaler, torch.autocast = Scaler, Autocast
        self._watch_scaling(Scaler)

    def _watch_scaling(self, scaler_class: Any) -> None:
        backward, scale = torch.autograd.backward, scaler_class.scale

        def watched_scale(scaler: Any, outputs: Any) -> Any:
            result = scale(scaler, outputs)
            if scaler.is_enabled():
                many = not isinstance(result, torch.Tensor)
                for out in result if many else [result]:
                    self._scaled[id(out)] = out
                factor = scaler.get_scale()
                pairs = zip(outputs, result, strict=True) if many else [(outputs, result)]
                if any(not torch.allclose(o.float() * factor, r.float(), equal_nan=True) for o, r in pairs):
                    self._complain("scale() did not give loss x scale")
            return result

        def watched_backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            if self.mode in _SCALED:
                self._unscaled.update(leaf for root in roots if id(root) not in self._scaled for leaf in _leaves(root))
            if torch.is_autocast_enabled(self.device):
                self._complain("backward under autocast")
            return backward(tensors, *args, **kwargs)

        scaler_class.scale = watched_scale
        torch.autograd.backward = watched_backward
        if self.mode in _AUTOCAST:
            nn.modules.module.register_module_forward_pre_hook(self._before_forward)

    def _complain(self, problem: str) -> None:
        if self.left_alone and problem.startswith(("backward of a loss that", "forward of ")):
            return
        if problem not in self.problems:
            self.problems.append(problem)

    def _before_forward(self, module: nn.Module, _inputs: Any) -> None:
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
        if isinstance(module, _LAYERS) and trained and not torch.is_autocast_enabled(self.device):
            self._complain(f"forward of {type(module).__name__} in training without autocast")

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if torch.is_autocast_enabled(self.device):
            self._complain("optimizer step under autocast")
        self._look_for_unscaled(optimizer)
        self._grads = _gradients(optimizer)
        seen = False

        def watched(closure: Any) -> Any:
            def evaluate() -> Any:
                nonlocal seen
                value = closure()
                if not seen:  # what the step begins with
                    seen, self._grads = True, _gradients(optimizer)
                return value

            return evaluate if callable(closure) else closure

        return (args[0], *map(watched, args[1:])), {name: watched(value) for name, value in kwargs.items()}

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not any(optimizer is known for known in self.optimizers):
            self.optimizers.append(optimizer)
        number = next(i for i, known in enumerate(self.optimizers) if known is optimizer)
        self.steps.append((number, self._grads, [p.detach().clone() for p in _parameters(optimizer)]))

    def _look_for_unscaled(self, optimizer: torch.optim.Optimizer) -> None:
        if self._unscaled.intersection(_parameters(optimizer)):
            self._complain("backward of a loss that scaler.scale() did not return")

    def finish(self) -> None:
        for optimizer in [o for o in gc.get_objects() if issubclass(type(o), torch.optim.Optimizer)]:
            self._look_for_unscaled(optimizer)
        if torch.is_autocast_enabled(self.device):
            self._complain("autocast is still on at the end")
        on = [scaler for scaler in self._scalers if scaler.is_enabled()]
        pending = [state for scaler in on for state in scaler._per_optimizer_states.values()]
        if any(state["found_inf_per_device"] for state in pending):
            self._complain("an optimization step ended without update()")


def _leaves(root: torch.Tensor) -> set[torch.Tensor]:
    """The tensors that a backward pass gives gradients to."""
    found, met, queue = set(), set(), [root.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in met:
            met.add(node)
            queue.extend(following for following, _ in node.next_functions)
            if isinstance(leaf := getattr(node, "variable", None), torch.Tensor):
                found.add(leaf)
    return found


def _gradients(optimizer: torch.optim.Optimizer) -> list[torch.Tensor | None]:
    scale = getattr(optimizer, "grad_scale", None)  # of a fused optimizer under a scaler: it unscales in its own kernel
    gradients = [None if p.grad is None else p.grad.detach().to_dense().clone() for p in _parameters(optimizer)]
    return gradients if scale is None else [None if g is None else g / scale for g in gradients]


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _reachable(value: Any, name: str, depth: int, seen: set[int]) -> list[tuple[str, torch.Tensor]]:
    """The tensors reachable from a script's globals through containers, modules, optimizers and its own objects."""
    if isinstance(value, torch.Tensor):
        return [(name, value.detach().to_dense().clone())]
    if depth == 0 or id(value) in seen:
        return []
    own = type(value).__module__ == "__main__" and not isinstance(value, (type, nn.Module))
    if isinstance(value, (nn.Module, torch.optim.Optimizer)):
        children, depth = value.state_dict(), max(depth, 5)
    elif own and hasattr(value, "__dict__"):
        children = vars(value)
    elif isinstance(value, dict):
        children = value
    elif isinstance(value, (list, tuple)):
        children = dict(enumerate(value))
    else:
        return []
    seen = seen | {id(value)}
    return [pair for key, child in children.items() for pair in _reachable(child, f"{name}.{key}", depth - 1, seen)]
