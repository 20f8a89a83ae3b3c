"""Optimizers with clips, accumulation and different models: each script is converted, and trains as the original does."""

import itertools

import pytest

from ampify.convert import convert
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.forks import ForkServer

OPTIMIZERS = {
    "SGD with momentum": "SGD(model.parameters(), lr=0.1, momentum=0.9)",
    "Adam": "Adam(model.parameters(), lr=1e-2)",
    "AdamW": "AdamW(model.parameters(), lr=1e-2)",
    "fused Adam": "Adam(model.parameters(), lr=1e-2, fused=True)",
    "RMSprop": "RMSprop(model.parameters(), lr=1e-3)",
}
CLOSURES = {
    "LBFGS": "LBFGS(model.parameters(), lr=0.5, max_iter=4)",
    "LBFGS, strong_wolfe": 'LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")',
}
CLIPS = {
    "no clip": "",
    "clip by norm": "nn.utils.clip_grad_norm_(model.parameters(), 0.1)",
    "clip by value": "nn.utils.clip_grad_value_(model.parameters(), 0.01)",
}
MODELS = {
    "MLP": "nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 4))",
    "GRU": "Last(nn.GRU(4, 4, batch_first=True))",
    "transformer": (
        "nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True), 1, enable_nested_tensor=False)"
    ),
}
HEAD = """\
import torch
import torch.nn as nn


class Last(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0]


torch.manual_seed(5)
model = {model}
optimizer = torch.optim.{optimizer}
for step in range({steps}):
    x = torch.randn(6, 3, 4)
"""
PLAIN = """\
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), x.flip(1))
    loss.backward()
    {clip}
    optimizer.step()
"""
ACCUMULATING = """\
    loss = nn.functional.mse_loss(model(x), x.flip(1)) / 3
    loss.backward()
    if (step + 1) % 3 == 0:
        {clip}
        optimizer.step()
        optimizer.zero_grad()
"""
CLOSURE = """\

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), x.flip(1))
        loss.backward()
        {clip}
        return loss

    optimizer.step(closure)
"""
LOOPS = {"plain": (PLAIN, 6), "accumulating": (ACCUMULATING, 9), "closure": (CLOSURE, 3)}
LOOPS_OF = dict.fromkeys(OPTIMIZERS, ("plain", "accumulating")) | dict.fromkeys(CLOSURES, ("closure",))
CASES = [
    (optimizer, clip, loop, model)
    for optimizer, clip, model in itertools.product(LOOPS_OF, CLIPS, MODELS)
    for loop in LOOPS_OF[optimizer]
    if model == "MLP" or clip == "no clip"
]


@pytest.mark.parametrize("mode", ["off", "scale-only", "growing"])
@pytest.mark.parametrize(("optimizer", "clip", "loop", "model"), CASES)
def test_trains_identically(optimizer: str, clip: str, loop: str, model: str, mode: str, server: ForkServer) -> None:
    body, steps = LOOPS[loop]
    script = HEAD.format(model=MODELS[model], optimizer={**OPTIMIZERS, **CLOSURES}[optimizer], steps=steps)
    source = (script + body.replace("{clip}", CLIPS[clip] or "pass")).encode()
    result = convert(source)
    assert result.status == "converted"
    original = server.run(source, "original")
    assert len(original["steps"]) >= 3
    assert exact_problems(original, server.run(result.output, mode)) == []
