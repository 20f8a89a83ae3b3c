"""The manual pages of migrations: whole, and true of their own examples."""

import re
import textwrap

import pytest

from ampify.convert import convert
from ampify.diagnostics import EDITS, NOTES
from ampify.manual import page
from ampify.migration.pages import PAGES

PARTS = ("What it finds:", "Why it matters:", "Before", "Safety:", "Source:")


def test_every_code_has_a_page() -> None:
    assert sorted(PAGES) == sorted(code for code in (*EDITS, *NOTES) if re.match("AMP3[56]", code))


@pytest.mark.parametrize("code", PAGES)
def test_pages_are_whole(code: str) -> None:
    text = page(code)
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert all(len(line) <= 110 for line in text.splitlines())


@pytest.mark.parametrize("code", [code for code in PAGES if "After:" in PAGES[code] and code < "AMP354"])
def test_the_examples_are_what_is_written(code: str) -> None:
    found = re.search(r"Before:\n\n(.*)\n\nAfter:\n\n(.*)\n\nSafety", page(code), re.DOTALL)
    assert found
    before, after = (textwrap.dedent(snippet) for snippet in found.groups())
    for use in ("", "\nscaler = GradScaler()\nwith autocast(): pass"):
        result = convert(f"import torch\n{before}{use}\n".encode())
        if result.status == "converted":
            break
    assert result.output.decode().startswith(f"import torch\n{after}\n")
    assert code in {edit.code for edit in result.edits}
