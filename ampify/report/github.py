"""Workflow commands, from which GitHub Actions makes annotations at the lines of a pull request.

How they are written and escaped: "Workflow commands for GitHub Actions" in GitHub's documentation, `command.ts` of its toolkit.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from ampify.convert import AppliedEdit, Status
from ampify.diagnostics import Severity
from ampify.job import Outcome
from ampify.report import text
from ampify.report.streams import printable

LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}
NEAR = 3  # lines between two edits that share an annotation: Actions shows ten of a level and step only


def render(outcomes: Iterable[Outcome], *, done: bool) -> Iterator[bytes]:
    """An annotation for each group of edits and each diagnostic, file by file; at the end the summary, as a plain line."""
    statuses: Counter[Status] = Counter()
    for outcome in outcomes:
        statuses[outcome.result.status] += 1
        yield "".join(f"{line}\n" for line in _annotations(outcome, done)).encode("utf-8", "surrogateescape")
    yield f"ampify: {text.summary(statuses, done=done)}\n".encode()


def _annotations(outcome: Outcome, done: bool) -> Iterator[str]:
    # Absolute: the runner makes it relative to the repository, wherever in it the step runs.
    file = "".join(c if c in "\r\n" or "\ud800" <= c <= "\udfff" else printable(c) for c in os.path.abspath(outcome.path))
    for group in _groups(outcome.result.edits):
        codes = ", ".join(dict.fromkeys(edit.code for edit in group))
        what = "converted" if done else "would convert"
        said = "\n".join(f"line {edit.line}: {edit.code} {printable(edit.message)}" for edit in group)
        last = max(edit.end_line for edit in group)
        yield _command("notice", said, file=file, line=group[0].line, endLine=last, title=f"{what}: {codes}")
    for diagnostic in outcome.result.diagnostics:
        said = printable(diagnostic.message) + (f"\n{printable(diagnostic.help)}" if diagnostic.help else "")
        place: dict[str, str | int] = {"file": file, "line": diagnostic.line, "endLine": diagnostic.line}
        yield _command(LEVELS[diagnostic.severity], said, **place, title=diagnostic.code)


def _groups(edits: Iterable[AppliedEdit]) -> list[list[AppliedEdit]]:
    """The edits, those together that stand next to each other; they come in the order of their lines."""
    groups: list[list[AppliedEdit]] = []
    end = 0
    for edit in edits:
        if groups and edit.line <= end + NEAR:
            groups[-1].append(edit)
        else:
            groups.append([edit])
        end = max(end, edit.end_line)
    return groups


def _command(level: str, message: str, **properties: str | int) -> str:
    shown = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{level} {shown}::{_data(message)}"


def _data(text: str) -> str:
    """A message as a command has it: its line ends, and what they are written with, as percent and two digits."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
