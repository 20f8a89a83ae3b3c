"""Results of migrations: of files with mixed precision in them, and of scripts that scale their loss by hand."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from ampify.convert import AppliedEdit, Options, Result, Surroundings
from ampify.diagnostics import EDITS, Diagnostic, note, pragma
from ampify.migration.importers import taken
from ampify.migration.migrate import APEX, Fp32Script, migrate, without_apex, without_hand
from ampify.source import skipped

SPELLINGS = frozenset({"AMP350", "AMP351", "AMP352", "AMP353"})  # one choice, as they share the imports
APEX_EDITS = frozenset({"AMP354", "AMP355"})
BY_HAND = "AMP356"
Again = Callable[[bytes], Result]  # the conversion of what is left of a script


def migrated(source: bytes, tree: ast.Module, options: Options, around: Surroundings, again: Again) -> Result:
    """A file with mixed precision in it, whose old spellings are written anew. Without apex.amp it is converted as any other.
    Raises ProofError."""
    notes: tuple[tuple[str, int, int, str], ...] = ()
    if options.skip.isdisjoint(APEX_EDITS):
        fp32 = without_apex(tree, source, options.runtime)
        notes = tuple(fp32.notes)
        if fp32.output != source:
            if left := _left(fp32.edits, tree):
                return Result("already", source, (), (left, *_told(fp32.notes, options)))
            rest = again(fp32.output)
            if rest.bug:
                return rest._replace(output=source)
            if rest.status == "converted":
                return _in_two_steps(fp32, rest)
            why = "; ".join(f"{d.code} {d.message}" for d in rest.diagnostics if d.severity == "error")
            notes = ((APEX, fp32.edits[0][1], 1, f"what is left without it is not converted: {why or rest.status}"),)
    output, edits = source, tuple[AppliedEdit, ...]()
    if options.skip.isdisjoint(SPELLINGS):
        done = migrate(tree, source, around.path, around.finder)
        output, notes = done.output, (*notes, *done.notes)
        edits = tuple(AppliedEdit(code, line, end_line, EDITS[code]) for code, line, end_line in done.edits)
        if left := _left(done.edits, tree):
            return Result("already", source, (), (left, *_told(notes, options)))
    return Result("converted" if edits else "already", output, edits, _told(notes, options))


def _told(notes: Iterable[tuple[str, int, int, str]], options: Options) -> tuple[Diagnostic, ...]:
    return tuple(note(code, line, text, column) for code, line, column, text in notes if code not in options.skip)


def _left(edits: Iterable[tuple[str, int, int]], tree: ast.Module) -> Diagnostic | None:
    """The first of the edits in a line that a pragma leaves alone: as they share imports, none of them is made then."""
    held = ((code, line) for code, line, end in edits if not skipped(tree).isdisjoint(range(line, end + 1)))
    code, line = next(held, ("", 0))
    return pragma("AMP197", line, 1, f"{code}, {EDITS[code]}, and all that belongs to it") if code else None


def without_scaling(source: bytes, tree: ast.Module, options: Options, around: Surroundings, again: Again) -> Result | None:
    """A script that scales its loss by hand, converted without that; None where it is not exact, or not converted.
    Raises ProofError."""
    if BY_HAND in options.skip:
        return None
    bare = without_hand(tree, source, taken(tree, around.path, around.finder))
    if bare.output == source or _left(bare.edits, tree) is not None:
        return None
    rest = again(bare.output)
    return _in_two_steps(bare, rest) if rest.status == "converted" else None


def _in_two_steps(first: Fp32Script, rest: Result) -> Result:
    """A conversion of what a migration left, told by the lines of the original."""
    done = [AppliedEdit(code, line, end_line, EDITS[code]) for code, line, end_line in first.edits]
    done += [e._replace(line=first.origin(e.line), end_line=first.origin(e.end_line)) for e in rest.edits]
    moved = tuple(d._replace(line=first.origin(d.line)) for d in rest.diagnostics)
    return rest._replace(edits=tuple(sorted(done, key=lambda e: (e.line, e.code))), diagnostics=moved)
