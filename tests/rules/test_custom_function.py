"""AMP215: a custom function's backward in the precision of its forward."""

import pytest

import ampify

HEAD = """\
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Op(torch.autograd.Function):
    @staticmethod
    def forward({context}x, weight, index):
        {forward}

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return {backward}

{more}

net = nn.Linear(4, 4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, index, y in loader:
    optimizer.zero_grad()
    hidden = net(x)
    {loss}
    loss.backward()
    optimizer.step()
"""
PRODUCT = "grad @ weight.t(), x.t() @ grad, None"
SETUP = "    @staticmethod\n    def setup_context(ctx, inputs, output):\n        ctx.save_for_backward(*inputs[:2])\n"
APPLY = "out = Op.apply(hidden, net.weight, index)\nloss = out.mean()"


def script(forward: str, backward: str, more: str = "", loss: str = APPLY) -> bytes:
    context = "" if "setup_context" in more else "ctx, "
    text = HEAD.format(context=context, forward=forward, backward=backward, more=more, loss=loss.replace("\n", "\n    "))
    return text.encode()


def written(result: ampify.Result) -> list[str]:
    marks = ("@custom_", ".float()", "enabled=False")
    return [line.strip() for line in result.output.decode().splitlines() if any(mark in line for mark in marks)]


NOTHING = {
    "elementwise": script("return x.clamp(min=0) * weight", "grad * (x > 0), grad * 2, None"),
    "shapes": script("return x.view(-1)", "grad.view(4, 4).clone(), torch.zeros_like(weight), None"),
    "exponential in forward": script("return torch.exp(x)", "grad * x, None, None"),
    "not applied": script("return x @ weight", PRODUCT, loss="loss = hidden.mean()"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_is_written(case: str) -> None:
    result = ampify.convert(NOTHING[case])
    assert result.status == "converted", result.diagnostics
    assert written(result) == []


DECORATED = ["@custom_fwd", "@custom_bwd"]
APART = ["with autocast(enabled=False):", "out = Op.apply(hidden.float(), net.weight, index)"]
WRITTEN = {
    "product": (script("return x @ weight", PRODUCT), DECORATED),
    "product in backward": (script("return x * 2", PRODUCT), DECORATED),
    "by another name": (script("return x.mm(weight)", PRODUCT, loss="op = Op.apply\nloss = op(hidden, net.weight, x).sum()"),
                        DECORATED),
    "exponential in backward": (script("return x * 2", "grad * torch.exp(x), None, None"), DECORATED),
    "helper": (script("return helper(x)", "grad * 2, None, None", "\ndef helper(x):\n    return x @ x\n"), DECORATED),
    "recomputes": (script("ctx.run = net\n        return x", "ctx.run(x) * grad, None, None"), DECORATED),
    "setup_context": (script("return x @ weight", PRODUCT, SETUP), APART),
    "numpy": (script("return torch.from_numpy(np.sort(x.numpy()))", "grad * 2, None, None"), APART),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_written(case: str) -> None:
    source, expected = WRITTEN[case]
    result = ampify.convert(source)
    assert result.status == "converted", result.diagnostics
    assert written(result) == expected
    assert ampify.convert(result.output).status == "already"


REFUSED = {
    "forward in the statement": "loss = Op.apply(net(x), net.weight, index).mean()",
    "product in the statement": "loss = (Op.apply(hidden, net.weight, index) @ hidden).mean()",
    "starred": "out = Op.apply(*[hidden, net.weight, index])\nloss = out.mean()",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    result = ampify.convert(script("return x @ weight", PRODUCT, SETUP, REFUSED[case]))
    assert [d.code for d in result.diagnostics] == ["AMP924"]


def test_the_decorator_has_the_indentation_and_line_end_of_its_function() -> None:
    source = script("return x @ weight", PRODUCT).replace(b"    ", b"\t").replace(b"\n", b"\r\n")
    output = ampify.convert(source).output
    assert b"\t@staticmethod\r\n\t@custom_fwd\r\n\tdef forward(" in output
    assert output.count(b"\n") == output.count(b"\r\n")


def test_plain_torch_has_no_such_decorators() -> None:
    result = ampify.convert(script("return x @ weight", PRODUCT), ampify.Options(runtime="torch"))
    assert {d.code for d in result.diagnostics} == {"AMP923"}
