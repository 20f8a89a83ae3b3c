"""CUDA's autocast policy on the CPU: its lists are those of torch, and its operators do what torch's own tests ask of CUDA's.

Everything that installs it runs in a forked child.
"""

import pytest
import torch

from ampify_observe.cuda_policy import BANNED, NORMS, kinds, registered
from tests.fixtures_suite.forks import ForkServer

BCE_MESSAGE = "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\nMany models use a sigmoid"

# Imports torch's test lists without what its test machinery needs, and calls all of them under autocast.
TORCH_TEST_LISTS = """
import sys, types

sys.modules["torch.testing._internal.common_utils"] = types.SimpleNamespace(TEST_WITH_ROCM=True, TestCase=object)
import torch
from torch.testing._internal.autocast_test_lists import AutocastTestLists
from ampify_runtime import autocast

lists = AutocastTestLists("cpu")
places = {"torch": torch, "nn": torch._C._nn, "linalg": torch._C._linalg, "methods": torch.Tensor}
for name, entries in vars(lists).items():
    place, _, wanted = name.partition("_")
    for function, *rest in entries if wanted in ("fp16", "fp32", "need_autocast_promote", "expect_builtin_promote") else ():
        options = rest[-1] if len(rest) == 2 and isinstance(rest[-1], dict) else {}
        # The operands of its einsum do not fit its equation, equal gives no tensor, and __div__ is of Python 2.
        if not function.startswith("cudnn") and function not in ("einsum", "equal", "__div__"):
            with autocast():
                out = getattr(places[place], function)(*rest[0], **options)
            out = out[0] if isinstance(out, tuple) else out
            expected = rest[1] if wanted.startswith("expect") else torch.float16 if wanted == "fp16" else torch.float32
            print(name, function, out.dtype, "as it should" if out.dtype == expected else f"instead of {expected}")
"""


def test_the_lists_are_those_of_the_kernels_that_torch_registers() -> None:
    cudnn = {"cudnn_convolution", "cudnn_convolution_transpose"}  # no such operator on the CPU
    assert {*kinds(), *NORMS, BANNED, *cudnn} == registered("AutocastCUDA")
    assert set(kinds().values()) == {"LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE"}
    assert kinds()["mm"] == "LOWER_PRECISION_FP"
    assert kinds()["pow.Tensor_Scalar"] == "FP32"


def test_every_operator_of_torchs_own_test_lists_has_the_dtype_it_has_on_cuda(server: ForkServer) -> None:
    record = server.run(TORCH_TEST_LISTS.encode(), "cuda-fp16")
    assert record["error"] == ""
    lines = record["printed"].splitlines()
    assert [line for line in lines if not line.endswith("as it should")] == []
    assert len(lines) > 110


OUTPUTS = {
    "h.exp()": (torch.float16, torch.float32),
    "h.softmax(1)": (torch.float16, torch.float32),
    "h.sum()": (torch.float16, torch.float32),
    "h.sum(1, dtype=torch.float16)": (torch.float16, torch.float16),
    "h.norm()": (torch.float16, torch.float32),
    "torch.ops.aten.norm.ScalarOpt_dim(h, 2, [0])": (torch.float16, torch.float32),
    "torch.ops.aten.norm.Scalar(x.double())": (torch.float64, torch.float64),
    "nn.functional.layer_norm(h, (4,))": (torch.float16, torch.float32),
    "torch.mv(x, x[0])": (torch.float32, torch.float16),
    'torch.einsum("ij,jk", x, x)': (torch.float16, torch.float16),
    "torch.mm(x, x)": (torch.float16, torch.float16),
    "x.double().exp()": (torch.float64, torch.float64),
    "h.sqrt()": (torch.float16, torch.float16),
    "h.mean()": (torch.float16, torch.float16),
    "torch.fft.fft(h)": (torch.complex64, None),  # complex32 on CUDA, which has the kernel
    "torch.cat([h, h])": (torch.float16, torch.float16),
    "torch.cat([h, x])": (torch.float32, torch.float32),
    "torch.index_put(x, (i,), h[i])": (None, torch.float32),
    "x.index_put_((i,), h[i])": (None, None),
    "torch.scatter_add(x, 0, i[None], h)": (None, torch.float32),
    "torch.quantile(h, 0.5)": (torch.float32, None),
    "torch.linalg.inv(h)": (torch.float32, None),
    "nn.GRU(4, 4)(x)[0]": (torch.float32, torch.float16),
    "nn.functional.binary_cross_entropy(x.sigmoid(), x.sigmoid())": (torch.float32, None),
}


