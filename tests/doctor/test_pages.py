"""The pages of the findings: what they show before is found, what they show after is not."""

import ast

import pytest

from ampify.convert import convert
from ampify.doctor.base import Page
from ampify.doctor.examine import examine
from ampify.doctor.pages import MENDS, PAGES

PRELUDE = """\
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.MSELoss()
data = [(torch.ones(2, 4), torch.ones(2, 2))]

"""
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.code)


@each_page
def test_what_is_shown_before_is_found_and_nothing_else(page: Page) -> None:
    found = examine(ast.parse(PRELUDE + page.example("Before")))
    assert {f.code for f in found} == {page.code}


@each_page
def test_what_is_shown_after_is_right(page: Page) -> None:
    assert examine(ast.parse(PRELUDE + page.example("After"))) == []


@pytest.mark.parametrize("page", [page for page in PAGES.values() if page.mended], ids=lambda page: page.code)
def test_a_mend_gives_what_is_shown_after(page: Page) -> None:
    result = convert((PRELUDE + page.example("Before")).encode())
    assert result.status == "converted"
    assert result.output.decode() == PRELUDE + page.example("After")


@each_page
def test_a_page_has_all_parts(page: Page) -> None:
    for part in ("What it finds: ", "Why it matters: ", "Before:\n", "After:\n", "Safety: ", "Source: "):
        assert f"\n\n{part}" in page.text
    assert page.mended == page.text.partition("Safety: ")[2].startswith("safe") == (page.code in MENDS)
    assert all(len(line) <= 130 for line in page.text.splitlines())
