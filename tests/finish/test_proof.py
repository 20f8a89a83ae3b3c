"""What the proof of a finished training step lets pass, and what not."""

import pytest

from ampify.finish.proof import prove
from ampify.finish.way import Way
from ampify.proof import ProofError

WAY = Way("scaler", 'torch.autocast("cuda")')
ORIGINAL = """\
import torch
from torch import nn

model, other = nn.Linear(4, 2), nn.Linear(4, 2)
scaler = torch.amp.GradScaler("cuda")


def warm_up(data):
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for x, y in data:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(other(x), y)  # of both
        loss.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()


def train(data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
REGION = """\
        with torch.autocast("cuda"):
            loss = nn.functional.mse_loss(other(x), y)  # of both
"""
STEP = """\
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
"""
FINISHED = (
    ORIGINAL.replace("        loss = nn.functional.mse_loss(other(x), y)  # of both\n", REGION)
    .replace("        loss.backward()\n", "        scaler.scale(loss).backward()\n")
    .replace("        nn.utils.clip_grad_norm_(other.parameters(), 1.0)\n        optimizer.step()\n", STEP)
)


AUTHORS = """\
        with torch.autocast("cuda"):
            loss = nn.functional.mse_loss(model(x), y)
"""
NARROWER = """\
        with torch.autocast("cuda"):
            pass
        loss = nn.functional.mse_loss(model(x), y)
"""


def test_the_finished_file_passes() -> None:
    prove(ORIGINAL.encode(), FINISHED.encode(), WAY)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("        scaler.unscale_(optimizer)\n", "", "finding|line"),
        ("        scaler.unscale_(optimizer)\n", "        scaler.unscale_(optimizer)\n" * 2, "finding|line"),
        ("        scaler.update()\n\n", "\n", "finding|line"),
        ("        scaler.update()\n\n", "        scaler.update()\n        scaler.update()\n\n", "line|finding"),
        ("scaler.scale(loss).backward()\n        scaler.unscale_", "loss.backward()\n        scaler.unscale_", "finding|float32"),
        ("        scaler.step(optimizer)\n        scaler.update()\n\n", "        optimizer.step()\n\n", "finding|float32"),
        (REGION, REGION.replace("  # of both", ""), "comments"),
        (REGION, REGION.replace("cuda", "cpu"), "another program"),
        (REGION, REGION.replace("y)", "y.float())").replace("mse_loss", "l1_loss"), "another program"),
        (
            REGION + "        scaler.scale(loss).backward()\n",
            REGION + "            scaler.scale(loss).backward()\n",
            "finding|inside an autocast region",
        ),
        ("clip_grad_norm_(other.parameters(), 1.0)", "clip_grad_norm_(other.parameters(), 2.0)", "another program"),
        ('scaler = torch.amp.GradScaler("cuda")\n', 'scaler = torch.amp.GradScaler("cpu")\n', "another program"),
        ("        scaler.step(optimizer)\n        scaler.update()\n\n", "        scaler.step(\n", "compile"),
        ("import torch\n", "import  torch\n", "outside of the edits"),
        (AUTHORS, NARROWER, "a region of the author's"),
        ("    for x, y in data:\n", "    for x, y in data :\n", "outside of the edits"),
        ("\n\ndef train", "\ndef train", "outside of the edits"),
    ],
)
def test_a_wrong_one_does_not(old: str, new: str, reason: str) -> None:
    assert old in FINISHED
    with pytest.raises(ProofError, match=reason):
        prove(ORIGINAL.encode(), FINISHED.replace(old, new, 1).encode(), WAY)
