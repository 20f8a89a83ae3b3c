"""An overflow of one optimizer leaves the other's gradients alone, however many losses go backward."""

from pathlib import Path

import pytest

from tests.benchmarks import two_optimizers

pytestmark = pytest.mark.benchmark


def test_the_healthy_optimizer_applies_its_true_gradients(peers_python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = two_optimizers.measure(peers_python)
    with capsys.disabled():
        print(f"\n{two_optimizers.table(outcomes)}")
    found = {(o.loop, o.losses): (o.skipped, o.at_backoff, o.at_growth, o.wrong, o.scale) for o in outcomes}
    for losses in two_optimizers.BACKWARDS:
        assert found.pop(("plain fp32", losses)) == (0, 1.0, 1.0, 0, 1.0)
        assert found.pop(("hand-written torch.amp", losses)) == (1, 1.0, 1.0, 0, 65536.0)  # halved, and doubled
        assert found.pop(("ampify", losses)) == (1, 1.0, 1.0, 0, 65536.0)  # halved, and doubled
        for peer in two_optimizers.INJECTED:  # they overflow in the same step; that they err is theirs to change
            skipped, at_backoff, at_growth, _, _ = found.pop((peer, losses))
            assert (skipped, at_backoff, at_growth) == (1, 2.0, 0.5), f"{peer} has changed: correct CONTRIBUTING.md"
    assert found == {}
