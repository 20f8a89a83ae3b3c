"""The fixtures of migrations: as recorded, stable, and training as the original does, without a word of deprecation."""

import ast
import contextlib
import io
import random
import warnings

import pytest

from ampify.convert import convert
from tests.fixtures_suite.cases import Case, converted, expected_files, migrations
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.forks import ForkServer

CASES = [case for case in migrations() if case.family == "migration"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_converted = pytest.mark.parametrize("case", [c for c in CASES if c.is_converted], ids=lambda case: case.name)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 6


@each_case
def test_output_is_as_recorded(case: Case) -> None:
    result = converted(case.source)
    assert not result.bug
    for path, content in expected_files(case, result).items():
        assert (path.read_bytes() if path.exists() else None) == content, f"{path.name}: see update.py"


@each_converted
def test_output_compiles_and_is_stable(case: Case) -> None:
    result = converted(case.source)
    ast.parse(result.output)
    again = converted(result.output)
    assert (again.output, again.edits) == (result.output, ())
    assert again.status in ("already", "unchanged")


@each_converted
def test_trains_identically(case: Case, server: ForkServer) -> None:
    original, migrated = (server.run(source, "off") for source in (case.source, converted(case.source).output))
    assert exact_problems(original, migrated) == []
    assert original["steps"], "it takes no optimizer step"


def _deprecations(source: bytes) -> list[str]:
    with warnings.catch_warnings(record=True) as seen, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        exec(compile(source, "script.py", "exec"), {"__name__": "__main__"})
    return [str(w.message) for w in seen if "deprecated" in str(w.message) and ".amp." in str(w.message)]


@each_converted
def test_nothing_deprecated_is_called(case: Case) -> None:
    result = converted(case.source)
    assert _deprecations(case.source) != []
    if not result.diagnostics:
        assert _deprecations(result.output) == []


@pytest.mark.parametrize("case", migrations(), ids=lambda case: case.name)
def test_damaged_files_are_no_bugs(case: Case) -> None:
    """A line less, or two exchanged: what is written of that is proved as well, or the file is left alone."""
    rng = random.Random(5)
    lines = case.source.splitlines(keepends=True)
    for _ in range(15):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        swapped = list(lines)
        swapped[at], swapped[other] = swapped[other], swapped[at]
        for source in (b"".join(lines[:at] + lines[at + 1 :]), b"".join(swapped)):
            result = convert(source)
            assert not result.bug, (result.diagnostics, source)
            if result.status == "converted":
                assert convert(result.output).output == result.output
