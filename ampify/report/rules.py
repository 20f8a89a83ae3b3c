"""What a report says of a code: its name, what it means in a line, and its page of the manual."""

from typing import NamedTuple

from ampify import manual
from ampify.diagnostics import EDITS, NOTES, REFUSALS
from ampify.doctor.pages import PAGES as MISTAKES
from ampify.plan.rules import RULES

# Of files rather than code: these have no page.
FAILURES = {
    "AMP990": "the file cannot be read",
    "AMP991": "the file cannot be decoded",
    "AMP992": "the file cannot be parsed",
    "AMP993": "the file cannot be written",
    "AMP999": "ampify itself failed; the file is as it was",
}


class Described(NamedTuple):
    """A code. `name` and `page` may be empty; the page's first line is its title."""

    code: str
    name: str
    short: str
    page: str


def describe(code: str) -> Described:
    """What is known of a code."""
    if code in FAILURES:
        return Described(code, "", FAILURES[code], "")
    try:
        page = manual.page(code)
    except KeyError:
        return Described(code, "", code, "")
    name, short = "", ""
    for rule in (rule for rule in RULES if rule.code == code):
        name, short = rule.name, rule.hazard
    if code in MISTAKES:
        name, short = MISTAKES[code].name, MISTAKES[code].text.strip().partition("\n\n")[0]
    elif code in EDITS:
        short = EDITS[code]
    elif code in NOTES or code in REFUSALS:
        short = (NOTES.get(code) or REFUSALS[code])[0].removesuffix(": {}")
    return Described(code, name, " ".join(short.replace("{}", "…").split()), page)
