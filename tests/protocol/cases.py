"""Tables of converted code, and what the state machine says of it."""

import ast

from ampify.analysis.analyse import analyse
from ampify.protocol import check
from tests.plan.shorthand import dedent, scaled


def problems(text: str, strict: bool = True) -> set[str]:
    program = analyse(ast.parse(scaled(text)))
    return {v.problem.name for scope in program.scopes for v in check(scope, strict=strict).violations}


def cases(text: str) -> dict[str, str]:
    """The entries of a table: a `# name` in the first column begins one."""
    found: dict[str, list[str]] = {}
    for line in text.strip("\n").splitlines():
        if line.startswith("# "):
            found[line[2:]] = current = []
        else:
            current.append(line)
    return {name: dedent("\n".join(lines)) for name, lines in found.items()}
