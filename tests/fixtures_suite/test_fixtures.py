"""Every fixture: its output as recorded, stable, erasable, and training as the original does in every mode."""

import ast

import pytest

from tests.fixtures_suite.cases import NOT_RUN, TOLERANCE, Case, all_cases, converted, expected_files, migrations
from tests.fixtures_suite.compare import close_problems, exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fixtures_suite.forks import ForkServer

CASES = all_cases()
RUNNABLE = [case for case in CASES if case.family not in NOT_RUN]
CONVERTED = [case for case in RUNNABLE if case.is_converted]
MENDED = [case for case in CASES if case.family in ("misuse", "finished") and case.is_converted]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_runnable = pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.name)
each_converted = pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 70
    assert len(CONVERTED) >= 40
    statuses = {case.diagnostics_path.read_text().split()[1] for case in CASES}
    assert statuses == {"converted", "refused", "unchanged", "already"}


def test_no_file_is_left_over() -> None:
    expected = {path for case in (*CASES, *migrations()) for path in (case.source_path, case.output_path, case.diagnostics_path)}
    assert set(CASES[0].source_path.parents[1].glob("*/*.*")) <= expected


@each_case
def test_output_is_as_recorded(case: Case) -> None:
    result = converted(case.source)
    assert not result.bug
    if result.status != "converted":
        assert result.output == case.source
        assert not result.edits
    if result.status == "refused":
        assert any(d.code.startswith("AMP9") for d in result.diagnostics)
    for path, content in expected_files(case, result).items():
        assert (path.read_bytes() if path.exists() else None) == content, f"{path.name}: see update.py"


@pytest.mark.parametrize("case", [*CONVERTED, *MENDED], ids=lambda case: case.name)
def test_output_compiles_and_is_stable(case: Case) -> None:
    result = converted(case.source)
    ast.parse(result.output)
    again = converted(result.output)
    assert again.output == result.output
    assert not again.edits
    assert again.status in ("already", "unchanged")


@each_converted
def test_erasing_the_output_gives_the_original(case: Case) -> None:
    assert erasure_problems(case.source, converted(case.source).output) == []


@each_runnable
def test_original_is_deterministic(case: Case, server: ForkServer) -> None:
    first, second = server.run(case.source, "original"), server.run(case.source, "original", again=True)
    assert exact_problems(first, second) == []
    assert first["steps"], "it takes no optimizer step"


@pytest.mark.parametrize("mode", ["off", "scale-only", "growing"])
@each_converted
def test_trains_identically(case: Case, mode: str, server: ForkServer) -> None:
    output = converted(case.source).output
    assert exact_problems(server.run(case.source, "original"), server.run(output, mode)) == []


@pytest.mark.parametrize("mode", ["fp16", "bf16", "cuda-fp16"])
@each_converted
def test_half_precision_is_close(case: Case, mode: str, server: ForkServer) -> None:
    output = converted(case.source).output
    reference, candidate = server.run(case.source, "original"), server.run(output, mode)
    assert close_problems(reference, candidate, TOLERANCE[mode]) == []
