"""Generated training loops: each is refused with a place, or converted and trains in every bit as before."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.check import problems_of
from tests.fuzz.loops import loops

CI, LONG, SHARDS = 200, 500, 18
SHARE = 0.7  # of the loops that are converted, at least: refusing everything would keep every promise
SHARE_OF_A_SEED = 0.6  # hypothesis varies what it met before, so the loops of one seed are not all different
PROFILE = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
}


def _run(examples: int, number: int, derandomize: bool) -> Counter[str]:
    """How many loops were met, by status and by the codes of refusals. Fails with the smallest that breaks a promise."""
    tally: Counter[str] = Counter()

    @(lambda test: test) if derandomize else seed(number)
    @settings(max_examples=examples, derandomize=derandomize, **PROFILE)
    @given(loops())
    def keeps_the_promise(source: bytes) -> None:
        status, codes, problems = problems_of(source)
        tally.update([status, *set(codes)])
        assert problems == [], source.decode()

    keeps_the_promise()
    return tally


def _report(tally: Counter[str], share: float, record: Callable[[str, object], None]) -> None:
    record("loops", dict(tally))
    print(dict(tally.most_common()))
    total = tally["converted"] + tally["refused"]
    assert tally["converted"] / total >= share, tally


def test_generated_loops(record_property: Callable[[str, object], None]) -> None:
    tally = _run(CI, 0, derandomize=True)
    assert tally["converted"] + tally["refused"] >= CI
    _report(tally, SHARE, record_property)


@pytest.mark.long
@pytest.mark.parametrize("number", range(SHARDS))
def test_many_generated_loops(number: int, record_property: Callable[[str, object], None]) -> None:
    _report(_run(LONG, number, derandomize=False), SHARE_OF_A_SEED, record_property)


def test_what_is_generated_varies() -> None:
    """The strategy reaches every shape that it has: a share that is measured on one of them says nothing."""
    sources: list[bytes] = []

    @settings(max_examples=150, derandomize=True, **PROFILE)
    @given(st.lists(loops(), min_size=2, max_size=2))
    def gather(found: list[bytes]) -> None:
        sources.extend(found)

    gather()
    text = b"\n".join(sources)
    for shape in SHAPES:
        assert shape.encode() in text, shape
    assert any(b"\r\n" in source for source in sources)
    assert any(not source.endswith(b"\n") for source in sources)


_SHAPES = """
class Trainer|def main()|def train(|def closure|create_graph=True|.values():|[0].step()|while True:|continue|break|finally:
except KeyboardInterrupt|clip_grad_norm_|clip_grad_value_|.grad|lr_scheduler|torch.no_grad()|torch.save(|; |\\
"""
SHAPES = _SHAPES.strip().replace("\n", "|").split("|")
