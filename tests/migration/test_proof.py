"""The proof of a migration: wrong outputs do not pass."""

import pytest

from ampify.convert import convert
from ampify.migration.proof import prove
from ampify.proof import ProofError

ORIGINAL = """import functools
import torch
from torch.cuda.amp import autocast, GradScaler, custom_fwd  # of old


class Scaler(GradScaler):
    def __init__(self, scale):
        super().__init__(scale)


@custom_fwd
def forward(ctx, x):
    return x


def run(model, batches, enabled):
    scaler = GradScaler(2.0**8, enabled=enabled)
    late = functools.partial(autocast, enabled=enabled)
    for batch in batches:
        with autocast(enabled, torch.bfloat16):  # half
            loss = model(batch)
        with torch.cuda.amp.autocast(False), late():
            loss = loss * 'x'.count("x")
        scaler.scale(loss).backward()
    return isinstance(scaler, GradScaler)
"""

RIGHT = convert(ORIGINAL.encode()).output.decode()

WRONG = {
    "another device": ('GradScaler("cuda", 2.0**8', 'GradScaler("cpu", 2.0**8'),
    "no device for a scaler": ('GradScaler("cuda", 2.0**8', "GradScaler(2.0**8"),
    "no device for a region": ('with autocast("cuda", enabled=enabled', "with autocast(enabled=enabled"),
    "the old order": ('autocast("cuda", enabled=enabled, dtype=torch.bfloat16)', 'autocast("cuda", enabled, torch.bfloat16)'),
    "another dtype": ("dtype=torch.bfloat16", "dtype=torch.float16"),
    "no dtype": (", dtype=torch.bfloat16", ""),
    "not enabled": ("enabled=enabled, dtype=torch.bfloat16", "dtype=torch.bfloat16"),
    "turned on": ("enabled=False", "enabled=True"),
    "another scale": ("2.0**8", "2.0**9"),
    "no base": ('super().__init__("cuda", scale)', "super().__init__(scale)"),
    "no device type": ('@custom_fwd(device_type="cuda")', "@custom_fwd"),
    "another device type": ('@custom_fwd(device_type="cuda")', '@custom_fwd(device_type="cpu")'),
    "another decorator": ("@custom_fwd(", "@custom_bwd("),
    "no import": ("from torch.amp import autocast, GradScaler, custom_fwd  # of old\n", "# of old\n"),
    "half an import": ("import autocast, GradScaler, custom_fwd", "import autocast, GradScaler"),
    "another import": ("from torch.amp import", "from torch.ampere import"),
    "the old import": ("from torch.amp import", "from torch.cuda.amp import"),
    "a comment lost": ("  # half", ""),
    "a comment changed": ("# half", "# full"),
    "partial without a device": ('functools.partial(autocast, "cuda", enabled', "functools.partial(autocast, enabled"),
    "partial of the old order": ('"cuda", enabled=enabled, dtype=torch.float16)', '"cuda", enabled, dtype=torch.float16)'),
    "quotes elsewhere": ("'x'.count(\"x\")", '"x".count("x")'),
    "white space elsewhere": ("loss = loss * ", "loss = loss *  "),
    "another statement": ("scaler.scale(loss).backward()", "loss.backward()"),
    "a line more": ("            loss = model(batch)\n", "            loss = model(batch)\n            pass\n"),
    "a blank line more": ("            loss = model(batch)\n", "            loss = model(batch)\n\n"),
    "another type": ("isinstance(scaler, GradScaler)", "isinstance(scaler, Scaler)"),
    "left behind": ('torch.amp.autocast("cuda", enabled=False)', "torch.cuda.amp.autocast(False)"),
    "no Python": ("with autocast(", "with autocast(("),
}


def left_over(tree: object, output: bytes) -> bool:
    return convert(output).edits != ()


def test_the_right_output_passes() -> None:
    prove(ORIGINAL.encode(), RIGHT.encode(), left_over)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_output_does_not(case: str) -> None:
    right, wrong = WRONG[case]
    assert RIGHT.count(right) == 1, RIGHT
    with pytest.raises(ProofError):
        prove(ORIGINAL.encode(), RIGHT.replace(right, wrong).encode(), left_over)
