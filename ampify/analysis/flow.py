"""Flow: a function's statements as the Stmt tree that planning and the protocol run on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis import owners
from ampify.analysis.calls import Context, arguments
from ampify.analysis.detached import is_detached, is_gradient, is_plain
from ampify.analysis.facts import Facts, Raw
from ampify.analysis.frames import FUNCTIONS, Frame
from ampify.analysis.names import dotted
from ampify.analysis.optimizers import View, built_with, concerned, is_wrapper
from ampify.analysis.sites import Sites
from ampify.analysis.sources import Source
from ampify.analysis.syntax import blocks_of, combines, own_statements, shown, uses_of
from ampify.analysis.walk import walk
from ampify.program import GROUP, Barrier, Call, Compute, Event, Kind, Optimizer, Refusal, Scope, Stmt
from ampify.source import skipped

JUMPS = {ast.Break: "break", ast.Continue: "continue", ast.Return: "return", ast.Raise: "raise"}
PURE_CALLS = frozenset({"len", "isinstance", "int", "bool"})


def number(tree: ast.Module, start: int = 0) -> dict[ast.stmt, tuple[int, int]]:
    """For every statement of a file its index in source order, from `start`, and the index after its last inner one."""
    numbers: dict[ast.stmt, tuple[int, int]] = {}
    counter = start

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


class Builders(dict[Frame, "Builder"]):
    """The builders of a program's functions; those of other files are made when a training step runs through them."""

    def __missing__(self, frame: Frame) -> Builder:
        file = frame.home.file
        builder = Builder(file.sites, file.numbers, frame, self)
        builder.read()
        return builder


