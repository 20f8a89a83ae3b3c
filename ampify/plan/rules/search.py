"""find(reading, edits) -> Hazards: the search for numeric hazards in what runs under autocast, here and in imported files."""

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ampify.analysis.analyse import Reading
from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.names import dotted
from ampify.diagnostics import Diagnostic
from ampify.plan.edits import Disable, Edit, Hazards, Need, Splice, Wrap
from ampify.plan.rules import HAZARDS, RULES, SLIGHT, nonlinear_backward
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.file import File, Regions
from ampify.plan.rules.site import Site
from ampify.program import Note, Refusal
from ampify.source import skipped

SKIPPED = "AMP197"
NEEDED = {nonlinear_backward.CODE: nonlinear_backward.REFUSED}  # rules of what would be wrong in float32 too, and the refusal


class Search(NamedTuple):
    """Which rules look, and at what besides the file: `entries` and `asked` as in ampify.plan.edits.Need; `modules` are the files
    that it imports, by path."""

    skip: frozenset[str] = frozenset()
    unsafe: bool = False
    entries: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    modules: tuple[tuple[str, Reading], ...] = ()


def find(reading: Reading, edits: Collection[Edit], search: Search = Search()) -> Hazards:
    """The hazards of a file with the regions it has and those of `edits`, and of the files that it imports."""
    file = file_of(reading, edits, search)
    found = _find(file, search)
    for (path, _), other in zip(search.modules, file.others, strict=True):
        known = nonlinear_backward.known_to_runtime(path, (file, *file.others))
        inside = _find(other, search, RULES if not known else tuple(r for r in RULES if r.code not in NEEDED))
        lines = [(False, r.line, r.code, r.detail) for r in inside.refusals]
        lines += [(e.code in SLIGHT, _line(other, e), e.code, HAZARDS[e.code]) for e in inside.edits]
        if lines:
            slight, line, code, hazard = min(lines)
            found.needs.append(Need(path, line, code, hazard, not slight, frozenset(other.entries), other.asked))
    return found


def disabled(reading: Reading, search: Search) -> dict[int, bool]:
    """The statements that stand with autocast off, or would have to, as if none did, and whether all that enters is float32."""
    found = _find(file_of(reading, (), search, through=True), search)
    cast = {e.at for e in found.edits if isinstance(e, Splice)}
    return {e.at: e.at not in cast for e in found.edits if isinstance(e, Disable)}


def file_of(reading: Reading, edits: Collection[Edit], search: Search, through: bool = False) -> File:
    """The file, with those that it imports, and what each calls of the others."""
    file = File(reading, *_regions(reading, edits, through), search.entries)
    entries, before = file.outgoing(), -1
    while search.modules and before != len(entries):
        before = len(entries)
        file.imports([File(other, *_regions(other, ()), entries) for _, other in search.modules])
        entries = entries.union(*(other.outgoing() for other in file.others))
    asking = [r.code for r in RULES if r.asks is not None and any(r.asks(f) for f in (file, *file.others))]
    file.ask(search.asked)
    for other in file.others:
        other.ask(search.asked.union(asking))
    return file


def _line(file: File, edit: Edit) -> int:
    """The line of an edit."""
    if isinstance(edit, Splice):
        return edit.start[0]
    at = edit.first if isinstance(edit, Wrap) else edit.at
    return next(stmt.lineno for stmt, (number, _) in file.reading.numbers.items() if number == at)


def _find(file: File, search: Search, rules: tuple[Rule, ...] = RULES) -> Hazards:
    found = Hazards([], [], [], [])
    left = skipped(file.reading.tree)
    left_out: list[tuple[Note, tuple[Edit, ...]]] = []
    for rule, finding in _findings(file, [rule for rule in rules if rule.code not in search.skip or rule.code in NEEDED]):
        line, column = getattr(finding.node, "lineno", 1), getattr(finding.node, "col_offset", 0)
        alone = bool(left) and (line in left or any(_line(file, edit) in left for edit in finding.edits))
        if alone and not finding.refuse:
            if finding.edits and rule.code in NEEDED:
                found.refusals.append(Refusal(NEEDED[rule.code], line, column, "a pragma leaves it alone"))
            else:
                left_out.append((Note(SKIPPED, line, column, f"{rule.code}, {rule.hazard}"), finding.edits))
        elif rule.code in search.skip and not finding.refuse:
            found.refusals.append(Refusal(NEEDED[rule.code], line, column, f"{rule.code} is left out"))
        elif finding.refuse:
            found.refusals.append(Refusal(finding.refuse, line, column, finding.detail))
        elif finding.edits and (rule.applicability == "safe" or search.unsafe):
            found.edits.extend(e for e in finding.edits if e not in found.edits)
        else:
            found.notes.append(Note(rule.code, line, column, finding.detail))
    # An edit that stands elsewhere may be made for another finding.
    found.notes.extend(note for note, edits in left_out if not edits or not set(edits) <= set(found.edits))
    return found


def described(note: Note) -> Diagnostic:
    """The diagnostic of a hazard that stays as it is."""
    rule = next(rule for rule in RULES if rule.code == note.code)
    message = f"{rule.hazard}: {note.detail}" if note.detail else rule.hazard
    return Diagnostic(note.code, rule.severity, note.line, note.column + 1, message, rule.advice)


def _regions(reading: Reading, edits: Collection[Edit], through: bool = False) -> tuple[Regions, Regions]:
    """Tells whether a statement runs under autocast: in a region of `edits`, or in one that the file has; and whether it is
    written to run without. With `through`, none is."""
    numbers = reading.numbers
    ends = dict(numbers.values())
    inside = {i for e in edits if isinstance(e, Wrap) for i in range(e.first, ends[e.last])}
    outside: set[int] = set()
    for stmt, (number, end) in numbers.items():
        if isinstance(stmt, ast.With) and any(reading.names.is_autocast(i.context_expr) for i in stmt.items):
            inside.update(range(number, end))
        elif isinstance(stmt, ast.With) and any(reading.names.is_disabled(i.context_expr) for i in stmt.items):
            (inside if through else outside).update(range(number, end))
    inside -= outside
    return lambda stmt: numbers[stmt][0] in inside, lambda stmt: numbers[stmt][0] in outside


def _findings(file: File, rules: list[Rule]) -> Iterator[tuple[Rule, Finding]]:
    by_call: dict[str, list[Rule]] = {}
    by_node: dict[type[ast.AST], list[Rule]] = {}
    for rule in rules:
        if rule.words and rule.words.isdisjoint(file.words) and rule.code not in file.asked:
            continue
        for name in rule.calls:
            by_call.setdefault(name, []).append(rule)
        for kind in rule.nodes:
            by_node.setdefault(kind, []).append(rule)
        if rule.survey is not None:
            yield from ((rule, finding) for finding in rule.survey(file))
    for frame in file.frames.all:
        holds = frame in file.handing_on
        for stmt in file.statements[frame]:
            runs = file.autocasts(stmt, frame)
            if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)) or not (runs or holds):
                continue
            for node in file.nodes[stmt]:
                wanted = list(by_node.get(type(node), ()))
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
                    wanted += by_call.get(name, [])
                for rule in wanted:
                    if rule.find is not None and (runs or rule.outside):
                        yield from ((rule, finding) for finding in rule.find(node, Site(file, frame, stmt, rule.code)))
