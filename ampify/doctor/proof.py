"""The proof of a mend, from the two byte strings alone, and nothing of the plan.

It compiles, the comments are all there, what is new stands in lines of the scaler's, and without the scaler's calls both are the
same program. What was found is gone, nothing else is found, and another run plans nothing.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter

from ampify.analysis.names import Names, dotted
from ampify.analysis.scalers import scalers
from ampify.doctor.examine import examine
from ampify.proof import ProofError, both, same_comments

REMOVED = frozenset({"unscale_", "update", "load_state_dict"})


def prove(original: bytes, output: bytes, skip: frozenset[str] = frozenset()) -> None:
    """Raises ProofError where a mend does anything else than to put right what was found, of all codes but those in `skip`."""
    before, after = both(original, output, "the mended file")
    same_comments(original, output)
    own = scalers(Names(before))
    if not own or own != scalers(Names(after)):
        raise ProofError("the mended file has other scalers")
    _same_lines(original, output, own)
    if new := uncovered(original, output, skip):
        raise ProofError(new)
    if ast.dump(CallsErased(own).visit(before)) != ast.dump(CallsErased(own).visit(after)):
        raise ProofError("without the scaler's calls the mended file is another program")


def uncovered(original: bytes, output: bytes, skip: frozenset[str] = frozenset()) -> str:
    """What is found in the mended file that was not before, or could be mended in another run; or an empty string."""
    before, after = ([f for f in examine(ast.parse(source)) if f.code not in skip] for source in (original, output))
    if any(f.edits for f in after):
        return "mending the output again would change it"
    left = Counter((f.code, f.detail) for f in after) - Counter((f.code, f.detail) for f in before if not f.edits)
    return f"the mended file has a finding that the original has not: {min(left)[0]}" if left else ""


def _same_lines(original: bytes, output: bytes, own: frozenset[str]) -> None:
    """All lines are the original's, in order, but those that speak of the scaler."""
    old, new = original.splitlines(keepends=True), output.splitlines(keepends=True)
    names = [text.encode() for text in own]
    for tag, first, last, at, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if last - first > end - at or any(not any(name in line for name in names) for line in new[at:end]):
            raise ProofError(f"line {first + 1} changes, which has nothing to do with the scaler")


class CallsErased(ast.NodeTransformer):
    """Takes the calls of a file's scalers out of it."""

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own

    def method(self, node: ast.AST) -> str:
        """The method of a scaler that a call is of, or an empty string."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and dotted(node.func.value) in self.own:
            return node.func.attr
        return ""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if self.method(node.value) in REMOVED else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        item = len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript)
        return None if item and self.method(node.value) == "state_dict" else self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if self.method(v) != "state_dict"]
        node.keys, node.values = [k for k, _ in kept], [v for _, v in kept]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [k for k in node.keywords if self.method(k.value) != "state_dict"]
        method = self.method(node)
        self.generic_visit(node)
        if method == "scale" and len(node.args) == 1 and not node.keywords:
            return node.args[0]
        if method == "step" and node.args:
            return ast.Call(ast.Attribute(node.args[0], "step", ast.Load()), node.args[1:], node.keywords)
        return node
