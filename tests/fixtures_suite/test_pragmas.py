"""A pragma at any line of any fixture: what is left converts, stays converted, and trains as the original does."""

import ast
from collections.abc import Iterator
from itertools import islice

import pytest

from ampify.convert import convert
from tests.fixtures_suite.cases import NOT_RUN, Case, all_cases
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fixtures_suite.forks import ForkServer

PRAGMA = b"  # ampify: skip"


def _marked(source: bytes) -> Iterator[bytes]:
    """The source with a pragma at one line, for each line that can have one and may be of a training step."""
    tree = ast.dump(ast.parse(source))
    lines = source.split(b"\n")
    for at, line in enumerate(lines):
        if not any(word in line for word in (b"backward(", b"step(", b"clip", b"for ", b"def ", b"if ")):
            continue
        bare = line.rstrip(b"\r")
        marked = b"\n".join([*lines[:at], bare + PRAGMA + line[len(bare) :], *lines[at + 1 :]])
        try:
            if ast.dump(ast.parse(marked)) == tree:
                yield marked
        except SyntaxError:
            continue


def _half_left(case: Case) -> Iterator[bytes]:
    """The marked sources in which some steps are left alone, and others are converted."""
    for marked in _marked(case.source):
        result = convert(marked)
        assert not result.bug, result.diagnostics
        if result.status == "converted":
            again = convert(result.output)
            assert (again.status, again.output) == ("already", result.output)
            if any(d.code == "AMP197" and "the training step" in d.message for d in result.diagnostics):
                yield marked


def _check(marked: bytes, server: ForkServer) -> None:
    output = convert(marked).output
    assert erasure_problems(marked, output) == []
    reference = server.run(marked, "original")
    for mode in ("off", "scale-only", "growing"):
        assert exact_problems(reference, server.run(output, mode)) == []


RUNNABLE = [case for case in all_cases() if case.family not in NOT_RUN and case.family != "pragmas"]


@pytest.mark.parametrize("case", RUNNABLE[::12], ids=lambda case: case.name)
def test_what_is_left_of_some(case: Case, server: ForkServer) -> None:
    for marked in islice(_half_left(case), 2):
        _check(marked, server)


@pytest.mark.long
@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.name)
def test_what_is_left_of_all(case: Case, server: ForkServer) -> None:
    for marked in _half_left(case):
        _check(marked, server)
