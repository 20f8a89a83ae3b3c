"""Files with a line less, a line twice, or two lines exchanged: a mend is whole, and another run plans nothing."""

import random

from ampify.convert import convert
from ampify.doctor.pages import PAGES
from tests.doctor.idioms import PRELUDE, RIGHT
from tests.doctor.test_pages import PRELUDE as BEFORE_PAGES

SAMPLES = 400


def mutated() -> list[str]:
    rng = random.Random(20261123)
    texts = [PRELUDE + text for text in RIGHT.values()]
    texts += [BEFORE_PAGES + page.example("Before") for page in PAGES.values()]
    found = []
    for number in range(SAMPLES):
        lines = texts[number % len(texts)].splitlines(keepends=True)
        at = rng.randrange(8, len(lines) - 1)
        kind = rng.randrange(3)
        new = [[], [lines[at], lines[at]], [lines[at + 1], lines[at]]][kind]
        found.append("".join([*lines[:at], *new, *lines[at + 1 + (kind == 2) :]]))
    return found


def test_a_mutated_file_is_told_or_mended() -> None:
    statuses = set()
    for text in mutated():
        result = convert(text.encode())
        statuses.add(result.status)
        assert not result.bug, (result.diagnostics, text)
        if result.status == "converted":
            again = convert(result.output)
            assert not again.edits, text
            assert not again.bug, text
    assert {"already", "converted"} <= statuses
