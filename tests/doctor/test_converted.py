"""What `--runtime torch` writes is right, so nothing is found in it; without one of its lines it is wrong, and that is found."""

import ast
import re

import pytest

from ampify.convert import Options, convert
from ampify.doctor.examine import examine
from tests.fixtures_suite.cases import Case, all_cases

CASES = [case for case in all_cases()[::4] if case.is_converted and case.family not in ("misuse", "finished", "checkpoints")]
TOLD = {"AMP310", "AMP317"}  # plain torch.amp gets no scaler's state into checkpoints, and no schedule is held back
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def plain(case: Case) -> tuple[str, str]:
    """A fixture for plain torch.amp, and the name of its scaler."""
    result = convert(case.source, Options(runtime="torch"))
    if result.status != "converted":
        return "", ""
    text = result.output.decode()
    match = re.search(r"(\w+) = \w+\.amp\.GradScaler", text)
    assert match is not None
    return text, match[1]


def found(text: str) -> set[str]:
    return {f.code for f in examine(ast.parse(text))}


@each_case
def test_nothing_is_found_in_what_is_written(case: Case) -> None:
    text, _ = plain(case)
    assert found(text) <= TOLD


@each_case
def test_a_missing_update_is_found(case: Case) -> None:
    text, scaler = plain(case)
    lines = [line for line in text.splitlines(keepends=True) if f"{scaler}.update()" not in line]
    wrong = "".join(lines)
    assert not text or wrong == text or "AMP303" in found(wrong)


def test_most_clips_of_scaled_gradients_are_found() -> None:
    outcomes = []
    for case in all_cases():
        text, scaler = plain(case) if case.family == "clip" else ("", "")
        if f"{scaler}.unscale_(" in text:
            lines = [line for line in text.splitlines(keepends=True) if not line.strip().startswith(f"{scaler}.unscale_(")]
            outcomes.append("AMP301" in found("".join(lines)))
    assert len(outcomes) >= 15
    assert sum(outcomes) >= 0.9 * len(outcomes)
