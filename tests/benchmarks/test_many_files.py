"""Many files in one call: the cost of a file does not grow with their number, nor does memory."""

import pytest

from tests.benchmarks import many_files
from tests.benchmarks.many_files import Cost

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def costs() -> dict[str, list[Cost]]:
    """By kind of files; the table is in the captured output (`-rA` shows it)."""
    found = many_files.measure_all()
    print(f"\n{many_files.table(found)}")
    return found


@pytest.mark.parametrize("name", many_files.WORKLOADS)
@pytest.mark.parametrize("jobs", many_files.JOBS)
def test_cost_grows_with_the_number_of_files_and_memory_does_not(costs: dict[str, list[Cost]], name: str, jobs: int) -> None:
    fewer, more = [cost for cost in costs[name] if cost.jobs == jobs][-2:]
    assert more.cpu / more.files < 1.2 * fewer.cpu / fewer.files
    told = 2 / 1024 * (more.files - fewer.files)  # MiB: of every file its path and what became of it are known to the end
    assert max(more.parent, more.worker) < 1.25 * max(fewer.parent, fewer.worker) + told


@pytest.mark.parametrize("name", many_files.WORKLOADS)
def test_two_processes_take_less_time_than_one(costs: dict[str, list[Cost]], name: str) -> None:
    one, two = costs[name][-2:]
    assert (one.jobs, two.jobs) == (1, 2)
    assert two.wall < 0.8 * one.wall
