"""What a finding in an author's own mixed precision is, and what its page in the manual says."""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from ampify.diagnostics import Diagnostic, Severity
from ampify.plan.edits import Edit


class Page(NamedTuple):
    """A code with its page.

    `message` says what is wrong and what comes of it, with what was seen for `{}`; `help` is the mend in a line. `text` is the
    page, with the parts that a rule's has. `mended` says that the mend is written where it is sure; else it is only shown.
    """

    code: str
    name: str
    severity: Severity
    message: str
    help: str
    text: str
    mended: bool = False

    def example(self, part: str) -> str:
        """The code of the part that begins with `Before:` or `After:`, behind imports of torch, a `model`, its `optimizer`, a
        `criterion` and the batches `data`."""
        match = re.search(rf"^{part}:\n\n((?:    .*\n|\n)+)", self.text, re.MULTILINE)
        return textwrap.dedent(match[1]).strip() + "\n" if match is not None else ""


class Finding(NamedTuple):
    """A mistake at a place (lines from 1, columns from 0).

    `detail` is what was seen (`|` between two parts of it); `edits` mend it together."""

    code: str
    line: int
    column: int
    detail: str = ""
    edits: tuple[Edit, ...] = ()


def described(finding: Finding, pages: dict[str, Page]) -> Diagnostic:
    """The diagnostic of a finding."""
    page = pages[finding.code]
    message = page.message
    for seen in finding.detail.split("|") if message.count("{}") > 1 else [finding.detail]:
        message = message.replace("{}", seen, 1)
    return Diagnostic(finding.code, page.severity, finding.line, finding.column + 1, message, page.help)
