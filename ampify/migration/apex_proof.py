"""The proof that a script without apex.amp is the fp32 program of the one with it, from the two byte strings alone.

It compiles; the tree of the original with apex.amp undone is the output's, but for the switch and its import; the switch asks
what was asked, where it was asked; all comments are there; and a line that is not the original's holds a statement that is not.
"""

from __future__ import annotations

import ast

from ampify.analysis.walk import walk
from ampify.migration.apex import RUNTIME, switch
from ampify.migration.apex_form import Apex, Fp32, Kept
from ampify.migration.by_hand import Bare, find
from ampify.proof import ProofError, both, comments


def prove(original: bytes, output: bytes) -> None:
    """Raises ProofError with what is not as it was; SourceError where the original does not compile, though it parses."""
    before, after = both(original, output, "the file without apex")
    if sorted(comments(original)) != sorted(comments(output)):
        raise ProofError("taking apex out changes the comments")
    apex = Apex(before)
    try:
        left, on = Fp32(apex).tree(), switch(apex)
    except Kept as kept:
        raise ProofError(f"apex is taken out where it stays: {kept}") from None
    places = _switches(after)
    if on is None:
        if places:
            raise ProofError("without apex there is a switch that was not there")
    elif len(places) != 1 or places[0] != _expected(apex, *on):
        raise ProofError("without apex mixed precision is switched by something else, or elsewhere")
    bare = _Bare(on is not None).visit(after)
    if ast.dump(left) != ast.dump(bare):
        raise ProofError("without apex the file is not its fp32 program")
    _same_lines(original, output)


def prove_by_hand(original: bytes, output: bytes) -> None:
    """The same of a script without the scaling by hand that is exact in it: what is left of its tree is the output's."""
    before, after = ast.parse(original), ast.parse(output)
    found = find(before)
    if found is None:
        raise ProofError("scaling by hand is taken out that is not exact")
    if ast.dump(Bare(found).visit(before)) != ast.dump(after):
        raise ProofError("without its scaling by hand the file is another program")
    if find(after) is not None:
        raise ProofError("there is more scaling by hand to be taken out")
    if sorted(comments(original)) != sorted(comments(output)):
        raise ProofError("taking scaling by hand out changes the comments")
    _same_lines(original, output)


def _expected(apex: Apex, stmt: ast.stmt, test: str) -> tuple[str, str, int]:
    """What the switch has to ask, in which function, and as the how-manieth statement of its block."""
    for node in walk(apex.tree):
        for block in _blocks(node):
            if stmt in block:
                function: ast.AST = stmt
                while function in apex.parents and not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    function = apex.parents[function]
                index = len(Fp32(apex).block(block[: block.index(stmt)]))
                return test, getattr(function, "name", ""), index
    raise ProofError("the switch of apex is nowhere")


def _switches(tree: ast.Module) -> list[tuple[str, str, int]]:
    """The switches of a tree, as `_expected` describes them."""
    found = []
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, name = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = node.name
        for block in _blocks(node):
            own = [s for s in block if ast.unparse(s) != RUNTIME]
            found += [(ast.unparse(s.test), name, at) for at, s in enumerate(own) if isinstance(s, ast.If) and _is_switch(s)]
        stack.extend((child, name) for child in ast.iter_child_nodes(node))
    return found


def _is_switch(stmt: ast.stmt) -> bool:
    texts = ("configure(mode='off')", 'configure(mode="off")')
    return isinstance(stmt, ast.If) and not stmt.orelse and len(stmt.body) == 1 and ast.unparse(stmt.body[0]) in texts


class _Bare(ast.NodeTransformer):
    """Takes the switch and its import out."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if self.wanted and ast.unparse(node) == RUNTIME else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _is_switch(node) else self.generic_visit(node)


def _blocks(node: ast.AST) -> list[list[ast.stmt]]:
    found = (getattr(node, field, None) for field in ("body", "orelse", "finalbody"))
    return [block for block in found if isinstance(block, list)]


def _same_lines(original: bytes, output: bytes) -> None:
    """A line that is not the original's, however deep, has a statement that is not the original's either."""
    had = {line.strip() for line in original.splitlines()}
    old = {ast.unparse(s) for s in walk(ast.parse(original)) if isinstance(s, ast.stmt)}
    fresh: set[int] = set()
    for stmt in walk(ast.parse(output)):
        if isinstance(stmt, ast.stmt) and ast.unparse(stmt) not in old:
            body = getattr(stmt, "body", None)
            last = body[0].lineno - 1 if body else stmt.end_lineno or stmt.lineno
            fresh.update(range(stmt.lineno, max(last, stmt.lineno) + 1))
    known = {c.encode() for c in comments(original)}
    for number, line in enumerate(output.splitlines(), 1):
        bare = line.strip()
        if bare and bare not in had and number not in fresh and bare.decode("utf-8", "replace").encode() not in known:
            raise ProofError(f"taking apex out changes line {number}")
