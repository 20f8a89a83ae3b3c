"""Exchange: gradients that processes add up by hand, which commutes with the loss scale if nothing else is done to them.

Scaled gradients are summed, and unscaled afterwards: then an overflow of one process has reached all the others, and all skip
the step together. Unscaled before, only the one that overflowed would know of it ("Working with Unscaled Gradients").
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import Names, dotted
from ampify.analysis.syntax import blocks_of, own_statements
from ampify.analysis.walk import walk

COLLECTIVES = frozenset(
    (
        "all_reduce reduce broadcast gather all_gather all_gather_into_tensor reduce_scatter reduce_scatter_tensor "
        "all_reduce_coalesced all_to_all scatter send isend"
    ).split()
)
SUMS = ("torch.distributed.ReduceOp.SUM", "torch.distributed.ReduceOp.AVG")
SHAPING = frozenset("view view_as reshape flatten ravel contiguous clone detach squeeze unsqueeze cpu cuda".split())
GATHERING = ("torch.cat", "torch.stack", "torch.concat")
METADATA = frozenset("numel size shape dtype device nelement element_size dim ndim is_sparse".split())
PLAIN = METADATA | frozenset(
    "len range enumerate zip int float get_world_size parameters named_parameters append barrier".split()
)


class Exchange(NamedTuple):
    """The exchanges of a frame: the nodes of those that only add up, `.grad` and calls, and the calls that do something else."""

    sums: frozenset[ast.AST] = frozenset()
    others: frozenset[ast.AST] = frozenset()


def exchange(frame: Frame, names: Names) -> Exchange:
    """What a frame does to exchange gradients between processes."""
    if not any(_is_collective(call, names) for call in frame.calls):
        return Exchange()
    return _Reading(frame, names).exchange()


def _is_collective(call: ast.Call, names: Names) -> bool:
    module, _, last = names.resolve(call.func).rpartition(".")
    return last in COLLECTIVES and module.startswith("torch.distributed")


class _Reading:
    """The reading of one function: which names hold gradients, or what they are gathered in."""

    def __init__(self, frame: Frame, names: Names) -> None:
        self.frame, self.names = frame, names
        self.derived: set[str] = set()  # the names of what gradients are gathered in
        before = -1
        while before != len(self.derived):
            before = len(self.derived)
            for stmt in own_statements(frame.node.body):
                self.derive(stmt)

    def derive(self, stmt: ast.stmt) -> None:
        """Notes the names that a statement gives something made of gradients."""
        value = stmt.value if isinstance(stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else None
        targets: list[ast.expr] = stmt.targets if isinstance(stmt, ast.Assign) else []
        if isinstance(stmt, (ast.AugAssign, ast.AnnAssign)):
            targets = [stmt.target]
        elif isinstance(stmt, ast.For):
            value, targets = stmt.iter, [stmt.target]
        call = stmt.value if isinstance(stmt, ast.Expr) else None
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("append", "extend", "copy_")
        ):
            value, targets = ast.Tuple(call.args, ast.Load()), [call.func.value]
        if value is not None and self.mentions(value):
            self.derived |= {n.id for t in targets for n in walk(t) if isinstance(n, ast.Name) and not self.holds_gradient(t)}

    @staticmethod
    def holds_gradient(target: ast.AST) -> bool:
        return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in walk(target))

    def mentions(self, node: ast.AST) -> bool:
        """Whether something has gradients in it, and not only their sizes."""
        if isinstance(node, ast.Attribute) and node.attr in METADATA:
            return False
        if isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            return False
        if isinstance(node, ast.Attribute) and node.attr == "grad":
            return True
        if isinstance(node, ast.Name) and node.id in self.derived:
            return True
        return any(self.mentions(child) for child in ast.iter_child_nodes(node))

    def exchange(self) -> Exchange:
        calls = [c for c in self.frame.calls if _is_collective(c, self.names) and any(map(self.mentions, [*c.args, *c.keywords]))]
        if not calls:
            return Exchange()
        run = next((run for run in self.runs(self.frame.node.body, set(calls)) if all(map(self.adds_up, run))), None)
        if run is None:
            return Exchange(others=frozenset(calls))
        nodes = [n for stmt in run for n in ast.walk(stmt)]
        return Exchange(frozenset(n for n in nodes if n in calls or (isinstance(n, ast.Attribute) and n.attr == "grad")))

    def runs(self, body: list[ast.stmt], calls: set[ast.Call]) -> Iterator[list[ast.stmt]]:
        """The statements of a block that hold all collectives and everything that gradients are gathered in, outermost first."""
        held = [i for i, stmt in enumerate(body) if any(n in calls for n in ast.walk(stmt))]
        used = [i for i, stmt in enumerate(body) if i in held or self.uses_derived(stmt)]
        yield body[used[0] : used[-1] + 1]
        around = body[held[0]]
        each = {n.id for n in ast.walk(around.target) if isinstance(n, ast.Name)} if isinstance(around, ast.For) else set()
        for block in blocks_of(around) if used == held[:1] else ():
            if self.is_whole(around, block) and any(n in calls for s in block for n in ast.walk(s)):
                # What a loop runs over may be parameters, some of which are left out.
                yield from (run for run in self.runs(block, calls) if not each & {n.id for s in run for n in _names(s)})

    def uses_derived(self, stmt: ast.stmt) -> bool:
        return any(isinstance(n, ast.Name) and n.id in self.derived for n in ast.walk(stmt))

    def is_whole(self, stmt: ast.stmt, block: list[ast.stmt]) -> bool:
        """Whether a block of a statement holds all in it that gradients are gathered in."""
        inside = {n for s in block for n in ast.walk(s)}
        return not any(isinstance(n, ast.Name) and n.id in self.derived and n not in inside for n in ast.walk(stmt))

    # what adds up ------------------------------------------------------------------------------------

    def adds_up(self, stmt: ast.stmt, each: bool = False) -> bool:
        """Whether a statement only gathers gradients, adds them up over all processes, divides them or puts them back.

        With `each` it stands in a loop over all of them, which may leave out what has none.
        """
        if isinstance(stmt, ast.For):
            return not stmt.orelse and self.is_iterable(stmt.iter) and all(self.adds_up(s, each=True) for s in stmt.body)
        if isinstance(stmt, ast.If):
            asks = _asks_for_gradient(stmt.test) if each else self.is_neutral(stmt.test)
            return asks and all(self.adds_up(s, each) for s in (*stmt.body, *stmt.orelse))
        if isinstance(stmt, ast.With):
            no_grad = all(self.names.resolve(getattr(i.context_expr, "func", i)) == "torch.no_grad" for i in stmt.items)
            return no_grad and all(self.adds_up(s, each) for s in stmt.body)
        if isinstance(stmt, (ast.Continue, ast.Pass)):
            return True
        if isinstance(stmt, ast.Assign):
            return all(map(self.is_place, stmt.targets)) and (self.is_neutral(stmt.value) or self.is_linear(stmt.value))
        if isinstance(stmt, ast.AugAssign):
            scales = isinstance(stmt.op, (ast.Div, ast.Mult)) or not self.mentions(stmt.target)
            return scales and self.is_place(stmt.target) and self.is_neutral(stmt.value)
        return isinstance(stmt, ast.Expr) and (isinstance(stmt.value, ast.Constant) or self.is_step(stmt.value))

    def is_step(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        if _is_collective(node, self.names):
            return self.is_sum(node)
        if isinstance(node.func, ast.Attribute) and self.is_place(node.func.value):
            if node.func.attr in ("append", "copy_"):
                return len(node.args) == 1 and not node.keywords and self.is_linear(node.args[0])
            if node.func.attr in ("mul_", "div_"):
                return len(node.args) == 1 and not node.keywords and self.is_neutral(node.args[0])
        return False

    def is_sum(self, node: ast.Call) -> bool:
        """A sum or mean over all processes, which is there when the call returns."""
        op = [k.value for k in node.keywords if k.arg == "op"] or node.args[1:2]
        known = self.names.resolve(node.func).rpartition(".")[2] == "all_reduce" and {k.arg for k in node.keywords} <= {
            "op",
            "tensor",
        }
        tensor = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "tensor")]
        return (
            known and len(node.args) <= 2 and all(self.names.resolve(o) in SUMS for o in op) and all(map(self.is_linear, tensor))
        )

    def is_place(self, node: ast.expr) -> bool:
        """Whether something is a name, or a gradient, or a part of one."""
        while isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "data"):
            node = node.value
        return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and node.attr == "grad")

    def is_iterable(self, node: ast.expr) -> bool:
        """What a loop may run over: parameters, or lists of gradients with them."""
        if isinstance(node, ast.Call) and dotted(node.func) in ("zip", "enumerate"):
            return all(map(self.is_iterable, node.args))
        part = any(isinstance(n, ast.Slice) for n in ast.walk(node))
        return not part and (self.is_neutral(node) or self.is_linear(node))

    def is_neutral(self, node: ast.expr) -> bool:
        """Whether an expression has no gradients in it, and calls nothing that might look at them."""
        calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
        known = all((f.attr if isinstance(f, ast.Attribute) else dotted(f)) in PLAIN for f in calls)
        return known and not self.mentions(node)

    def is_linear(self, node: ast.expr) -> bool:
        """Whether an expression is gradients, in another shape, or multiplied by a number."""
        if isinstance(node, ast.Name):
            return node.id in self.derived
        if isinstance(node, ast.Attribute):
            return node.attr == "grad" or (node.attr == "data" and self.is_linear(node.value))
        if isinstance(node, ast.Subscript):
            return self.is_linear(node.value) and self.is_neutral(node.slice)
        if isinstance(node, ast.BinOp):
            right = isinstance(node.op, ast.Mult) and self.is_neutral(node.left) and self.is_linear(node.right)
            return right or (
                isinstance(node.op, (ast.Mult, ast.Div)) and self.is_linear(node.left) and self.is_neutral(node.right)
            )
        if isinstance(node, (ast.List, ast.Tuple)):
            return bool(node.elts) and all(map(self.is_linear, node.elts))
        if isinstance(node, ast.ListComp):
            generators = all(self.is_iterable(g.iter) and all(map(_asks_for_gradient, g.ifs)) for g in node.generators)
            return generators and self.is_linear(node.elt)
        if isinstance(node, ast.Call) and self.names.resolve(node.func) in GATHERING:
            return self.is_linear(node.args[0]) and all(map(self.is_neutral, node.args[1:]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SHAPING:
            shaped = node.func.attr == "view_as" and all(map(self.is_linear, node.args))
            return self.is_linear(node.func.value) and not node.keywords and (shaped or all(map(self.is_neutral, node.args)))
        return False


def _asks_for_gradient(node: ast.expr) -> bool:
    """Whether a condition leaves out only what has no gradient: `p.grad is not None`, `p.requires_grad`."""
    if isinstance(node, ast.BoolOp):
        return all(map(_asks_for_gradient, node.values))
    if isinstance(node, ast.Attribute):
        return node.attr == "requires_grad"
    compared = isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "grad"
    return compared and isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)


def _names(stmt: ast.stmt) -> Iterator[ast.Name]:
    return (n for n in ast.walk(stmt) if isinstance(n, ast.Name))
