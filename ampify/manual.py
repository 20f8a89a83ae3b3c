"""Manual: a page for every code, of a rule its docstring; and the overview that stands as README.md among the rules.

`python -m ampify.manual` prints that overview.
"""

import textwrap

from ampify.diagnostics import EDITS, NOTES, PRAGMAS, REFUSALS
from ampify.doctor.pages import PAGES as MISTAKES
from ampify.migration.pages import PAGES as MIGRATIONS
from ampify.plan.rules import RULES
from ampify.plan.rules.base import Rule
from ampify.refusals import PAGES

APPLICABILITY = {"safe": "rewritten", "unsafe": "rewritten with `--unsafe`", "display": "reported"}


def page(code: str) -> str:
    """The page of a code. Raises KeyError for an unknown one."""
    for rule in RULES:
        if rule.code == code:
            return f"{code} {rule.name} ({APPLICABILITY[rule.applicability]})\n\n{rule.manual()}"
    if code in MISTAKES:
        mistake = MISTAKES[code]
        outcome = "mended where it is sure" if mistake.mended else "shown"
        return f"{code} {mistake.name} (a mistake, {outcome})\n\n{mistake.text.strip()}"
    if code in MIGRATIONS:
        parts = MIGRATIONS[code].split("\n\n")
        text = "\n\n".join(part if part.startswith(" ") else _filled(part) for part in parts)
        return f"{code} (a migration of existing mixed precision)\n\n{text}"
    if code in EDITS:
        return f"{code} (an edit)\n\n{EDITS[code][0].upper()}{EDITS[code][1:]}."
    if code in PRAGMAS:
        from ampify import pragmas

        return f"{code} (of a pragma)\n\nWhat was seen: {PRAGMAS[code][0].replace('{}', '...')}\n\n{pragmas.__doc__}".rstrip()
    message, remedy = NOTES[code] if code in NOTES else REFUSALS[code]
    text = message.replace("{}", "...")
    if code in NOTES:
        return f"{code} (a note)\n\nWhat was seen: {text}" + (f"\n\nWhat helps: {remedy}" if remedy else "")
    own = PAGES[code]
    parts = [f"What was seen: {text}", f"Why it is left alone: {own.why}", f"What helps: {remedy}"]
    if own.before:
        parts += [f"Before, refused:\n\n{_indented(own.before)}", f"After, converted:\n\n{_indented(own.after)}"]
    else:
        parts.append(f"By hand: {own.instead}.")
    wrapped = [part if "\n" in part else _filled(part) for part in parts]
    return "\n\n".join([f"{code} (a refusal: the file is left alone)", *wrapped, _filled(f"Source: {own.source}.")])


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, break_on_hyphens=False)


def _indented(snippet: str) -> str:
    return textwrap.indent(snippet.rstrip(), "    ")


def index() -> str:
    """All codes, a line each."""
    lines = [f"{code}  {text}" for code, text in sorted(EDITS.items())]
    lines += [f"{code}  {message.replace('{}', '...')}" for code, (message, _) in sorted(NOTES.items())]
    lines += [f"{code}  {message.replace('{}', '...')}" for code, (message, _) in sorted(PRAGMAS.items())]
    lines += [f"{rule.code}  {rule.name}: {rule.hazard} ({APPLICABILITY[rule.applicability]})" for rule in RULES]
    lines += [f"{code}  {page.name}: {page.message.replace('{}', '...')}" for code, page in sorted(MISTAKES.items())]
    lines += [f"{code}  {message.replace('{}', '...')}" for code, (message, _) in sorted(REFUSALS.items())]
    return "\n".join(lines)


def overview() -> str:
    """The rules' README.md."""
    rows = [f"| [{r.code}](#{_anchor(r)}) | {r.name} | {r.hazard} | {APPLICABILITY[r.applicability]} |" for r in RULES]
    table = ["| code | rule | hazard | by default |", "|---|---|---|---|", *rows]
    head = "# Numeric hazards\n\nWritten by `python -m ampify.manual` from the rules' docstrings.\n"
    pages = [f"## {r.code} {r.name}\n\n{r.manual()}" for r in RULES]
    return "\n".join([head, *table, "", "\n\n".join(pages)]) + "\n"


def _anchor(rule: Rule) -> str:
    return f"{rule.code} {rule.name}".lower().replace(" ", "-")


if __name__ == "__main__":
    print(overview(), end="")
