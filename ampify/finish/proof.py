"""The proof that a training step was written in the author's way, and nothing else: from the two byte strings, and that way."""

from __future__ import annotations

import ast
from collections import Counter

from ampify.analysis.names import Names, dotted
from ampify.analysis.scalers import scalers
from ampify.analysis.walk import walk
from ampify.doctor.case import Case
from ampify.doctor.examine import findings
from ampify.doctor.proof import CallsErased
from ampify.erasure import first_difference
from ampify.finish.way import Way
from ampify.lines import Written, changed_line
from ampify.program import Kind, Scope
from ampify.proof import ProofError, both, same_comments
from ampify.protocol import Overlay, check


def prove(original: bytes, output: bytes, own: Way) -> None:
    """Raises ProofError with what is wrong in a finished file: it does not compile, is another program without the scaler and the
    regions, has lines changed that have nothing to do with them, or does something wrong that the original does not."""
    before, after = both(original, output, "the finished file")
    same_comments(original, output)
    if scalers(Names(before)) != scalers(Names(after)):
        raise ProofError("the finished file has other scalers")
    _nothing_new(Case(before), Case(after))
    plain = own._replace(region=ast.unparse(ast.parse(own.region, mode="eval").body))
    kept = Counter(ast.dump(node) for node in walk(before) if isinstance(node, ast.With) and _is_region(node, plain))
    if kept - Counter(ast.dump(node) for node in walk(after) if isinstance(node, ast.With)):
        raise ProofError("a region of the author's is another one in the finished file")
    had, written = _written(before, plain), _written(after, plain)
    pairs: list[tuple[ast.stmt, ast.stmt]] = []
    names = Names(after)
    one, other = (_Bare(plain).visit(tree) for tree in (before, after))
    if difference := first_difference(one, other, names, pairs, written.lines):
        raise ProofError(f"without the scaler and the regions the finished file is another program: {difference}")
    if changed := changed_line(original, output, pairs, written, had):
        raise ProofError(f"something changes outside of the edits: {changed}")


def _nothing_new(before: Case, after: Case) -> None:
    """What the file does wrong it did before, and what it does now with the scaler is right."""
    old, new = ([(f.code, f.detail) for f in findings(case)] for case in (before, after))
    for found in old:
        if found in new:
            new.remove(found)
    if new:
        raise ProofError(f"the finished file has a finding that the original has not: {min(new)[0]}")
    for was, now in zip(before.reading.program.whole(), after.reading.program.whole(), strict=True):
        if _plain(was) == _plain(now):
            continue
        if _plain(now):
            raise ProofError(f"line {now.line} of the finished file: a part of the training step is left in float32")
        for violation in check(now, Overlay(plain=True), strict=True).violations:
            raise ProofError(f"line {violation.line} of the finished file: {violation.problem.value}")
        fresh = not any(e.done for s in was.run() for e in s.events)
        for region in (s for s in now.statements() if s.autocast and fresh):
            for inner in (s for block in region.blocks for first in block for s in first.walk()):
                if inner.barrier is not None:
                    raise ProofError(f"line {inner.line} of the finished file: {inner.barrier.value} inside an autocast region")


def _plain(scope: Scope) -> int:
    """How many backward passes and steps of a training step are without the scaler."""
    return sum(not e.done for s in scope.run() for e in s.events if e.kind in (Kind.BACKWARD, Kind.STEP))


def _written(tree: ast.Module, own: Way) -> Written:
    """Where a file speaks of the scaler, and its regions."""
    written = Written(set(), [], set())
    for node in walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and dotted(node) == own.scaler:
            written.lines.add(node.lineno)
        elif isinstance(node, ast.With) and _is_region(node, own):
            written.lines.update(range(node.lineno, node.body[0].lineno))
            written.regions.append((node.lineno, node.end_lineno or node.lineno))
    return written


def _is_region(node: ast.With, own: Way) -> bool:
    """Whether a `with` is a region as the author writes them, and nothing else."""
    return len(node.items) == 1 and node.items[0].optional_vars is None and ast.unparse(node.items[0].context_expr) == own.region


class _Bare(CallsErased):
    """Takes the scaler's calls and the regions out of a file."""

    def __init__(self, own: Way) -> None:
        super().__init__(frozenset({own.scaler}))
        self.way = own

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        ours = _is_region(node, self.way)
        self.generic_visit(node)
        return node.body if ours else node
