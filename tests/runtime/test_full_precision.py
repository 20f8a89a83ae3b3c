"""full_precision: a loss or a sigmoid in float32, in the module that it was."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.runtime.training import Load

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def saved(module: nn.Module) -> Any:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)


COPIES: dict[str, Callable[[nn.Module], Any]] = {
    "itself": lambda module: module,
    "moved": lambda module: module.to("cpu").train().float(),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "pickle 0": lambda module: pickle.loads(pickle.dumps(module, 0)),
    "saved": saved,
    "replica": lambda module: module._replicate_for_data_parallel(),
    "compiled": lambda module: torch.compile(module, backend="aot_eager", fullgraph=True),
}


@pytest.mark.parametrize("mode", HALF)
@pytest.mark.parametrize("kind", COPIES)
def test_it_computes_in_float32(load: Load, kind: str, mode: str) -> None:
    torch._dynamo.reset()
    rt = load(mode, "cpu")
    sigmoid, loss = COPIES[kind](rt.full_precision(nn.Sigmoid())), COPIES[kind](rt.full_precision(nn.BCELoss()))
    logits, target = torch.tensor([12.0, -3.0]), torch.tensor([0.0, 1.0])
    with rt.autocast():
        value = loss(sigmoid(logits.to(HALF[mode])), target.to(HALF[mode]))
    assert value.dtype == torch.float32
    assert torch.equal(value, nn.functional.binary_cross_entropy(logits.sigmoid(), target))


@pytest.mark.parametrize("mode", ["off", "scale-only"])
def test_it_changes_nothing_while_autocast_is_off(load: Load, mode: str) -> None:
    rt = load(mode, "cpu")
    assert rt.full_precision(nn.Sigmoid())(torch.ones(2, dtype=torch.float16)).dtype == torch.float16
    with torch.autocast("cpu", torch.bfloat16):
        assert rt.full_precision(Product())(torch.ones(2, 2)).dtype == torch.bfloat16


class Product(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x


class Nested(nn.Module):
    def forward(self, parts: Any, *, named: Any) -> Any:
        return [parts[0].dtype, named["x"].dtype, parts[1].dtype, (parts[0] @ parts[0]).dtype]


def test_it_looks_into_tuples_lists_and_dicts(load: Load) -> None:
    rt = load("fp16", "cpu")
    half, whole = torch.ones(2, 2, dtype=torch.float16), torch.ones(2, dtype=torch.int64)
    with rt.autocast():
        dtypes = rt.full_precision(Nested())((half, whole), named={"x": half})
    assert dtypes == [torch.float32, torch.float32, torch.int64, torch.float32]


def test_it_stays_the_module_that_it_was(load: Load) -> None:
    rt = load("fp16", "cpu")
    loss = nn.BCELoss(weight=torch.ones(2))
    text, kind, state = repr(loss), type(loss), loss.state_dict()
    assert rt.full_precision(rt.full_precision(loss)) is loss
    assert isinstance(loss, nn.BCELoss)
    assert repr(loss) == text
    assert type(loss).__mro__[2] is kind
    assert loss.state_dict().keys() == state.keys()


def test_it_takes_modules_only(load: Load) -> None:
    with pytest.raises(TypeError, match="takes a torch"):
        load("fp16", "cpu").full_precision(lambda x: x)
