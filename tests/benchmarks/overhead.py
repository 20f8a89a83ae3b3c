"""The time of a training step: plain fp32, torch.amp written by hand, converted by ampify, accelerate and fabric.

`PYTHONPATH=.:runtime python -m tests.benchmarks.overhead [ROUNDS]` prints the table.

All loops of one comparison are in one process and take turns, a block of steps each, in a random order. What counts is CPU
time on one thread. A loop's ratio to the reference is the median over the turns of one process; a process more is a round,
and the table has the median of the rounds, their range, and the fastest time of all. Ratios are
of interest, not times; the reference written a second time says how far to trust them.
"""

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.peers import converted, make_environment, markdown, run

ROUNDS = 7
REFERENCE = "hand-written torch.amp"
CONTROL = "the same once more"  # how far its ratio is from 1 is how far to trust the others

MODELS = {
    "MLP": """\
model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
batches = [(torch.randn(32, 16), torch.randint(0, 4, (32,))) for _ in range(8)]
""",
    "transformer": """\
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=1))


model = Classifier()
batches = [(torch.randn(16, 16, 64), torch.randint(0, 4, (16,))) for _ in range(8)]
""",
}

SETUP = """\
import torch
from torch import nn

torch.manual_seed(0)
{model}
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
"""

LOOP = """
def train(steps):
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        {backward}
        optimizer.step()
"""

BY_HAND = """
scaler = torch.amp.GradScaler("cpu")

def train(steps):
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = loss_fn(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""

SCALED_BY_HAND = """
scaler = torch.amp.GradScaler("cpu")

def train(steps):
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""

# See two_optimizers.py for what is put into the peers, and why.
ACCELERATE = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, mixed_precision="fp16")
accelerator.native_amp = {autocast}
accelerator.scaler = torch.amp.GradScaler("cpu")
model, optimizer = accelerator.prepare(model, optimizer)
"""
FABRIC = """
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
plugin = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu"))
fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
model, optimizer = fabric.setup(model, optimizer)
"""

PLAIN = SETUP + LOOP.replace("{backward}", "loss.backward()")
WITH_ACCELERATE = SETUP + ACCELERATE + LOOP.replace("{backward}", "accelerator.backward(loss)")
WITH_FABRIC = SETUP + FABRIC + LOOP.replace("{backward}", "fabric.backward(loss)")

# What is compared with what, by the mode that ampify runs in; the first loop is the reference. Fabric cannot scale without
# autocast, and with nothing switched on its and accelerate's loops are not what a user would write.
COMPARISONS = {
    "fp16": {
        REFERENCE: SETUP + BY_HAND,
        CONTROL: SETUP + BY_HAND,
        "ampify": PLAIN,
        "accelerate": WITH_ACCELERATE.replace("{autocast}", "True"),
        "fabric": WITH_FABRIC,
        "plain fp32": PLAIN,
    },
    "scale-only": {
        REFERENCE: SETUP + SCALED_BY_HAND,
        CONTROL: SETUP + SCALED_BY_HAND,
        "ampify": PLAIN,
        "accelerate": WITH_ACCELERATE.replace("{autocast}", "False"),
        "plain fp32": PLAIN,
    },
    "off": {"plain fp32": PLAIN, CONTROL: PLAIN, "ampify": PLAIN},
}


class Timing(NamedTuple):
    """A loop in a comparison. `ratios`: to the reference, one a round. `fastest`: microseconds of CPU time a step.

    `same`: whether it left bitwise the reference's parameters, which only the hand-written and the converted loop must.
    """

    mode: str
    model: str
    loop: str
    ratios: list[float]
    fastest: float
    same: bool

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)


def scripts(mode: str, model: str) -> dict[str, str]:
    """The sources of one comparison, by loop."""
    sources = {loop: source.replace("{model}", MODELS[model]) for loop, source in COMPARISONS[mode].items()}
    return {loop: converted(source) if loop == "ampify" else source for loop, source in sources.items()}


def measure(python: Path, rounds: int = ROUNDS) -> list[Timing]:
    """Run the rounds; every comparison once in each, so that a noisy minute touches one round of all."""
    results: dict[tuple[str, str], list[dict[str, dict[str, float]]]] = defaultdict(list)
    worker = str(Path(__file__).with_name("worker.py"))
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            for mode in COMPARISONS:
                for model in MODELS:
                    job = Path(directory, "job.json")
                    job.write_text(json.dumps(scripts(mode, model)))
                    output = run(python, worker, str(job), str(number), AMPIFY_MODE=mode, AMPIFY_DEVICE="cpu")
                    results[mode, model].append(json.loads(output.splitlines()[-1]))
    return [
        Timing(
            mode,
            model,
            loop,
            ratios=[result[loop]["ratio"] for result in found],
            fastest=min(result[loop]["fastest"] for result in found),
            same=all(result[loop]["same"] for result in found),
        )
        for (mode, model), found in results.items()
        for loop in COMPARISONS[mode]
    ]


def table(timings: list[Timing]) -> str:
    """Markdown."""
    head = ["mode, model", "loop", "fastest, us a step", "ratio", "range of the rounds"]
    rows = [
        [
            f"{t.mode}, {t.model}",
            t.loop,
            f"{t.fastest:.0f}",
            f"{t.ratio:.3f}",
            f"{min(t.ratios):.3f} to {max(t.ratios):.3f}",
        ]
        for t in timings
    ]
    return markdown(head, rows)


def main(rounds: str = str(ROUNDS)) -> None:
    with tempfile.TemporaryDirectory() as directory:
        print(table(measure(make_environment(Path(directory)), int(rounds))))


if __name__ == "__main__":
    main(*sys.argv[1:2])
