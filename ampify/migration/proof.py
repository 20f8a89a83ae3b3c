"""The proof of a migration, from the two byte strings alone: the output is the same program in another spelling.

It compiles; old and new spelling have one canonical form, in which the trees are equal; comments are all there, and the lines
without a name of either package are the original's; and there is nothing more to migrate.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from ampify.analysis.names import Names
from ampify.analysis.walk import walk
from ampify.erasure import first_difference
from ampify.lines import Written, changed_line
from ampify.migration.canonical import Canonical
from ampify.proof import ProofError, both, same_comments


def prove(original: bytes, output: bytes, more: Callable[[ast.Module, bytes], bool]) -> None:
    """Raises ProofError with what is not as it was; `more` says whether there is more to migrate in a file.

    Raises SourceError where the original does not compile, though it parses.
    """
    before, after = both(original, output, "the migrated file")
    same_comments(original, output)
    if more(after, output):
        raise ProofError("migrating the output again would change it")
    old, new = _spoken(before), _spoken(after)
    pairs: list[tuple[ast.stmt, ast.stmt]] = []
    one, other = (Canonical(tree).visit(tree) for tree in (before, after))
    if difference := first_difference(one, other, Names(ast.Module([], [])), pairs, set()):
        raise ProofError(f"the migrated file is another program: {difference}")
    if changed := changed_line(original, output, pairs, Written(new, [], set()), Written(old, [], set())):
        raise ProofError(f"migration changes more than spellings: {changed}")


def _spoken(tree: ast.Module) -> set[int]:
    """The lines of statements' own parts in which something of an old or a new package is named."""
    canonical, lines = Canonical(tree), set[int]()
    parents = {child: node for node in walk(tree) for child in ast.iter_child_nodes(node)}
    for node in walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [f"{getattr(node, 'module', None) or ''}.{a.name}".lstrip(".") for a in node.names]
            named = any("amp" in name.split(".") or name.startswith(("torch.cuda.", "torch.cpu.")) for name in names)
        elif isinstance(node, ast.Attribute) and node.attr == "__init__":
            named = True
        else:
            named = isinstance(node, (ast.Name, ast.Attribute)) and canonical.kind(node)[0] != ""
        if named:
            holder = node
            while not isinstance(holder, (ast.Call, ast.stmt)) and isinstance(parents.get(holder), ast.expr):
                holder = parents[holder]
            first = getattr(holder, "lineno", 1)
            lines.update(range(first, (getattr(holder, "end_lineno", None) or first) + 1))
    return lines
