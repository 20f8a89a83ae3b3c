"""Losses that are computed in the line that goes backward from them: what is cast in it, and what refuses it."""

import pytest

import ampify

SCRIPT = """import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import autograd

TOP
model, head = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2)
criterion, bce, hidden = nn.CrossEntropyLoss(), nn.BCELoss(), Foreign()
optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
for x, y in [(torch.randn(3, 4, requires_grad=True), torch.randint(0, 2, (3,)))]:
    optimizer.zero_grad()
    features = model(x)
    out = head(features)
    BODY
    optimizer.step()
"""


def convert(body: str, top: str = "from foreign import Foreign, penalty") -> ampify.Result:
    return ampify.convert(SCRIPT.replace("TOP", top).replace("BODY", body.replace("\n", "\n    ")).encode())


WRITTEN = {
    "criterion(out, y)": "criterion(out.float(), y)",
    "F.cross_entropy(out, y)": "F.cross_entropy(out.float(), y)",
    "nn.CrossEntropyLoss()(out, y)": "nn.CrossEntropyLoss()(out.float(), y)",
    "criterion(out.float(), y)": "criterion(out.float(), y)",
    "criterion(input=out, target=y)": "criterion(input=out.float(), target=y)",
    "F.softplus(-out).mean()": "F.softplus(-out.float()).mean()",
    "torch.log(torch.sigmoid(out) + 0.5).mean()": "torch.log(torch.sigmoid(out.float()) + 0.5).mean()",
    "(criterion(out, y) + 0.1 * (features ** 2).mean())": "criterion(out.float(), y) + 0.1 * (features.float() ** 2).mean()",
    "(criterion(out, y) / out.size(0))": "criterion(out.float(), y) / out.size(0)",
    "(criterion(out, y) / out.shape[0])": "criterion(out.float(), y) / out.shape[0]",
}


@pytest.mark.parametrize("loss", WRITTEN)
def test_written(loss: str) -> None:
    result = convert(f"{loss}.backward()")
    assert result.status == "converted", result.diagnostics
    assert f"    scaler.scale({WRITTEN[loss]}).backward()\n" in result.output.decode()
    assert ampify.convert(result.output).output == result.output


def test_what_is_called_with_the_loss() -> None:
    result = convert("torch.autograd.backward([criterion(out, y), out.mean()], retain_graph=True)")
    line = "torch.autograd.backward(scaler.scale([criterion(out.float(), y), out.float().mean()]), retain_graph=True)\n"
    assert line in result.output.decode()


def test_differentiated() -> None:
    result = convert(
        "g = autograd.grad(F.cross_entropy(out, y, reduction='sum'), [features], create_graph=True)[0]\n"
        "loss = criterion(out, y) + (g ** 2).mean()\nloss.backward()"
    )
    line = "g = scaler.grad(F.cross_entropy(out.float(), y, reduction='sum'), [features], create_graph=True)[0]\n"
    assert line in result.output.decode()


REFUSED = {
    "a model": "criterion(head(features), y)",
    "a matrix product": "(out @ out.t()).mean()",
    "something unknown": "penalty(out)",
    "an unknown method": "out.something().mean()",
    "a checkpoint": "torch.utils.checkpoint.checkpoint(head, features).mean()",
    "probabilities": "bce(torch.sigmoid(out), y)",
    "binary cross entropy": "F.binary_cross_entropy(out, y)",
    "what may be anything": "(criterion(out, y) + features.penalty.mean())",
}


@pytest.mark.parametrize("loss", REFUSED.values(), ids=REFUSED)
def test_refused(loss: str) -> None:
    assert [d.code for d in convert(f"{loss}.backward()").diagnostics] == ["AMP914"]


def test_refused_after_another_call() -> None:
    assert [d.code for d in convert("given = hidden(out)\n(criterion(out, y) + given.loss.mean()).backward()").diagnostics] == [
        "AMP914"
    ]


def test_float64_is_refused() -> None:
    top = "from foreign import Foreign\ntorch.set_default_dtype(torch.float64)"
    assert [d.code for d in convert("criterion(out, y).backward()", top).diagnostics] == ["AMP914"]


METHODS = """import torch
import torch.nn as nn


class Trainer:
    def __init__(self):
        self.net, self.judge = nn.Linear(4, 4), nn.Linear(4, 1)
        self.l1, self.weight = nn.L1Loss(), 0.5
        self.optimizer = torch.optim.SGD([*self.net.parameters(), *self.judge.parameters()], lr=0.1)

    def forward(self, x):
        self.fake = self.net(x)FLOAT

    def train(self, x, y):
        self.optimizer.zero_grad()
        self.forward(x)
        score = self.judge(y)
        (score.mean() + self.weight * LOSS).backward()
        self.optimizer.step()


Trainer().train(torch.randn(3, 4), torch.randn(3, 4))
"""


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("self.l1(self.fake, y)", "self.l1(self.fake.float(), y)"), ("self.fake.abs().mean()", "self.fake.float().abs().mean()")],
)
def test_what_another_method_computed(loss: str, expected: str) -> None:
    result = ampify.convert(METHODS.replace("LOSS", loss).replace("FLOAT", "").encode())
    assert result.status == "converted", result.diagnostics
    assert f"scaler.scale(score.float().mean() + self.weight * {expected}).backward()" in result.output.decode()
