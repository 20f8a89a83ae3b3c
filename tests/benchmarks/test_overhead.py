"""What the runtime adds to a training step, beside torch.amp written by hand and the peers."""

from pathlib import Path

import pytest

from tests.benchmarks import overhead

pytestmark = pytest.mark.benchmark

Timings = dict[tuple[str, str, str], overhead.Timing]


@pytest.fixture(scope="module")
def timings(peers_python: Path) -> Timings:
    """By mode, model and loop; the table is in the captured output (`-rA` shows it)."""
    found = overhead.measure(peers_python)
    print(f"\n{overhead.table(found)}")
    return {(t.mode, t.model, t.loop): t for t in found}


def test_the_converted_loop_trains_what_the_one_by_hand_does(timings: Timings) -> None:
    assert [key for key, timing in timings.items() if key[2] == "ampify" and not timing.same] == []


def test_a_step_costs_less_than_with_the_peers(timings: Timings) -> None:
    for (mode, model, loop), timing in timings.items():
        if loop in ("accelerate", "fabric"):
            assert timings[mode, model, "ampify"].ratio < timing.ratio, (mode, model, loop)


def test_a_step_costs_what_it_costs_by_hand(timings: Timings) -> None:
    """In mixed precision; scale-only is a mode for tests, where nobody writes such a loop by hand."""
    ratios = {key: timing.ratio for key, timing in timings.items() if key[0] == "fp16" and key[2] == "ampify"}
    assert len(ratios) == len(overhead.MODELS)
    assert {key: ratio for key, ratio in ratios.items() if ratio >= 1.01} == {}
