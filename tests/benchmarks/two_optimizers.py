"""Two optimizers share one backward, and the gradients of the first one overflow: by what factor are the other's off?

`PYTHONPATH=.:runtime python -m tests.benchmarks.two_optimizers` prints the table.

The two models are linear, and their numbers are powers of two, so every gradient of the healthy one is exactly 0.25 in fp16
and in fp32, and what an optimizer applied is exactly its parameter's change divided by the learning rate. In the first batch
of the other model the samples weigh a million each: finite in fp32, but not in fp16 times the loss scale. Every scaler has
torch's default settings, so its scale is halved there, and doubled after 2000 updates without an overflow.
"""

import itertools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.peers import converted, make_environment, markdown, run

STEPS = 2010

SETUP = """\
import json

import torch
from torch import nn

first, second = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
for model in (first, second):
    nn.init.zeros_(model.weight)
optimizer_1 = torch.optim.SGD(first.parameters(), lr=0.5)
optimizer_2 = torch.optim.SGD(second.parameters(), lr=0.5)
inputs, ones = torch.full((8, 4), 0.25), torch.ones(8, 1)
history = []
"""

LOOP = """
for step in range({steps}):
    weights = torch.full((8, 1), 1e6 if step == 0 else 1.0)
    optimizer_1.zero_grad()
    optimizer_2.zero_grad()
    loss_1 = (first(inputs) * weights).mean()
    loss_2 = (second(inputs) * ones).mean()
    {backward}
    optimizer_1.step()
    optimizer_2.step()
    history.append((first.weight[0, 0].item(), second.weight[0, 0].item()))
print(json.dumps(history))
"""

BY_HAND = """
scaler = torch.amp.GradScaler("cpu")
for step in range({steps}):
    weights = torch.full((8, 1), 1e6 if step == 0 else 1.0)
    optimizer_1.zero_grad()
    optimizer_2.zero_grad()
    with torch.autocast("cpu", torch.float16):
        loss_1 = (first(inputs) * weights).mean()
        loss_2 = (second(inputs) * ones).mean()
    {backward}
    scaler.step(optimizer_1)
    scaler.step(optimizer_2)
    scaler.update()
    history.append((first.weight[0, 0].item(), second.weight[0, 0].item()))
print(json.dumps(history))
"""

# On the CPU accelerate trains in fp32 when it is asked for fp16: it makes no scaler, and leaves autocast out. These two
# assignments are what it does itself on a GPU, but for the device; everything after them is its own code.
ACCELERATE = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, mixed_precision="fp16")
accelerator.native_amp = True
accelerator.scaler = torch.amp.GradScaler("cpu")
first, second, optimizer_1, optimizer_2 = accelerator.prepare(first, second, optimizer_1, optimizer_2)
"""

# Fabric replaces "16-mixed" by bf16 on the CPU, but takes its own plugin with a scaler: this is its public interface.
FABRIC = """
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
plugin = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu"))
fabric = Fabric(accelerator="cpu", devices=1, plugins=plugin)
first, optimizer_1 = fabric.setup(first, optimizer_1)
second, optimizer_2 = fabric.setup(second, optimizer_2)
"""

# How many losses go backward; how each loop writes a backward, and asks for its scale at the end.
BACKWARDS = {"one": ["loss_1 + loss_2"], "two": ["loss_1", "loss_2"]}
LOOPS = {
    "plain fp32": (SETUP + LOOP, "({}).backward()", "1.0"),
    "hand-written torch.amp": (SETUP + BY_HAND, "scaler.scale({}).backward()", "scaler.get_scale()"),
    "ampify": (SETUP + LOOP, "({}).backward()", "scaler.get_scale()"),
    "accelerate": (SETUP + ACCELERATE + LOOP, "accelerator.backward({})", "accelerator.scaler.get_scale()"),
    "fabric": (SETUP + FABRIC + LOOP, "fabric.backward({})", "plugin.scaler.get_scale()"),
}
INJECTED = {
    "accelerate": "`native_amp = True` and a CPU `GradScaler`, before `prepare`",
    "fabric": "nothing: `MixedPrecision` with a CPU `GradScaler`, its public interface",
}


class Outcome(NamedTuple):
    """`skipped`: steps of the first optimizer. `scale`: after the last step.

    The rest is of the healthy one: applied gradient / true gradient. `at_backoff`: in the first step, where the first one
    overflows. `at_growth`: the worst of the later steps, where nothing overflows, and only the scale's growth can differ.
    """

    loop: str
    losses: str
    skipped: int
    at_backoff: float
    at_growth: float
    wrong: int
    of: int
    scale: float


def script(loop: str, losses: str) -> str:
    """The source that is run, converted if that is the point of it."""
    source, backward, scale = LOOPS[loop]
    source = source.replace("{steps}", str(STEPS))
    source = source.replace("{backward}", "\n    ".join(backward.format(loss) for loss in BACKWARDS[losses]))
    return (converted(source) if loop == "ampify" else source) + f"print({scale})\n"


def measure(python: Path) -> list[Outcome]:
    """Run all loops, each in a process of its own."""
    outcomes = []
    with tempfile.TemporaryDirectory() as directory:
        for losses in BACKWARDS:
            updates: dict[str, list[tuple[float, float]]] = {}
            for loop in LOOPS:
                path = Path(directory, "train.py")
                path.write_text(script(loop, losses))
                printed = run(python, str(path), AMPIFY_MODE="fp16", AMPIFY_DEVICE="cpu").splitlines()
                history = [(0.0, 0.0), *json.loads(printed[-2])]
                updates[loop] = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(history)]
                true = updates["plain fp32"]
                factors = [mine[1] / its[1] for mine, its in zip(updates[loop], true, strict=True)]
                later = factors[1:]  # the first step is the one with the overflow
                outcomes.append(
                    Outcome(
                        loop,
                        losses,
                        skipped=sum(mine[0] == 0 for mine in updates[loop]),
                        at_backoff=factors[0],
                        at_growth=max(later, key=lambda factor: abs(factor - 1)),
                        wrong=sum(factor != 1 for factor in factors),
                        of=len(factors),
                        scale=float(printed[-1]),
                    )
                )
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    head = ["loop", "losses", "put in", "steps skipped", "at the back-off", "worst later: growth", "wrong steps", "last scale"]
    rows = [
        [
            o.loop,
            o.losses,
            INJECTED.get(o.loop, "-"),
            str(o.skipped),
            f"{o.at_backoff}x",
            f"{o.at_growth}x",
            f"{o.wrong} of {o.of}",
            f"{o.scale:.0f}",
        ]
        for o in outcomes
    ]
    return markdown(head, rows, left=3)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        print(table(measure(make_environment(Path(directory)))))


if __name__ == "__main__":
    main()
