"""The scaler's state machine on converted code: which paths it follows, and what it says of a violation."""

import ast
import time

import pytest

from ampify.analysis.analyse import analyse
from ampify.protocol import Overlay, check
from ampify.scaler import Problem
from tests.plan.shorthand import scaled
from tests.protocol import test_wrong_gradients, test_wrong_steps
from tests.protocol.cases import problems


def test_every_problem_is_in_the_tables() -> None:
    shown = {name.partition(":")[0] for name in (*test_wrong_gradients.WRONG, *test_wrong_steps.WRONG)}
    assert shown == {p.name for p in Problem} - {"UNDECIDED", "NO_GRADIENTS"}


# What the runtime bears and torch's own scaler raises at, and what is close and fine.
WITHOUT_GRADIENTS = {
    "for x, y in data:\n    ZERO\n    BACK\n    STEP\n    UPDATE\n": False,
    "for x, y in data:\n    ZERO\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    for z in x:\n        BACK\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n        STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n        STEP\n        UPDATE\n": False,
    "for x, y in data:\n    BACK\n    if last:\n        STEP\n        UPDATE\n        ZERO\n": False,
    "for x, y in data:\n    ZERO\n    BACK\n    STEP\n    ZERO\n    UPDATE\n": False,
    "for x, y in data:\n    ZERO\n    BACK\n    UNSCALE\n    if flag:\n        UPDATE\n        continue\n"
    "    STEP\n    UPDATE\n": False,
}


@pytest.mark.parametrize("text", WITHOUT_GRADIENTS)
def test_only_the_plain_scaler_needs_gradients(text: str) -> None:
    (scope,) = analyse(ast.parse(scaled(text))).scopes
    assert check(scope, strict=True).violations == ()
    found = {v.problem for v in check(scope, Overlay(plain=True), strict=True).violations}
    assert found == ({Problem.NO_GRADIENTS} if WITHOUT_GRADIENTS[text] else set())


TESTS = """\
for x, y in data:
    BACK
    if {first}:
        UNSCALE
        CLIP
{between}    if {second}:
        STEP
        UPDATE
        ZERO
"""


@pytest.mark.parametrize(
    ("first", "second", "between", "correlated"),
    [
        ("last", "last", "", True),
        ("i % 4 == 3", "i % 4 == 3", "", True),
        ("not last", "not last", "", True),
        ("i + 1 == len(data)", "i + 1 == len(data)", "", True),
        ("last", "first", "", False),
        ("last", "not last", "", False),
        ("last", "last", "    last = True\n", False),
        ("last", "last", "    last ^= flag\n", False),
        ("last", "last", "    for last in flags: pass\n", False),
        ("last", "last", "    with flags as last: pass\n", False),
        ("i % 4 == 3", "i % 4 == 3", "    i += 1\n", False),
        ("self.last", "self.last", "    self.last = x\n", False),
        ("random()", "random()", "", False),
        ("next(flags)", "next(flags)", "", False),
        ("flags.pop()", "flags.pop()", "", False),
    ],
)
def test_correlated_tests(first: str, second: str, between: str, correlated: bool) -> None:
    found = problems(TESTS.format(first=first, second=second, between=between))
    assert (found == set()) is correlated


def test_a_new_iteration_forgets_its_tests() -> None:
    text = "for i, x in data:\n    BACK\n    if i % 4 == 3:\n        STEP\n        UPDATE\n    if i % 4 == 3:\n        ZERO\n"
    assert problems(text) == set()
    assert "MIXED" in problems(text.replace("        ZERO", "        print(x)"))


@pytest.mark.parametrize("tests", [4, 40])
def test_too_many_paths_are_undecided(tests: int) -> None:
    """Each condition that is tested twice doubles the states; that ends with an answer, and soon."""
    ifs = "".join(f"    if c{i}:\n        ZERO\n" for i in range(tests)) * 2
    started = time.monotonic()
    found = problems("for x, y in data:\n    ZERO\n    BACK\n" + ifs + "    STEP\n    UPDATE\n")
    assert time.monotonic() - started < 10
    assert ("UNDECIDED" in found) is (tests == 40)


def test_many_plain_branches_are_decided() -> None:
    ifs = "".join(f"    if c{i}:\n        print({i})\n    elif d{i}:\n        CLIP2\n" for i in range(200))
    assert problems("for x, y in data:\n    ZERO\n    BACK\n    STEP\n    UPDATE\n" + ifs) == set()


def test_an_unscaled_backward_counts_only_when_strict() -> None:
    text = "for x, y in data:\n    ZERO\n    loss.backward()\n    STEP\n    UPDATE\n"
    assert problems(text, strict=False) == set()
    assert problems(text, strict=True) == {"NOT_SCALED"}


def test_violations_say_where() -> None:
    text = "for x, y in data:\n    ZERO\n    BACK\n    CLIP\n    STEP\n    UPDATE\n"
    script = scaled(text)
    (scope,) = analyse(ast.parse(script)).scopes
    (violation,) = check(scope, strict=True).violations
    assert script.splitlines()[violation.line - 1].strip().startswith("nn.utils.clip_grad_norm_")
    assert violation.target == "optimizer"


def test_jumps_that_leave_an_update_pending() -> None:
    text = "for x, y in data:\n    ZERO\n    BACK\n    UNSCALE\n    NORM\n    if flag:\n        continue\n    STEP\n    UPDATE\n"
    (scope,) = analyse(ast.parse(scaled(text))).scopes
    jump = next(s for s in scope.statements() if s.kind == "continue")
    assert check(scope).pending == {jump.number: frozenset({"optimizer"})}
