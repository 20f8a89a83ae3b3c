"""Erasure: undoing every form that ampify writes, and comparing what is left with the original's syntax tree."""

from __future__ import annotations

import ast
from functools import lru_cache

from ampify.analysis.names import Names, dotted, is_runtime

UNREAD = frozenset({"ctx", "kind", "type_comment"})  # fields that are no difference
DECORATORS = frozenset({"custom_bwd", "custom_fwd", "full_precision_fwd", "unscaled_bwd"})


def erase(tree: ast.Module, names: Names) -> ast.Module:
    """Undoes, in place, every form that ampify writes, as the tree's own imports of the runtime, or its scaler, name them."""
    if not may_hold_edits(names):
        return tree
    erased = Eraser(names).visit(tree)
    assert isinstance(erased, ast.Module)
    return erased


def may_hold_edits(names: Names) -> bool:
    """Whether there may be a form in a file that ampify writes."""
    return bool(names.runtime or names.plain or names.mentions("grad"))


def added_import(tree: ast.Module, names: Names) -> ast.stmt | None:
    """The only `import torch`, if it is right before the scaler of torch.amp: the original's, or added for the scaler."""
    plain = names.plain
    if plain is None or len(names.imported[plain.torch]) > 1:
        return None
    at = tree.body.index(plain.statements[0]) - 1
    given = ("import torch", f"import torch as {plain.torch}")
    return tree.body[at] if at >= 0 and ast.unparse(tree.body[at]) in given else None


@lru_cache(maxsize=1)
def _contexts(*texts: str) -> tuple[str, ...]:
    """The dumps of expressions."""
    return tuple(ast.dump(ast.parse(text, mode="eval").body) for text in texts)


class Eraser(ast.NodeTransformer):
    """Knows the forms by the names that a tree has for the runtime, or for the scaler and the regions of torch.amp."""

    def __init__(self, names: Names) -> None:
        self.names, self.plain = names, names.plain
        autocast = names.runtime.get("autocast", "")
        off = f'{self.plain.torch}.autocast("cuda", enabled=False)' if self.plain else f"{autocast}(enabled=False)"
        region = self.plain.region if self.plain else f"{autocast}()"
        known = self.plain is not None or autocast != ""
        self.regions = _contexts(region, off) if known else ()
        self.scaler = names.scaler
        self.configure = names.runtime.get("configure", "")
        self.full_precision = names.runtime.get("full_precision", "")
        self.decorators = {local for name, local in names.runtime.items() if name in DECORATORS}

    def method(self, node: ast.AST) -> str:
        """The method of the scaler that a call is of, or an empty string."""
        if (
            self.scaler
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and dotted(node.func.value) == self.scaler
        ):
            return node.func.attr
        return ""

    def unscaled(self, node: ast.expr) -> ast.expr:
        """The loss of `scaler.scale(loss)`, which may stand only where a backward begins."""
        if self.method(node) == "scale" and isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            return node.args[0]
        return node

    def _leaf(self, node: ast.AST) -> ast.AST:
        return node

    visit_Name = visit_Constant = visit_Load = visit_Store = _leaf  # nothing below them is undone, and half of all nodes are such

    def visit_Module(self, node: ast.Module) -> ast.AST:
        ours = self.plain.statements if self.plain else ()
        node.body = [s for s in node.body if not self.pins(s) and s not in ours]
        return self.generic_visit(node)

    def pins(self, stmt: ast.stmt) -> bool:
        """Whether a statement is `configure(mode="fp16")`, or bf16, which stands at module level only."""
        call = stmt.value if isinstance(stmt, ast.Expr) else None
        if not isinstance(call, ast.Call) or not self.configure or dotted(call.func) != self.configure or call.args:
            return False
        return [(k.arg, getattr(k.value, "value", None)) for k in call.keywords] in ([("mode", "fp16")], [("mode", "bf16")])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if is_runtime(node) else node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        ours = self.is_region(node)
        self.generic_visit(node)
        return node.body if ours else node

    def is_region(self, node: ast.With) -> bool:
        """Whether a `with` is a region of ours, autocast on or off, and nothing else."""
        context = node.items[0].context_expr
        return (
            len(node.items) == 1
            and node.items[0].optional_vars is None
            and isinstance(context, ast.Call)
            and ast.dump(context) in self.regions
        )

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [d for d in node.decorator_list if dotted(d) not in self.decorators]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and self.full_precision and dotted(call.func) == self.full_precision:
            return None if len(call.args) == 1 and not call.keywords else self.generic_visit(node)
        method = self.method(call)
        operands = {"unscale_": 1, "update": 0, "load_state_dict": 1}.get(method)
        if isinstance(call, ast.Call) and len(call.args) == operands and not call.keywords:
            if method != "load_state_dict" or _may_lack_it(call.args[0]):
                return None
        return self.generic_visit(node)

    def is_state(self, node: ast.AST) -> bool:
        """Whether an expression is `scaler.state_dict()`."""
        return self.method(node) == "state_dict" and isinstance(node, ast.Call) and not node.args and not node.keywords

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        item = len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript)
        return None if item and self.is_state(node.value) else self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if not self.is_state(v)]
        node.keys, node.values = [k for k, _ in kept], [v for _, v in kept]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [k for k in node.keywords if not self.is_state(k.value)]
        self.generic_visit(node)
        method = self.method(node)
        if method == "grad" or self.names.resolve(node.func) == "torch.autograd.grad":
            node.func = ast.Name("torch.autograd.grad", ast.Load())  # whatever its spelling was
        if isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
            node.func.value = self.unscaled(node.func.value)
        if self.names.resolve(node.func) == "torch.autograd.backward" or dotted(node.func).endswith("autograd.backward"):
            node.args[:1] = [self.unscaled(a) for a in node.args[:1]]
            for keyword in node.keywords:
                keyword.value = self.unscaled(keyword.value) if keyword.arg == "tensors" else keyword.value
        if node.args and (method == "step" or (method == "step_scheduler" and not self.plain)):
            return ast.Call(ast.Attribute(node.args[0], "step", ast.Load()), node.args[1:], node.keywords)
        return node


