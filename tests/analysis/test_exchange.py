"""Gradients that processes exchange by hand: what commutes with the scale is converted, everything else refused."""

import pytest

import ampify

SCRIPT = """import torch
import torch.distributed as dist
import torch.nn as nn
from torch._utils import _flatten_dense_tensors

HELPER
model, head = nn.Linear(4, 1), nn.Linear(1, 1)
size = dist.get_world_size()
optimizer = torch.optim.SGD(OWNED, lr=0.1)
for x in [torch.randn(3, 4)]:
    optimizer.zero_grad()
    loss = head(model(x)).mean()
    loss.backward()
    BODY
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
"""
HELPER = """def average(model):
    for p in model.parameters():
        dist.all_reduce(p.grad.data, op=dist.ReduceOp.SUM)
        p.grad.data /= dist.get_world_size()
"""


def convert(body: str, helper: str = "", owned: str = "model.parameters()") -> ampify.Result:
    source = SCRIPT.replace("HELPER", helper).replace("OWNED", owned).replace("BODY", body.replace("\n", "\n    "))
    return ampify.convert(source.encode())


CONVERTED = {
    "each": "for p in model.parameters():\n    dist.all_reduce(p.grad)",
    "each, divided": "for p in model.parameters():\n    if p.grad is None:\n        continue\n    dist.all_reduce(p.grad)\n"
                     "    p.grad /= size",
    "a mean": "for p in model.parameters():\n    dist.all_reduce(p.grad, op=dist.ReduceOp.AVG)",
    "divided before": "for p in model.parameters():\n    p.grad.data.div_(size)\n    dist.all_reduce(p.grad.data)",
    "under no_grad": "with torch.no_grad():\n    for p in model.parameters():\n        dist.all_reduce(p.grad)\n"
                     "        p.grad.mul_(1 / size)",
    "listed": "gs = [p.grad for p in model.parameters() if p.grad is not None]\nfor g in gs:\n"
              "    dist.all_reduce(g)\n    g /= size",
    "one tensor": (
        "flat = torch.cat([p.grad.flatten() for p in model.parameters()])\ndist.all_reduce(flat)\nflat /= size\nat = 0\n"
        "for p in model.parameters():\n    p.grad = flat[at : at + p.numel()].view_as(p)\n    at += p.numel()"
    ),
    "under a condition": "if size > 1:\n    for p in model.parameters():\n        dist.all_reduce(p.grad)",
}  # fmt: skip


@pytest.mark.parametrize("body", CONVERTED.values(), ids=CONVERTED)
def test_converted(body: str) -> None:
    result = convert(body)
    assert result.status == "converted", result.diagnostics
    lines = [line.strip() for line in result.output.decode().splitlines()]
    at = lines.index("scaler.unscale_(optimizer)")
    assert lines[at + 1].startswith("nn.utils.clip_grad_norm_")
    assert lines[at - 1] == body.splitlines()[-1].strip()
    assert ampify.convert(result.output).output == result.output


def test_a_function_that_exchanges() -> None:
    result = convert("average(model)", HELPER)
    assert "    average(model)\n    scaler.unscale_(optimizer)\n" in result.output.decode()


REFUSED = {
    "the largest": "for p in model.parameters():\n    dist.all_reduce(p.grad, op=dist.ReduceOp.MAX)",
    "within a group": "for p in model.parameters():\n    dist.all_reduce(p.grad, group=near)",
    "not waited for": "for p in model.parameters():\n    dist.all_reduce(p.grad, async_op=True)",
    "of one process": "for p in model.parameters():\n    dist.broadcast(p.grad, 0)",
    "rounded": "for p in model.parameters():\n    g = p.grad.half()\n    dist.all_reduce(g)\n    p.grad.copy_(g)",
    "signs": "for p in model.parameters():\n    g = p.grad.sign()\n    dist.all_reduce(g)\n    p.grad.copy_(g)",
    "noise": "for p in model.parameters():\n    p.grad += torch.randn_like(p.grad)\n    dist.all_reduce(p.grad)",
    "some by name": "for n, p in model.named_parameters():\n    if 'bias' in n:\n        dist.all_reduce(p.grad)",
    "a slice": "for p in list(model.parameters())[1:]:\n    dist.all_reduce(p.grad)",
    "of another model": "for p in head.parameters():\n    dist.all_reduce(p.grad)",
    "clipped before": "nn.utils.clip_grad_norm_(model.parameters(), 1)\nfor p in model.parameters():\n"
                      "    dist.all_reduce(p.grad)",
    "looked at": "flat = torch.cat([p.grad.flatten() for p in model.parameters()])\nprint(flat.norm())\n"
                 "dist.all_reduce(flat)",
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_refused(body: str) -> None:
    assert {d.code for d in convert(body).diagnostics} == {"AMP917"}


def test_refused_where_a_part_stays_with_its_process() -> None:
    body = "for p in model.parameters():\n    dist.all_reduce(p.grad)"
    result = convert(body, owned="[*model.parameters(), *head.parameters()]")
    assert {d.code for d in result.diagnostics} == {"AMP917"}
