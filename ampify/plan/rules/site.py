"""What a rule may ask about a statement and the values in it, and the edits that it can make there."""

from __future__ import annotations

import ast

from ampify.analysis.evidence import FLOATING, UNKNOWN
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.analysis.propagation import Precisions
from ampify.analysis.syntax import header
from ampify.analysis.walk import children, walk
from ampify.plan.edits import Disable, Splice
from ampify.plan.rules.file import File

SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)  # statements that may stand with autocast off
CONTAINERS = frozenset({"list", "dict", "tuple", "set", "deque", "defaultdict", "OrderedDict"})


class Site:
    """A statement of a file that may run under autocast, in one of its functions."""

    def __init__(self, file: File, frame: Frame, stmt: ast.stmt, code: str) -> None:
        self.file, self.frame, self.stmt, self.code = file, frame, stmt, code
        self._parents: dict[ast.AST, ast.AST] = {}

    @property
    def precisions(self) -> Precisions:
        """Read when a rule asks, as most functions hold no hazard."""
        return self.file.precisions(self.frame)

    @property
    def number(self) -> int:
        return self.file.number(self.stmt)

    def resolve(self, node: ast.AST) -> str:
        """The qualified name of an expression, or an empty string."""
        return self.file.resolve(node)

    def of(self, node: ast.AST) -> Precision:
        """The precision of an expression of the statement."""
        return self.precisions.of(node)

    def half(self, node: ast.AST) -> bool:
        """Whether an expression may be a tensor in half precision."""
        return self.of(node) > Precision.FULL

    @property
    def runs(self) -> bool:
        """Whether the statement may run under autocast; outside, tensors are still half that were made under it."""
        return self.file.autocasts(self.stmt, self.frame)

    def floating(self, node: ast.expr) -> bool:
        """Whether an expression is a floating tensor for certain, of which `.float()` does nothing in float32."""
        return self.precisions.kinds.of(node) is FLOATING and not self.file.doubts.several(node, self.frame)

    def tensor(self, node: ast.expr) -> bool:
        """Whether an expression is a tensor for certain, or made of one by methods."""
        kinds, first = self.precisions.kinds, receiver(node)
        if kinds.of(node) is not UNKNOWN:
            return True
        return bool(dotted(first)) and kinds.of(first) is not UNKNOWN and not self.container(dotted(first))

    def container(self, text: str) -> bool:
        """Whether a name is, at times, a list or a dict, or an array of NumPy: `outs = []`, `outs = torch.stack(outs)`."""
        literals = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Tuple, ast.Set)
        for bound in self.file.frames.lookup(text, self.frame):
            value = bound.value if bound.how == "assign" and not bound.path else None
            if isinstance(value, ast.BinOp):
                value = value.left if isinstance(value.left, literals) else value.right
            name = self.resolve(value.func) if isinstance(value, ast.Call) else ""
            made = name.rpartition(".")[2] in CONTAINERS or name.startswith("numpy.")
            if isinstance(value, literals) or made:
                return True
        return False

    def complex(self, node: ast.expr) -> bool:
        """Whether an expression may be a complex tensor."""
        return self.file.complex and self.file.doubts.complex(node, self.frame)

    def single(self, *nodes: ast.expr) -> bool:
        """Whether `.float()` changes nothing of tensors: they are in half or single precision, neither float64 nor complex."""
        return not self.file.float64 and not any(map(self.complex, nodes))

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What an expression of the statement is a part of."""
        if not self._parents:
            for part in header(self.stmt):
                self._parents[part] = self.stmt
                self._parents.update((child, inner) for inner in walk(part) for child in children(inner))
        return self._parents.get(node)

    # edits -------------------------------------------------------------------------------------------

    def wrap(self, node: ast.expr, before: str, after: str) -> Splice:
        """Text round an expression."""
        end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
        return Splice(self.number, (node.lineno, node.col_offset), end, before, after, self.code)

    def suffix(self, node: ast.expr, text: str) -> Splice:
        """`.float()` or the like behind an expression, in parentheses if it needs them and has none."""
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call)):
            return self.wrap(node, "", text)
        outer, end = self.parent(node), node.end_col_offset or 0
        if isinstance(outer, ast.Attribute) and outer.end_lineno == node.end_lineno:
            if outer.end_col_offset == end + len(").") + len(outer.attr):
                place = (node.end_lineno or 0, end + 1)
                return Splice(self.number, place, place, "", text, self.code)
        return self.wrap(node, "(", f"){text}")

    def float(self, node: ast.expr) -> Splice:
        """`node.float()`."""
        return self.suffix(node, ".float()")

    def like(self, node: ast.expr, other: ast.expr) -> Splice:
        """`node.to(other.dtype)`; `other` must be a name or an attribute."""
        return self.suffix(node, f".to({verbatim(other)}.dtype)")

    def stands_apart(self) -> bool:
        """Whether the statement may stand in a block with autocast off: a simple one, which suspends nothing meanwhile."""
        suspends = (ast.Yield, ast.YieldFrom, ast.Await)
        return isinstance(self.stmt, SIMPLE) and not any(isinstance(n, suspends) for n in walk(self.stmt))

    def disabled(self) -> Disable:
        """The statement with autocast off."""
        return Disable(self.number, self.code)


def verbatim(node: ast.expr) -> str:
    """The text of a name or attribute, as an edit's text takes it."""
    return dotted(node).replace("{", "{{").replace("}", "}}")


def halves(stmt: ast.stmt, operands: list[ast.expr], at: Site) -> list[ast.expr]:
    """The widest names, attributes and elements of a statement that may be half, where they are read; and `operands` that are
    made of one by methods only."""
    found: list[ast.expr] = []

    def visit(node: ast.expr) -> None:
        text = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "float" and not node.args:
            return
        if at.of(node) is Precision.NONE:
            return
        if at.half(node) and (text or (any(node is o for o in operands) and dotted(receiver(node)))):
            found.append(node)
            return
        if isinstance(node, ast.Call):
            method = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            inside: list[ast.AST] = [*method, *node.args, *(k.value for k in node.keywords)]
        else:
            inside = list(ast.iter_child_nodes(node))
        for child in inside:
            if isinstance(child, ast.expr):
                visit(child)

    for part in header(stmt):
        if isinstance(part, ast.expr) and not isinstance(getattr(part, "ctx", None), ast.Store):
            visit(part)
    return found


def receiver(node: ast.expr) -> ast.expr:
    """What a chain of methods and elements begins with."""
    while isinstance(node, (ast.Call, ast.Subscript, ast.Attribute)):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Attribute) or node.args[1:]:
                return node
            node = node.func.value
        elif dotted(node):
            return node
        else:
            node = node.value
    return node
