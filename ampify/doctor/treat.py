"""treat(source, tree) -> Treated: the findings of a file that has mixed precision already, and the file with the mends that are
sure."""

from __future__ import annotations

import ast
from typing import Literal, NamedTuple

from ampify.convert import AppliedEdit, applied
from ampify.diagnostics import Diagnostic
from ampify.doctor.base import Finding, described
from ampify.doctor.case import Case
from ampify.doctor.examine import findings
from ampify.doctor.pages import PAGES
from ampify.plan.edits import Insert, Plan, Rewrite
from ampify.source import is_deep, not_rewritable


class Treated(NamedTuple):
    """The status, bytes, edits and diagnostics of ampify.convert.Result."""

    status: Literal["converted", "already"]
    output: bytes
    edits: tuple[AppliedEdit, ...]
    diagnostics: tuple[Diagnostic, ...]


def treat(source: bytes, tree: ast.Module, path: str, skip: frozenset[str] = frozenset()) -> Treated:
    """What is found in a file, less the codes in `skip`, and the file as mended. Raises ProofError for a wrong mend."""
    case = Case(tree, path)
    found = [f for f in findings(case) if f.code not in skip]
    mended = _together(case, found)
    output = source
    if mended and not is_deep(tree) and not not_rewritable(source):
        output = _written(source, case, mended) or source
    if output == source:
        return Treated("already", source, (), tuple(described(f, PAGES) for f in found))
    plan = Plan(tuple(dict.fromkeys(e for f in mended for e in f.edits)))
    texts = {f.code: f"mends {PAGES[f.code].name}" for f in mended}
    told = tuple(described(f, PAGES)._replace(help="mended") if f in mended else described(f, PAGES) for f in found)
    return Treated("converted", output, applied(case.reading.numbers, plan, texts), told)


def _together(case: Case, found: list[Finding]) -> list[Finding]:
    """The findings that can be mended at once: edits of one scaler, and no two of one statement."""
    chosen: list[Finding] = []
    taken: set[int] = set()
    for finding in (f for f in found if f.edits):
        rewritten = {e.at for e in finding.edits if isinstance(e, Rewrite)}
        if rewritten & taken or any(set(finding.edits) & set(other.edits) for other in chosen):
            if set(finding.edits) not in [set(other.edits) for other in chosen]:
                continue
        taken |= rewritten
        chosen.append(finding)
    return chosen if len(_scalers(case, chosen)) == 1 else []


def _scalers(case: Case, mended: list[Finding]) -> frozenset[str]:
    """The scalers that the edits speak of: any that the file has, where they do not name it."""
    found: set[str] = set()
    for edit in (e for f in mended for e in f.edits):
        named = [s for s in case.scalers if isinstance(edit, Insert) and edit.text.startswith(s + ".")]
        found.update(named or case.scalers)
    return frozenset(found)


def _written(source: bytes, case: Case, mended: list[Finding]) -> bytes | None:
    """The file with the mends, once they are proved; None where libcst does not read it."""
    from ampify.doctor.proof import prove
    from ampify.render.emit import UnreadableError, emit

    edits = tuple(dict.fromkeys(e for f in mended for e in f.edits))
    try:
        output = emit(source, Plan(edits, names={"scaler": min(_scalers(case, mended))}))
    except UnreadableError:
        return None
    prove(source, output)
    return output
