"""By hand: a constant that a loss is multiplied by before backward, and its gradients divided by after it, taken out.

Only what is exact is taken out: a power of two, given once; one backward, one loop over all that the optimizers have, and the
steps, in this order in one block that clears the gradients first.
"""

from __future__ import annotations

import ast
import copy
import math
from typing import NamedTuple, TypeGuard

from ampify.analysis.walk import walk
from ampify.migration.apex_form import Kept
from ampify.migration.cutting import Cut
from ampify.migration.layout import Layout, span
from ampify.plan.edits import Replace

OUT = "AMP356"
DIVIDED = frozenset({"p.grad.data.div_(s)", "p.grad.div_(s)", "p.grad /= s", "p.grad.data /= s", "p.grad = p.grad / s"})
DIVIDED |= {
    "p.grad.data = p.grad.data / s",
    "p.grad.mul_(1 / s)",
    "p.grad.data.mul_(1 / s)",
    "p.grad *= 1 / s",
    "p.grad.data *= 1 / s",
}
DIVIDED |= {text.replace("1 /", "1.0 /") for text in DIVIDED}


class ByHand(NamedTuple):
    """What a script scales by hand: the statement that gives the factor, the products that go backward, the loops that divide."""

    factor: ast.Assign
    products: list[ast.BinOp]
    loops: list[ast.For]


def find(tree: ast.Module) -> ByHand | None:
    """The scaling by hand of a script, where it is all there is of the factor; None where there is none, or it is not exact."""
    names = [n for n in walk(tree) if isinstance(n, ast.Name)]
    products = [
        c.func.value
        for c in walk(tree)
        if isinstance(c, ast.Call) and isinstance(c.func, ast.Attribute) and c.func.attr == "backward"
    ]
    scaled = [p for p in products if isinstance(p, ast.BinOp) and isinstance(p.op, ast.Mult) and isinstance(p.right, ast.Name)]
    factors = {p.right.id for p in scaled if isinstance(p.right, ast.Name)}
    for name in sorted(factors):
        given = [s for s in walk(tree) if isinstance(s, ast.Assign) and [ast.unparse(t) for t in s.targets] == [name]]
        bound: list[ast.AST] = [n for n in names if n.id == name and not isinstance(n.ctx, ast.Load)]
        bound += [a for a in walk(tree) if isinstance(a, ast.arg) and a.arg == name]
        if len(given) != 1 or len(bound) != 1 or given[0] not in tree.body or not _is_power(given[0].value):
            continue
        own = [p for p in scaled if isinstance(p.right, ast.Name) and p.right.id == name]
        loops = [f for f in walk(tree) if isinstance(f, ast.For) and _divides(f, name)]
        reads = [n for n in names if n.id == name and isinstance(n.ctx, ast.Load)]
        if len(reads) == len(own) + len(loops) and _are_exact(tree, own, loops):
            return ByHand(given[0], own, loops)
    return None


def _is_power(node: ast.expr) -> bool:
    """Whether an expression of constants is a power of two."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = (getattr(n, "value", None) for n in (node.left, node.right))
        return base in (2, 2.0) and isinstance(exponent, int) and 0 <= exponent <= 24
    value = getattr(node, "value", None)
    return type(value) in (int, float) and 1 <= float(value or 0) <= 2.0**24 and math.frexp(float(value or 0))[0] == 0.5


def _divides(loop: ast.For, factor: str) -> bool:
    """Whether a loop divides the gradients of a module's parameters, and does nothing else."""
    if not isinstance(loop.target, ast.Name) or loop.orelse or len(loop.body) != 1 or not _parameters(loop.iter):
        return False
    stmt, p = loop.body[0], loop.target.id
    if isinstance(stmt, ast.If):
        if stmt.orelse or len(stmt.body) != 1 or ast.unparse(stmt.test) != f"{p}.grad is not None":
            return False
        stmt = stmt.body[0]
    renamed = _Renamed({p: "p", factor: "s"}).visit(copy.deepcopy(stmt))
    return p != factor and ast.unparse(renamed) in DIVIDED


