"""Canonical: one form for the old and the new spellings, made from a tree and its imports alone, and nothing of the edits.

Old names resolve through the file's imports to `name@device`, calls of the new ones with a device to the same; arguments go by
their names. Imports of either package are left out: what they bring is in the names that they are resolved to.
"""

from __future__ import annotations

import ast
import re

from ampify.analysis.walk import walk

OLD = re.compile(r"torch\.(cuda|cpu)\.amp(\.autocast_mode|\.grad_scaler|\.common)?(?:\.(\w+))?")
NEW = re.compile(r"torch\.amp(\.autocast_mode|\.grad_scaler)?(?:\.(\w+))?")
PARAMETERS = {"autocast": ("enabled", "dtype", "cache_enabled"), "_cast": ("value", "dtype")}
NEW_PARAMETERS = {"autocast": ("device_type", "dtype", "enabled", "cache_enabled"), "_cast": ("value", "device_type", "dtype")}
GRANTED = {"cuda": "float16", "cpu": "bfloat16"}
PACKAGE = "package"
KNOWN = frozenset({"autocast", "GradScaler", "custom_fwd", "custom_bwd", "_cast", "OptState", "amp_definitely_not_available"})
KNOWN |= {PACKAGE, ".autocast_mode", ".grad_scaler", ".common"}


