"""Already: files with mixed precision of their author's in them, with old spellings renewed, sure mistakes mended, and what was
left in float32 finished."""

from __future__ import annotations

import ast
from collections.abc import Callable

from ampify.analysis.existing import framework
from ampify.analysis.names import Names
from ampify.convert import Options, Result, Surroundings
from ampify.diagnostics import note, pragma
from ampify.doctor.treat import treat
from ampify.finish.finish import CODE as FINISHED
from ampify.finish.finish import finish
from ampify.migration.results import APEX_EDITS, Again, migrated
from ampify.source import parse


def renewed(source: bytes, tree: ast.Module, options: Options, around: Surroundings, again: Again) -> Result:
    """What becomes of such a file; nothing where a framework has the say. Its findings and edits are told by its own lines.
    Raises ProofError."""
    if framework(Names(tree)):
        return Result("already", source)
    done = _renewed(source, tree, options, around, again)
    if done.bug or FINISHED in options.skip or any(d.severity == "error" for d in done.diagnostics):
        return done  # what is wrong is put right first
    left = finish(done.output, parse(done.output), options, around)
    back = _origins(source, done.output)
    notes = [note(FINISHED, back(line), why, column) for line, column, why in left.notes]
    notes += [pragma("AMP197", back(line), column, "a training step in float32") for line, column in left.skipped]
    more = [e._replace(line=back(e.line), end_line=back(e.end_line)) for e in left.edits]
    edits = tuple(sorted((*done.edits, *more), key=lambda e: (e.line, e.code)))
    told = tuple(sorted((*done.diagnostics, *notes), key=lambda d: (d.line, d.column)))
    return done._replace(status="converted" if edits else done.status, output=left.output, edits=edits, diagnostics=told)


def _renewed(source: bytes, tree: ast.Module, options: Options, around: Surroundings, again: Again) -> Result:
    """The file in the spelling of today, with its sure mistakes mended."""
    treated = Result(*treat(source, tree, around.path, options.skip, around.finder))
    spelled = migrated(source, tree, options, around, again)
    if spelled.bug or any(edit.code in APEX_EDITS for edit in spelled.edits):
        return spelled  # apex is out, and the script converted as any other
    told = tuple(sorted((*treated.diagnostics, *spelled.diagnostics), key=lambda d: (d.line, d.column)))
    if spelled.status != "converted":
        return treated._replace(diagnostics=told)
    if treated.status != "converted":
        return spelled._replace(diagnostics=told)
    both = Result(*treat(spelled.output, parse(spelled.output), around.path, options.skip, around.finder))
    if sorted(e.code for e in both.edits) != sorted(e.code for e in treated.edits):
        return treated._replace(diagnostics=told)  # one after the other: converting again renews the spelling
    edits = tuple(sorted((*treated.edits, *spelled.edits), key=lambda e: (e.line, e.code)))
    return both._replace(edits=edits, diagnostics=told)


def _origins(source: bytes, output: bytes) -> Callable[[int], int]:
    """Tells of a line of an output which one of the source it comes from, or stands before."""
    if source == output:
        return lambda line: line
    import difflib

    old, new = source.splitlines(), output.splitlines()
    lines: list[int] = []
    for _, first, last, at, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        lines += [min(first + i, max(last - 1, first)) + 1 for i in range(end - at)]
    return lambda line: lines[min(line, len(lines)) - 1] if lines else line