def _may_lack_it(state: ast.expr) -> bool:
    """`checkpoint.get(key, {})`, or `pop`: a checkpoint from before the conversion has no such key."""
    if not isinstance(state, ast.Call) or not isinstance(state.func, ast.Attribute) or state.keywords:
        return False
    if state.func.attr not in ("get", "pop"):
        return False
    return len(state.args) == 2 and isinstance(state.args[0], ast.Constant) and ast.unparse(state.args[1]) == "{}"


def first_difference(a: ast.AST, b: ast.AST, names: Names, pairs: list[tuple[ast.stmt, ast.stmt]], written: set[int]) -> str:
    """Where two trees first differ, or an empty string; the second may have forms that change nothing in float32, whose lines
    are added to `written`. The statements of both come into `pairs`."""
    stack: list[tuple[object, object]] = [(a, b)]
    line = 1
    while stack:
        x, y = stack.pop()
        if isinstance(x, ast.AST) and isinstance(y, ast.Call):
            inner = _bare(y, names)
            if inner is not None and not _alike(x, y, names):
                stack.append((x, inner))
                written.update(range(y.lineno, (y.end_lineno or y.lineno) + 1))
                continue
        if type(x) is not type(y):
            return f"line {line}"
        if isinstance(x, ast.AST):
            line = getattr(x, "lineno", line)
            if isinstance(x, ast.stmt) and isinstance(y, ast.stmt):
                pairs.append((x, y))
            for field in x._fields:
                if field in UNREAD:
                    continue
                one, other = getattr(x, field, None), getattr(y, field, None)
                if isinstance(one, (ast.AST, list)):
                    stack.append((one, other))
                elif type(one) is not type(other) or one != other:
                    return f"line {line}"
        elif isinstance(x, list):
            assert isinstance(y, list)
            if len(x) != len(y):
                return f"line {line}"
            stack.extend(zip(x, y, strict=True))
        elif x != y:
            return f"line {line}"
    return ""


def _alike(x: ast.AST, y: ast.Call, names: Names) -> bool:
    """Whether the original has the same form at the same place: `x.to(device)` is not `x.to(device).to(y.dtype)`."""
    if not isinstance(x, ast.Call) or _bare(x, names) is None or len(x.args) != len(y.args):
        return False
    if [ast.dump(a) for a in x.args[-1:]] != [ast.dump(a) for a in y.args[-1:]]:
        return False
    if isinstance(x.func, ast.Attribute) and isinstance(y.func, ast.Attribute):
        return x.func.attr == y.func.attr
    return type(x.func) is type(y.func) and dotted(x.func) == dotted(y.func)


def _bare(node: ast.AST, names: Names) -> ast.AST | None:
    """The expression in one of the forms that change nothing in float32: `x.float()`, `x.to(y.dtype)`, a constant within the
    limits of a dtype; None for anything else."""
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    if isinstance(node.func, ast.Attribute):
        dtype = node.args[0] if len(node.args) == 1 else None
        to = node.func.attr == "to" and isinstance(dtype, ast.Attribute) and dtype.attr == "dtype" and dotted(dtype)
        return node.func.value if to or (node.func.attr == "float" and not node.args) else None
    other = {"max": "min", "min": "max"}.get(dotted(node.func))
    limit = node.args[1] if other and len(node.args) == 2 else None
    if isinstance(limit, ast.Attribute) and limit.attr == other and isinstance(limit.value, ast.Call):
        return node.args[0] if names.resolve(limit.value.func) == "torch.finfo" else None
    return None
