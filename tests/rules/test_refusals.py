"""The manual pages of refusals: the code before a change by hand is refused for that reason, the code after it converts."""

import ast

import pytest

from ampify.convert import convert
from ampify.diagnostics import REFUSALS
from ampify.refusals import PAGES

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

model = nn.Linear(4, 2)
optimizer = optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
data = [(torch.randn(5, 4), torch.randint(0, 2, (5,))) for _ in range(3)]

"""
CHANGED = [code for code, page in PAGES.items() if page.before]


def test_every_refusal_has_a_page() -> None:
    assert sorted(PAGES) == sorted(REFUSALS)
    assert all(bool(page.before) == bool(page.after) != bool(page.instead) for page in PAGES.values())


@pytest.mark.parametrize("code", CHANGED)
def test_what_is_refused(code: str) -> None:
    result = convert((HEAD + PAGES[code].before).encode())
    assert result.status == "refused", result
    assert {d.code for d in result.diagnostics} == {code}
    line = HEAD.count("\n") + 1
    assert all(line <= d.line for d in result.diagnostics)


@pytest.mark.parametrize("code", CHANGED)
def test_what_the_change_by_hand_makes_of_it(code: str) -> None:
    result = convert((HEAD + PAGES[code].after).encode())
    assert result.status == "converted", result.diagnostics


@pytest.mark.parametrize("code", CHANGED)
def test_the_snippets_are_python(code: str) -> None:
    for text in (PAGES[code].before, PAGES[code].after):
        ast.parse(text)
        assert all(len(line) <= 100 for line in text.splitlines())
