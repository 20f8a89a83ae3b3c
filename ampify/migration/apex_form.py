"""The fp32 program in a script with apex.amp: its tree with everything of apex.amp undone, made from the tree alone.

`amp.initialize` gives back what it gets, `with amp.scale_loss(loss, optimizer) as scaled:` is its body with the loss itself,
`amp.master_params(optimizer)` are the parameters that the optimizer has, states of the scaler are not there. Where both
branches of a test come out the same there is no test.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

from ampify.analysis.walk import walk

AMP = "apex.amp"
MASTER = "the master parameters"  # of an optimizer whose own cannot be named
GRANTED = {"cast_model_type": None, "keep_batchnorm_fp32": None, "loss_scale": "dynamic", "patch_torch_functions": True}
HARMLESS = frozenset({"num_losses", "verbosity", "enabled", "models", "optimizers"})


class Kept(Exception):
    """Why apex.amp stays; with the node that shows it."""

    def __init__(self, node: ast.AST, why: str) -> None:
        super().__init__(why)
        self.node = node


class Apex:
    """What the names of a file have to do with apex."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.names: dict[str, str] = {}
        self.rebound: set[str] = set()
        self.parents = {child: node for node in walk(tree) for child in ast.iter_child_nodes(node)}
        for node in walk(tree):
            if isinstance(node, ast.Import):
                self.names.update(
                    (a.asname or a.name.partition(".")[0], a.name if a.asname else a.name.partition(".")[0]) for a in node.names
                )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self.names.update((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)
            elif isinstance(node, ast.arg):
                self.rebound.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assign = self.parents.get(node)
                if not (isinstance(assign, ast.Assign) and ast.unparse(assign.value) == "None"):
                    self.rebound.add(node.id)

    def resolve(self, node: ast.AST) -> str:
        """The qualified name of a dotted expression that begins with an import."""
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            return f"{base}.{node.attr}" if base else ""
        return self.names.get(node.id, "") if isinstance(node, ast.Name) else ""

    def calls(self, node: ast.AST | None, name: str) -> bool:
        """Whether an expression is a call of something of apex.amp."""
        return isinstance(node, ast.Call) and self.resolve(node.func) == f"{AMP}.{name}"

    def uses(self) -> list[ast.expr]:
        """The expressions that speak of apex.amp."""
        found = (n for n in walk(self.tree) if isinstance(n, (ast.Name, ast.Attribute)) and isinstance(n.ctx, ast.Load))
        return [n for n in found if self.resolve(n) == AMP and not isinstance(self.parents.get(n), ast.alias)]

    def others(self) -> list[ast.expr]:
        """The expressions that speak of other parts of apex."""
        found = (n for n in walk(self.tree) if isinstance(n, (ast.Name, ast.Attribute)) and isinstance(n.ctx, ast.Load))
        full = {n: self.resolve(n) for n in found}
        inner = {n.value for n in full if isinstance(n, ast.Attribute)}
        return [n for n, name in full.items() if name.partition(".")[0] == "apex" and not _of(name) and n not in inner]

    def is_presence(self, test: ast.expr) -> bool:
        """Whether it is asked whether apex.amp could be imported."""
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot) and ast.unparse(test.comparators[0]) == "None":
            test = test.left
        return self.resolve(test) == AMP

    def parameters(self, optimizer: ast.AST) -> ast.expr | None:
        """The parameters that an optimizer is made of, where they are those of one module."""
        text, found = ast.unparse(optimizer), []
        for node in walk(self.tree):
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [text]:
                value = node.value
                first = value.args[0] if isinstance(value, ast.Call) and value.args else None
                plain = isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute) and first.func.attr == "parameters"
                found.append(first if plain and isinstance(first, ast.Call) and not (first.args or first.keywords) else None)
        return found[0] if len(found) == 1 else None

    def check_initialize(self, call: ast.Call) -> None:
        """Raises Kept where apex.amp does more than autocast and dynamic loss scaling do."""
        given = {k.arg: k.value for k in call.keywords}
        level = given.pop("opt_level", call.args[3] if len(call.args) > 3 else None)
        if level is not None and not isinstance(level, ast.Constant):
            raise Kept(call, f"`{ast.unparse(level)}` may be O2 or O3, which change the dtype of the model itself")
        if isinstance(level, ast.Constant) and level.value in ("O2", "O3"):
            raise Kept(call, f"{level.value} changes the dtype of the model itself, which autocast does not")
        if isinstance(level, ast.Constant) and level.value != "O1":
            raise Kept(call, f"opt_level is {level.value!r}, which trains without mixed precision")
        if len(call.args) > 2 or len(call.args) < 1 or any(isinstance(a, ast.Starred) for a in call.args):
            raise Kept(call, "amp.initialize has arguments that cannot be told")
        for name, value in given.items():
            plain = isinstance(value, ast.Constant) and (value.value is None or value.value == GRANTED.get(name or "", value))
            if name not in HARMLESS and not (name in GRANTED and plain):
                raise Kept(call, f"`{name}={ast.unparse(value)}` is asked of amp.initialize")

    def fixed(self, call: ast.Call) -> ast.expr:
        """What `amp.initialize` gives back."""
        if len(call.args) == 1:
            return call.args[0]
        return ast.Tuple([call.args[0], call.args[1]], ast.Load())

    def is_identity(self, assign: ast.Assign) -> bool:
        """Whether `amp.initialize` is assigned to what it gets."""
        assert isinstance(assign.value, ast.Call)
        same = [_shape(assign.targets[0]), _shape(self.fixed(assign.value))]
        return len(assign.targets) == 1 and same[0] == same[1]


