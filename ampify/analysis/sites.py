"""Sites: the backward passes, steps and readings of gradients in one statement."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from ampify.analysis import gradients, lambdas, owners, parts
from ampify.analysis.calls import Context, arguments
from ampify.analysis.checkpoints import Checkpoints, State
from ampify.analysis.exchange import Exchange, exchange
from ampify.analysis.facts import Facts, Raw
from ampify.analysis.forward import level_of, may_run_model
from ampify.analysis.frames import FUNCTIONS, Frame, Frames
from ampify.analysis.groups import Each, Groups
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.summaries import NOTHING, Summaries, Summary, bound
from ampify.analysis.syntax import defs_and_uses, is_false, ordered, ordinals, shown, uses_of
from ampify.analysis.unowned import unowned
from ampify.analysis.vocabulary import FUNCTIONAL, LEAVING_GRADIENTS, NOT_OPTIMIZERS, PASSIVE, SECOND_ORDER, TRACES
from ampify.analysis.walk import walk
from ampify.program import Barrier, Compute, Kind, Refusal

SILENT = frozenset({ast.Constant, ast.Name, ast.keyword})
TRAINING = (Kind.BACKWARD, Kind.STEP, Kind.UNSCALE, Kind.UPDATE, Kind.UNIT)


class Sites:
    """Reads the statements of one file."""

    def __init__(self, names: Names, frames: Frames, roles: Roles, summaries: Summaries) -> None:
        self.names, self.frames, self.roles, self.summaries = names, frames, roles, summaries
        self.scaler = names.scaler
        self.checkpoints = Checkpoints(names, roles)
        self.groups = Groups(frames, roles)
        modules = {target.partition(".")[0] for target in (*names.aliases.values(), *names.stars)}
        self.draws = "turtle" in modules and "torch" not in modules  # what goes backward in such a file is on a screen
        self.closures: set[ast.AST] = set()  # the functions that steps evaluate
        self._facts: dict[ast.stmt, Facts] = {}
        self._texts: dict[ast.stmt, tuple[frozenset[str], frozenset[str]]] = {}
        self._unowned: dict[Frame, frozenset[ast.AST]] = {}
        self._exchange: dict[Frame, Exchange] = {}

    def read(self, stmt: ast.stmt, frame: Frame) -> Facts:
        """The facts of a statement's own expressions: of a compound statement only its header. They are kept, unless they
        would say more if the functions were known that are being summarized."""
        facts = self._facts.get(stmt)
        if facts is None:
            if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
                return Facts([], Compute.NONE, None, [])
            unanswered = self.summaries.unanswered
            facts = _Reading(self, stmt, frame).facts()
            if unanswered == self.summaries.unanswered:
                self._facts[stmt] = facts
        return facts

    def defs_and_uses(self, stmt: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
        """What a statement's own expressions bind or mutate, and what they read; worked out once."""
        found = self._texts.get(stmt)
        if found is None:
            found = self._texts[stmt] = defs_and_uses(stmt)
        return found

    def evaluated(self, closures: Iterable[ast.AST]) -> None:
        """Notes functions that steps evaluate: what calls them by their names means something else now."""
        self.closures.update(closures)
        self._facts.clear()

    def trains(self, call: ast.Call, frame: Frame) -> bool:
        """Whether a call does more for a training step than to clear gradients."""
        return any(s.backward or s.step for s in (self.summaries.of(t) for t in self.roles.targets(call, frame)))

    def unowned(self, frame: Frame) -> frozenset[ast.AST]:
        """The backward calls and gradients of a frame that concern no optimizer."""
        if frame not in self._unowned:
            self._unowned[frame] = unowned(frame, self.roles)
        return self._unowned[frame]

    def exchange(self, frame: Frame) -> Exchange:
        """What a frame does to exchange gradients between processes."""
        if frame not in self._exchange:
            self._exchange[frame] = exchange(frame, self.names)
        return self._exchange[frame]

    def other_name(self, text: str, frame: Frame) -> str:
        """The name that an optimizer had before, where both are used: `optimizer` after `opt = optimizer`; else its own."""
        bindings = self.frames.lookup(text, frame) if text else []
        value = bindings[0].value if len(bindings) == 1 and bindings[0].how == "assign" and not bindings[0].path else None
        before = dotted(value) if value is not None else ""
        if not before or bindings[0].frame not in (frame, self.frames.module):
            return text
        sources = self.frames.lookup(before, bindings[0].frame)
        same = self.frames.lookup(before, frame) == sources and len(sources) == 1 and sources[0].how in ("assign", "param")
        return before if same and self.frames.methods_used(before, frame) & {"step", "zero_grad"} else text

    def hidden(self, call: ast.Call, frame: Frame) -> Summary:
        """What the functions of this file that a call runs do; `binds` by the names of the calling function."""
        found = NOTHING
        for target in self.roles.targets(call, frame):
            summary = self.summaries.of(target)
            if summary.binds:
                context = Context(target, 0, Context(frame, 0), arguments(call, target, frame, self.roles))
                summary = summary._replace(binds=frozenset(bound(summary, context)))
            found = found.join(summary)
        return found


