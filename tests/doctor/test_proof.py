"""What the proof of a mend lets pass, and what not."""

import pytest

from ampify.doctor.proof import prove
from ampify.proof import ProofError
from tests.doctor.idioms import PRELUDE, RIGHT

UNSCALE = "    scaler.unscale_(optimizer)\n"
RIGHT_ONE = PRELUDE + RIGHT["clipping"].replace("    scaler.update()\n", "    scaler.update()  # the scale\n")
WRONG_ONE = RIGHT_ONE.replace(UNSCALE, "")


def test_the_mend_passes() -> None:
    prove(WRONG_ONE.encode(), RIGHT_ONE.encode())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (UNSCALE, "    scaler.unscale_(optimizer2)\n", "would change it|has a finding"),
        (UNSCALE, "", "would change it"),
        (UNSCALE, UNSCALE + UNSCALE, "has a finding"),
        (UNSCALE, "    scaler.unscale_(\n", "compile"),
        (UNSCALE, UNSCALE + "    optimizer.zero_grad()\n", "nothing to do with the scaler"),
        (UNSCALE, UNSCALE + "    scaler = torch.amp.GradScaler('cuda')\n", "another program|has a finding"),
        (UNSCALE, UNSCALE + "    other_scaler = torch.amp.GradScaler('cuda')\n", "other scalers"),
        ("  # the scale", "", "comments"),
        ("    scaler.step(optimizer)\n", "    optimizer.step()\n", "nothing to do with the scaler"),
        ("clip_grad_norm_(model.parameters(), 1.0)", "clip_grad_norm_(model.parameters(), 2.0)", "nothing to do with"),
        ("scaler.scale(loss).backward()", "scaler.scale(loss * 2).backward()", "another program"),
        ("    scaler.step(optimizer)\n", "    scaler.step(optimizer2)\n", "another program"),
    ],
)
def test_a_wrong_mend_does_not(old: str, new: str, reason: str) -> None:
    assert old in RIGHT_ONE
    with pytest.raises(ProofError, match=reason):
        prove(WRONG_ONE.encode(), RIGHT_ONE.replace(old, new).encode())
