"""The scaler's state in checkpoints: what is not written as ampify writes it is no proof."""

import pytest

from ampify import convert
from ampify.proof import ProofError, prove

SCRIPT = """\
import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
checkpoint = torch.load("last.pt")
statistics = checkpoint["scaler"]
optimizer.load_state_dict(checkpoint["optimizer"])
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).mean()
    loss.backward()
    optimizer.step()
torch.save({"scaler": statistics, "optimizer": optimizer.state_dict()}, "last.pt")
"""
LOAD = 'scaler.load_state_dict(checkpoint.get("grad_scaler", {}))'

WRONG = {
    "another's key": [('"grad_scaler"', '"scaler"')],
    "another's key, to save only": [('"grad_scaler": ', '"scaler": ')],
    "a key that may be anybody's": [('"grad_scaler"', '"amp"')],
    "loaded without a way out": [(LOAD, 'scaler.load_state_dict(checkpoint["grad_scaler"])')],
    "loaded from something that is called": [(LOAD, 'scaler.load_state_dict(checkpoint.pop("grad_scaler", {}))')],
    "loaded with something else": [(LOAD, LOAD.replace("{}", "None"))],
    "loaded with a default that is not empty": [(LOAD, LOAD.replace("{}", '{"scale": 1.0}'))],
    "loaded by more": [(LOAD, LOAD.replace("))", "), strict=True)"))],
}


def test_as_it_is_written() -> None:
    output = convert(SCRIPT.encode()).output.decode()
    assert LOAD in output
    prove(SCRIPT.encode(), output.encode())


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    output = convert(SCRIPT.encode()).output.decode()
    for before, after in WRONG[name]:
        assert before in output
        output = output.replace(before, after)
    with pytest.raises(ProofError):
        prove(SCRIPT.encode(), output.encode())
