"""The budgets of a conversion: time of the whole process, memory, and the other tools that are built on libcst."""

from pathlib import Path

import pytest

from tests.benchmarks import cost

pytestmark = pytest.mark.benchmark

Costs = dict[tuple[str, str], cost.Cost]


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Costs:
    """By kind of file and command; the table is in the captured output (`-rA` shows it)."""
    found = cost.measure(tmp_path_factory.mktemp("tools"))
    print(f"\n{cost.table(found)}")
    return found


def test_the_script_is_of_the_usual_size() -> None:
    assert 130 <= len(Path(cost.SCRIPT).read_text().splitlines()) <= 160


def test_a_whole_conversion_keeps_its_budgets(costs: Costs) -> None:
    ratios = cost.ratios(costs)
    assert ratios["untouched"] <= 1.1
    assert ratios["converted"] <= 1.25
    assert ratios["memory"] <= 1.5


def test_a_conversion_costs_less_than_what_any_other_tool_on_libcst_does(costs: Costs) -> None:
    others = [tool for tool, (_, on_libcst) in cost.TOOLS.items() if on_libcst and tool != "ampify"]
    for kind in ("converted", "untouched"):
        assert [tool for tool in others if costs[kind, tool].time <= costs[kind, "ampify"].time] == []
