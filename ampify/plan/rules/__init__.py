"""Rules: the numeric hazards of half precision, one file a rule, and the search for them in what runs under autocast."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator

from ampify.analysis.analyse import Reading
from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.names import dotted
from ampify.diagnostics import Diagnostic
from ampify.plan.edits import Disable, Edit, Hazards, Wrap
from ampify.plan.rules import index_write, mask_constants, out_inplace, random_like, small_eps
from ampify.plan.rules.base import File, Finding, Rule, Site, parts, statements
from ampify.program import Refusal

RULES: tuple[Rule, ...] = (mask_constants.RULE, small_eps.RULE, index_write.RULE, out_inplace.RULE, random_like.RULE)
MESSAGES = {rule.code: rule.message for rule in RULES}


def find(reading: Reading, edits: Collection[Edit], skip: Collection[str] = (), unsafe: bool = False) -> Hazards:
    """The hazards of a file with the regions it has and those of `edits`; the rules whose codes are in `skip` are silent."""
    return _find(File(reading, _regions(reading, edits)), skip, unsafe)


def disabled(reading: Reading, skip: Collection[str], unsafe: bool) -> set[int]:
    """The statements that stand with autocast off, or would have to, as if none did."""
    return {e.at for e in _find(File(reading, _regions(reading, (), through=True)), skip, unsafe).edits if isinstance(e, Disable)}


def _find(file: File, skip: Collection[str], unsafe: bool) -> Hazards:
    found = Hazards([], [], [])
    for rule, finding in _findings(file, [rule for rule in RULES if rule.code not in skip]):
        line, column = getattr(finding.node, "lineno", 1), getattr(finding.node, "col_offset", 0)
        if finding.refuse:
            found.refusals.append(Refusal(finding.refuse, line, column, finding.detail))
        elif finding.edits and (rule.applicability == "safe" or unsafe):
            found.edits.extend(e for e in finding.edits if e not in found.edits)
        else:
            found.notes.append(Refusal(rule.code, line, column, finding.detail))
    return found


def described(note: Refusal) -> Diagnostic:
    """The diagnostic of a hazard that stays as it is."""
    rule = next(rule for rule in RULES if rule.code == note.code)
    message = f"{rule.hazard}: {note.detail}" if note.detail else rule.hazard
    return Diagnostic(note.code, "warning", note.line, note.column + 1, message, rule.advice)


def _regions(reading: Reading, edits: Collection[Edit], through: bool = False) -> Callable[[ast.stmt], bool]:
    """Tells whether a statement runs under autocast: in a region of `edits`, or in one that the file has, and, unless
    `through`, not where it is off."""
    numbers = reading.numbers
    ends = dict(numbers.values())
    inside = {i for e in edits if isinstance(e, Wrap) for i in range(e.first, ends[e.last])}
    outside: set[int] = set()
    for stmt, (number, end) in numbers.items():
        if isinstance(stmt, ast.With) and any(reading.names.is_autocast(i.context_expr) for i in stmt.items):
            inside.update(range(number, end))
        elif isinstance(stmt, ast.With) and any(reading.names.is_disabled(i.context_expr) for i in stmt.items):
            (inside if through else outside).update(range(number, end))
    return lambda stmt: numbers[stmt][0] in inside and numbers[stmt][0] not in outside


def _findings(file: File, rules: list[Rule]) -> Iterator[tuple[Rule, Finding]]:
    by_call: dict[str, list[Rule]] = {}
    by_node: dict[type[ast.AST], list[Rule]] = {}
    for rule in rules:
        for name in rule.calls:
            by_call.setdefault(name, []).append(rule)
        for kind in rule.nodes:
            by_node.setdefault(kind, []).append(rule)
        if rule.survey is not None:
            yield from ((rule, finding) for finding in rule.survey(file))
    for frame in file.frames.all:
        for stmt in statements(frame):
            if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)) or not (frame in file.called or file.under(stmt)):
                continue
            nodes: list[ast.AST] = [stmt, *(node for part in parts(stmt) for node in ast.walk(part))]
            for node in nodes:
                wanted = list(by_node.get(type(node), ()))
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
                    wanted += by_call.get(name, [])
                for rule in wanted:
                    if rule.find is not None:
                        yield from ((rule, finding) for finding in rule.find(node, Site(file, frame, stmt, rule.code)))