def _parameters(node: ast.expr | None) -> str:
    """The module of which an expression is all parameters."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "parameters":
        return "" if node.args or node.keywords else ast.unparse(node.func.value)
    return ""


def _are_exact(tree: ast.Module, products: list[ast.BinOp], loops: list[ast.For]) -> bool:
    """Whether every block that goes backward from a product clears gradients, goes backward and divides once, and steps."""
    blocks = [
        b for n in walk(tree) for b in (getattr(n, f, None) for f in ("body", "orelse", "finalbody")) if isinstance(b, list)
    ]
    if not products or len(products) != len(loops):
        return False
    backwards = [c for c in walk(tree) if _calls(c, "backward")]
    steps = [c for c in walk(tree) if _calls(c, "step")]
    done: list[ast.AST] = []
    for block in blocks:
        at = {
            id(n): i for i, stmt in enumerate(block) for n in walk(stmt) if not isinstance(stmt, (ast.FunctionDef, ast.ClassDef))
        }
        own = [p for p in products if id(p) in at and isinstance(block[at[id(p)]], ast.Expr)]
        if not own:
            continue
        dividing = [i for i, stmt in enumerate(block) if stmt in loops]
        stepping = [c for c in steps if id(c) in at and c in _value(block[at[id(c)]])]
        clearing = [
            at[id(c)] for c in walk(ast.Module(block, [])) if _calls(c, "zero_grad") and isinstance(block[at[id(c)]], ast.Expr)
        ]
        first = at[id(own[0])]
        lone = len(own) == len(dividing) == 1 and len([c for c in backwards if id(c) in at]) == 1 and len(clearing) == 1
        optimizers = [c for c in stepping if _made_of(tree, c) is not None]
        if not lone or not optimizers or first + 1 != dividing[0] or clearing[0] > first:
            return False
        module = _parameters(block[dividing[0]].iter)
        if any(_made_of(tree, c) != module or at[id(c)] < first for c in optimizers):
            return False
        cleared = {_receiver(c) for c in walk(block[clearing[0]]) if _calls(c, "zero_grad")}
        if len(optimizers) != 1 or not cleared <= {module, _receiver(optimizers[0])}:
            return False
        done += [*own, *optimizers]
    makers = [c for c in steps if _made_of(tree, c) is not None]
    return all(p in done for p in products) and all(c in done for c in makers)


def _calls(node: ast.AST, method: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method


def _value(stmt: ast.stmt) -> list[ast.expr]:
    """What a statement consists of, or is assigned."""
    return [stmt.value] if isinstance(stmt, (ast.Expr, ast.Assign)) else []


def _receiver(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _made_of(tree: ast.Module, call: ast.Call) -> str | None:
    """The module whose parameters an optimizer that steps was made of."""
    text = _receiver(call)
    values = [s.value for s in walk(tree) if isinstance(s, ast.Assign) and text in [ast.unparse(t) for t in s.targets]]
    first = [v.args[0] if isinstance(v, ast.Call) and v.args else None for v in values]
    return _parameters(first[0]) or None if len(first) == 1 else None


class Bare(ast.NodeTransformer):
    """Undoes in a tree of its own what `find` finds in it."""

    def __init__(self, found: ByHand) -> None:
        self.found = found

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if node is self.found.factor else self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST | None:
        return None if node in self.found.loops else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return node.left if node in self.found.products else self.generic_visit(node)


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return node


def without(found: ByHand, source: bytes) -> tuple[list[Replace], list[tuple[str, int, int]], list[int]]:
    """The edits that take it out, what a reviewer is told of, and by line of the outcome where it was. Raises Kept."""
    layout = Layout(source)
    cut = Cut(layout)
    for stmt in (found.factor, *found.loops):
        cut.statement(stmt)
    for product in found.products:
        text = cut.text(product)
        tokens = layout.between(span(product.left)[1], span(product.right)[0])
        star = next(t for t in reversed(tokens) if t.text == "*")
        start, end = span(product)
        left = text.encode()[: star.start[1] - start[1]].decode().rstrip()
        opening = [t for t in layout.between((start[0], 0), start) if t.text == "("]
        closing = [t for t in layout.between(end, (end[0] + 1, 0)) if t.text == ")"]
        if left.startswith("(") or isinstance(product.left, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
            if not opening or not closing:
                raise Kept(product, "its parentheses are on other lines")
            start, end = opening[-1].start, closing[0].end
        cut.inline(Replace(start, end, left))
    places: list[ast.stmt | ast.expr] = [found.factor, *found.loops, *found.products]
    told = [(OUT, node.lineno, node.end_lineno or node.lineno) for node in places]
    return cut.edits(), told, cut.origins()