@pytest.mark.parametrize("expression", OUTPUTS)
@pytest.mark.parametrize("mode", ["fp16", "cuda-fp16"])
def test_the_two_policies(expression: str, mode: str, server: ForkServer) -> None:
    """What each gives; None: it raises."""
    script = f"""
import torch
from torch import nn
from ampify_runtime import autocast

x, i = torch.rand(4, 4) + torch.eye(4), torch.tensor([0, 1])
h = x.half()
with autocast():
    print(({expression}).dtype)
"""
    record = server.run(script.encode(), mode)
    expected = OUTPUTS[expression][mode == "cuda-fp16"]
    assert (record["printed"].strip() or None) == (str(expected) if expected else None), record["error"]
    assert bool(record["error"]) == (expected is None)


def test_recurrent_layers_give_half_as_cudnn_does(server: ForkServer) -> None:
    script = b"""
import torch
from ampify_runtime import autocast

x = torch.randn(2, 3, 4)
for layer in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN):
    model = layer(4, 4, num_layers=2, bidirectional=True)
    with autocast():
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, [2, 2, 1])
        print(model(x)[0].dtype, model(packed)[0].data.dtype)
    model(x)[0].sum().backward()
    print(model.weight_hh_l1.grad.dtype)
"""
    record = server.run(script, "cuda-fp16")
    assert record["error"] == ""
    assert record["printed"] == "torch.float16 torch.float16\ntorch.float32\n" * 3


def test_bce_raises_with_torchs_message(server: ForkServer) -> None:
    script = b"""
import torch
from ampify_runtime import autocast

p = torch.rand(3)
with autocast(), autocast(enabled=False):
    print(torch.nn.BCELoss()(p, p).dtype)
with autocast():
    torch.nn.BCELoss()(p, p)
"""
    record = server.run(script, "cuda-fp16")
    assert record["printed"] == "torch.float32\n"
    assert BCE_MESSAGE in record["error"]


def test_gradients_flow_in_the_dtype_of_the_input(server: ForkServer) -> None:
    script = b"""
import torch
from ampify_runtime import autocast

for cast in (torch.Tensor.half, torch.Tensor.float):
    x = torch.linspace(0.5, 2, 9).reshape(3, 3).requires_grad_()
    y = cast(x)
    y.retain_grad()
    with autocast():
        out = torch.addr(y, y[0].exp(), y[1]).softmax(0).log().norm() + torch.dot(y[0], x[0]) + y.cumsum(0).sum()
    out.backward()
    assert y.grad.dtype == y.dtype and x.grad.dtype == x.dtype
    halved = x.grad
    x.grad = None
    (torch.addr(x, x[0].exp(), x[1]).softmax(0).log().norm() + torch.dot(x[0], x[0]) + x.cumsum(0).sum()).backward()
    print(float((halved - x.grad).norm() / x.grad.norm()) < 0.01)
"""
    record = server.run(script, "cuda-fp16")
    assert record["error"] == ""
    assert record["printed"] == "True\nTrue\n"


def test_it_does_not_leave_the_child_and_holds_in_bf16(server: ForkServer) -> None:
    script = b"""
import torch
from ampify_observe import cuda_policy
from ampify_runtime import autocast

with autocast():
    half = torch.mv(torch.ones(2, 2), torch.ones(2))
    print(half.dtype, half.bfloat16().exp().dtype)
cuda_policy.install()
"""
    assert server.run(script, "cuda-bf16")["printed"] == "torch.bfloat16 torch.float32\n"
    assert server.run(script, "bf16")["printed"] == "torch.float32 torch.bfloat16\n"
