"""Imports and aliases: from the names of a file to the qualified names behind them."""

import ast

from ampify.analysis.walk import walk

RUNTIME = "ampify_runtime"


class Names:
    """Resolves dotted expressions through the file's imports, wherever they stand, and simple aliases of modules."""

    def __init__(self, tree: ast.Module) -> None:
        self.aliases: dict[str, str] = {}
        self.runtime: dict[str, str] = {}
        self.taken: set[str] = set()
        assigned: dict[str, list[ast.expr]] = {}
        for node in walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    self.aliases[local] = alias.name if alias.asname else local
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    local = alias.asname or alias.name
                    self.aliases[local] = f"{module}.{alias.name}"
                    if is_runtime(node):
                        self.runtime[alias.name] = local
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                assigned.setdefault(node.targets[0].id, []).append(node.value)
            elif isinstance(node, ast.Name):
                self.taken.add(node.id)
            elif isinstance(node, ast.arg):
                self.taken.add(node.arg)
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
                self.taken.add(node.name or "")
            elif isinstance(node, ast.MatchMapping):
                self.taken.add(node.rest or "")
            elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                self.taken.add(node.name)
        self.taken.update(self.aliases, assigned)
        for name, values in assigned.items():
            # `optim = torch.optim`: a second name of a module
            if len(values) == 1 and name not in self.aliases and isinstance(values[0], ast.Attribute):
                target = self.resolve(values[0])
                if target.startswith("torch."):
                    self.aliases[name] = target

    def resolve(self, node: ast.AST) -> str:
        """The qualified dotted name of an expression, or an empty string where it is not one."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.aliases.get(node.id, node.id))
        return ".".join(reversed(parts))


def is_runtime(node: ast.AST) -> bool:
    """Whether a statement is `from ampify_runtime import ...`, or `from .ampify_runtime ...`, of one vendored in a package."""
    return isinstance(node, ast.ImportFrom) and node.module == RUNTIME and node.level <= 1


def dotted(node: ast.AST) -> str:
    """The text of `a`, `a.b` or `a['key']`, by which a value is followed within a scope; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        base = dotted(node.value)
        return f"{base}[{node.slice.value!r}]" if base else ""
    return ""
