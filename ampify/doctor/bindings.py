"""Bindings: scalers that are used where there is none: before they are made, or in runs that make none (AMP330)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.names import dotted
from ampify.analysis.scalers import is_scaler_call
from ampify.analysis.walk import children, walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.machine import about_precision

# What a name may hold at a place.
UNBOUND, NONE, SCALER, OTHER = "unbound", "None", "a scaler", "something else"
State = frozenset[str]
ENDING = frozenset({"sys.exit", "exit", "quit", "os._exit", "parser.error"})
CATCHING = frozenset({"Exception", "BaseException", "NameError", "UnboundLocalError", "AttributeError", "TypeError"})
APART = (*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def find(case: Case) -> Iterator[Finding]:
    """The first such use of each scaler that a function makes, by its own name for it."""
    for frame in case.file.frames.all:
        body = case.body(frame)
        own = {m.text for m in case.made if m.stmt in body and m.text.isidentifier()}
        for name in sorted(own):
            if not _is_shared(frame, name):
                yield from _Walk(case, frame, name).findings()


def _is_shared(frame: Frame, name: str) -> bool:
    """Whether a name is bound by more than the statements of a function, or by some that are not followed."""
    if name in frame.declared or any(b.how != "assign" for b in frame.bindings.get(name, ())):
        return True
    for node in ast.walk(frame.node):
        if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names and frame.parent is not None:
            return True
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Del):
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any((a.asname or a.name) in (name, "*") for a in node.names):
            return True
    return False


class _Walk:
    """Follows what one name of a function may hold, from statement to statement."""

    def __init__(self, case: Case, frame: Frame, name: str) -> None:
        self.case, self.frame, self.name = case, frame, name
        self.under: list[ast.AST] = []  # the conditions that a statement is under
        self.since: tuple[list[ast.AST], ast.expr] | None = None  # where there may be none from, and what it depends on
        self.told: list[tuple[ast.Name, str]] = []
        self.ended: list[ast.expr] = []  # conditions under which the function, or a round of a loop, ends
        self.loops: list[tuple[set[str], set[str]]] = []  # what holds where the next round, or what follows, is jumped to

    def findings(self) -> Iterator[Finding]:
        self.block(self.frame.node.body, frozenset({UNBOUND}))
        for node, detail in sorted(self.told, key=lambda t: (t[0].lineno, t[0].col_offset))[:1]:
            yield Finding("AMP330", node.lineno, node.col_offset, f"`{self.name}`|{detail}")

    def block(self, stmts: Iterable[ast.stmt], state: State | None) -> State | None:
        """What holds at the end of some statements; None where that is not reached."""
        for stmt in stmts:
            if state is None:
                return None
            state = self.statement(stmt, state)
        return state

    def statement(self, stmt: ast.stmt, state: State) -> State | None:
        if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            return state
        if isinstance(stmt, ast.If):
            return self.branch(stmt, state)
        if isinstance(stmt, (ast.For, ast.AsyncFor, ast.While)):
            return self.loop(stmt, state)
        if isinstance(stmt, (ast.With, ast.AsyncWith)):
            for item in stmt.items:
                self.uses(item, state)
            return (
                self.conditional(stmt, stmt.body, state)
                if "suppress" in ast.unparse(stmt.items[0])
                else self.block(stmt.body, state)
            )
        if isinstance(stmt, ast.Try):
            return self.attempt(stmt, state)
        if isinstance(stmt, ast.Match):
            return state | {OTHER}
        self.uses(stmt, state)
        if isinstance(stmt, ast.Assert):
            self.ended.append(stmt.test)
            return frozenset({OTHER}) if self.mentions(stmt.test) else state
        jumps = isinstance(stmt, (ast.Break, ast.Continue))
        if jumps and self.loops:
            self.loops[-1][isinstance(stmt, ast.Break)].update(state)
        if jumps or isinstance(stmt, (ast.Return, ast.Raise)) or self.ends(stmt):
            self.ended.extend(n.test for n in self.under if isinstance(n, ast.If))
            return None
        return self.assigned(stmt, state)

    @staticmethod
    def ends(stmt: ast.stmt) -> bool:
        return isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call) and dotted(stmt.value.func) in ENDING

    def conditional(self, condition: ast.AST, stmts: list[ast.stmt], state: State) -> State | None:
        self.under.append(condition)
        after = self.block(stmts, state)
        self.under.pop()
        return after

    def branch(self, stmt: ast.If, state: State) -> State | None:
        self.uses(stmt.test, state)
        then, otherwise = self.conditional(stmt, stmt.body, state), self.conditional(stmt, stmt.orelse, state)
        if then is None or otherwise is None:
            left = then if otherwise is None else otherwise
            return frozenset({OTHER}) if left is not None and self.mentions(stmt.test) else left
        both = then | otherwise
        if then != otherwise:
            inner = self.since is not None and self.since[0][: len(self.under) + 1] == [*self.under, stmt]
            self.doubt(both, self.since[1] if self.since is not None and inner else stmt.test)
        return both

    def doubt(self, state: State, test: ast.expr) -> None:
        """Notes that from here on there may be no scaler, as a condition says."""
        if SCALER in state and state & {UNBOUND, NONE} and about_precision(test) and not self.mentions(test):
            self.since = (list(self.under), test)

    def loop(self, stmt: ast.For | ast.AsyncFor | ast.While, state: State) -> State | None:
        self.uses(stmt.test if isinstance(stmt, ast.While) else stmt.iter, state)
        told, since = list(self.told), self.since
        for _ in range(2):
            self.told, self.since = list(told), since
            self.loops.append((set(), set()))
            end = self.block(stmt.body, state)
            again, out = self.loops.pop()
            state = state | (end or frozenset()) | again
        after = self.block(stmt.orelse, state)
        return (after or frozenset()) | out or None

    def attempt(self, stmt: ast.Try, state: State) -> State | None:
        catches = any(self.catches(handler) for handler in stmt.handlers)
        body = self.conditional(stmt, stmt.body, state) if catches else self.block(stmt.body, state)
        bound = frozenset({OTHER}) if any(self.binds(s) for s in stmt.body) else frozenset()
        ends = [self.block(stmt.orelse, body)]
        ends += [self.conditional(handler, handler.body, state | bound) for handler in stmt.handlers]
        reached = [e for e in ends if e is not None]
        after = frozenset().union(*reached) if reached else None
        return self.block(stmt.finalbody, after)

    @staticmethod
    def catches(handler: ast.ExceptHandler) -> bool:
        kinds = list(handler.type.elts) if isinstance(handler.type, ast.Tuple) else [handler.type]
        return any(kind is None or dotted(kind) in CATCHING for kind in kinds)

    def binds(self, stmt: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id == self.name and isinstance(n.ctx, ast.Store) for n in ast.walk(stmt))

    def mentions(self, node: ast.AST) -> bool:
        return any(isinstance(n, ast.Name) and n.id == self.name for n in walk(node))

    # values ------------------------------------------------------------------------------------------

    def assigned(self, stmt: ast.stmt, state: State) -> State:
        """What holds behind a simple statement."""
        if not self.binds(stmt):
            return state
        value = stmt.value if isinstance(stmt, (ast.Assign, ast.AnnAssign)) else None
        targets = stmt.targets if isinstance(stmt, ast.Assign) else [getattr(stmt, "target", None)]
        if value is None or not all(isinstance(t, ast.Name) for t in targets):
            return frozenset({OTHER})
        made = self.value(value)
        if isinstance(value, ast.IfExp):
            self.doubt(made, value.test)
        return made

    def value(self, node: ast.expr) -> State:
        if isinstance(node, ast.IfExp):
            return self.value(node.body) | self.value(node.orelse)
        if isinstance(node, ast.Constant) and node.value is None:
            return frozenset({NONE})
        return frozenset({SCALER if is_scaler_call(node, self.case.names) else OTHER})

    def uses(self, node: ast.AST, state: State) -> None:
        """Notes what a statement's own expressions do with the name where it may hold no scaler."""
        stack: list[tuple[ast.AST, bool]] = [(node, False)]
        while stack:
            inner, perhaps = stack.pop()
            if isinstance(inner, APART):
                continue
            if isinstance(inner, ast.Name) and inner.id == self.name and isinstance(inner.ctx, ast.Load):
                self.use(inner, state, perhaps)
            for child in children(inner):
                chosen = isinstance(inner, ast.IfExp) and child is not inner.test
                chosen = chosen or (isinstance(inner, ast.BoolOp) and child is not inner.values[0])
                stack.append((child, perhaps or chosen))

    def use(self, node: ast.Name, state: State, perhaps: bool) -> None:
        error = "a NameError" if isinstance(self.frame.node, ast.Module) else "an UnboundLocalError"
        if state == {UNBOUND}:
            lines = [m.stmt.lineno for m in self.case.made if m.text == self.name and m.stmt.lineno > node.lineno]
            if lines and not any(isinstance(n, ast.Try) for n in self.under):
                self.told.append((node, f"it is made in line {min(lines)}, and until then this raises {error}"))
            return
        if self.since is None or perhaps or self.under != self.since[0] or self._is_settled(self.since[1]):
            return
        test = ast.unparse(self.since[1])
        if UNBOUND in state and SCALER in state and OTHER not in state:
            self.told.append((node, f"it depends on `{test[:50]}` whether it is bound, and if not this raises {error}"))
        elif state == {NONE, SCALER} and isinstance(self.case.parents.get(node), ast.Attribute):
            self.told.append((node, f"it depends on `{test[:50]}` whether it is None, and if so this raises an AttributeError"))

    def _is_settled(self, test: ast.expr) -> bool:
        """Whether a condition has the same answer in all runs that come so far: the function ends before under another that
        speaks of the same, or what it asks for is written out."""
        asked = set(_values(test))
        if asked & {text for ended in self.ended for text in _values(ended)}:
            return True
        stored = [s for s in self.case.body(self.frame) if isinstance(s, ast.Assign) and _is_true(s.value)]
        if any(dotted(t) in asked for s in stored for t in s.targets):
            return True
        known = [v for name in asked for v in [self.case.names.assigned.get(name, [])] if len(v) == 1]
        return isinstance(test, ast.Constant) or any(isinstance(values[0], ast.Constant) for values in known)


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def _values(node: ast.expr) -> Iterator[str]:
    """The texts of the values that an expression speaks of: `args.amp`, and not `args`."""
    if isinstance(node, (ast.Name, ast.Attribute)) and dotted(node):
        yield dotted(node)
        return
    for child in children(node):
        if isinstance(child, ast.expr):
            yield from _values(child)
