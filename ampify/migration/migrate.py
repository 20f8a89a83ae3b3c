"""migrate(tree, source) -> Migrated: the edits of all migrations of a file, made and proved."""

from __future__ import annotations

import ast
from typing import NamedTuple

from ampify.analysis.library import Finder
from ampify.migration.importers import taken
from ampify.migration.spelling import Change, Left, Spelling
from ampify.render.splice import replace
from ampify.source import not_rewritable

LEFT = "AMP360"


class Migrated(NamedTuple):
    """What became of a file: its bytes, the edits as (code, first line, last line), and notes as (code, line, column, text)."""

    output: bytes
    edits: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[tuple[str, int, int, str], ...] = ()


def migrate(tree: ast.Module, source: bytes, path: str = "", finder: Finder | None = None) -> Migrated:
    """A file with its old spellings written anew. Raises ProofError where what was written is not the same program: a bug of
    ampify's."""
    planned = plan(tree, source, path, finder)
    notes = tuple(sorted({(LEFT, left.line, left.column + 1, left.why) for left in planned.left}, key=lambda n: n[1:]))
    if not planned.changes:
        return Migrated(source, (), notes)
    if obstacle := not_rewritable(source):
        first = min(change.line for change in planned.changes)
        return Migrated(source, (), ((LEFT, first, 1, f"its formatting cannot be kept, as {obstacle}: the old spelling"),))
    edits = [edit for change in planned.changes for edit in change.edits]
    output = replace(source, edits)
    from ampify.migration.proof import prove

    prove(source, output, lambda tree, output: bool(plan(tree, output, path, finder).changes))
    return Migrated(output, _told(planned.changes), notes)


class Plan(NamedTuple):
    changes: list[Change]
    left: list[Left]


def plan(tree: ast.Module, source: bytes, path: str, finder: Finder | None) -> Plan:
    """What there is to migrate in a file."""
    spelling = Spelling(tree, source, taken(tree, path, finder))
    return Plan(spelling.changes, spelling.left)


def _told(changes: list[Change]) -> tuple[tuple[str, int, int], ...]:
    return tuple(sorted({(c.code, c.line, c.end_line) for c in changes}, key=lambda e: (e[1], e[0])))
