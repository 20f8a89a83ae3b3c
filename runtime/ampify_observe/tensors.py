"""What is written down of tensors: hashes of their bytes, norms, how far two are apart, and by which names parameters go."""

import ctypes
import gc
import hashlib
import math
from collections.abc import Iterable
from typing import Any

import torch

# Elements of one optimizer's gradients that are kept on disk; of larger ones the norms are compared.
LARGEST = 200_000_000

Tensors = list[torch.Tensor | None]


def digest(tensor: torch.Tensor | None) -> str:
    """A hash of the bytes of a tensor; nothing of none. Without numpy, which torch does not need."""
    if tensor is None:
        return ""
    plain = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg()
    size = plain.numel() * plain.element_size()
    data = (ctypes.c_char * size).from_address(plain.data_ptr()) if size else b""
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process has."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gradients(optimizer: Any) -> Tensors:
    """The gradients of its parameters, dense; those of a fused optimizer under a scaler as they are without the scale, which it
    takes off itself ("grad_scale")."""
    scale = getattr(optimizer, "grad_scale", None)
    found: Tensors = []
    for parameter in parameters(optimizer):
        gradient = parameter.grad
        if gradient is not None:
            gradient = local(gradient.detach())
            gradient = gradient.coalesce().to_dense() if gradient.is_sparse else gradient
            if scale is not None:
                gradient = gradient / scale.to(gradient.device)
        found.append(gradient)
    return found


def parameters(optimizer: Any) -> list[torch.Tensor]:
    """All parameters of an optimizer, in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def norm(tensor: torch.Tensor | None) -> float | None:
    """The Euclidean norm, in float64."""
    if tensor is None:
        return None
    if not tensor.is_floating_point() and not tensor.is_complex():
        tensor = tensor.double()
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=wide))


def distance(found: Tensors, reference: Tensors) -> tuple[float, int, float]:
    """How far gradients are from others, relative to the norm of those: of all together, and of the parameter that most of it is
    due to, by its number. Infinite where they do not fit together, or are not finite."""
    if len(found) != len(reference):
        return math.inf, 0, math.inf
    apart, size = [], []
    for one, other in zip(found, reference, strict=True):
        if one is None or other is None or one.shape != other.shape:
            apart.append(0.0 if one is None and other is None else math.inf)
            size.append(0.0)
            continue
        one = one.to("cpu", other.dtype)
        apart.append(norm(one - other) or 0.0)
        size.append(norm(other) or 0.0)
    apart = [each if math.isfinite(each) else math.inf for each in apart]
    if not apart:
        return 0.0, 0, 0.0
    worst = max(range(len(apart)), key=apart.__getitem__)
    return _ratio(math.hypot(*apart), math.hypot(*size)), worst, _ratio(apart[worst], size[worst])


def _ratio(apart: float, size: float) -> float:
    return apart / size if size else (math.inf if apart else 0.0)


def names(wanted: Iterable[torch.Tensor]) -> list[str]:
    """The names of parameters in the largest modules of the process that have them; numbers of those that are in none."""
    modules: list[torch.nn.Module] = [each for each in gc.get_objects() if issubclass(type(each), torch.nn.Module)]
    named = [list(module.named_parameters()) for module in modules]
    known: dict[int, str] = {}
    for each in sorted(named, key=len, reverse=True):
        for name, parameter in each:
            known.setdefault(id(parameter), name)
    return [known.get(id(parameter), f"parameter {number}") for number, parameter in enumerate(wanted)]