class Fp32(ast.NodeTransformer):
    """Undoes apex.amp in a copy of the tree that `apex` was made of."""

    def __init__(self, apex: Apex) -> None:
        self.apex = apex

    def tree(self) -> ast.Module:
        """The fp32 program. Raises Kept."""
        found = self.visit(copy.deepcopy(self.apex.tree))
        assert isinstance(found, ast.Module)
        return found

    def block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements of a block, undone."""
        made: list[ast.stmt] = []
        for stmt in statements:
            found = self.visit(copy.deepcopy(stmt))
            made.extend(found if isinstance(found, list) else [found] if found is not None else [])
        return made

    # statements ----------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [a for a in node.names if not _of(a.name) and not (a.name == "apex" and not self.apex.others())]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        read = {n.id for n in walk(self.apex.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        if not node.level and node.module and node.module.partition(".")[0] == "apex":
            node.names = [a for a in node.names if not _of(f"{node.module}.{a.name}") and (a.asname or a.name) in read]
        return node if node.names else None

    def visit_Try(self, node: ast.Try) -> ast.AST | None:
        had = [s for s in node.body if isinstance(s, (ast.Import, ast.ImportFrom)) and "apex" in ast.unparse(s)]
        self.generic_visit(node)
        if had and not node.body:
            return None
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        apex = self.apex
        if apex.calls(node.value, "initialize"):
            assert isinstance(node.value, ast.Call)
            if apex.is_identity(node):
                return None
            return ast.Assign(node.targets, apex.fixed(node.value), lineno=node.lineno)
        return None if apex.calls(node.value, "state_dict") else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if self.apex.calls(node.value, "load_state_dict") else self.generic_visit(node)

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        call = node.items[0].context_expr
        if not self.apex.calls(call, "scale_loss"):
            return self.generic_visit(node)
        assert isinstance(call, ast.Call)
        if len(node.items) > 1 or not call.args or not isinstance(node.items[0].optional_vars, ast.Name):
            raise Kept(node, "the scaled loss cannot be followed")
        scaled, loss = node.items[0].optional_vars.id, call.args[0]
        body = [_Named(scaled, loss).visit(stmt) for stmt in node.body]
        return self.block(body)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        before = [len(node.body), len(node.orelse)]
        touched = [any(self.apex.resolve(n).startswith("apex") for s in b for n in walk(s)) for b in (node.body, node.orelse)]
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        if not any(touched) or (node.body and not before[1]):
            return node
        if not node.body and not node.orelse:
            return None
        if all(before) and alike(node.body, node.orelse):
            return node.orelse if touched[0] else node.body
        if not node.body:
            raise Kept(node, "without apex a branch of this test is empty")
        return node

    # expressions ---------------------------------------------------------------------------------------------

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if not self.apex.calls(v, "state_dict")]
        node.keys, node.values = [k for k, _ in kept], [v for _, v in kept]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self.apex.calls(node, "master_params"):
            return self.apex.parameters(node.args[0]) or ast.Name(MASTER, ast.Load())
        return self.generic_visit(node)


class _Named(ast.NodeTransformer):
    """Puts an expression in place of a name."""

    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.value) if node.id == self.name else node


def alike(a: object, b: object) -> bool:
    """Whether two pieces of syntax are the same, the master parameters being any parameters."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if not (isinstance(a, ast.AST) and isinstance(b, ast.AST)):
        return a == b
    for one, other in ((a, b), (b, a)):
        if isinstance(one, ast.Name) and one.id == MASTER:
            return isinstance(other, ast.Call) and ast.unparse(other.func).endswith(".parameters")
    fields = [f for f in a._fields if f not in ("ctx", "kind", "type_comment")]
    return type(a) is type(b) and all(alike(getattr(a, f, None), getattr(b, f, None)) for f in fields)


def _of(name: str) -> bool:
    return name == AMP or name.startswith(AMP + ".")


def _shape(node: ast.expr) -> object:
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_shape(e) for e in node.elts]
    return ast.unparse(node)
