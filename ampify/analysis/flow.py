"""Flow: a function's statements as the Stmt tree that planning and the protocol run on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis import gradients, owners
from ampify.analysis.facts import Facts, Raw
from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Source
from ampify.analysis.sites import Sites
from ampify.analysis.syntax import blocks_of, header, uses_of
from ampify.analysis.vocabulary import DETACHING, MUTATORS
from ampify.analysis.walk import walk
from ampify.program import Barrier, Compute, Event, Kind, Optimizer, Refusal, Scope, Stmt, overlap

JUMPS = {ast.Break: "break", ast.Continue: "continue", ast.Return: "return", ast.Raise: "raise"}
NO_GRAD = frozenset({"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.grad_mode.no_grad"})
PURE_CALLS = frozenset({"len", "isinstance", "int", "bool"})


def number(tree: ast.Module) -> dict[ast.stmt, tuple[int, int]]:
    """For every statement of a file its index in source order and the index after its last inner one."""
    numbers: dict[ast.stmt, tuple[int, int]] = {}
    counter = 0

    def visit(body: list[ast.stmt]) -> None:
        nonlocal counter
        for stmt in body:
            index = counter
            counter += 1
            for block in blocks_of(stmt):
                visit(block)
            numbers[stmt] = (index, counter)

    visit(tree.body)
    return numbers


class Builder:
    """Builds the Scope of one frame."""

    def __init__(self, sites: Sites, numbers: dict[ast.stmt, tuple[int, int]], frame: Frame) -> None:
        self.sites, self.numbers, self.frame = sites, numbers, frame
        self.roles = sites.roles
        self.facts: dict[ast.stmt, Facts] = {}
        self.refusals: list[Refusal] = []
        self.optimizers: tuple[Optimizer, ...] = ()

    def read(self) -> None:
        """Reads the statements; notes whose closure what is."""
        self._read(self.frame.node.body)

    def closures(self) -> dict[ast.AST, str]:
        """The functions that steps of this frame evaluate, with the optimizer."""
        events = [e for facts in self.facts.values() for e in facts.events]
        return {e.closure: e.key for e in events if e.closure is not None}

    def checkpoints(self) -> list[Source]:
        """The checkpoints that may get the scaler's state."""
        events = [e for facts in self.facts.values() for e in facts.events]
        return [(e.mapping, self.frame) for e in events if e.mapping is not None and e.form and not e.done]

    def scope(self, closures: dict[ast.AST, str]) -> Scope | None:
        """The scope, or None where nothing in it takes part in training or evaluation."""
        node = self.frame.node
        decorators = [] if isinstance(node, ast.Module) else node.decorator_list
        no_grad = any(self._is_no_grad(d) for d in decorators)
        if not no_grad and not any(f.events or self._is_context(s) for s, f in self.facts.items()):
            return None
        self.optimizers = self._optimizers(closures.get(node, ""))
        repeated = not isinstance(node, ast.Module)
        number = -1 if isinstance(node, ast.Module) else self.numbers[node][0]
        line = getattr(node, "lineno", 1)
        body = self._block(node.body)
        return Scope(self.frame.name, body, self.optimizers, repeated, no_grad, line, number, node in closures)

    def _suppresses(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self.sites.names.resolve(node.func) == "contextlib.suppress"

    def _is_context(self, stmt: ast.stmt) -> bool:
        """Whether a statement is a `with` under which gradients are off, or autocast on."""
        if not isinstance(stmt, ast.With | ast.AsyncWith):
            return False
        return any(self._is_no_grad(i.context_expr) or self.sites.names.is_autocast(i.context_expr) for i in stmt.items)

    def _read(self, body: list[ast.stmt]) -> None:
        for stmt in body:
            if not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
                facts = self.facts[stmt] = self.sites.read(stmt, self.frame)
                self.refusals.extend(facts.refusals)
                for block in blocks_of(stmt):
                    self._read(block)

    def _optimizers(self, evaluating: str) -> tuple[Optimizer, ...]:
        """The optimizers of the scope; `evaluating` is the one whose closure it is."""
        keys: dict[str, None] = {evaluating: None} if evaluating else {}
        for facts in self.facts.values():
            for raw in facts.events:
                if raw.key and raw.kind in (Kind.STEP, Kind.UNSCALE):
                    keys[raw.key] = None
        return tuple(Optimizer(key, self._owned(key), self._wraps(key)) for key in keys)

    def _wraps(self, key: str) -> bool:
        return self.roles.of(ast.parse(key, mode="eval").body, self.frame) is Role.WRAPPER

    def _owned(self, key: str) -> frozenset[str]:
        """The roots of what an optimizer was built with; empty when its construction is not in sight."""
        roots: set[str] = set()
        for value, where in self.roles.sources(key, self.frame):
            if isinstance(value, ast.Call) and not self._constructs(value):
                # A factory: what it is handed is what it builds on.
                roots |= {t for t in gradients.touched(value, where, self.roles) if not t.startswith("@")}
            elif isinstance(value, ast.Call):
                given = value.args[:1] or [k.value for k in value.keywords if k.arg == "params"]
                for argument in given:
                    roots |= owners.roots(argument, where, self.roles)
        return frozenset(roots)

    def _constructs(self, call: ast.Call) -> bool:
        """Whether a call builds an optimizer, and so takes the parameters first; `model.configure_optimizers(...)` does not."""
        last = self.roles.callee(call.func).rpartition(".")[2]
        return last == "*" or last[:1].isupper()

    # whose gradients ---------------------------------------------------------------------------------

    def _event(self, raw: Raw) -> Event:
        closure = self.numbers[raw.closure][0] if isinstance(raw.closure, ast.stmt) else -1
        if raw.key:
            targets: tuple[str, ...] = (raw.key,)
        elif raw.kind is Kind.HANDED:
            targets = tuple(sorted(r[1:] for r in raw.roots))
        elif raw.kind in (Kind.READ, Kind.REPLACE):
            targets = self._owners(raw)
        elif raw.kind is Kind.EXCHANGE:
            targets = self._cleared(raw.roots)
            if self.optimizers and (not targets or set(targets) != set(self._owners(raw))):
                self.refusals.append(Refusal("AMP917", raw.line, raw.column, ""))  # some gradients stay with their process
        elif raw.kind is Kind.ZERO:
            targets = self._cleared(raw.roots)
        else:
            targets = tuple(sorted(raw.roots))
        return Event(
            raw.kind,
            targets,
            raw.line,
            raw.column,
            raw.call,
            raw.done,
            raw.loss,
            raw.tensors,
            raw.soft,
            closure,
            raw.text,
            raw.form,
        )

    def _owners(self, raw: Raw) -> tuple[str, ...]:
        """The optimizers that own what a gradient is read of; all that may, where their parameters are not in sight."""
        direct = frozenset(r[1:] for r in raw.roots if r.startswith("="))
        groups = {r[1:] for r in raw.roots if r.startswith("@")}
        roots = frozenset(r for r in raw.roots if r[0] not in "=@")
        named = tuple(o.key for o in self.optimizers if o.key in groups)
        if not raw.roots:
            return tuple(o.key for o in self.optimizers)
        if named and not roots and not direct:
            return named
        owners = tuple(o.key for o in self.optimizers if o.key in groups or overlap(roots | direct, o.roots))
        if owners or not self.optimizers or (groups and not roots):
            return owners
        unknown = tuple(o.key for o in self.optimizers if not o.roots)
        if raw.soft:
            return unknown
        if direct or not unknown:
            return ("?",)
        return unknown

    def _cleared(self, roots: frozenset[str]) -> tuple[str, ...]:
        """The optimizers all of whose gradients are gone after the models in `roots` cleared theirs."""
        if "*" in roots:
            return tuple(o.key for o in self.optimizers)
        if len(self.optimizers) == 1 and not self.optimizers[0].roots:
            return (self.optimizers[0].key,)
        return tuple(
            o.key
            for o in self.optimizers
            if o.roots and all(any(own == r or own.startswith((r + ".", r + "[")) for r in roots) for own in o.roots)
        )

    # statements --------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> tuple[Stmt, ...]:
        built = []
        cleared: frozenset[str] = frozenset()  # models cleared one by one, since the last backward
        for stmt in body:
            item = self._stmt(stmt, cleared)
            raws = self.facts[stmt].events if stmt in self.facts else []
            for raw in raws:
                if raw.kind is Kind.ZERO and not raw.key:
                    cleared |= raw.roots
            if any(e.kind is Kind.BACKWARD for e in item.all_events()):
                cleared = frozenset()
            built.append(item)
        return tuple(built)

    def _stmt(self, stmt: ast.stmt, cleared: frozenset[str]) -> Stmt:
        index, end = self.numbers[stmt]
        facts = self.facts.get(stmt)
        blocks = tuple(self._block(b) for b in self._arms(stmt))
        events: list[Event] = []
        for raw in facts.events if facts else ():
            if raw.kind is Kind.ZERO and not raw.key and cleared:
                raw = raw._replace(roots=raw.roots | cleared)
            event = self._event(raw)
            if event.kind in (Kind.READ, Kind.REPLACE) and "?" in event.targets:
                self.refusals.append(Refusal("AMP915", event.line, event.column, ""))
            events.append(event)
        defs, uses = self._names(stmt)
        built = Stmt(
            index,
            end,
            self._kind(stmt),
            stmt.lineno,
            stmt.col_offset,
            stmt.end_lineno or stmt.lineno,
            blocks,
            tuple(events),
            defs,
            uses,
            facts.compute if facts else Stmt._field_defaults["compute"],
            facts.barrier if facts else None,
            detached=isinstance(stmt, ast.Assign) and _is_detached(stmt.value),
            rebinds=isinstance(stmt, ast.Assign) and all(not isinstance(t, ast.Subscript) for t in stmt.targets),
        )
        if isinstance(stmt, ast.If):
            built = self._with_test(built, stmt.test)
        elif isinstance(stmt, ast.While):
            built = built._replace(endless=isinstance(stmt.test, ast.Constant) and bool(stmt.test.value))
        elif isinstance(stmt, ast.With | ast.AsyncWith):
            contexts = [i.context_expr for i in stmt.items]
            ours = any(self.sites.names.is_autocast(c) for c in contexts)
            if any(self.sites.names.is_disabled(c) for c in contexts):  # what stands there asks for no region
                built = built._replace(blocks=tuple(tuple(_inert(s) for s in block) for block in built.blocks))
            built = built._replace(
                autocast=ours,
                no_grad=any(self._is_no_grad(c) for c in contexts),
                barrier=Barrier.REGION if ours else built.barrier,
                suppresses=any(self._suppresses(c) for c in contexts),
            )
        elif isinstance(stmt, ast.For) and self._updates_by_hand(stmt, built):
            self.refusals.append(Refusal("AMP903", stmt.lineno, stmt.col_offset, ""))
        return built

    @staticmethod
    def _arms(stmt: ast.stmt) -> list[list[ast.stmt]]:
        """The blocks in the order that Stmt documents."""
        if isinstance(stmt, ast.Try | ast.TryStar):
            return [stmt.body, stmt.orelse, stmt.finalbody, *(h.body for h in stmt.handlers)]
        return [] if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)) else blocks_of(stmt)

    @staticmethod
    def _kind(stmt: ast.stmt) -> str:
        for node, kind in JUMPS.items():
            if isinstance(stmt, node):
                return kind
        names = {
            ast.If: "if", ast.For: "for", ast.AsyncFor: "for", ast.While: "while", ast.Try: "try", ast.TryStar: "try",
            ast.With: "with", ast.AsyncWith: "with", ast.Match: "match", ast.FunctionDef: "def", ast.AsyncFunctionDef: "def",
            ast.ClassDef: "def",
        }  # fmt: skip
        return names.get(type(stmt), "simple")

    def _with_test(self, built: Stmt, test: ast.expr) -> Stmt:
        """Keeps the condition of an `if` that decides about events or jumps, if its value stays the same between evaluations."""
        if not any(s.events or s.kind in ("break", "continue", "return") for s in built.walk()):
            return built
        negated = False
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            negated, test = not negated, test.operand
        for node in walk(test):
            if isinstance(node, ast.Call) and dotted(node.func) not in PURE_CALLS:
                return built
            if isinstance(node, ast.NamedExpr | ast.Await | ast.Yield):
                return built
        return built._replace(test=ast.unparse(test), negated=negated, test_names=frozenset(uses_of(test)))

    def _is_no_grad(self, node: ast.expr) -> bool:
        func = node.func if isinstance(node, ast.Call) else node
        name = self.sites.names.resolve(func)
        if name == "torch.set_grad_enabled" and isinstance(node, ast.Call) and node.args:
            return isinstance(node.args[0], ast.Constant) and not node.args[0].value
        return name in NO_GRAD

    def _updates_by_hand(self, stmt: ast.For, built: Stmt) -> bool:
        """Whether a loop over parameters reads gradients in one statement and changes parameters in another."""
        if "param" not in ast.dump(stmt.iter):
            return False
        inner = list(built.walk())[1:]
        reads = any(e.kind in (Kind.READ, Kind.REPLACE) and s.barrier is not Barrier.WRITE for s in inner for e in s.events)
        return reads and any(s.barrier is Barrier.WRITE and s.kind == "simple" for s in inner)

    @staticmethod
    def _names(stmt: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
        """What a statement's own expressions bind or mutate, and what they read."""
        defs: set[str] = set()
        uses: set[str] = set()
        targets = list(_targets(stmt))
        plain = [] if isinstance(stmt, ast.AugAssign) else [t for t in targets if isinstance(t, ast.Name | ast.Attribute)]
        for part in header(stmt):
            for node in walk(part):
                if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
                    text = dotted(node)
                    if text and text != "self" and node not in plain:
                        uses.add(text)
                elif isinstance(node, ast.NamedExpr) and isinstance(node.target, ast.Name):
                    defs.add(node.target.id)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    attr = node.func.attr
                    if attr in MUTATORS or (attr.endswith("_") and not attr.endswith("__")):
                        defs.update(_owners_of(node.func.value))
        for target in targets:
            defs.update(_owners_of(target))
        return frozenset(defs), frozenset(uses)


def _inert(stmt: Stmt) -> Stmt:
    """The statement as one that computes nothing for autocast."""
    blocks = tuple(tuple(_inert(s) for s in block) for block in stmt.blocks)
    return stmt._replace(compute=Compute.NONE, blocks=blocks)


def _targets(stmt: ast.stmt) -> Iterator[ast.expr]:
    def flatten(node: ast.expr) -> Iterator[ast.expr]:
        if isinstance(node, ast.Tuple | ast.List):
            for element in node.elts:
                yield from flatten(element)
        elif isinstance(node, ast.Starred):
            yield from flatten(node.value)
        else:
            yield node

    if isinstance(stmt, ast.Assign):
        for target in stmt.targets:
            yield from flatten(target)
    elif isinstance(stmt, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        yield from flatten(stmt.target)
    elif isinstance(stmt, ast.With | ast.AsyncWith):
        for item in stmt.items:
            if item.optional_vars is not None:
                yield from flatten(item.optional_vars)


def _is_detached(value: ast.expr) -> bool:
    """Whether a chain of calls ends in, or passes through, one whose result has no gradient."""
    while isinstance(value, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(value, ast.Attribute) and value.attr in DETACHING:
            return True
        if isinstance(value, ast.Call) and dotted(value.func) in ("int", "float", "bool", "str", "len"):
            return True
        value = value.func if isinstance(value, ast.Call) else value.value
    return False


def _owners_of(target: ast.expr) -> list[str]:
    """A target's text; for an element also the container, which changes with it."""
    texts = [dotted(target)] if dotted(target) else []
    while isinstance(target, ast.Subscript):
        target = target.value
        if dotted(target):
            texts.append(dotted(target))
    return texts
