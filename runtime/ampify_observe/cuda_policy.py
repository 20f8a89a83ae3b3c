"""CUDA's autocast policy on CPU tensors: what CUDA autocast does to each operator, on a machine without a GPU.

The two policies have little in common: of 119 operators with a rule on CUDA and 127 on the CPU, 39 are the same ones.
On CUDA exp, pow, sum, softmax or layer_norm run in fp32 and binary_cross_entropy raises, while cat, fft, quantile and most of
linalg have no rule. After `install()`, `torch.autocast("cpu")` follows CUDA's rules in this process, for good.

Nothing is listed here that torch knows itself. Its header ATen/autocast_mode.h, which comes with every wheel, has the lists
from which CUDA's kernels are registered, and its dispatcher knows who has a kernel: a build without CUDA registers CUDA's
autocast as well. An operator's kind is the name of its list there:

LOWER_PRECISION_FP   all floating-point inputs are cast to half, or bfloat16
FP32                 all are cast to fp32
FP32_SET_OPT_DTYPE   the output is fp32, unless the caller asks for a dtype
PROMOTE              all are cast to fp32 if one of them is fp32

Inputs in float64 stay as they are, and in-place and out= variants have no rule on either device.

What it cannot show: a kernel that only the CPU lacks in half fails here and not on CUDA, sums are rounded elsewhere than on a
GPU, and cuDNN's RNNs are only approximated, by the CPU's in half. Where the CPU casts to half as CUDA does, its own kernel
stays: it keeps casts of weights until the region ends, as CUDA's does. Other casts to half are not kept here.
"""

import functools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._C import DispatchKey, DispatchKeySet

Kernel = Callable[..., Any]

# No macro has these two: they ask for fp32 through another overload, with a dtype.
NORMS = {"norm.Scalar": "norm.ScalarOpt_dtype", "norm.ScalarOpt_dim": "norm.ScalarOpt_dim_dtype"}
BANNED = "binary_cross_entropy"

# On CUDA these end in cuDNN's operators, whose autocast kernel casts everything to half; the CPU has no such operator.
RNNS = tuple(f"{kind}.{form}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for form in ("input", "data"))

_BELOW = DispatchKeySet(DispatchKey.AutocastCPU)
_installed: list[torch.library.Library] = []


@functools.cache
def kinds() -> dict[str, str]:
    """The list that each operator is on, from torch's header: {"mm": "LOWER_PRECISION_FP", "pow.Scalar": "FP32"}."""
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()
    lists = re.findall(r"#define AT_FORALL_(LOWER_PRECISION_FP|FP32|FP32_SET_OPT_DTYPE|PROMOTE)\(_\)((?:.*\\\n)*.*)", header)
    entries = ((kind, entry) for kind, body in lists for entry in re.findall(r"_\((\w+)(?:, (\w+))?\)", body))
    return {".".join(filter(None, entry)): kind for kind, entry in entries}


def registered(key: str) -> frozenset[str]:
    """The operators that have a kernel for a dispatch key, such as AutocastCUDA, whether this torch is built for it or not."""
    return frozenset(name.removeprefix("aten::") for name in torch._C._dispatch_get_registrations_for_dispatch_key(key))


def install() -> None:
    """Let `torch.autocast("cpu")` follow CUDA's policy in this process; a second call does nothing."""
    if _installed:
        return
    cpu, cuda = registered("AutocastCPU"), registered("AutocastCUDA")
    kernels: dict[str, Kernel] = dict.fromkeys(cpu - cuda, torch.library.fallthrough_kernel)
    for name, kind in kinds().items():
        if kind != "LOWER_PRECISION_FP" or name not in cpu:
            kernels[name] = _KERNELS[kind](_operator(name))
    kernels |= {name: _with_dtype(_operator(name), _operator(with_dtype)) for name, with_dtype in NORMS.items()}
    kernels |= {name: _in_half(_operator(name)) for name in RNNS}
    kernels[BANNED] = functools.partial(_operator(BANNED).redispatch, DispatchKeySet(DispatchKey.AutocastCUDA))
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    _installed.append(library)  # what it registers goes when it goes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overriding is what this is for
        for name, kernel in kernels.items():
            library.impl(name, kernel, "AutocastCPU", allow_override=True)  # type: ignore[no-untyped-call]


def _operator(name: str) -> Any:
    operator, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, operator), overload or "default")


def _below_autocast(kernel: Kernel) -> Kernel:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_BELOW):
            return kernel(*args, **kwargs)

    return guarded


def _in_half(operator: Any) -> Kernel:
    return _below_autocast(lambda *args, **kwargs: _cast_call(operator, torch.get_autocast_dtype("cpu"), args, kwargs))


def _in_fp32(operator: Any) -> Kernel:
    return _below_autocast(lambda *args, **kwargs: _cast_call(operator, torch.float32, args, kwargs))


def _in_widest(operator: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        tensors = [x for value in (*args, *kwargs.values()) for x in (value if isinstance(value, (list, tuple)) else [value])]
        dtypes = {x.dtype for x in tensors if _eligible(x)} | {torch.get_autocast_dtype("cpu")}
        if torch.float32 not in dtypes and len(dtypes) > 1:
            raise RuntimeError("Unexpected floating ScalarType in at::autocast::prioritize")
        return _cast_call(operator, torch.float32 if torch.float32 in dtypes else dtypes.pop(), args, kwargs)

    return _below_autocast(kernel)


def _to_fp32(operator: Any) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        asked = any(isinstance(x, torch.dtype) for x in (*args, *kwargs.values()))
        return operator(*args, **kwargs) if asked or not _eligible(args[0]) else operator(*args, **kwargs, dtype=torch.float32)

    return _below_autocast(kernel)


def _with_dtype(operator: Any, with_dtype: Any) -> Kernel:
    def kernel(tensor: torch.Tensor, p: Any = 2, *dim: Any) -> Any:
        if not _eligible(tensor):
            return operator(tensor, p, *dim)
        keepdim = [False] if len(dim) == 1 else []  # a default here, not there
        return with_dtype(tensor, p, *dim, *keepdim, dtype=torch.float32)

    return _below_autocast(kernel)


_KERNELS: dict[str, Callable[[Any], Kernel]] = {
    "LOWER_PRECISION_FP": _in_half,
    "FP32": _in_fp32,
    "FP32_SET_OPT_DTYPE": _to_fp32,
    "PROMOTE": _in_widest,
}


def _eligible(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def _cast_call(operator: Any, dtype: torch.dtype, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return operator(*(_cast(x, dtype) for x in args), **{name: _cast(x, dtype) for name, x in kwargs.items()})


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(x, dtype) for x in value)
    return value.to(dtype) if _eligible(value) else value
