"""References: where a file speaks of the old packages, through which of its names, and in what place each stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.migration.legacy import EXPORTED, Symbol, symbol
from ampify.migration.scopes import Binding, Scopes, target

TYPES = frozenset({"isinstance", "issubclass"})


class Reference(NamedTuple):
    """An expression that stands for something of the old packages, through a binding, or by a star import."""

    node: ast.expr  # up to the symbol's own name
    root: ast.Name
    symbol: Symbol
    binding: Binding | None
    through: str  # the qualified name that the binding has; empty for a name that the file makes itself
    text: str  # the qualified name of the node


class References:
    """All references of a file; `stars` are the imports of everything of an old package."""

    def __init__(self, tree: ast.Module) -> None:
        self.scopes = Scopes(tree)
        self.aliases: dict[int, str] = {}  # by the id of a binding that the file makes itself, what it stands for
        self.stars = [stmt for stmt in self.scopes.stars if symbol(stmt.module or "") is not None and not stmt.level]
        self.known: list[Reference] = []
        seen: set[ast.Name] = set()
        self._read(seen)
        while self._more():  # names that stand for what is known now
            self._read(seen)

    # reading ---------------------------------------------------------------------------------------------

    def _read(self, seen: set[ast.Name]) -> None:
        for binding in self.scopes.bindings:
            through = self._through(binding)
            if through is None:
                continue
            for name in binding.reads:
                if name not in seen:
                    seen.add(name)
                    self._add(name, through or self.aliases[id(binding)], binding, through)
        for name in self.scopes.free:
            if name.id == "torch" and name not in seen:  # from a star import of the author's own, or forgotten
                seen.add(name)
                self._add(name, "torch", None, "torch")
                continue
            star = next((s for s in self.stars if self._brings(s, name.id)), None)
            if star is not None and name not in seen:
                seen.add(name)
                self._add(name, f"{star.module}.{name.id}", None, f"{star.module}.{name.id}")

    @staticmethod
    def _brings(stmt: ast.ImportFrom, name: str) -> bool:
        found = symbol(f"{stmt.module}.{name}")
        return found is not None and name in EXPORTED[found.device]

    def _through(self, binding: Binding) -> str | None:
        """What a binding stands for by its imports; an empty text where the file makes it; None where it is of no interest."""
        if id(binding) in self.aliases:
            return ""
        names = binding.targets()
        return next((n for n in sorted(names, key=_order) if _near(n)), None)

    def _add(self, name: ast.Name, text: str, binding: Binding | None, through: str) -> None:
        """Follows the attributes of a name as far as a symbol's own name."""
        chain: ast.expr = name
        found = symbol(text)
        while found is None or found.is_module:
            above = self.scopes.parents.get(chain)
            if not isinstance(above, ast.Attribute):
                break
            text, chain = f"{text}.{above.attr}", above
            found = symbol(text)
        if found is not None:
            self.known.append(Reference(chain, name, found, binding, through, text))

    def _more(self) -> bool:
        """Finds names that the file makes for what references stand for: `cast = torch.cuda.amp.autocast`, subclasses."""
        before = len(self.aliases)
        for reference in self.known:
            made = self.made(reference)
            if made is not None:
                self.aliases.setdefault(id(made), reference.text)
        return len(self.aliases) > before

    def made(self, reference: Reference) -> Binding | None:
        """The name that the file makes for what a reference stands for."""
        stmt = self.scopes.parents.get(reference.node)
        if isinstance(stmt, ast.ClassDef) and reference.node in stmt.bases and reference.symbol.name == "GradScaler":
            own = any(getattr(node, "name", "") == "__init__" for node in stmt.body)  # which calls of the class are of
            return next((b for b in self.scopes.bindings if stmt in b.classes and not own), None)
        if isinstance(stmt, (ast.Assign, ast.AnnAssign)) and stmt.value is reference.node:
            return next((b for b in self.scopes.bindings if reference.node in b.values), None)
        return None

    # places ----------------------------------------------------------------------------------------------

    def role(self, reference: Reference) -> str:
        """In what place a reference stands: call, decorator, partial, type, test, base, made, none; or empty, where what becomes
        of it cannot be followed."""
        node, parents = reference.node, self.scopes.parents
        parent = parents.get(node)
        around = self.scopes.ancestors(node)
        if any(isinstance(each, (ast.JoinedStr, ast.FormattedValue)) for each in around):
            return ""
        if isinstance(parent, ast.Call) and parent.func is node:
            return "call"
        if node in getattr(parent, "decorator_list", ()):
            return "decorator"
        if isinstance(parent, ast.Call) and parent.args[:1] == [node] and self._is_partial(parent.func):
            return "partial"
        if self._is_annotation(node, around) or self._is_type(node, around):
            return "type"
        if isinstance(parent, ast.ClassDef) and node in parent.bases:
            return "base"
        if self.made(reference) is not None:
            return "made"
        if self._is_test(node, around):
            return "test"
        return "none" if isinstance(parent, ast.Expr) else ""

    def text(self, node: ast.AST) -> str:
        """The qualified name of a dotted expression, as its imports alone have it."""
        if isinstance(node, ast.Attribute):
            base = self.text(node.value)
            return f"{base}.{node.attr}" if base else ""
        if not isinstance(node, ast.Name):
            return ""
        binding = self.scopes.binding.get(node)
        if binding is None:
            return node.id
        names = {target(stmt, alias) for stmt, alias in binding.imports}
        return names.pop() if len(names) == 1 and not binding.others and not binding.classes else ""

    def _is_partial(self, node: ast.AST) -> bool:
        return self.text(node) == "functools.partial"

    @staticmethod
    def _is_annotation(node: ast.AST, around: list[ast.AST]) -> bool:
        child = node
        for parent in around:
            if child in (getattr(parent, "annotation", None), getattr(parent, "returns", None)):
                return True
            if not isinstance(parent, (ast.Subscript, ast.Tuple, ast.List, ast.BinOp, ast.Attribute, ast.Index)):
                return False
            child = parent
        return False

    def _is_type(self, node: ast.AST, around: list[ast.AST]) -> bool:
        """Whether something is asked whether it is of the type: `isinstance(x, (A, B))`, `type(x) is A`."""
        child = node
        for parent in around:
            if isinstance(parent, ast.Call):
                return isinstance(parent.func, ast.Name) and parent.func.id in TYPES and parent.args[1:] == [child]
            if isinstance(parent, ast.Compare):
                sides = [parent.left, *parent.comparators]
                return len(sides) == 2 and any(isinstance(s, ast.Call) and ast.unparse(s.func) == "type" for s in sides)
            if not isinstance(parent, (ast.Tuple, ast.BinOp)):
                return False
            child = parent
        return False

    @staticmethod
    def _is_test(node: ast.AST, around: list[ast.AST]) -> bool:
        """Whether it is only asked whether the thing is there."""
        child = node
        for parent in around:
            if isinstance(parent, ast.Compare):
                sides = [parent.left, *parent.comparators]
                if not all(s is child or (isinstance(s, ast.Constant) and s.value is None) for s in sides):
                    return False
            elif getattr(parent, "test", None) is child:
                return True
            elif not isinstance(parent, (ast.BoolOp, ast.UnaryOp)):
                return isinstance(child, (ast.Compare, ast.UnaryOp)) and child is not node
            child = parent
        return False

    def strings(self, tree: ast.Module) -> Iterator[tuple[int, int, str]]:
        """Where old names stand as texts: in strings that are nothing else, and in `getattr`, `hasattr`."""
        parents = self.scopes.parents
        for node in parents:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not isinstance(parents[node], ast.Expr):
                if symbol(node.value) is not None:
                    yield node.lineno, node.col_offset, f"the text {node.value!r}"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
                base = self.text(node.args[0]) if node.args else ""
                name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else ""
                if symbol(base) is not None or (base in ("torch.cuda", "torch.cpu") and name == "amp"):
                    yield node.lineno, node.col_offset, f"`{ast.unparse(node)}`, which asks for a name by a text"


def _near(name: str) -> bool:
    """Whether attributes of something may be of the old packages."""
    return name in ("torch", "torch.cuda", "torch.cpu") or symbol(name) is not None


def _order(name: str) -> tuple[bool, str]:
    return symbol(name) is None, name
