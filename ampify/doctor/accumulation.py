"""Accumulation: what belongs under the condition of the step, `if (i + 1) % n == 0`, and stands outside of it, or the other way
round (AMP302, AMP304)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.program import Kind, Scope, Stmt


def apart(case: Case, scope: Scope) -> Iterator[Finding]:
    """Where a condition that holds in every n-th batch has one half of a step and not the other."""
    done = [(s, e) for s in scope.statements() for e in s.events if e.done]
    steps = [s for s, e in done if e.kind is Kind.STEP]
    updates = [s for s, e in done if e.kind is Kind.UPDATE]
    unscales = [s for s, e in done if e.kind is Kind.UNSCALE]
    passes = [s for s, e in done if e.kind is Kind.BACKWARD]
    for loop in scope.statements():
        for branch in loop.blocks[0] if loop.kind in ("for", "while") else ():
            if not _is_every_nth(case, branch) or not passes or len(branch.blocks) < 1:
                continue
            then = {s.number for s in (inner for stmt in branch.blocks[0] for inner in stmt.walk())}
            beside = {s.number for s in loop.walk()} - {s.number for s in branch.walk()}
            if not all(s.number in beside for s in passes):
                continue
            condition = f"`{ast.unparse(_test(case, branch))}`"
            if _all(steps, then) and _all(updates, beside) and len(updates) == 1 and updates[0] in loop.blocks[0]:
                if updates[0].number > branch.number and (not unscales or _all(unscales, then)):
                    detail = f"it stands outside of {condition}, and raises an AssertionError in every batch without a step"
                    yield Finding("AMP304", updates[0].line, updates[0].column, detail)
            elif _all(steps, beside) and _all(updates, then) and any(s in loop.blocks[0] for s in steps):
                detail = f"it stands under {condition} and the step does not, so the second step raises a RuntimeError"
                yield Finding("AMP304", updates[0].line, updates[0].column, detail)
            elif _all(steps, then) and _all(updates, then) and _all(unscales, beside):
                if unscales[0] in loop.blocks[0] and all(len(e.targets) == 1 for _, e in done if e.kind is Kind.UNSCALE):
                    key = next(e.targets[0] for _, e in done if e.kind is Kind.UNSCALE)
                    yield Finding("AMP302", unscales[0].line, unscales[0].column, f"`{key}`")


def _all(stmts: list[Stmt], numbers: set[int]) -> bool:
    """Whether there are statements, and all of them are among the numbers."""
    return bool(stmts) and all(s.number in numbers for s in stmts)


def _is_every_nth(case: Case, stmt: Stmt) -> bool:
    """Whether a branch is taken in every n-th round: its condition has a remainder, and nothing that stands for the others."""
    if stmt.kind != "if" or stmt.number not in case.tests or (len(stmt.blocks) > 1 and stmt.blocks[1]):
        return False
    test = _test(case, stmt)
    if isinstance(test, ast.Name):  # `last = (i + 1) % n == 0`
        bound = case.names.assigned.get(test.id, [])
        test = bound[0] if len(bound) == 1 else test
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in walk(test))


def _test(case: Case, stmt: Stmt) -> ast.expr:
    return case.tests[stmt.number]
