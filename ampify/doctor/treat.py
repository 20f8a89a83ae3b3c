"""treat(source, tree) -> Treated: the findings of a file that has mixed precision already, and the file with the mends that are
sure."""

from __future__ import annotations

import ast
from typing import Literal, NamedTuple

from ampify.analysis.library import Finder
from ampify.convert import AppliedEdit, applied
from ampify.diagnostics import Diagnostic, pragma
from ampify.doctor.base import Finding, described
from ampify.doctor.case import Case
from ampify.doctor.examine import findings
from ampify.doctor.pages import MENDS, PAGES
from ampify.plan.edits import Insert, Plan, Rewrite, anchor
from ampify.plan.rules.search import described as hazard
from ampify.program import Note
from ampify.source import is_deep, not_rewritable, skipped


class Treated(NamedTuple):
    """The status, bytes, edits and diagnostics of ampify.convert.Result."""

    status: Literal["converted", "already"]
    output: bytes
    edits: tuple[AppliedEdit, ...]
    diagnostics: tuple[Diagnostic, ...]


def treat(
    source: bytes, tree: ast.Module, path: str, skip: frozenset[str] = frozenset(), finder: Finder | None = None
) -> Treated:
    """What is found in a file, less the codes in `skip`, and the file as mended; `finder` knows the files round it. Raises
    ProofError for a wrong mend."""
    case = Case(tree, path, finder)
    every = [f for f in findings(case) if f.code not in skip]
    found = [f for f in every if not _is_left(f, case)]
    left = tuple(pragma("AMP197", f.line, f.column + 1, f.code) for f in every if f not in found)
    mended = _together(case, found)
    plan = Plan(
        tuple(dict.fromkeys(e for f in mended for e in f.edits)), names={"scaler": min(_scalers(case, mended), default="")}
    )
    edits = applied(case.reading.numbers, plan, MENDS)
    output = rendered(source, case, plan, edits) if mended else None
    if output is None or output == source or not _proved(source, output, skip):
        return Treated("already", source, (), (*map(_told, found), *left))
    told = tuple(_mended(_told(f)) if f in mended else _told(f) for f in found)
    return Treated("converted", output, edits, (*told, *left))


def _is_left(finding: Finding, case: Case) -> bool:
    """Whether a pragma holds for the line of a finding, or for one that it would be mended in."""
    left = skipped(case.tree)
    return bool(left) and (finding.line in left or any(case.statements[anchor(e)].lineno in left for e in finding.edits))


def _told(finding: Finding) -> Diagnostic:
    """The diagnostic of a finding, of a numeric hazard as its rule tells it."""
    if finding.code in PAGES:
        return described(finding, PAGES)
    return hazard(Note(finding.code, finding.line, finding.column, finding.detail))


def _mended(told: Diagnostic) -> Diagnostic:
    """A finding whose mend is written: no error any more."""
    return told._replace(severity="warning", help="mended")


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


def rendered(source: bytes, case: Case, plan: Plan, edits: tuple[AppliedEdit, ...]) -> bytes | None:
    """The file of a case with a plan's edits; None where libcst does not read it, or loses some of it."""
    from ampify.lines import joined_lines, keeps_lines
    from ampify.render.emit import UnreadableError, emit

    if is_deep(case.tree) or not_rewritable(source):
        return None
    try:
        output = emit(source, plan)
    except UnreadableError:
        return None
    return output if keeps_lines(source, output, edits, joined_lines(source, case.reading.numbers, plan)) else None


def _proved(source: bytes, output: bytes, skip: frozenset[str]) -> bool:
    """Whether a file may be mended; what one mistake has hidden until now is the author's to mend. Raises ProofError."""
    from ampify.doctor.proof import prove, uncovered

    if uncovered(source, output, skip):
        return False
    prove(source, output, skip)
    return True
