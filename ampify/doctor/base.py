"""What a finding in an author's own mixed precision is, and what its page in the manual says."""

from __future__ import annotations

from typing import NamedTuple

from ampify.diagnostics import Diagnostic, Severity
from ampify.plan.edits import Edit


class Page(NamedTuple):
    """A code with its page.

    `message` says what is wrong and what comes of it, with what was seen for `{}`; `help` is the mend in a line. `before` is found
    and `after` is not, behind the usual imports of torch, a `model`, its `optimizer`, a `criterion` and the batches `data`.
    `mended` says that the mend is written; else it is only shown.
    """

    code: str
    name: str
    severity: Severity
    message: str
    help: str
    what: str
    why: str
    before: str
    after: str
    safety: str
    source: str
    mended: bool = False


class Finding(NamedTuple):
    """A mistake at a place (lines from 1, columns from 0); `detail` is what was seen, `edits` mend it together."""

    code: str
    line: int
    column: int
    detail: str = ""
    edits: tuple[Edit, ...] = ()


def described(finding: Finding, pages: dict[str, Page]) -> Diagnostic:
    """The diagnostic of a finding."""
    page = pages[finding.code]
    message = page.message.replace("{}", finding.detail)
    return Diagnostic(finding.code, page.severity, finding.line, finding.column + 1, message, page.help)
