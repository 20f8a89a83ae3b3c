"""migrate(tree, source) -> Migrated: the edits of all migrations of a file, made and proved."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

from ampify.analysis.existing import amp_in_use
from ampify.analysis.library import Finder
from ampify.analysis.names import Names
from ampify.migration.importers import taken
from ampify.migration.spelling import Change, Left, Spelling
from ampify.render.splice import replace
from ampify.source import not_rewritable

LEFT, APEX, PART = "AMP360", "AMP361", "AMP362"


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


def without_hand(tree: ast.Module, source: bytes, taken: Mapping[str, str]) -> Fp32Script:
    """A script without the loss scaling that it does by hand, where that is exact. Raises ProofError for a bug of ampify's."""
    from ampify.migration.apex_form import Kept
    from ampify.migration.by_hand import find, without

    found = find(tree)
    if found is None or not_rewritable(source) or any(ast.unparse(t) in taken for t in found.factor.targets):
        return Fp32Script(source)
    from ampify.migration.apex_proof import prove_by_hand

    try:
        edits, told, origins = without(found, source)
    except Kept:
        return Fp32Script(source)  # converted as it is, which is right as well
    output = replace(source, edits)
    prove_by_hand(source, output)
    return Fp32Script(output, tuple(sorted(told)), (), tuple(origins))


def _parts(tree: ast.Module) -> tuple[tuple[str, int, int, str], ...]:
    """Other parts of apex, which torch has as well."""
    from ampify.migration.apex_form import Apex

    apex = Apex(tree)
    found = {(node.lineno, node.col_offset + 1, apex.resolve(node)) for node in apex.others()}
    return tuple((PART, line, column, f"`{name}`") for line, column, name in sorted(found) if name.startswith("apex.parallel."))


class Fp32Script(NamedTuple):
    """A script without apex.amp, if it can be taken out: its bytes, what was done as in Migrated, and where its lines were."""

    output: bytes
    edits: tuple[tuple[str, int, int], ...] = ()
    notes: tuple[tuple[str, int, int, str], ...] = ()
    origins: tuple[int, ...] = ()

    def origin(self, line: int) -> int:
        """The line of the original that a line of the output comes from."""
        return self.origins[min(line, len(self.origins)) - 1] if self.origins else line


def without_apex(tree: ast.Module, source: bytes, runtime: str) -> Fp32Script:
    """A script as the fp32 program that it is without apex.amp, or as it is. Raises ProofError for a bug of ampify's."""
    from ampify.migration import apex, apex_proof
    from ampify.migration.apex_form import Kept

    try:
        found = apex.without_apex(tree, source)
        if found is None:
            return Fp32Script(source, notes=_parts(tree))
        output = replace(source, found.edits)
        names = Names(ast.parse(output))
        if other := amp_in_use(names) or ("ampify_runtime" if Names(tree).runtime else ""):
            raise Kept(tree, f"there is mixed precision of `{other}` besides")
        if found.switch and runtime == "torch":
            raise Kept(tree, f"it is switched by `{found.switch}`, which `--runtime torch` has no place for")
    except Kept as kept:
        line, column = getattr(kept.node, "lineno", 1), getattr(kept.node, "col_offset", 0)
        return Fp32Script(source, notes=((APEX, line, column + 1, str(kept)),))
    if obstacle := not_rewritable(source):
        return Fp32Script(source, notes=((APEX, 1, 1, f"its formatting cannot be kept, as {obstacle}"),))
    apex_proof.prove(source, output)
    return Fp32Script(output, tuple(found.told), (), tuple(found.origins))
