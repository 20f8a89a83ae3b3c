"""Mutants: every kind of damage to a converted script dies in the proof.

`python -m tests.proof.test_mutants` prints how many of each the proof kills.
"""

import ast
from functools import cache

import pytest

from ampify.proof import ProofError, prove
from tests.fixtures_suite.cases import Case, all_cases
from tests.proof import (
    checkpoint_mutants,
    hazard_mutants,
    import_mutants,
    layout_mutants,
    region_mutants,
    scaler_mutants,
    user_mutants,
)
from tests.proof.operators import OPERATORS

KINDS = (
    checkpoint_mutants,
    hazard_mutants,
    import_mutants,
    layout_mutants,
    region_mutants,
    scaler_mutants,
    user_mutants,
)

FAMILIES = {
    *("accumulation", "basic", "calls", "checkpoints", "clip", "closures", "evaluation", "functions", "fuzzed", "hazards"),
    *("imports", "penalties", "schedulers", "scripts", "several"),
}
PER_FIXTURE, PER_OPERATOR = 2, 11

# Damage that nothing on the fixtures can be done with, or that leaves the meaning as it is, is not in the table of operators:
#  * an update() too many after another one, and an unscale_() right before a step: the runtime does nothing, or what step() does;
#  * a region that is dropped, or narrowed to a part of the forward: the rest runs in fp32, which is slower and not wrong;
#  * a region round other statements that compute: whether that changes a value can only be seen by running it;
#  * white space inside of a statement that is edited, and comments beside one that was added: people lay these out as they like.

# What may survive all the same: (operator, fixture), and why that is no hole.
SURVIVORS: dict[tuple[str, str], str] = {}


@cache
def outputs() -> list[tuple[Case, bytes, str]]:
    cases = [c for c in all_cases() if c.family in FAMILIES and c.is_converted]
    found = [(c, c.source, c.output_path.read_bytes()) for c in cases]
    return [(c, source, output.decode()) for c, source, output in found if b"\r" not in output]


def _valid(text: str) -> bool:
    try:
        ast.parse(text.encode())
    except SyntaxError:
        return False
    return True


def mutants(name: str) -> list[tuple[str, bytes, str]]:
    """Some mutants of one operator, of as many fixtures as possible: (fixture, original, mutant)."""
    operator, found = OPERATORS[name], []
    for case, source, output in outputs():
        made = [m for m in operator(output) if m != output and _valid(m)]
        step = max(1, len(made) // PER_FIXTURE)
        found += [(case.name, source, m) for m in made[::step][:PER_FIXTURE]]
    step = max(1, len(found) // PER_OPERATOR)
    return found[::step][:PER_OPERATOR]


def _survives(source: bytes, mutant: str) -> bool:
    try:
        prove(source, mutant.encode())
    except ProofError:
        return False
    return True


def test_what_is_undamaged_is_proved() -> None:
    assert len(outputs()) > 60
    for _, source, output in outputs()[::3]:
        prove(source, output.encode())


@pytest.mark.parametrize("name", OPERATORS)
def test_all_die(name: str) -> None:
    found = mutants(name)
    survivors = [case for case, source, mutant in found if _survives(source, mutant)]
    assert found, "nothing to damage"
    unexplained = [case for case in survivors if (name, case) not in SURVIVORS]
    assert unexplained == [], f"{len(unexplained)} of {len(found)} survive"


def report() -> str:
    """The kills by operator, as a table."""
    rows, tried, killed = [], 0, 0
    for name in OPERATORS:
        found = mutants(name)
        dead = sum(not _survives(source, mutant) for _, source, mutant in found)
        tried, killed = tried + len(found), killed + dead
        rows.append(f"{name:<50} {dead:>3} of {len(found):>3}")
    return "\n".join([*rows, f"{f'all {len(OPERATORS)} operators':<50} {killed:>3} of {tried:>3}"])


def test_there_are_many_operators() -> None:
    assert len(OPERATORS) >= 90
    assert {operator.__module__ for operator in OPERATORS.values()} == {kind.__name__ for kind in KINDS}
    assert sum(len(mutants(name)) for name in ("drop an update", "drop a scale", "a plain step")) >= 25


@pytest.mark.parametrize(
    "output",
    [b"", b"x = (", b"\0", b"\xff", b"def f(:\n", b"return 1\n", b"x = 1\n" + b"(" * 300 + b")" * 300 + b"\n"],
)
def test_what_does_not_compile_is_no_proof(output: bytes) -> None:
    with pytest.raises(ProofError):
        prove(b"x = 2\n", output)


def test_the_original_itself_is_no_proof_of_a_conversion() -> None:
    """Writing back what is to be converted is not stable: converting it again would change it."""
    for _, source, _ in outputs()[::10]:
        with pytest.raises(ProofError):
            prove(source, source)


if __name__ == "__main__":
    print(report())