class Builder:
    """Builds the Scope of one frame, and its statements as a part of the scopes that call it."""

    def __init__(self, sites: Sites, numbers: dict[ast.stmt, tuple[int, int]], frame: Frame, builders: Builders) -> None:
        self.sites, self.numbers, self.frame, self.builders = sites, numbers, frame, builders
        self.roles = sites.roles
        self.skipped = skipped(frame.home.file.tree)
        self.facts: dict[ast.stmt, Facts] = {}
        self.refusals: list[Refusal] = []  # of what its statements say by themselves
        self.found: list[Refusal] = []  # and of what they do to the optimizers of its scope
        builders[frame] = self

    @property
    def number(self) -> int:
        """The index of the statement that defines the function; -1 for the module."""
        return -1 if isinstance(self.frame.node, ast.Module) else self.numbers[self.frame.node][0]

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
        bearing = [e for e in events if not e.done and (e.form or e.kind is Kind.LOAD)]
        return [(e.mapping, self.frame) for e in bearing if e.mapping is not None]

    def scope(self, closures: dict[ast.AST, str]) -> Scope | None:
        """The scope, or None where nothing in it takes part in training or evaluation."""
        node = self.frame.node
        decorators = [] if isinstance(node, ast.Module) else node.decorator_list
        no_grad = any(self.sites.names.is_no_grad(d) for d in decorators)
        if not no_grad and not any(f.events or self._is_context(s) or _sets_aside(f) for s, f in self.facts.items()):
            return None
        context = Context(self.frame, self.number)
        evaluating = closures.get(node, "")
        optimizers = {evaluating: self._optimizer(evaluating, context)} if evaluating else {}
        self._gather(context, optimizers)
        self.found.clear()
        steps = {r.key: r for facts in self.facts.values() for r in facts.events if r.key in optimizers}
        for group, other in self.sites.groups.confused(list(steps), self.frame):
            detail = f"`{other}` may be one of `{group.removesuffix(GROUP)}`"
            self.found.append(Refusal("AMP913", steps[group].line, steps[group].column, detail))
        view = View(context, tuple(optimizers.values()), self.found)
        body = self._block(node.body, view)
        return Scope(
            self.frame.name,
            body,
            view.optimizers,
            repeated=not isinstance(node, ast.Module),
            no_grad=no_grad,
            line=getattr(node, "lineno", 1),
            number=self.number,
            closure=node in closures,
            local=self.local(),
            family=self.family(),
        )

    def family(self) -> frozenset[str]:
        """The names of the class that the function is a method of, and of those that it comes from."""
        method = self.frame.method
        if method is None or method.owner is None:
            return frozenset()
        return frozenset(info.node.name for info in self.sites.frames.everywhere(method.owner))

    def local(self) -> frozenset[str]:
        """The plain names that the function binds, parameters aside."""
        if self.frame.parent is None:
            return frozenset()
        bindings = self.frame.bindings.items()
        return frozenset(name for name, ways in bindings if name.isidentifier() and all(b.how != "param" for b in ways))

    def _suppresses(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self.sites.names.resolve(node.func) == "contextlib.suppress"

    def _is_context(self, stmt: ast.stmt) -> bool:
        """Whether a statement is a `with` under which gradients are off, or autocast on."""
        if not isinstance(stmt, (ast.With, ast.AsyncWith)):
            return False
        names = self.sites.names
        return any(names.is_no_grad(i.context_expr) or names.is_autocast(i.context_expr) for i in stmt.items)

    def _read(self, body: list[ast.stmt]) -> None:
        for stmt in body:
            if not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
                facts = self.facts[stmt] = self.sites.read(stmt, self.frame)
                self.refusals.extend(facts.refusals)
                for block in blocks_of(stmt):
                    self._read(block)

    def _gather(self, context: Context, optimizers: dict[str, Optimizer]) -> None:
        """Adds the optimizers that the function steps, itself or through others, by the names of the scope."""
        for facts in self.facts.values():
            for raw in facts.events:
                if raw.key and raw.kind in (Kind.STEP, Kind.UNSCALE):
                    found = self._optimizer(raw.key, context)
                    if found.key not in optimizers or not optimizers[found.key].roots:
                        optimizers[found.key] = found
                if raw.kind is Kind.CALL:
                    for builder, inner in self._runs(raw, context):
                        if not context.holds(builder.frame):
                            builder._gather(inner, optimizers)

    def _optimizer(self, key: str, context: Context) -> Optimizer:
        return Optimizer(context.key(key), self._owned_in(key, context), is_wrapper(key, self.frame, self.roles))

    def _owned_in(self, key: str, context: Context) -> frozenset[str]:
        """The roots of what an optimizer was built with, by the names of the scope; of a parameter, as this call passes it."""
        given = context.given(key)
        if given and context.outer is not None:
            if found := self.builders[context.outer.frame]._owned_in(given, context.outer):
                return found
        return owners.outside(built_with(key, self.frame, self.sites), context)

    def _runs(self, raw: Raw, context: Context) -> Iterator[tuple[Builder, Context]]:
        """The functions that a call runs for a training step or a part of one, and what their names mean."""
        for target in raw.runs[1] if raw.runs else ():
            builder = self.builders[target]
            passed = arguments(raw.runs[0], target, self.frame, self.roles) if raw.runs else {}
            yield builder, Context(target, builder.number, context, passed)

    def _calls(self, raw: Raw, view: View) -> tuple[Call, ...]:
        """The functions that a call runs, with what they do where that is a part of the training step."""
        found = []
        for builder, context in self._runs(raw, view.context):
            followed = raw.kind is Kind.CALL and not view.context.holds(builder.frame)
            body = builder._block(builder.frame.node.body, view._replace(context=context)) if followed else ()
            texts = {o.key: context.text(o.key) for o in view.optimizers}
            clears = frozenset() if body else builder._clears_last(view._replace(context=context))
            found.append(Call(builder.number, builder.frame.name, body, texts, context.uses(), builder.local(), clears))
        return tuple(found)

    def _clears_last(self, view: View) -> frozenset[str]:
        """The optimizers whose gradients the function clears on every path, with no backward behind."""
        cleared: set[str] = set()
        for stmt in reversed(_straight(self.frame.node.body)):
            inside = [r for s in own_statements([stmt]) for r in (self.facts[s].events if s in self.facts else ())]
            if any(r.kind in (Kind.BACKWARD, Kind.CALL, Kind.UNIT) for r in inside) or isinstance(stmt, (ast.If, ast.Try)):
                break
            if isinstance(stmt, ast.Expr):
                cleared.update(key for r in inside if r.kind is Kind.ZERO for key in self._event(r, view).targets)
        return frozenset(cleared)

    def _event(self, raw: Raw, view: View) -> Event:
        """The event that a raw one is in this scope."""
        closure = self.numbers[raw.closure][0] if isinstance(raw.closure, ast.stmt) else -1
        return Event(
            raw.kind,
            concerned(raw, view),
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
            self._calls(raw, view),
        )

    # statements --------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt], view: View) -> tuple[Stmt, ...]:
        built = []
        cleared: frozenset[str] = frozenset()  # models cleared one by one, since the last backward
        for stmt in body:
            item = self._stmt(stmt, cleared, view)
            raws = self.facts[stmt].events if stmt in self.facts else []
            for raw in raws:
                if raw.kind is Kind.ZERO and not raw.key:
                    cleared |= raw.roots
            if any(e.kind is Kind.BACKWARD for e in item.all_events()):
                cleared = frozenset()
            built.append(item)
        return tuple(built)

    def _stmt(self, stmt: ast.stmt, cleared: frozenset[str], view: View) -> Stmt:
        """The statement as planning knows it; `cleared` are the models that had their gradients cleared before it."""
        index, end = self.numbers[stmt]
        facts = self.facts.get(stmt)
        blocks = tuple(self._block(b, view) for b in self._arms(stmt))
        events: list[Event] = []
        for raw in facts.events if facts else ():
            if raw.kind is Kind.ZERO and not raw.key and cleared:
                raw = raw._replace(roots=raw.roots | cleared)
            event = self._event(raw, view)
            if event.kind in (Kind.READ, Kind.REPLACE) and "?" in event.targets:
                view.refusals.append(Refusal("AMP915", event.line, event.column, shown(stmt)))
            events.append(event)
        alone = stmt.lineno in self.skipped
        if alone:
            events = [_alone(event) for event in events]
        defs, uses = self.sites.defs_and_uses(stmt)
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
            facts.binds if facts else frozenset(),
            facts.compute if facts else Stmt._field_defaults["compute"],
            facts.barrier if facts else None,
            detached=isinstance(stmt, ast.Assign) and (is_detached(stmt.value) or is_gradient(stmt.value, self.sites.names)),
            plain=isinstance(stmt, ast.Assign) and is_plain(stmt.value, self.frame, self.roles),
            renames=isinstance(stmt, ast.Assign) and isinstance(stmt.value, (ast.Name, ast.Attribute, ast.Subscript)),
            rebinds=isinstance(stmt, ast.Assign) and all(not isinstance(t, ast.Subscript) for t in stmt.targets),
            combines=combines(stmt),
            shielded=facts is not None and facts.shielded,
            skipped=alone,
        )
        if isinstance(stmt, ast.If):
            certain = self.sites.groups.is_certain(stmt)
            built = built._replace(kind="with") if certain else self._with_test(built, stmt.test, view)
        elif isinstance(stmt, ast.While):
            built = built._replace(endless=isinstance(stmt.test, ast.Constant) and bool(stmt.test.value))
        elif isinstance(stmt, (ast.With, ast.AsyncWith)):
            contexts = [i.context_expr for i in stmt.items]
            ours = any(self.sites.names.is_autocast(c) for c in contexts)
            if any(self.sites.names.is_disabled(c) for c in contexts):  # what stands there asks for no region
                built = built._replace(blocks=tuple(tuple(_inert(s) for s in block) for block in built.blocks))
            built = built._replace(
                autocast=ours,
                no_grad=any(self.sites.names.is_no_grad(c) for c in contexts),
                barrier=Barrier.REGION if ours else built.barrier,
                suppresses=any(self._suppresses(c) for c in contexts),
            )
        elif isinstance(stmt, ast.For):
            if self._updates_by_hand(stmt, built):
                view.refusals.append(Refusal("AMP903", stmt.lineno, stmt.col_offset, shown(stmt)))
            built = built._replace(each=self.sites.groups.member(stmt, self.frame))
        return built

    @staticmethod
    def _arms(stmt: ast.stmt) -> list[list[ast.stmt]]:
        """The blocks in the order that Stmt documents."""
        if isinstance(stmt, (ast.Try, ast.TryStar)):
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

    def _with_test(self, built: Stmt, test: ast.expr, view: View) -> Stmt:
        """Keeps the condition of an `if` that decides about events or jumps, if its value stays the same between evaluations."""
        if not any(s.events or s.kind in ("break", "continue", "return") for s in built.walk()):
            return built
        if any(view.context.key(name) != name for name in uses_of(test)):
            return built  # it means something else in the scope
        negated = False
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            negated, test = not negated, test.operand
        for node in walk(test):
            if isinstance(node, ast.Call) and dotted(node.func) not in PURE_CALLS:
                return built
            if isinstance(node, (ast.NamedExpr, ast.Await, ast.Yield)):
                return built
        return built._replace(test=ast.unparse(test), negated=negated, test_names=frozenset(uses_of(test)))

    def _updates_by_hand(self, stmt: ast.For, built: Stmt) -> bool:
        """Whether a loop over parameters reads gradients in one statement and changes parameters in another."""
        if "param" not in ast.dump(stmt.iter):
            return False
        inner = list(built.walk())[1:]
        reads = any(e.kind in (Kind.READ, Kind.REPLACE) and s.barrier is not Barrier.WRITE for s in inner for e in s.events)
        return reads and any(s.barrier is Barrier.WRITE and s.kind == "simple" for s in inner)


def _straight(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that run one after the other, those under a `with` among them."""
    found: list[ast.stmt] = []
    for stmt in body:
        found.extend(_straight(stmt.body) if isinstance(stmt, ast.With) else [stmt])
    return found


def _alone(event: Event) -> Event:
    """An event that is converted by itself, if it were not for a pragma."""
    if event.kind in (Kind.SAVE, Kind.LOAD) and event.form and not event.done:
        return event._replace(form="", skipped=True)
    return event._replace(skipped=True) if event.kind is Kind.SCHEDULE else event


def _inert(stmt: Stmt) -> Stmt:
    """The statement as one that computes nothing for autocast."""
    blocks = tuple(tuple(_inert(s) for s in block) for block in stmt.blocks)
    return stmt._replace(compute=Compute.NONE, blocks=blocks)


def _sets_aside(facts: Facts) -> bool:
    """Whether a statement may compute a loss that another function uses."""
    return facts.compute in (Compute.FORWARD, Compute.MATMUL)