class Canonical(ast.NodeTransformer):
    """Rewrites a tree in place; two trees that come out the same are the same program."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: dict[str, str] = {}
        self.starred: list[str] = []
        for node in walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if node.names[0].name == "*" and node.module:
                    self.starred.append(node.module)
        bound = {n.id for n in walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.bound = bound.union(self.names)
        self.imported, self.hidden = frozenset(self.names), frozenset[str]()
        self._aliases(tree)
        self.types: set[int] = set()  # the ids of nodes that are asked for as types, or whether they are there

    def _aliases(self, tree: ast.Module) -> None:
        """Names that the file gives to what it has: by an assignment, or a class of scalers without a constructor of its own."""
        for _ in range(4):
            for node in walk(tree):
                value = getattr(node, "value", None)
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(value, (ast.Name, ast.Attribute)):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    full = self.resolve(value)
                    if len(targets) == 1 and isinstance(targets[0], ast.Name) and _ours(full):
                        self.names.setdefault(targets[0].id, full)
                elif isinstance(node, ast.ClassDef) and len(node.bases) == 1:
                    full = self.resolve(node.bases[0])
                    init = any(getattr(s, "name", "") == "__init__" for s in node.body)
                    if full.endswith(".GradScaler") and _ours(full) and not init:
                        self.names.setdefault(node.name, full)

    def resolve(self, node: ast.AST) -> str:
        """The qualified name of a dotted expression that begins with an import."""
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Name):
            if node.id in self.hidden:
                return ""
            if node.id in self.names:
                return self.names[node.id]
            if node.id not in self.bound:
                if node.id == "torch":
                    return node.id
                return next((f"{m}.{node.id}" for m in self.starred if _ours(m) and node.id in _EXPORTED), "")
        return ""

    def kind(self, node: ast.AST) -> tuple[str, str]:
        """What an expression is, as (name, device); the device is empty for what is spelled anew."""
        full = self.resolve(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
        old = OLD.fullmatch(full)
        match = old or NEW.fullmatch("torch.amp.autocast" if full == "torch.autocast" else full)
        if match is None:
            return "", ""
        name = match[match.lastindex] if match.lastindex and match.lastindex > bool(old) else PACKAGE
        return (name, old[1] if old else "") if name in KNOWN else ("", "")

    # scopes --------------------------------------------------------------------------------------------------

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        """In a function the names of its own hide what is imported outside."""
        none = {t for a in walk(node) if isinstance(a, ast.Assign) and ast.unparse(a.value) == "None" for t in a.targets}
        own = {n.arg for n in walk(node.args) if isinstance(n, ast.arg)}
        own |= {n.id for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n not in none}
        before = self.hidden
        self.hidden = before | (own & self.imported)
        found = self.generic_visit(node)
        self.hidden = before
        return found

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    # imports -------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [a for a in node.names if not _ours(a.name)]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        module = "" if node.level else node.module or ""
        node.names = [a for a in node.names if not (_ours(f"{module}.{a.name}") or (a.name == "*" and _ours(module)))]
        return node if node.names else None

    # places --------------------------------------------------------------------------------------------------

    def _typed(self, *nodes: ast.AST | None) -> None:
        """Notes expressions of which it does not matter for which device they are."""
        for node in nodes:
            while isinstance(node, ast.AST):
                self.types.add(id(node))
                if isinstance(node, (ast.Tuple, ast.List)):
                    self._typed(*node.elts)
                elif isinstance(node, ast.Subscript):
                    self._typed(node.slice)
                elif isinstance(node, ast.BinOp):
                    self._typed(node.right)
                elif isinstance(node, ast.BoolOp):
                    self._typed(*node.values)
                elif isinstance(node, ast.Compare):
                    self._typed(node.left, *node.comparators)
                elif isinstance(node, ast.UnaryOp):
                    self._typed(node.operand)
                node = node.left if isinstance(node, ast.BinOp) else None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        self._typed(getattr(node, "annotation", None), getattr(node, "returns", None), getattr(node, "test", None))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            self._typed(*node.args[1:])
        elif isinstance(node, ast.Compare):
            self._typed(node.left, *node.comparators)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) and self.kind(getattr(node, "value", node))[0]:
            self._typed(node.value)
        elif isinstance(node, ast.ClassDef):
            self._typed(*(b for b in node.bases if self.kind(b)[0] == "GradScaler"))
            self._class(node)
        for field in ("decorator_list",):
            for at, decorator in enumerate(getattr(node, field, ())):
                name, device = self.kind(decorator)
                if name.startswith("custom_"):
                    device = device or "?"
                    node.decorator_list[at] = ast.Call(ast.Name(f"{name}@{device}", ast.Load()), [], [])  # type: ignore[attr-defined]
        return super().generic_visit(node)

    def _class(self, node: ast.ClassDef) -> None:
        """The constructor of a base that is a class of scalers, as its subclass calls it."""
        bases = [self.kind(b) for b in node.bases]
        if not any(name == "GradScaler" for name, _ in bases):
            return
        for call in [n for n in walk(node) if isinstance(n, ast.Call)]:
            if not isinstance(call.func, ast.Attribute) or call.func.attr != "__init__":
                continue
            behind = int(self.kind(call.func.value)[0] == "GradScaler")
            if behind or ast.unparse(call.func.value).startswith("super("):
                device = bases[0][1] or _constant(call.args[behind : behind + 1])
                del call.args[behind : behind + int(not bases[0][1])]
                call.func.value = ast.Name(f"base@{device}", ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._bare(node) if isinstance(node.ctx, ast.Load) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if self.kind(node.value)[0] in ("GradScaler", "OptState"):
            self._typed(node.value)
        return self._bare(node)

    def _bare(self, node: ast.expr) -> ast.AST:
        name, device = self.kind(node)
        if not name:
            return self.generic_visit(node)
        return ast.Name(f"{name}@" if id(node) in self.types else f"{name}@{device}!", ast.Load())

    # calls ---------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        partial = self.resolve(node.func) == "functools.partial" and bool(node.args)
        name, device = self.kind(node.args[0] if partial else node.func)
        if name in ("autocast", "GradScaler", "custom_fwd", "custom_bwd", "_cast"):
            arguments = [*node.args[int(partial) :]]
            keywords = [ast.keyword(k.arg, k.value) for k in node.keywords]
            if not device:
                device, arguments, keywords = _new(name, arguments, keywords)
            elif name in PARAMETERS:
                arguments, keywords = _named(PARAMETERS[name], arguments, keywords)
            if name == "autocast" and device in GRANTED:
                keywords = [k for k in keywords if not self._granted(k, device)]
            node = ast.Call(ast.Name(f"{'partial of ' * partial}{name}@{device}", ast.Load()), arguments, keywords)
        return self.generic_visit(node)

    def _granted(self, keyword: ast.keyword, device: str) -> bool:
        """Whether an argument of a region is what the old constructor takes for granted."""
        if keyword.arg == "cache_enabled":
            return isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        return keyword.arg == "dtype" and self.resolve(keyword.value) == f"torch.{GRANTED[device]}"


_EXPORTED = frozenset({"autocast", "custom_bwd", "custom_fwd", "GradScaler"})


def _ours(full: str) -> bool:
    return OLD.match(full + ".") is not None or full == "torch.amp" or full.startswith("torch.amp.")


def _constant(nodes: list[ast.expr]) -> str:
    return str(nodes[0].value) if nodes and isinstance(nodes[0], ast.Constant) else "?"


def _named(
    parameters: tuple[str, ...], arguments: list[ast.expr], keywords: list[ast.keyword]
) -> tuple[list[ast.expr], list[ast.keyword]]:
    """Positional arguments by their names, in the order in which they are written."""
    if any(isinstance(a, ast.Starred) for a in arguments) or len(arguments) > len(parameters):
        return arguments, keywords
    return [], [*(ast.keyword(p, a) for p, a in zip(parameters, arguments, strict=False)), *keywords]


def _new(name: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> tuple[str, list[ast.expr], list[ast.keyword]]:
    """The device that a call of the new spelling is for, and its other arguments."""
    if name == "GradScaler":
        given = [k for k in keywords if k.arg == "device"]
        if given:
            return _constant([given[0].value]), arguments, [k for k in keywords if k is not given[0]]
        return _constant(arguments), arguments[1:], keywords
    if name in NEW_PARAMETERS:
        arguments, keywords = _named(NEW_PARAMETERS[name], arguments, keywords)
    given = [k for k in keywords if k.arg == "device_type"]
    return _constant([k.value for k in given]), arguments, [k for k in keywords if k not in given]
