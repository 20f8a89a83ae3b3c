"""What a rule is, and what it answers."""

import ast
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from ampify.diagnostics import Severity
from ampify.plan.edits import Edit
from ampify.plan.rules.file import File
from ampify.plan.rules.site import Site

Applicability = Literal["safe", "unsafe", "display"]


class Finding(NamedTuple):
    """A hazard at a place: the edits that mend it together, or none, with the reason why it stays (`detail`).

    `refuse` is the AMP9xx code under which it stands against converting the file.
    """

    node: ast.AST
    edits: tuple[Edit, ...] = ()
    detail: str = ""
    refuse: str = ""


class Rule(NamedTuple):
    """One numeric hazard; its module's docstring is the manual page.

    `safe` rules are no-ops while autocast is off, and applied by default; `unsafe` ones change values; `display` ones only
    report. `hazard` says what goes wrong, `message` what an edit does, `advice` what the author can do where there is none.
    `find` gets every statement, call and operator of the types in `nodes`, and every call of a function or method named in
    `calls`, that may run under autocast, and, of an `outside` rule, all others in functions that hold regions; `survey` looks at
    the file as a whole; where `asks` of one file is true, its code makes the rule look into the files that it imports too.
    A file that has none of the `words` holds no such hazard. `severity` is that of what the rule reports.
    A `grave` hazard raises or spoils the training, so a script is refused if it is in a file that was not given.
    """

    code: str
    name: str
    applicability: Applicability
    hazard: str
    message: str = ""
    advice: str = ""
    nodes: tuple[type[ast.AST], ...] = ()
    calls: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    find: Callable[[ast.AST, Site], Iterator[Finding]] | None = None
    survey: Callable[[File], Iterator[Finding]] | None = None
    asks: Callable[[File], bool] | None = None
    outside: bool = False
    severity: Severity = "warning"
    grave: bool = True

    def manual(self) -> str:
        """The docstring of its module."""
        function = self.find or self.survey
        assert function is not None
        return (sys.modules[function.__module__].__doc__ or "").strip()
