"""Syntax: walking statements and expressions of a syntax tree in the order in which they stand and run."""

import ast
from collections.abc import Iterator

from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.names import dotted
from ampify.analysis.vocabulary import MUTATORS
from ampify.analysis.walk import children, walk

SIMPLE = frozenset({ast.Assert, ast.Assign, ast.AugAssign, ast.Expr, ast.Import, ast.ImportFrom, ast.Pass, ast.Raise, ast.Return})
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def own_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements of a body, in source order, without those of functions and classes defined in it."""
    for stmt in body:
        yield stmt
        if not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            for block in blocks_of(stmt):
                yield from own_statements(block)


def blocks_of(stmt: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of a compound statement in source order."""
    if stmt.__class__ in SIMPLE:
        return []
    if isinstance(stmt, (ast.Try, ast.TryStar)):
        return [stmt.body, *(h.body for h in stmt.handlers), stmt.orelse, stmt.finalbody]
    if isinstance(stmt, ast.Match):
        return [case.body for case in stmt.cases]
    return [b for b in (getattr(stmt, "body", None), getattr(stmt, "orelse", None)) if isinstance(b, list)]


def header(stmt: ast.stmt) -> list[ast.AST]:
    """The expressions of a statement itself, in order of evaluation."""
    if isinstance(stmt, ast.Expr):
        return [stmt.value]
    if isinstance(stmt, ast.Assign):
        return [stmt.value, *stmt.targets]
    if isinstance(stmt, (ast.If, ast.While)):
        return [stmt.test]
    if isinstance(stmt, (ast.For, ast.AsyncFor)):
        return [stmt.iter, stmt.target]
    if isinstance(stmt, (ast.With, ast.AsyncWith)):
        return [part for item in stmt.items for part in (item.context_expr, item.optional_vars) if part is not None]
    if isinstance(stmt, ast.Match):
        return [stmt.subject]
    if isinstance(stmt, (ast.Try, ast.TryStar, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return []
    return list(children(stmt))


def ordered(stmt: ast.stmt, parents: dict[ast.AST, ast.AST]) -> list[ast.AST]:
    """The nodes of a statement's header in order of evaluation, operands before what uses them; fills `parents`."""

    found: list[ast.AST] = []

    def visit(node: ast.AST) -> None:
        if node.__class__ is ast.Lambda:
            found.append(node)  # what is inside runs when it is called
            return
        for child in children(node):
            parents[child] = node
            visit(child)
        found.append(node)

    for part in header(stmt):
        parents[part] = stmt
        visit(part)
    if isinstance(stmt, ast.AugAssign):
        found.append(stmt)
    return found


def ordinals(nodes: list[ast.AST]) -> dict[ast.AST, int]:
    """For each call its number, in source order, among the calls in the statement of methods and functions of that name."""
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, (ast.Attribute, ast.Name))]
    calls.sort(key=lambda n: (n.lineno, n.col_offset, -(n.end_lineno or 0), -(n.end_col_offset or 0)))
    counts: dict[str, int] = {}
    numbers: dict[ast.AST, int] = {}
    for call in calls:
        attr = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        numbers[call] = counts.get(attr, 0)
        counts[attr] = numbers[call] + 1
    return numbers


def uses_of(node: ast.AST) -> set[str]:
    """The texts of all values that an expression reads, with the objects they are attributes or elements of (but not `self`)."""
    found = set()
    for inner in walk(node):
        if isinstance(inner, (ast.Name, ast.Attribute, ast.Subscript)):
            text = dotted(inner)
            if text and text != "self":
                found.add(text)
    return found


def shown(node: ast.AST) -> str:
    """The code of a node as a message shows it: its first line, cut off where it is long."""
    line, _, more = ast.unparse(node).partition("\n")
    return f"`{line[:57]}...`" if len(line) > 60 or (more and not line.endswith(":")) else f"`{line}`"


def combines(stmt: ast.stmt) -> bool:
    """Whether a statement assigns no more than sums and products of names and numbers, which autocast leaves alone."""
    if isinstance(stmt, ast.AugAssign) and not isinstance(stmt.op, ARITHMETIC):
        return False
    return isinstance(stmt, (ast.Assign, ast.AugAssign)) and _is_arithmetic(stmt.value)


def _is_arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ARITHMETIC) and _is_arithmetic(node.left) and _is_arithmetic(node.right)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_arithmetic(node.operand)
    if isinstance(node, ast.Call):
        return dotted(node.func) in ("len", "float", "int")
    return isinstance(node, ast.Constant) or bool(dotted(node))


def is_none(node: ast.AST) -> bool:
    """Whether an expression is `None`."""
    return isinstance(node, ast.Constant) and node.value is None


def is_false(node: ast.AST) -> bool:
    """Whether an expression is a constant that counts as false."""
    return isinstance(node, ast.Constant) and not node.value


def defs_and_uses(stmt: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    """What a statement's own expressions bind or mutate, and what they read."""
    defs: set[str] = set()
    uses: set[str] = set()
    targets = list(_targets(stmt))
    plain = [] if isinstance(stmt, ast.AugAssign) else [t for t in targets if isinstance(t, (ast.Name, ast.Attribute))]
    for part in header(stmt):
        for node in walk(part):
            kind = node.__class__
            if kind is ast.Name or kind is ast.Attribute or kind is ast.Subscript:
                text = dotted(node)
                if text and text != "self" and node not in plain:
                    uses.add(text)
            elif isinstance(node, ast.NamedExpr):
                defs.add(node.target.id)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                attr = node.func.attr
                if attr in MUTATORS or (attr.endswith("_") and not attr.endswith("__")):
                    defs.update(_owners_of(node.func.value))
    for target in targets:
        defs.update(_owners_of(target))
    return frozenset(defs), frozenset(uses)


def _targets(stmt: ast.stmt) -> Iterator[ast.expr]:
    """The names, attributes and elements that a statement assigns to, taken out of tuples."""

    def flatten(node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, (ast.Tuple, ast.List)):
            for element in node.elts:
                yield from flatten(element)
        elif isinstance(node, ast.Starred):
            yield from flatten(node.value)
        else:
            yield node

    if isinstance(stmt, ast.Assign):
        for target in stmt.targets:
            yield from flatten(target)
    elif isinstance(stmt, (ast.AugAssign, ast.AnnAssign, ast.For, ast.AsyncFor)):
        yield from flatten(stmt.target)
    elif isinstance(stmt, (ast.With, ast.AsyncWith)):
        for item in stmt.items:
            if item.optional_vars is not None:
                yield from flatten(item.optional_vars)


def _owners_of(target: ast.expr) -> list[str]:
    """A target's text; for an element also the container, which changes with it."""
    texts = [dotted(target)] if dotted(target) else []
    while isinstance(target, ast.Subscript):
        target = target.value
        if dotted(target):
            texts.append(dotted(target))
    return texts
