"""Already: files with mixed precision of their author's in them, with old spellings renewed and sure mistakes mended."""

from __future__ import annotations

import ast

from ampify.analysis.existing import framework
from ampify.analysis.names import Names
from ampify.convert import Options, Result, Surroundings
from ampify.doctor.treat import treat
from ampify.migration.results import APEX_EDITS, Again, migrated
from ampify.source import parse


def renewed(source: bytes, tree: ast.Module, options: Options, around: Surroundings, again: Again) -> Result:
    """What becomes of such a file; nothing where a framework has the say. Its findings and edits are told by its own lines.
    Raises ProofError."""
    if framework(Names(tree)):
        return Result("already", source)
    treated = Result(*treat(source, tree, around.path, options.skip))
    spelled = migrated(source, tree, options, around, again)
    if spelled.bug or any(edit.code in APEX_EDITS for edit in spelled.edits):
        return spelled  # apex is out, and the script converted as any other
    told = tuple(sorted((*treated.diagnostics, *spelled.diagnostics), key=lambda d: (d.line, d.column)))
    if spelled.status != "converted":
        return treated._replace(diagnostics=told)
    if treated.status != "converted":
        return spelled._replace(diagnostics=told)
    both = Result(*treat(spelled.output, parse(spelled.output), around.path, options.skip))
    if sorted(e.code for e in both.edits) != sorted(e.code for e in treated.edits):
        return treated._replace(diagnostics=told)  # one after the other: converting again renews the spelling
    edits = tuple(sorted((*treated.edits, *spelled.edits), key=lambda e: (e.line, e.code)))
    return both._replace(edits=edits, diagnostics=told)
