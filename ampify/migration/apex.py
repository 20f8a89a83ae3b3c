"""Apex: takes apex.amp out of a script, which leaves the fp32 program that the ordinary conversion goes on from.

A switch of the author's (`if args.fp16:` round `amp.initialize`) stays one: `if not args.fp16: configure(mode="off")`.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import NamedTuple

from ampify.analysis.walk import walk
from ampify.migration.apex_form import Apex, Fp32, Kept
from ampify.migration.cutting import Cut
from ampify.migration.layout import Layout, span
from ampify.plan.edits import Replace

OUT, SWITCH = "AMP354", "AMP355"
FORMS = frozenset({"initialize", "scale_loss", "master_params", "state_dict", "load_state_dict"})
PURE = (
    ast.Name,
    ast.Attribute,
    ast.Constant,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Compare,
    ast.boolop,
    ast.cmpop,
    ast.unaryop,
    ast.expr_context,
)
RUNTIME = "from ampify_runtime import configure"


class Without(NamedTuple):
    """How a script becomes one without apex.amp: the edits, what a reviewer is told as (code, first line, last line), and what
    switches mixed precision, or nothing."""

    edits: list[Replace]
    told: list[tuple[str, int, int]]
    switch: str
    origins: list[int]  # by line of the outcome, the line of the source that it comes from


def without_apex(tree: ast.Module, source: bytes) -> Without | None:
    """None where apex.amp is not used. Raises Kept where it stays."""
    apex = Apex(tree)
    if not apex.uses():
        return None
    check(apex)
    return _Planner(apex, source).plan()


def check(apex: Apex) -> None:
    """Raises Kept where something of apex is used in a way that is not known."""
    amps = {name for name, full in apex.names.items() if full in ("apex", "apex.amp")}
    if twice := amps & apex.rebound:
        raise Kept(apex.uses()[0], f"`{min(twice)}` means other things as well")
    for node in apex.uses():
        above = apex.parents[node]
        call = apex.parents.get(above)
        if isinstance(above, ast.Attribute) and above.attr in FORMS and isinstance(call, ast.Call) and call.func is above:
            _check_call(apex, call, above.attr)
        elif isinstance(above, ast.Attribute):
            raise Kept(node, f"`amp.{above.attr}` has no counterpart in what autocast and a scaler do")
        elif not any(isinstance(n, ast.If) and apex.is_presence(n.test) and node in walk(n.test) for n in walk(apex.tree)):
            raise Kept(node, "`apex.amp` is handed on, and what becomes of it cannot be seen")
    for node in apex.others():
        raise Kept(node, f"`{apex.resolve(node)}` is used besides, which stays; take torch's own in its place first")


def _check_call(apex: Apex, call: ast.Call, name: str) -> None:
    parent = apex.parents[call]
    if name == "initialize":
        if not isinstance(parent, ast.Assign) or len(parent.targets) > 1:
            raise Kept(call, "what amp.initialize gives back is not followed")
        apex.check_initialize(call)
    elif name == "scale_loss":
        if not isinstance(parent, ast.withitem) or not isinstance(parent.optional_vars, ast.Name):
            raise Kept(call, "the scaled loss cannot be followed")
        holder = apex.parents[parent]
        name = parent.optional_vars.id
        reads = [n for n in walk(apex.tree) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
        withs = [w for w in walk(apex.tree) if isinstance(w, ast.With) and apex.calls(w.items[0].context_expr, "scale_loss")]
        if holder not in withs or any(all(n not in set(walk(w)) for w in withs) for n in reads):
            raise Kept(call, f"`{name}` is used outside of the block that it is scaled for")
    elif name == "master_params" and (len(call.args) != 1 or call.keywords):
        raise Kept(call, "the parameters of the optimizer cannot be named")
    elif name == "state_dict":
        stored = isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Subscript) and len(parent.targets) == 1
        if not stored and not (isinstance(parent, ast.Dict) and call in parent.values):
            raise Kept(call, "the state of apex.amp is not saved in a dict by a key")
    elif name == "load_state_dict" and not isinstance(parent, ast.Expr):
        raise Kept(call, "what amp.load_state_dict gives back is not followed")


def switch(apex: Apex) -> tuple[ast.stmt, str] | None:
    """What turns mixed precision on, and the statement before which it is asked for; None where it is always on."""
    calls = [n for n in walk(apex.tree) if apex.calls(n, "initialize")]
    if not calls:
        raise Kept(apex.uses()[0], "amp.initialize is not called in this file, and with which opt_level cannot be seen")
    if len(calls) > 1:
        raise Kept(calls[1], "amp.initialize is called more than once")
    (call,) = calls
    assert isinstance(call, ast.Call)
    stmt: ast.AST = apex.parents[call]
    assert isinstance(stmt, ast.stmt)
    found: list[tuple[ast.stmt, str]] = []
    for keyword in call.keywords:
        if keyword.arg == "enabled" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is True):
            found.append((stmt, _negated(keyword.value)))
    child: ast.AST = stmt
    while child in apex.parents and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
        parent = apex.parents[child]
        if isinstance(parent, ast.If) and child is not parent.test and not apex.is_presence(parent.test):
            if not is_pure(parent.test):
                raise Kept(parent, "what turns apex on does more than look")
            found.append((parent, _negated(parent.test) if child in parent.body else ast.unparse(parent.test)))
        elif isinstance(parent, (ast.For, ast.While, ast.AsyncFor, ast.Try)):
            raise Kept(call, "amp.initialize is called in a loop, or under `try`")
        child = parent
    if len(found) > 1:
        raise Kept(call, "amp.initialize is called under two conditions")
    return found[0] if found else None


def is_pure(test: ast.expr) -> bool:
    """Whether a test only looks at names, attributes and constants."""
    return all(isinstance(node, PURE) for node in walk(test))


def _negated(test: ast.expr) -> str:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return ast.unparse(test.operand)
    plain = isinstance(test, (ast.Name, ast.Attribute, ast.Compare))
    return f"not {ast.unparse(test)}" if plain else f"not ({ast.unparse(test)})"


class _Planner:
    def __init__(self, apex: Apex, source: bytes) -> None:
        self.apex, self.fp32 = apex, Fp32(apex)
        self.layout = Layout(source)
        self.cut = Cut(self.layout)
        self.told: list[tuple[str, int, int]] = []

    def plan(self) -> Without:
        on = switch(self.apex)
        left = self.fp32.tree()
        gone = {name for name, full in self.apex.names.items() if full in ("apex", "apex.amp")}
        for node in walk(left):
            if isinstance(node, ast.Name) and node.id in gone:
                raise Kept(node, f"`{node.id}` is asked for where apex cannot be taken out")
            if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
                raise Kept(node, "a block does nothing but what apex is for")
        if on is not None:
            self.switch(*on)
        self.block(self.apex.tree.body)
        return Without(self.cut.edits(), sorted(set(self.told)), on[1] if on is not None else "", self.cut.origins())

    def switch(self, stmt: ast.stmt, test: str) -> None:
        """The author's switch, for the runtime, and its import."""
        tree = self.apex.tree
        if any(getattr(n, "id", getattr(n, "name", "")) == "configure" for n in walk(tree)):
            raise Kept(stmt, "`configure` is a name of the file's own")
        unit = self.layout.unit
        indent = self.layout.indent(stmt.lineno)
        self.cut.insert(stmt.lineno, f"{indent}if {test}:", f"{indent}{unit}configure(mode={self.layout.quoted('off')})")
        self.told.append((SWITCH, stmt.lineno, stmt.lineno))
        ahead = [s for s in tree.body if (s.end_lineno or s.lineno) < stmt.lineno]
        imports = [s for s in ahead if isinstance(s, (ast.Import, ast.ImportFrom))]
        torch = [s for s in imports if ast.unparse(s).split()[1].partition(".")[0] == "torch"]
        if not imports:
            raise Kept(stmt, "there is no place for an import")
        last = (torch or imports)[-1]
        self.cut.insert((last.end_lineno or last.lineno) + 1, RUNTIME)

    # statements ----------------------------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for stmt in statements:
            if any(self.apex.resolve(n).startswith("apex") for n in walk(stmt)) or _imports_apex(stmt):
                self.statement(stmt)

    def statement(self, stmt: ast.stmt) -> None:
        left = self.fp32.block([stmt])
        if not left:
            self.cut.statement(stmt)
            self.told.append((OUT, stmt.lineno, stmt.end_lineno or stmt.lineno))
        elif isinstance(stmt, ast.With) and self.apex.calls(stmt.items[0].context_expr, "scale_loss"):
            self.scaled(stmt)
        elif isinstance(stmt, ast.If) and not (len(left) == 1 and isinstance(left[0], ast.If) and _same_test(left[0], stmt)):
            self.chosen(stmt)
        elif isinstance(stmt, (ast.Import, ast.ImportFrom)):
            self.cut.rewrite(stmt, ast.unparse(left[0]))
            self.told.append((OUT, stmt.lineno, stmt.end_lineno or stmt.lineno))
        else:
            self.inside(stmt)

    def inside(self, stmt: ast.stmt) -> None:
        """What is to be done in a statement that stays."""
        for field in ("body", "orelse", "finalbody"):
            self.block(getattr(stmt, field, ()))
        for handler in getattr(stmt, "handlers", ()):
            self.block(handler.body)
        for case in getattr(stmt, "cases", ()):
            self.block(case.body)
        self.expressions(stmt)

    def expressions(self, stmt: ast.stmt) -> None:
        """Rewrites what a statement itself has of apex."""
        stack: list[ast.AST] = [stmt]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Dict):
                for at, value in enumerate(node.values):
                    if self.apex.calls(value, "state_dict"):
                        self.cut.entry(node, at)
                        self.told.append((OUT, value.lineno, value.end_lineno or value.lineno))
            elif isinstance(node, ast.Call) and self.apex.calls(node, "master_params"):
                parameters = self.apex.parameters(node.args[0])
                if parameters is None:
                    raise Kept(node, f"the parameters of `{ast.unparse(node.args[0])}` cannot be named")
                self.cut.inline(Replace(*span(node), ast.unparse(parameters)))
                self.told.append((OUT, node.lineno, node.end_lineno or node.lineno))
            elif isinstance(node, ast.Call) and self.apex.calls(node, "initialize"):
                texts = [self.cut.text(argument) for argument in node.args]
                self.cut.inline(Replace(*span(node), ", ".join(texts)))
                self.told.append((OUT, node.lineno, node.end_lineno or node.lineno))
            stack.extend(child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt))

    def scaled(self, stmt: ast.With) -> None:
        """The body of `with amp.scale_loss(loss, optimizer) as scaled:`, with the loss itself."""
        call, name = stmt.items[0].context_expr, stmt.items[0].optional_vars
        assert isinstance(call, ast.Call)
        assert isinstance(name, ast.Name)
        reads = [n for s in stmt.body for n in walk(s) if isinstance(n, ast.Name) and n.id == name.id]
        plain = isinstance(call.args[0], (ast.Name, ast.Attribute))
        if not plain and len(reads) != 1:
            raise Kept(stmt, "the loss is computed where it is scaled, and used more than once")
        text = self.cut.text(call.args[0])
        bare = isinstance(call.args[0], (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
        for read in reads:
            self.cut.inline(Replace(*span(read), text if bare else f"({text})"))
        self.cut.unwrap(stmt, stmt.body)
        self.told.append((OUT, stmt.lineno, stmt.end_lineno or stmt.lineno))
        self.block(stmt.body)

    def chosen(self, stmt: ast.If) -> None:
        """A test whose branches are the same without apex: one of them is enough, the author's own for fp32."""
        if not is_pure(stmt.test):
            raise Kept(stmt, "what turns apex on does more than look")
        apart = any(self.apex.resolve(n).startswith("apex") for s in stmt.body for n in walk(s))
        kept = stmt.orelse if apart else stmt.body
        self.cut.unwrap(stmt, kept)
        self.told.append((OUT, stmt.lineno, stmt.end_lineno or stmt.lineno))


def _same_test(one: ast.If, other: ast.If) -> bool:
    return ast.unparse(one.test) == ast.unparse(other.test)


def _imports_apex(stmt: ast.stmt) -> bool:
    names = (n for n in walk(stmt) if isinstance(n, (ast.Import, ast.ImportFrom)))
    return any("apex" in ast.unparse(n) for n in names)
