"""Undo what ampify emits, written from the contract alone: nothing here imports the converter or its proof.

`erased(output)` must be the original's syntax tree. Casts that do nothing in fp32 (`x.float()`, `x.to(y.dtype)`, and
`max(C, torch.finfo(x.dtype).min)`) are dropped from both sides, as a script may hold some of its own.
"""

import ast
import io
import re
import tokenize

_RUNTIME = "ampify_runtime"
_DECORATORS = ("custom_bwd", "custom_fwd", "full_precision_fwd", "unscaled_bwd")
_NAMES = frozenset({"autocast", "configure", "full_precision", "scaler", *_DECORATORS})
_KEYS = frozenset({"scaler", "grad_scaler", "amp_scaler"})


def erasure_problems(original: bytes, output: bytes) -> list[str]:
    """Why `output` is not `original` plus emitted forms; empty if it is."""
    problems = []
    before = _canonical(original)
    after = next((text for text in _torch_erased(output) if text == before), None) or _erased(output)
    if before != after:
        lines = zip(before.splitlines(), after.splitlines(), strict=False)
        where = next((f"{b.strip()!r} became {a.strip()!r}" for b, a in lines if b != a), "one is longer")
        problems.append(f"erasing the output does not give the original: {where}")
    if comments(original) != comments(output):
        missing = [c for c in comments(original) if c not in comments(output)]
        problems.append(f"comments differ, lost or changed: {missing}")
    return problems


def comments(source: bytes) -> list[str]:
    return [t.string.rstrip() for t in tokenize.tokenize(io.BytesIO(source).readline) if t.type == tokenize.COMMENT]


def _canonical(source: bytes) -> str:
    return ast.dump(_Neutral().visit(ast.parse(source)), indent=1)


def _erased(source: bytes) -> str:
    tree = ast.parse(source)
    imports = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == _RUNTIME and s.level in (0, 1)]
    names = {alias.name: alias.asname or alias.name for statement in imports for alias in statement.names}
    if len(imports) == 1 and names.keys() <= _NAMES:
        tree.body.remove(imports[0])
        tree = _Eraser(names).visit(tree)
    return ast.dump(_Neutral().visit(tree), indent=1)


def _torch_erased(source: bytes) -> list[str]:
    """What `--runtime torch` wrote taken out, if its two statements are there: as it is, and without an `import torch` above."""
    tree = ast.parse(source)
    for at in range(len(tree.body) - 1):
        pair = "\n".join(ast.unparse(s) for s in tree.body[at : at + 2])
        match = _TORCH.fullmatch(pair)
        if match is None:
            continue
        torch, enabled, scaler, on = match.group("torch", "enabled", "scaler", "on")
        dtype = "bfloat16" if on == "False" else "float16"
        region = f"{torch}.autocast('cuda', dtype={torch}.{dtype}, enabled={enabled})"
        off = f"{torch}.autocast('cuda', enabled=False)"
        del tree.body[at : at + 2]
        erased = _TorchEraser({"scaler": scaler}, (region, off)).visit(tree)
        texts = [ast.dump(_Neutral().visit(erased), indent=1)]
        if at > 0 and isinstance(tree.body[at - 1], ast.Import):
            del tree.body[at - 1]
            texts.append(ast.dump(_Neutral().visit(tree), indent=1))
        return texts
    return []


_TORCH = re.compile(
    r"(?P<enabled>\w+) = (?P<torch>\w+)\.cuda\.is_available\(\)\n"
    r"(?P<scaler>\w+) = (?P=torch)\.amp\.GradScaler\('cuda', enabled=(?P<on>(?P=enabled)|False)\)"
)


class _Neutral(ast.NodeTransformer):
    """Drops the casts that do nothing in fp32, and gives the spellings of a gradient call one name."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="float"), args=[], keywords=[]):
                return value
            case ast.Call(func=ast.Attribute(value=value, attr="to"), args=[ast.Attribute(attr="dtype")], keywords=[]):
                return value
            case ast.Call(
                func=ast.Name(id="max" | "min" as bound),
                args=[constant, ast.Attribute(value=ast.Call(func=ast.Attribute(attr="finfo")), attr=limit)],
                keywords=[],
            ) if (bound, limit) in {("max", "min"), ("min", "max")}:
                return constant
            case ast.Call(func=ast.Attribute(attr="grad") | ast.Name(id="grad")):
                node.func = ast.Name("autograd.grad", ast.Load())
        return node


class _Eraser(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def _is(self, node: ast.AST, name: str) -> bool:
        return isinstance(node, ast.Name) and node.id == self.names.get(name)

    def _scaler_call(self, node: ast.AST, *methods: str) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in methods
            and self._is(node.func.value, "scaler")
        )

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        match node.items:
            case [ast.withitem(context_expr=ast.Call(func=func, args=[], keywords=keywords), optional_vars=None)]:
                disabled = [ast.dump(k) for k in keywords] in ([], [ast.dump(_DISABLED)])
                if self._is(func, "autocast") and disabled:
                    return node.body
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if self._scaler_call(call, "unscale_", "update", "load_state_dict"):
            return None
        if isinstance(call, ast.Call) and (self._is(call.func, "configure") or self._is(call.func, "full_precision")):
            return None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        match node.targets:
            case [ast.Subscript(slice=ast.Constant(value=key))] if key in _KEYS:
                if self._scaler_call(node.value, "state_dict"):
                    return None
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        pairs = [
            (key, value)
            for key, value in zip(node.keys, node.values, strict=True)
            if not (isinstance(key, ast.Constant) and key.value in _KEYS and self._scaler_call(value, "state_dict"))
        ]
        node.keys, node.values = [key for key, _ in pairs], [value for _, value in pairs]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.keywords = [k for k in node.keywords if not (k.arg in _KEYS and self._scaler_call(k.value, "state_dict"))]
        if self._scaler_call(node, "scale") and len(node.args) == 1 and not node.keywords:
            return node.args[0]
        if self._scaler_call(node, "step", "step_scheduler") and node.args:
            return ast.Call(ast.Attribute(node.args[0], "step", ast.Load()), node.args[1:], node.keywords)
        if self._scaler_call(node, "grad"):
            return ast.Call(ast.Name("autograd.grad", ast.Load()), node.args, node.keywords)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [d for d in node.decorator_list if not any(self._is(d, own) for own in _DECORATORS)]
        return self.generic_visit(node)


class _TorchEraser(_Eraser):
    """The same forms but for the region's context, without those that only the runtime has."""

    def __init__(self, names: dict[str, str], regions: tuple[str, str]) -> None:
        super().__init__(names)
        self.regions = regions

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        ours = len(node.items) == 1 and node.items[0].optional_vars is None
        return node.body if ours and ast.unparse(node.items[0].context_expr) in self.regions else node

    def _scaler_call(self, node: ast.AST, *methods: str) -> bool:
        return super()._scaler_call(node, *(m for m in methods if m in ("scale", "unscale_", "step", "update")))


_DISABLED = ast.keyword("enabled", ast.Constant(False))
