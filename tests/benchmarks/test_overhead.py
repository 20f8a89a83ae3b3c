"""What the runtime adds to a training step, beside torch.amp written by hand and the peers."""

from pathlib import Path

import pytest

from tests.benchmarks import overhead

pytestmark = pytest.mark.benchmark


def test_a_step_costs_what_it_costs_by_hand(peers_python: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timings = overhead.measure(peers_python)
    with capsys.disabled():
        print(f"\n{overhead.table(timings)}")
    ratios = {(t.mode, t.model, t.loop): t.ratio for t in timings}
    same = {(t.mode, t.model, t.loop): t.same for t in timings}
    for mode, loops in overhead.COMPARISONS.items():
        for model in overhead.MODELS:
            ours = ratios[mode, model, "ampify"]
            assert same[mode, model, "ampify"], "trained something else"
            assert all(ours < ratios[mode, model, peer] for peer in ("accelerate", "fabric") if peer in loops)
        assert ratios[mode, "transformer", "ampify"] < 1.01
