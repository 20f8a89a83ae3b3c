"""convert() on broken and mutilated files: an answer every time, never a failure of its own, never a wrong conversion."""

import ast
import random
import warnings
from functools import cache

import pytest

from ampify.convert import Options, Result, convert
from ampify.diagnostics import EDITS
from ampify.doctor.pages import MENDS, PAGES
from ampify.plan.rules import MESSAGES
from tests.fixtures_suite.cases import Case, all_cases
from tests.fixtures_suite.eraser import erasure_problems

SAMPLES = 300
EACH = 50  # bytes between two places to cut a fixture off


def check(source: bytes, options: Options = Options()) -> Result:
    """Converts, and checks all that holds for every result."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = convert(source, options)
    assert not result.bug, result.diagnostics
    assert result.status in ("converted", "already", "unchanged", "refused", "error")
    lines = max(1, len(source.splitlines()))
    if result.status == "converted":
        assert result.output != source
        assert result.edits
        assert all(d.severity != "error" or d.code in PAGES for d in result.diagnostics)
        ast.parse(result.output)
    else:
        assert result.output == source
        assert not result.edits
    assert list(result.edits) == sorted(result.edits, key=lambda e: e.line)
    for edit in result.edits:
        assert 1 <= edit.line <= edit.end_line <= lines + 1
        assert edit.message == (EDITS | MESSAGES | MENDS)[edit.code]
    assert (result.status in ("refused", "error")) == any(
        d.severity == "error" and d.code not in PAGES  # besides notes, and what is wrong in the author's own mixed precision
        for d in result.diagnostics
    )
    for diagnostic in result.diagnostics:
        assert diagnostic.line >= 1
        assert diagnostic.column >= 1
        assert diagnostic.message
    return result


@cache
def converted_cases() -> tuple[Case, ...]:
    return tuple(case for case in all_cases() if case.is_converted and case.family not in ("misuse", "finished"))


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes(seed: int) -> None:
    rng = random.Random(seed)
    source = rng.randbytes(rng.randrange(400))
    check(source)
    check(b"loss.backward()\n" + source)
    check(bytes(b % 96 + 32 for b in source) + b"\nloss.backward()\n")


@pytest.mark.parametrize("case", all_cases()[::16], ids=lambda case: case.name)
def test_cut_off(case: Case) -> None:
    for end in range(0, len(case.source), EACH):
        result = check(case.source[:end])
        if result.status == "converted":
            assert erasure_problems(case.source[:end], result.output) == []


def test_cut_off_in_the_middle_of_every_file() -> None:
    for case in all_cases()[::3]:
        for end in (len(case.source) // 2, len(case.source) - 1):
            check(case.source[:end])


def _without_a_line() -> list[tuple[str, bytes]]:
    rng = random.Random(20240601)
    cases = all_cases()
    found = []
    for number in range(SAMPLES):
        case = cases[number % len(cases)]
        lines = case.source.splitlines(keepends=True)
        at = rng.randrange(len(lines)) if lines else 0
        found.append((f"{case.name}, without line {at + 1}", b"".join(lines[:at] + lines[at + 1 :])))
    return found


def test_a_line_deleted() -> None:
    """What is converted of a file with a line less can be erased again, and converting it again changes nothing."""
    statuses = set()
    for name, source in _without_a_line():
        result = check(source)
        statuses.add(result.status)
        if result.status == "converted":
            if b"ampify_runtime" in result.output:  # or else its own mixed precision was mended, or finished
                assert erasure_problems(source, result.output) == [], name
            again = check(result.output)
            assert (again.output, again.status) == (result.output, "already"), name
    assert statuses == {"converted", "refused", "unchanged", "already", "error"}


def test_two_lines_exchanged() -> None:
    rng = random.Random(7)
    for case in converted_cases()[::3]:
        lines = case.source.splitlines(keepends=True)
        at = rng.randrange(len(lines) - 1)
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
        source = b"".join(lines)
        result = check(source)
        if result.status == "converted":
            assert erasure_problems(source, result.output) == [], case.name


BAD = {
    "empty": b"",
    "only blanks": b" \n\t\n",
    "a NUL": b"loss.backward()\n\0",
    "UTF-16": "loss.backward()".encode("utf-16"),
    "bad UTF-8": b"# \xff\nloss.backward()\n",
    "an unknown encoding": b"# coding: klingon\nloss.backward()\n",
    "Python 2": b"print 'x'\nloss.backward()\n",
    "a conflict": b"<<<<<<< HEAD\nloss.backward()\n=======\n>>>>>>> other\n",
    "a magic": b"%matplotlib inline\nloss.backward()\n",
    "parentheses": b"x = " + b"(" * 3000 + b")" * 3000 + b"\nloss.backward()\n",
    "a long sum": b"x = " + b"+".join([b"'a'"] * 3000) + b"\nloss.backward()\n",
    "many elifs": b"if a: pass\n" + b"elif b: pass\n" * 1500 + b"loss.backward()\n",
    "a long list": b"x = [" + b"1," * 20_000 + b"]\nloss.backward()\n",
    "a deep attribute": b"x" + b".a" * 3000 + b".backward()\n",
    "deep calls": b"x = " + b"f(" * 90 + b")" * 90 + b"\nloss.backward()\n",
    "deep blocks": b"".join(b" " * i + b"if a:\n" for i in range(90)) + b" " * 90 + b"loss.backward()\n",
    "a lone surrogate": b"x = '\\ud800'\nloss.backward()\n",
    "names of another alphabet": "λ = 模型(数据)\nλ.backward()\n优化器.step()\n".encode(),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    check(BAD[name])


ERRORS = {"a NUL", "UTF-16", "bad UTF-8", "an unknown encoding", "Python 2", "a conflict", "a magic", "parentheses"}


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_unreadable(name: str) -> None:
    assert check(BAD[name]).status == "error"


@pytest.mark.parametrize("case", all_cases()[::4], ids=lambda case: case.name)
def test_results_keep_their_promises(case: Case) -> None:
    check(case.source)


@pytest.mark.parametrize("case", all_cases()[::8], ids=lambda case: case.name)
def test_deterministic(case: Case) -> None:
    assert convert(case.source) == convert(bytes(case.source))