class _Reading:
    """The reading of one statement; collects its events and refusals in order of evaluation."""

    def __init__(self, sites: Sites, stmt: ast.stmt, frame: Frame) -> None:
        self.sites, self.roles, self.stmt, self.frame = sites, sites.roles, stmt, frame
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes = ordered(stmt, self.parents)
        self.ordinals = ordinals(self.nodes)
        self.events: list[Raw] = []
        self.refusals: list[Refusal] = []
        self.binds: frozenset[str] = frozenset()

    def facts(self) -> Facts:
        compute, bare, barrier = Compute.NONE, Compute.NONE, None
        for node in self.nodes:
            if node.__class__ in SILENT:
                continue
            if isinstance(node, ast.Call):
                level = self.call(node)
                compute = max(compute, level, key=lambda level: level.value)
                bare = max(bare, Compute.NONE if self.is_shielded(node) else level, key=lambda level: level.value)
                barrier = barrier or self.barrier(node)
            elif isinstance(node, ast.Attribute) and node.attr in ("step", "backward"):
                self.bound(node)
            elif isinstance(node, ast.Attribute) and node.attr in ("grad", "_grad"):
                own = bool(self.sites.scaler) and dotted(node.value) == self.sites.scaler  # scaler.grad(...)
                own = own or node in self.sites.unowned(self.frame)
                if node in self.sites.exchange(self.frame).sums:
                    self.note(Kind.EXCHANGE, node, gradients.owner_of(node.value, self.frame, self.roles))
                elif not own and gradients.reads_gradient(node, self.roles, self.parents):
                    kind = Kind.REPLACE if isinstance(node.ctx, ast.Store) else Kind.READ
                    self.note(kind, node, gradients.owner_of(node.value, self.frame, self.roles))
            elif isinstance(node, ast.Lambda):
                self.runs_in_place(node)
            elif isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
                barrier = Barrier.SUSPEND
            elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.MatMult):
                compute = max(compute, Compute.MATMUL, key=lambda level: level.value)
        self.checkpoints()
        if isinstance(self.stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets: list[ast.expr] = self.stmt.targets if isinstance(self.stmt, ast.Assign) else [self.stmt.target]
            if any(gradients.is_data(t) for t in targets):
                barrier = barrier or Barrier.WRITE
            self.created(targets)
            self.told(targets)
        elif isinstance(self.stmt, ast.For):
            if whose := gradients.cleared_all(self.stmt, self.frame, self.roles):
                self.note(Kind.ZERO, self.stmt, whose)
            cleared = self.sites.groups.cleared(self.stmt, self.frame)
            for key in cleared or gradients.each_cleared(self.stmt, self.frame, self.roles):
                self.note(Kind.ZERO, self.stmt, key=key)
        if any(e.kind in TRAINING or (e.runs and self.sites.trains(e.runs[0], self.frame)) for e in self.events):
            barrier = Barrier.TRAIN
        if any(e.kind in (Kind.READ, Kind.REPLACE) for e in self.events) and gradients.updates_by_hand(self.stmt, self.parents):
            self.refuse("AMP903", self.stmt, shown(self.stmt))
        shielded = compute is Compute.FORWARD and bare is Compute.NONE
        return Facts(self.events, compute, barrier, self.refusals, self.binds, shielded)

    def is_shielded(self, node: ast.Call) -> bool:
        """Whether a call runs functions of the file alone that turn gradients off round every model which they run."""
        targets = self.roles.targets(node, self.frame)
        own = bool(targets) and all(target.home is self.frame.home for target in targets)
        hidden = self.sites.hidden(node, self.frame) if own else NOTHING
        return hidden.forward and not hidden.exposed

    def barrier(self, node: ast.Call) -> Barrier | None:
        hidden = self.sites.hidden(node, self.frame)
        self.binds |= hidden.binds
        if hidden.write or gradients.writes_parameters(node, self.frame, self.roles):
            return Barrier.WRITE
        own = bool(self.sites.scaler) and dotted(node.func) == f"{self.sites.scaler}.grad"
        steps = isinstance(node.func, ast.Attribute) and node.func.attr == "step" and self.is_functional(node.func.value)
        if own or steps or hidden.differentiate or self.sites.names.resolve(node.func) in SECOND_ORDER:
            return Barrier.GRADIENT  # taken from an unscaled loss, it would underflow in half precision
        return Barrier.TRACE if self.sites.names.resolve(node.func) in TRACES else None

    def note(
        self, kind: Kind, node: ast.expr | ast.stmt, roots: frozenset[str] = frozenset(), key: str = "", **more: object
    ) -> None:
        roots = frozenset(f"@{self.sites.other_name(r[1:], self.frame)}" if r.startswith("@") else r for r in roots)
        key = self.sites.other_name(key, self.frame)
        self.events.append(Raw(kind, roots, key, node.lineno, node.col_offset, **more))  # type: ignore[arg-type]

    def refuse(self, code: str, node: ast.expr | ast.stmt, detail: str = "") -> None:
        self.refusals.append(Refusal(code, node.lineno, node.col_offset, detail))

    def checkpoints(self) -> None:
        """Notes where optimizers' states are saved and loaded, and where the scaler's are already."""
        scaler, stmt, found = self.sites.scaler, self.stmt, self.sites.checkpoints
        if (named := found.taken(stmt, self.frame)) is not None:
            self.state(Kind.LOAD, named)
        if not any(isinstance(node, ast.Attribute) and node.attr in ("state_dict", "load_state_dict") for node in self.nodes):
            return
        for state in found.saved(stmt, self.nodes, self.parents, self.frame):
            self.state(Kind.SAVE, state, self.ordinals[state.call])
        target = stmt.targets[0] if isinstance(stmt, ast.Assign) else None
        for value, key in found.own_keys(stmt, self.nodes):
            text = dotted(target.value) if isinstance(target, ast.Subscript) else ""
            self.note(Kind.SAVE, value, text=text, form=key, done=True)
        for node in self.nodes:
            if not isinstance(node, ast.Call):
                continue
            if loaded := found.loaded(stmt, node, self.frame):
                self.state(Kind.LOAD, loaded)
            elif scaler and dotted(node.func) == f"{scaler}.load_state_dict" and node.args:
                source, key = node.args[0], ""
                if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute):
                    key = str(source.args[0].value) if source.args and isinstance(source.args[0], ast.Constant) else ""
                    source = source.func.value
                self.note(Kind.LOAD, node, text=dotted(source), form=key, done=True)

    def state(self, kind: Kind, state: State, call: int = 0) -> None:
        """Notes an optimizer's state that is saved or loaded."""
        text = dotted(state.mapping) if state.mapping is not None else ""
        self.note(kind, state.call, call=call, text=text, form=state.form, mapping=state.mapping)

    def created(self, targets: list[ast.expr]) -> None:
        """Notes the building of an optimizer of torch's."""
        value = getattr(self.stmt, "value", None)
        if isinstance(value, ast.Call) and self.roles.callee(value.func).startswith("torch.optim."):
            for target in targets:
                if dotted(target) and self.roles.of(target, self.frame) is Role.OPTIMIZER:
                    self.note(Kind.CREATE, self.stmt, key=dotted(target))

    def runs_in_place(self, node: ast.Lambda) -> None:
        """Notes what a lambda looks at that runs within its statement."""
        call = lambdas.call_in_place(node, self.parents, self.roles)
        if call is not None and lambdas.looks_at_gradients(node, self.frame, self.roles):
            given = [owners.roots(a, self.frame, self.roles) for a in call.args if a is not node]
            self.note(Kind.READ, call, self.members(frozenset().union(*given)))

    def bound(self, node: ast.Attribute) -> None:
        """A step or backward that is handed on instead of called: nobody can tell when it runs."""
        parent = self.parents.get(node)
        if isinstance(parent, ast.Call) and parent.func is node:
            return
        if isinstance(node.ctx, ast.Load) and parts.hands_on(node, self.frame, self.roles):
            # One without the other is no training step, however it is called.
            if self.sites.names.mentions("step" if node.attr == "backward" else "backward"):
                self.refuse("AMP904", node, parts.handed_detail(node))

    def is_conditional(self, node: ast.AST) -> bool:
        """Whether an expression is evaluated only under a condition within its statement, or several times."""
        parent = self.parents.get(node)
        while parent is not None and parent is not self.stmt:
            if isinstance(
                parent, (ast.BoolOp, ast.IfExp, ast.comprehension, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
            ):
                return True
            parent = self.parents.get(parent)
        return False

    def told(self, targets: list[ast.expr]) -> None:
        """An attribute that is set on an optimizer during training: it takes part in backward passes, by hooks of its own."""
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr not in ("param_groups", "defaults", "zero_grad", "step"):
                used = self.sites.frames.methods_used(dotted(target.value), self.frame)
                if self.roles.of(target.value, self.frame) is Role.OPTIMIZER and used & {"step", "zero_grad"}:
                    self.refuse("AMP906", self.stmt, f"`{dotted(target)} = ...` turns on")

    # calls -------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> Compute:
        """Notes the events of one call; returns how much it looks like a forward pass."""
        func, name = node.func, self.sites.names.resolve(node.func)
        last = name.rpartition(".")[2]
        level = Compute.NONE
        if (
            dotted(func) == "getattr"
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
            and node.args[1].value == "grad"
        ):
            self.note(Kind.READ, node, gradients.owner_of(node.args[0], self.frame, self.roles))
            return level
        if isinstance(func, ast.Attribute):
            if self.sites.scaler and dotted(func.value) == self.sites.scaler:
                self.scaler_call(func.attr, node)
                return Compute.NONE
            noted = len(self.events)
            if func.attr in ("backward", "zero_grad") and self.does_part(node):
                level = self.other_call(node, name)
            elif func.attr == "backward":
                self.backward(node, name)
            elif func.attr == "step":
                level = self.step(node, func)
            elif func.attr == "zero_grad":
                self.zero(node, func)
            if func.attr in ("backward", "step", "zero_grad"):
                if self.is_conditional(node) and self.each(func.value, node) is None:
                    self.conditional(node, noted)
                return level if func.attr == "step" else Compute.NONE
        if name == "torch.autograd.backward":
            self.backward(node, name)
        elif last.startswith("clip_grad") or last in ("get_total_norm", "clip_grads_with_norm_"):
            self.clip(node, name)
        elif name == "torch.autograd.grad":
            self.differentiate(node)
        elif name in SECOND_ORDER:
            self.refuse("AMP902", node, shown(node))
        elif node in self.sites.exchange(self.frame).sums:
            return Compute.NONE
        elif node in self.sites.exchange(self.frame).others or (
            name == "torch.distributed.all_reduce" and any("grad" in dotted(n) for a in node.args for n in walk(a))
        ):
            self.refuse("AMP917", node, shown(node))
        else:
            return self.other_call(node, name)
        return Compute.NONE

    def conditional(self, node: ast.Call, noted: int) -> None:
        """Takes back the events of a call that may not run: a clearing cannot be relied on, a step or backward is refused."""
        kinds = {e.kind for e in self.events[noted:]}
        del self.events[noted:]
        if kinds & {Kind.BACKWARD, Kind.STEP} or (kinds == {Kind.CALL} and self.sites.trains(node, self.frame)):
            self.refuse("AMP921", node, f"`{ast.unparse(node)[:40]}` runs under a condition in its own line")

    def scaler_call(self, method: str, node: ast.Call) -> None:
        if method == "grad":
            self.note(Kind.DIFFERENTIATE, node, done=True)
            return
        each = self.each(node.args[0], node) if node.args else None
        key = dotted(node.args[0]) if node.args else ""
        closure = self.closure_of([*node.args[1:], *(k.value for k in node.keywords)]) if method == "step" else None
        kind = {"step": Kind.STEP, "unscale_": Kind.UNSCALE, "update": Kind.UPDATE}.get(method)
        several = bool(node.args) and each is None and self.sites.groups.is_member(node.args[0], self.frame)
        if method in ("step", "unscale_") and node.args and (several or not key) and each is None:
            self.refuse("AMP913", node, f"`{ast.unparse(node.args[0])[:40]}` stands for several optimizers")
        if method == "step_scheduler" and node.args and (several or self.roles.of(node.args[0], self.frame) is Role.OPTIMIZER):
            self.note(Kind.STEP, node, key=key)  # a step without the scaler
        if kind is not None:
            for one in each.keys if each else (key,):
                self.note(kind, node, key=one, done=True, closure=closure)

    def clip(self, node: ast.Call, name: str) -> None:
        """A clip of gradients: torch's function, or a method of a model."""
        if isinstance(node.func, ast.Attribute) and not name.startswith("torch."):
            roots = owners.canonical(node.func.value, self.frame, self.roles)
        else:
            roots = owners.roots(node.args[0], self.frame, self.roles) if node.args else frozenset()
        self.note(Kind.READ, node, self.members(roots))

    def backward(self, node: ast.Call, name: str) -> None:
        """A backward pass: the method of a tensor, or torch's function, however it is called."""
        func = node.func
        if node in self.sites.unowned(self.frame) or self.sites.draws:
            return
        tensors = name == "torch.autograd.backward"
        if tensors or not isinstance(func, ast.Attribute):
            given = node.args[:1] or [k.value for k in node.keywords if k.arg == "tensors"]
            if not given:
                return
            root = given[0]
        elif name.startswith("torch.distributed.autograd") or dotted(func.value).rpartition(".")[2] == "dist_autograd":
            self.refuse("AMP904", node, "distributed autograd keeps the gradients outside `.grad`")
            return
        elif self.is_not_a_tensor(node, func):
            method = self.frame.method
            inside = method is not None and method.owner is not None and self.roles.is_function(method.owner)
            if not inside and not self.sites.hidden(node, self.frame).backward:
                self.refuse("AMP904", node, f"`{dotted(func.value) or '...'}.backward(...)` is not a tensor's backward")
            return
        else:
            root = func.value
        if any(k.arg == "create_graph" and not is_false(k.value) for k in node.keywords):
            self.refuse("AMP902", node, shown(node))
        done = self.is_scaled(root)
        if not done and may_run_model(root, self.frame, self.roles):
            self.refuse("AMP914", node, shown(node))
        loss = tuple(sorted(uses_of(root)))
        called = dotted(func).rpartition(".")[2]
        self.note(Kind.BACKWARD, node, call=self.ordinals[node], done=done, loss=loss, tensors=tensors, text=called)

    def differentiate(self, node: ast.Call) -> None:
        """`autograd.grad` with a graph: its result is part of a loss. Without one it is left alone: nothing there is scaled."""
        graph = [k.value for k in node.keywords if k.arg == "create_graph"] or node.args[4:5]
        outputs = node.args[:1] or [k.value for k in node.keywords if k.arg == "outputs"]
        if not graph or is_false(graph[0]) or not outputs:
            return
        parts = outputs[0].elts if isinstance(outputs[0], (ast.List, ast.Tuple)) else outputs
        if any(may_run_model(part, self.frame, self.roles) for part in parts):
            self.refuse("AMP914", node, shown(node))
        self.note(
            Kind.DIFFERENTIATE,
            node,
            call=self.ordinals[node],
            loss=tuple(sorted(uses_of(outputs[0]))),
            text=dotted(node.func).rpartition(".")[2],
        )

    def is_scaled(self, node: ast.AST) -> bool:
        """Whether an expression is `scaler.scale(...)`."""
        return (
            bool(self.sites.scaler)
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "scale"
            and dotted(node.func.value) == self.sites.scaler
        )

    def is_not_a_tensor(self, node: ast.Call, func: ast.Attribute) -> bool:
        """Whether `X.backward(...)` is a method of something other than a tensor (an engine, an autograd.Function)."""
        receiver = dotted(func.value)
        if receiver in ("self", "cls", "ctx") or (isinstance(func.value, ast.Call) and dotted(func.value.func) == "super"):
            return True
        if self.roles.targets(node, self.frame) or receiver in self.sites.names.aliases:
            return True
        engines = (Role.OPTIMIZER, Role.MODEL, Role.WRAPPER)
        return bool(receiver) and bool(node.args) and self.roles.of(func.value, self.frame) in engines

    def step(self, node: ast.Call, func: ast.Attribute) -> Compute:
        if self.sites.hidden(node, self.frame).backward:
            return self.other_call(node, self.sites.names.resolve(func))  # a method that trains, called step
        if self.is_functional(func.value):
            return self.functional_step(node)
        key, what = dotted(func.value), f"`{ast.unparse(func.value)[:40]}`"
        if each := self.each(func.value, node):
            return self.step_each(node, each)
        role = Role.OPTIMIZER if self.hands_over_closure(node) else self.roles.of(func.value, self.frame)
        if role is Role.UNKNOWN and self.sites.groups.is_member(func.value, self.frame):
            role = Role.OPTIMIZER
        arguments = [*node.args, *(k.value for k in node.keywords)]
        if role in (Role.WRAPPER, Role.SCHEDULER) and self.does_part(node):
            return self.other_call(node, self.sites.names.resolve(func))
        if role is Role.SCHEDULER:
            self.note(Kind.SCHEDULE, node, key=key, call=self.ordinals[node])
        elif role in (Role.OPTIMIZER, Role.WRAPPER):
            if role is Role.WRAPPER and self.roles.targets(node, self.frame):
                self.refuse("AMP904", node, f"{what} wraps an optimizer and steps it in its own `step`")
            elif not key or any(b.how == "for" for b in self.sites.frames.lookup(key, self.frame, linked=True)):
                self.refuse("AMP913", node, f"{what} stands for several optimizers")
            elif closure := self.closure_of(arguments):
                self.note(Kind.STEP, node, key=key, call=self.ordinals[node], closure=closure)
            elif self.is_lbfgs(key) or any(self.is_closure(a) for a in arguments):
                self.refuse("AMP901", node, "it is not a function that is defined in the one that steps")
            elif arguments:
                self.refuse("AMP912", node, f"`{ast.unparse(arguments[0])[:40]}`")
            else:
                self.note(Kind.STEP, node, key=key, call=self.ordinals[node])
        elif self.roles.targets(node, self.frame):
            return self.other_call(node, self.sites.names.resolve(func))
        else:
            unknown = role in (Role.UNKNOWN, Role.MODEL) and key.rpartition(".")[2] not in NOT_OPTIMIZERS
            if unknown and not arguments:
                self.refuse("AMP913", node, f"nothing shows whether {what} is an optimizer")
            return Compute.FORWARD if role is Role.MODEL else Compute.CALL
        return Compute.NONE

    def members(self, roots: frozenset[str]) -> frozenset[str]:
        """Owners of parameters; for one that stands for each optimizer of a collection in a loop, their common key."""
        found: set[str] = set()
        for root in roots:
            one = ast.Name(root[1:], ast.Load()) if root.startswith("@") and root[1:].isidentifier() else None
            each = self.sites.groups.each(one, self.stmt, self.frame) if one is not None else None
            found.update(f"@{key}" for key in each.keys) if each is not None else found.add(root)
        return frozenset(found)

    def each(self, node: ast.expr, call: ast.Call) -> Each | None:
        """The optimizers that an expression of a call stands for, one after the other."""
        return self.sites.groups.each(node, self.stmt, self.frame, self.parents.get(call))

    def step_each(self, node: ast.Call, each: Each) -> Compute:
        """The step of every optimizer of a collection, in a loop."""
        if self.sites.groups.share(each, self.frame):
            self.refuse("AMP907", node, f"an optimizer of `{ast.unparse(each.base)[:40]}`")
        for key in each.keys:
            self.note(Kind.STEP, node, key=key, call=self.ordinals[node])
        return Compute.NONE

    def is_functional(self, node: ast.expr) -> bool:
        """Whether something is an optimizer that steps by taking the gradients of a loss itself, and leaves `.grad` alone."""
        bound = self.sites.frames.lookup(dotted(node), self.frame) if dotted(node) else []
        made = [b.value.func for b in bound if isinstance(b.value, ast.Call)]
        return bool(bound) and len(made) == len(bound) and all(self.sites.names.resolve(f) in FUNCTIONAL for f in made)

    def functional_step(self, node: ast.Call) -> Compute:
        """A step of an inner loop: its gradients are of a loss that is not scaled, which must not be made under autocast."""
        method = self.frame.method
        forward = method is not None and method.owner is not None and self.roles.is_module(method.owner)
        alone = isinstance(self.stmt, ast.Expr) and self.stmt.value is node
        if forward or not alone or not node.args:
            self.refuse("AMP902", node)
        else:
            self.note(Kind.DIFFERENTIATE, node, done=True, loss=tuple(sorted(uses_of(node.args[0]))))
        return Compute.NONE

    def closure_of(self, arguments: list[ast.expr]) -> ast.AST | None:
        """The one function of this scope that a step gets as its closure."""
        if len(arguments) != 1 or not isinstance(arguments[0], ast.Name):
            return None
        functions = [f for f in self.sites.frames.functions.get(arguments[0].id, ()) if f.parent is self.frame]
        return functions[0].node if len(functions) == 1 and self.sites.frames.named_once(functions[0]) else None

    def is_closure(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Lambda) or dotted(node) in self.sites.frames.functions or "closure" in dotted(node)

    def is_closure_call(self, node: ast.Call) -> bool:
        """Whether a function is called by its name that some step evaluates as its closure."""
        closures = self.sites.closures
        return bool(closures) and any(target.node in closures for target in self.roles.targets(node, self.frame))

    def hands_over_closure(self, node: ast.Call) -> bool:
        """Whether a call hands over a function of this file that goes backward: a step with a closure, whatever the receiver."""
        names = [a.id for a in node.args if isinstance(a, ast.Name)]
        targets = [t for name in names for t in self.sites.frames.functions.get(name, ())]
        return any(self.sites.summaries.of(target).backward for target in targets)

    def is_lbfgs(self, key: str) -> bool:
        values = self.roles.sources(key, self.frame)
        return any(isinstance(v, ast.Call) and self.roles.at(where).callee(v.func).endswith(".LBFGS") for v, where in values)

    def does_part(self, node: ast.Call) -> bool:
        """Whether a call runs a function of the program for a training step, or for a part of one."""
        hidden = self.sites.hidden(node, self.frame)
        return hidden.backward or hidden.step or hidden.clears

    def zero(self, node: ast.Call, func: ast.Attribute) -> None:
        key = dotted(func.value)
        method = self.frame.method
        if each := self.each(func.value, node):
            for one in each.keys:
                self.note(Kind.ZERO, node, key=one)
        elif method is not None and key == method.self_name:
            self.note(Kind.ZERO, node, frozenset({"*"}))
        elif self.roles.of(func.value, self.frame) in (Role.OPTIMIZER, Role.WRAPPER):
            self.note(Kind.ZERO, node, key=key)
        else:
            self.note(Kind.ZERO, node, owners.certain(func.value, self.frame, self.roles))

    def other_call(self, node: ast.Call, name: str) -> Compute:
        """A call of a function, of this file or not, that may do a part of the training step."""
        if name in FUNCTIONAL:
            return Compute.NONE  # copies parameters, and leaves gradients alone
        hidden = self.sites.hidden(node, self.frame)
        if self.is_closure_call(node):
            self.refuse(
                "AMP901",
                node,
                f"`{dotted(node.func)}` is called by its name too, and would leave scaled gradients to the next step",
            )
        elif hidden.backward or hidden.step or hidden.clears:
            kind = Kind.UNIT if hidden.backward and hidden.step else Kind.CALL
            self.note(kind, node, runs=(node, tuple(self.roles.targets(node, self.frame))))
            if kind is Kind.CALL and self.is_conditional(node):
                self.conditional(node, len(self.events) - 1)
        else:
            looks = hidden.exchange or hidden.read or hidden.peek
            touched = gradients.touched(node, self.frame, self.roles) if looks else frozenset()
            if hidden.exchange:
                self.note(Kind.EXCHANGE, node, touched)
            if hidden.read or (hidden.peek and touched):
                self.note(Kind.READ, node, touched, soft=not hidden.read)
        if self.roles.targets(node, self.frame):
            return Compute.FORWARD if hidden.forward and not hidden.backward else Compute.CALL
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr in PASSIVE and self.roles.of(func.value, self.frame) is Role.OPTIMIZER:
            return Compute.NONE
        level = level_of(node, self.frame, self.roles)
        builds = dotted(node.func).rpartition(".")[2][:1].isupper()
        touched = frozenset() if builds else gradients.touched(node, self.frame, self.roles)
        own = f"@{dotted(node.func.value)}" if isinstance(node.func, ast.Attribute) else ""
        handed = frozenset(t for t in touched if t.startswith("@") and t != own)
        if handed:
            self.note(Kind.HANDED, node, handed)
        if touched and level in (Compute.CALL, Compute.FORWARD) and not self.runs_model(node):
            self.note(Kind.READ, node, touched, soft=True)
        return level

    def runs_model(self, node: ast.Call) -> bool:
        """Whether a call is a model's own, or by its name evaluates, saves or shows something: it leaves gradients alone."""
        func = node.func
        if isinstance(func, ast.Attribute):
            receiver = self.roles.of(func.value, self.frame)
            if (Role.MODEL in (receiver, self.roles.of(func, self.frame))) and "grad" not in func.attr:
                return True
        elif self.roles.of(func, self.frame) in (Role.MODEL, Role.LOSS):
            return True
        last = dotted(func).rpartition(".")[2].lower()
        return "grad" not in last and any(word in last for word in LEAVING_GRADIENTS)
