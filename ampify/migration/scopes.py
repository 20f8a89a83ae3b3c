"""Scopes: what each name of a file is bound to, scope by scope, and where it is read."""

from __future__ import annotations

import ast

from ampify.analysis.walk import children

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IMPORTS = (ast.Import, ast.ImportFrom)


class Binding:
    """A name of one scope: all that binds it there, and all places that read it."""

    def __init__(self, name: str, top: bool) -> None:
        self.name, self.top = name, top  # `top`: it is the module's
        self.imports: list[tuple[ast.Import | ast.ImportFrom, ast.alias]] = []
        self.values: list[ast.expr] = []  # of plain assignments to it alone
        self.classes: list[ast.ClassDef] = []
        self.others: list[ast.AST] = []  # whatever else binds it
        self.reads: list[ast.Name] = []

    def targets(self) -> set[str]:
        """The qualified names that imports bind it to."""
        return {target(stmt, alias) for stmt, alias in self.imports}


def target(stmt: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The qualified name that an import binds its local name to."""
    if isinstance(stmt, ast.Import):
        return alias.name if alias.asname else alias.name.partition(".")[0]
    return "." * stmt.level + f"{stmt.module or ''}.{alias.name}"


class _Scope:
    def __init__(self, node: ast.AST, above: _Scope | None) -> None:
        self.node, self.above = node, above
        self.names: dict[str, Binding] = {}
        self.outer: set[str] = set()  # names that are said to be of a scope outside
        self.reads: list[ast.Name] = []

    def binding(self, name: str) -> Binding:
        """The binding of a name that this scope binds."""
        if name in self.outer and self.above is not None:
            scope: _Scope = self.above
            while scope.above is not None and name not in scope.names:
                scope = scope.above
            return scope.binding(name)
        return self.names.setdefault(name, Binding(name, self.above is None))

    def find(self, name: str) -> Binding | None:
        """What a name that is read here is bound to; None for a builtin, or one that nothing plain binds."""
        scope: _Scope | None = self
        while scope is not None:
            inside = scope is self or not isinstance(scope.node, ast.ClassDef)
            if inside and name in scope.names and name not in scope.outer:
                return scope.names[name]
            scope = scope.above
        return None


class Scopes:
    """The bindings of a file, the parents of its nodes, and what imports everything of a module."""

    def __init__(self, tree: ast.Module) -> None:
        self.parents: dict[ast.AST, ast.AST] = {}
        self.stars: list[ast.ImportFrom] = []
        self.free: list[ast.Name] = []  # reads that nothing in the file binds
        self.binding: dict[ast.Name, Binding] = {}
        self._scopes: list[_Scope] = []
        self._enter(tree, None, list(children(tree)))
        for scope in self._scopes:
            for name in scope.reads:
                found = scope.find(name.id)
                if found is None:
                    self.free.append(name)
                else:
                    found.reads.append(name)
                    self.binding[name] = found

    @property
    def bindings(self) -> list[Binding]:
        return [binding for scope in self._scopes for binding in scope.names.values()]

    def top(self, name: str) -> Binding | None:
        """The module's own binding of a name."""
        return self._scopes[0].names.get(name)

    def ancestors(self, node: ast.AST) -> list[ast.AST]:
        """The nodes round a node, the nearest first."""
        found = []
        while node in self.parents:
            node = self.parents[node]
            found.append(node)
        return found

    # building --------------------------------------------------------------------------------------------

    def _enter(self, node: ast.AST, above: _Scope | None, inside: list[ast.AST]) -> None:
        scope = _Scope(node, above)
        self._scopes.append(scope)
        for child in inside:
            if isinstance(child, ast.stmt):
                self._outer(child, scope)
        for child in inside:
            self.parents[child] = node
            self._visit(child, scope)

    def _outer(self, stmt: ast.AST, scope: _Scope) -> None:
        """Notes what the statements of a scope say of names outside of it, before anything binds them."""
        if isinstance(stmt, (ast.Global, ast.Nonlocal)):
            scope.outer.update(stmt.names)
        elif not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            for child in children(stmt):
                if not isinstance(child, ast.expr):
                    self._outer(child, scope)

    def _visit(self, node: ast.AST, scope: _Scope) -> None:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            self._definition(node, scope)
            return
        if isinstance(node, COMPREHENSIONS):
            self._enter(node, scope, list(children(node)))
            return
        self._bind(node, scope)
        for child in children(node):
            self.parents[child] = node
            self._visit(child, scope)

    def _definition(self, node: ast.AST, scope: _Scope) -> None:
        body = getattr(node, "body", None)
        inside: list[ast.AST] = list(body) if isinstance(body, list) else []
        if isinstance(node, ast.ClassDef):
            scope.binding(node.name).classes.append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            scope.binding(node.name).others.append(node)
        elif isinstance(node, ast.Lambda):
            inside = [node.body]  # an expression
        known = set(map(id, inside))
        outside = [child for child in children(node) if id(child) not in known]
        for child in outside:
            self.parents[child] = node
            self._visit(child, scope)  # decorators, defaults, annotations: they run in the scope around
        self._enter(node, scope, inside)
        if isinstance(node, FUNCTIONS):
            own = self._scopes[self._number(node)]
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            for argument in every:
                if argument is not None:
                    own.binding(argument.arg).others.append(argument)

    def _number(self, node: ast.AST) -> int:
        return next(i for i in range(len(self._scopes) - 1, -1, -1) if self._scopes[i].node is node)

    def _bind(self, node: ast.AST, scope: _Scope) -> None:
        """Notes what a node binds or reads by itself."""
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                scope.reads.append(node)
            elif not self._plain(node, scope):
                while isinstance(scope.node, COMPREHENSIONS) and isinstance(self.parents.get(node), ast.NamedExpr):
                    assert scope.above is not None  # a comprehension is within something
                    scope = scope.above
                scope.binding(node.id).others.append(node)
        elif isinstance(node, IMPORTS):
            for alias in node.names:
                if alias.name == "*":
                    assert isinstance(node, ast.ImportFrom)
                    self.stars.append(node)
                else:
                    local = alias.asname or (alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name)
                    scope.binding(local).imports.append((node, alias))
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            scope.binding(node.name).others.append(node)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            scope.binding(node.rest).others.append(node)

    def _plain(self, node: ast.Name, scope: _Scope) -> bool:
        """Takes the value of `name = value`; whether it is one."""
        stmt = self.parents.get(node)
        if isinstance(stmt, ast.Assign) and stmt.targets == [node]:
            scope.binding(node.id).values.append(stmt.value)
            return True
        if isinstance(stmt, ast.AnnAssign) and stmt.target is node and stmt.value is not None:
            scope.binding(node.id).values.append(stmt.value)
            return True
        return False
