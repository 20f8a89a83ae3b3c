"""AMP201: binary cross entropy of probabilities, and the sigmoid before it, in float32."""

import pytest

import ampify

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
from models import Other


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 2)
        {attribute}

    def forward(self, x):
        {forward}


net = Net()
other = Other()
criterion = {criterion}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    {loss}
    loss.backward()
    optimizer.step()
"""
BCE = "nn.BCELoss()"
CALL = "loss = criterion(net(x), y)"
SIGMOID = "return torch.sigmoid(self.body(x))"


ALL = "return self.all(x)"
OPTIONAL = "self.all = nn.Sequential(self.body)\n        if last:\n            self.all = nn.Sequential(self.all, nn.Sigmoid())"


def script(loss: str = CALL, forward: str = SIGMOID, attribute: str = "pass", criterion: str = BCE) -> bytes:
    forward, loss = forward.replace("\n", "\n        "), loss.replace("\n", "\n    ")
    return HEAD.format(loss=loss, forward=forward, attribute=attribute, criterion=criterion).encode()


def written(result: ampify.Result) -> list[str]:
    """The lines of the output that the rule wrote, but for imports and regions."""
    marks = ("full_precision(", ".float()", "enabled=False")
    return [line.strip() for line in result.output.decode().splitlines() if any(mark in line for mark in marks)]


NOTHING = {
    "logits": script(criterion="nn.BCEWithLogitsLoss()", forward="return self.body(x)"),
    "a sigmoid without the loss": script(criterion="nn.MSELoss()"),
    "another entropy": script("loss = F.cross_entropy(net(x), y)", forward="return self.body(x)", criterion="None"),
    "logits by function": script("loss = F.binary_cross_entropy_with_logits(net(x), y)", criterion="None"),
    "a loss that nothing calls": script("loss = F.mse_loss(net(x), y)"),
    "a loss that is only moved": script("criterion.cuda()\nloss = F.mse_loss(net(x), y)"),
    "a sigmoid of the generator": script("loss = F.mse_loss(torch.sigmoid(net(x)), y)", criterion="None"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_is_written(case: str) -> None:
    result = ampify.convert(NOTHING[case])
    assert result.status == "converted", result.diagnostics
    assert written(result) == []
    assert not result.diagnostics


def test_without_a_training_step_nothing_happens() -> None:
    source = b"import torch\n\nmodel = torch.nn.Sequential(torch.nn.Sigmoid())\nloss = torch.nn.BCELoss()(model(x), y)\n"
    assert ampify.convert(source).status == "unchanged"


LOSS = "full_precision(criterion)"
WRITTEN = {
    "module": (script(), ["return torch.sigmoid(self.body(x).float())", LOSS]),
    "method": (script(forward="return self.body(x).sigmoid()"), ["return self.body(x).float().sigmoid()", LOSS]),
    "operator": (script(forward="return torch.sigmoid(2 * self.body(x))"),
                 ["return torch.sigmoid((2 * self.body(x)).float())", LOSS]),
    "softmax": (script(forward="return F.softmax(self.body(x), dim=1)"), ["return F.softmax(self.body(x).float(), dim=1)", LOSS]),
    "layer": (script(attribute="self.act = nn.Sigmoid()", forward="return self.act(self.body(x)).view(-1)"),
              ["full_precision(self.act)", LOSS]),
    "rebound": (script(forward="x = F.relu(self.body(x))\nx = torch.sigmoid(x)\nreturn x"),
                ["x = torch.sigmoid(x.float())", LOSS]),
    "branches": (script(forward="if self.training:\n    p = self.body(x).sigmoid()\nelse:\n    p = torch.sigmoid(x)\nreturn p"),
                 ["p = self.body(x).float().sigmoid()", "p = torch.sigmoid(x.float())", LOSS]),
    "sequential": (script(attribute="self.all = nn.Sequential(self.body, nn.Sigmoid(), nn.Flatten())", forward=ALL),
                   ["full_precision(self.all[-2])", LOSS]),
    "starred": (script(attribute="self.all = nn.Sequential(*block(4), nn.Sigmoid())", forward=ALL),
                ["full_precision(self.all[-1])", LOSS]),
    "nested": (script(attribute="self.all = nn.Sequential(self.body, nn.Sequential(nn.Tanh(), nn.Sigmoid()))", forward=ALL),
               ["full_precision(self.all[-1][-1])", LOSS]),
    "tuple": (script("p, _ = net(x)\nloss = criterion(p, y)", "return torch.sigmoid(self.body(x)), torch.sigmoid(x)"),
              ["return torch.sigmoid(self.body(x).float()), torch.sigmoid(x)", LOSS]),
    "dict": (script('out = net(x)\nloss = criterion(out["p"], y)', 'return {"z": x, "p": self.body(x).sigmoid()}'),
             ['return {"z": x, "p": self.body(x).float().sigmoid()}', LOSS]),
    "optional": (script(attribute=OPTIONAL, forward="return self.all(x).view(-1)"), ["full_precision(self.all[-1])", LOSS]),
    "moved": (script(criterion="nn.BCELoss().to(device)"), ["return torch.sigmoid(self.body(x).float())", LOSS]),
    "in the loop": (script("p = torch.sigmoid(other(x))\nloss = criterion(p.squeeze(1), y)"),
                    [LOSS, "p = torch.sigmoid(other(x).float())"]),
    "function": (script("p = net(x)\nloss = F.binary_cross_entropy(p, y, reduction='sum')", criterion="None"),
                 ["return torch.sigmoid(self.body(x).float())", "with autocast(enabled=False):",
                  "loss = F.binary_cross_entropy(p.float(), y, reduction='sum')"]),
    "inline": (script("p = net(x)\nloss = nn.BCELoss()(p, y)", criterion="None"),
               ["return torch.sigmoid(self.body(x).float())", "with autocast(enabled=False):",
                "loss = nn.BCELoss()(p.float(), y)"]),
    "beside": (script("z = other(x)\np = z.sigmoid()\nloss = F.binary_cross_entropy(p, y) + z.pow(2).mean()", criterion="None"),
               ["p = z.float().sigmoid()", "with autocast(enabled=False):",
                "loss = F.binary_cross_entropy(p.float(), y) + z.float().pow(2).mean()"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_written(case: str) -> None:
    source, expected = WRITTEN[case]
    result = ampify.convert(source)
    assert result.status == "converted", result.diagnostics
    assert written(result) == expected
    assert ampify.convert(result.output).status == "already"


REFUSED = {
    "model from elsewhere": (script("loss = criterion(other(net(x)), y)"), "behind `other(net(x))`"),
    "no sigmoid": (script(forward="return self.body(x).clamp(0, 1)"), "behind `self.body(x)`"),
    "one of two, clamped": (script(attribute=OPTIONAL, forward="return self.all(x).clamp(0, 1)"), "behind `self.all(x)`"),
    "one of two": (script(forward="if x is None:\n    return x.sigmoid()\nreturn self.body(x)"), "behind `self.body(x)`"),
    "exponential": (script(forward="return torch.exp(-self.body(x))"), "behind `torch.exp("),
    "forward in the statement": (script("loss = F.binary_cross_entropy(net(x), y)", criterion="None"),
                                 "give `net(x)` a statement"),
    "labels beside": (script("p, z = net(x)\nloss = both(p, z, y)", "return self.body(x).sigmoid(), x", "pass",
                             "None\n\n\ndef both(p, z, y):\n"
                             "    return F.binary_cross_entropy(p, y) + F.cross_entropy(z, y.sum(1))\n"),
                      "a statement of its own"),
    "float64": (script("p = net(x.double())\nloss = F.binary_cross_entropy(p, y)", criterion="None"), "float64"),
    "in a dict": (script('loss = criterion["bce"](net(x), y)', criterion='{"bce": nn.BCELoss()}'),
                  "not bound by a plain assignment"),
    "handed on": (script("loss = run(criterion, net(x), y)"), "not in sight"),
    "function handed on": (script("loss = run(F.binary_cross_entropy, net(x), y)", criterion="None"), "not in sight"),
    "scripted": (script(criterion="nn.BCELoss()\nnet = torch.jit.script(net)"), "torch.jit.script"),
    "lists of layers": (script(attribute="self.all = nn.Sequential(*make())", forward=ALL), "behind `self.all(x)`"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    source, reason = REFUSED[case]
    result = ampify.convert(source)
    assert [d.code for d in result.diagnostics] == ["AMP905"] * len(result.diagnostics)
    assert result.status == "refused"
    assert reason in result.diagnostics[0].message


def test_plain_torch_has_no_full_precision() -> None:
    result = ampify.convert(script(), ampify.Options(runtime="torch"))
    assert "AMP923" in {d.code for d in result.diagnostics}
    function = script("p = net(x)\nloss = F.binary_cross_entropy(p, y)", criterion="None")
    assert ampify.convert(function, ampify.Options(runtime="torch")).status == "converted"


def test_a_loss_that_is_yielded_is_refused() -> None:
    """With autocast off round a yield it would be off for whoever runs meanwhile."""
    forward = "p = torch.sigmoid(self.body(x))\nyield F.binary_cross_entropy(p, x)"
    result = ampify.convert(script("loss = sum(net(x))", forward=forward, criterion="None"))
    assert [d.code for d in result.diagnostics] == ["AMP905"]
