"""What happens round the steps: losses that go backward, the scaler's methods, clipping, autocast; and mistakes in them that are
mistakes whatever the numbers are ("Automatic Mixed Precision examples" of the PyTorch notes)."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import clip_grad

from ampify_observe import tensors

MARK = "ampify_observe.scale"  # in what autograd keeps of a node
FAR = 200  # nodes of a graph that are looked at for a mark

COUNTS = (
    "backward", "scale", "unscale", "scaler_step", "update", "clip", "autocast",
    "unscaled_backward", "clip_on_scaled", "step_on_scaled", "backward_in_autocast", "step_in_autocast",
)  # fmt: skip

Method = Callable[..., Any]


class Scaling:
    """Counts, and what was seen since the last step. `outside` is entered for what is not the script's own time."""

    def __init__(self, outside: Callable[[], Any]) -> None:
        self._outside = outside
        self.start()

    def start(self) -> None:
        """Forgets everything: a new process."""
        self._counts = dict.fromkeys(COUNTS, 0)
        self._losses: list[float] = []
        self._clips: list[float | None] = []
        self._scale: float | None = None
        self._scaled = False  # whether a loss was scaled since the last update
        self._unscaled: set[int] = set()  # parameters whose gradients were unscaled since a loss was
        self._inside: set[str] = set()  # methods that run: a class may call those of its base

    def since_last(self) -> dict[str, Any]:
        """What is written down with a step: losses, norms that clipping saw, the scale, and the counts of the process so far."""
        seen = {"losses": self._losses, "clips": self._clips, "scale": self._scale, "counts": dict(self._counts)}
        self._losses, self._clips = [], []
        return seen

    def stepping(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        self._counts["step_in_autocast"] += _autocast_is_on()
        scaled = self._scaled and getattr(optimizer, "grad_scale", None) is None
        self._counts["step_on_scaled"] += scaled and self._holds_scaled(tensors.parameters(optimizer))

    def install(self, stepper: Callable[[Any, Callable[[], Any]], Any]) -> None:
        """Hooks torch; a step through a scaler is handed to `stepper`."""
        hooks = {"scale": self._on_scale, "unscale_": self._on_unscale, "step": self._on_step, "update": self._on_update}
        self._stepper = stepper

        def hook_class(scaler: type) -> None:
            for name, hook in hooks.items():
                if name in vars(scaler):
                    setattr(scaler, name, self._outermost(name, vars(scaler)[name], hook))

        def hook_classes(scaler: type) -> None:
            hook_class(scaler)
            subclasses: list[type] = scaler.__subclasses__()
            for each in subclasses:
                hook_classes(each)

        hook_classes(torch.amp.GradScaler)
        torch.amp.GradScaler.__init_subclass__ = classmethod(lambda cls, **_: hook_class(cls))  # type: ignore[assignment]
        torch.autograd.backward = self._outermost("backward", torch.autograd.backward, self._on_backward)
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            hooked = self._outermost("clip", getattr(clip_grad, name), self._on_clip)
            setattr(clip_grad, name, hooked)
            setattr(torch.nn.utils, name, hooked)
        enter: Any = torch.autocast.__enter__

        @functools.wraps(enter)
        def entered(region: Any) -> Any:
            self._counts["autocast"] += bool(region._enabled)
            return enter(region)

        torch.autocast.__enter__ = entered  # type: ignore[method-assign]

    def _outermost(self, name: str, method: Method, hook: Method) -> Method:
        """A method with a hook, which gets it and its arguments; where it runs already, the method alone."""

        @functools.wraps(method)
        def hooked(*args: Any, **kwargs: Any) -> Any:
            if name in self._inside:
                return method(*args, **kwargs)
            self._inside.add(name)
            try:
                return hook(method, *args, **kwargs)
            finally:
                self._inside.discard(name)

        return hooked

    # the scaler ------------------------------------------------------------------------------------------------------

    def _on_scale(self, method: Method, scaler: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(scaler, outputs, *args, **kwargs)
        if scaler.is_enabled():
            self._counts["scale"] += 1
            self._scaled = True
            self._unscaled.clear()
            with self._outside():
                self._scale = scaler.get_scale()
                _mark(result, self._scale)
        return result

    def _on_unscale(self, method: Method, scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(scaler, optimizer, *args, **kwargs)
        if scaler.is_enabled():
            self._counts["unscale"] += 1
            self._unscaled.update(map(id, _parameters(optimizer)))
        return result

    def _on_step(self, method: Method, scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if not scaler.is_enabled():
            return method(scaler, optimizer, *args, **kwargs)
        self._counts["scaler_step"] += 1
        return self._stepper(optimizer, lambda: method(scaler, optimizer, *args, **kwargs))

    def _on_update(self, method: Method, scaler: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(scaler, *args, **kwargs)
        if scaler.is_enabled():
            self._counts["update"] += 1
            self._scaled = False
        return result

    # gradients -------------------------------------------------------------------------------------------------------

    def _on_backward(self, method: Method, given: Any = (), *args: Any, **kwargs: Any) -> Any:
        roots = [given] if isinstance(given, torch.Tensor) else list(given)
        with self._outside():
            self._counts["backward"] += 1
            self._counts["backward_in_autocast"] += _autocast_is_on()
            scales = [_scale_of(root) for root in roots]
            self._counts["unscaled_backward"] += self._scaled and None in scales
            self._losses.extend(
                float(root.detach().double().sum()) / (scale or 1.0) for root, scale in zip(roots, scales, strict=True)
            )
        return method(given if isinstance(given, torch.Tensor) else roots, *args, **kwargs)

    def _on_clip(self, method: Method, given: Any, *args: Any, **kwargs: Any) -> Any:
        clipped = [given] if isinstance(given, torch.Tensor) else list(given)
        self._counts["clip"] += 1
        self._counts["clip_on_scaled"] += self._scaled and self._holds_scaled(clipped)
        norm = method(clipped, *args, **kwargs)
        with self._outside():
            self._clips.append(None if norm is None else float(norm))
        return norm

    def _holds_scaled(self, parameters: list[torch.Tensor]) -> bool:
        return any(p.grad is not None and id(p) not in self._unscaled for p in parameters)


def _autocast_is_on() -> bool:
    return any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))


def _parameters(optimizer: Any) -> list[torch.Tensor]:
    return tensors.parameters(optimizer) if hasattr(optimizer, "param_groups") else []


def _mark(outputs: Any, scale: float) -> None:
    if isinstance(outputs, torch.Tensor) and outputs.grad_fn is not None:
        _metadata(outputs.grad_fn)[MARK] = scale
    elif isinstance(outputs, (list, tuple)):
        for each in outputs:
            _mark(each, scale)


def _metadata(node: Any) -> dict[str, Any]:
    """What autograd keeps with a node of a graph."""
    kept: dict[str, Any] = node.metadata
    return kept


def _scale_of(root: torch.Tensor) -> float | None:
    """The scale of a loss that a scaler has multiplied, alone or as a part of a sum; None of any other."""
    queue: list[Any] = [root.grad_fn]
    met: set[Any] = set()
    while queue and len(met) < FAR:
        node = queue.pop(0)
        if node is None or node in met:
            continue
        if MARK in (kept := _metadata(node)):
            return float(kept[MARK])
        met.add(node)
        queue.extend(following for following, _ in node.next_functions)
    return None
