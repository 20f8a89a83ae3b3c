"""Sites: what one statement does to gradients, optimizers, parameters and the forward pass."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import FUNCTIONS, Frame, Frames
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Role, Roles
from ampify.program import Barrier, Compute, Kind, Refusal

MATMULS = frozenset(
    (
        "matmul mm bmm mv dot addmm addbmm baddbmm addmv einsum chain_matmul conv1d conv2d conv3d conv_transpose1d "
        "conv_transpose2d conv_transpose3d linear bilinear scaled_dot_product_attention multi_head_attention_forward"
    ).split()
)
PREPARATION = frozenset({"one_hot", "pad", "normalize", "interpolate"})  # functionals that often only prepare data
PASSIVE = frozenset(
    (
        "parameters named_parameters buffers named_buffers modules named_modules children named_children train eval to "
        "cuda cpu half float double bfloat16 state_dict load_state_dict zero_grad requires_grad_ apply register_buffer "
        "register_parameter add_module share_memory get_parameter configure_optimizers size dim view items keys values "
        "append __len__ extra_repr register_forward_hook register_backward_hook register_full_backward_hook save "
        "save_pretrained load init_weights reset_parameters init_hidden type register_comm_hook no_sync join summary"
    ).split()
)
WRITERS = frozenset({"load_state_dict", "update_parameters", "update_moving_average", "update_average", "vector_to_parameters"})
HARMLESS = frozenset(
    (
        "print len isinstance str repr list tuple set dict sum id type iter enumerate zip map filter any all sorted "
        "hasattr getattr next range min max reversed callable vars super"
    ).split()
)
STANDARD = frozenset("itertools functools copy math os sys json logging random time operator collections numpy".split())
NOT_OPTIMIZERS = frozenset(
    {"env", "envs", "prof", "profiler", "pbar", "bar", "timer", "logger", "world", "sim", "simulator", "game", "viz"}
)
MUTATORS = frozenset({"append", "extend", "insert", "add", "update", "setdefault", "appendleft", "push"})
TENSOR_METHODS = frozenset(
    (
        "item detach numpy tolist view reshape size dim mean sum std var min max argmax type float double long int bool "
        "cpu cuda to squeeze unsqueeze permute transpose t contiguous clone format split strip join get pop keys values "
        "items index count copy backward requires_grad_ data_ptr expand repeat flatten eq ne gt lt ge le abs pow sqrt exp "
        "log round clamp log_prob sample entropy"
    ).split()
)
CLEARING = frozenset({"zero_", "detach_", "zero_grad"})


class Raw(NamedTuple):
    """An event before the scope's optimizers are known: `roots` are what it acts on."""

    kind: Kind
    roots: frozenset[str] = frozenset()
    key: str = ""
    line: int = 0
    column: int = 0
    call: int = 0
    done: bool = False
    loss: tuple[str, ...] = ()
    tensors: bool = False
    soft: bool = False  # a READ that is only possible: a call that receives a model or an optimizer


class Facts(NamedTuple):
    """What one statement's own expressions do (inner blocks and functions not included)."""

    events: list[Raw]
    compute: Compute
    barrier: Barrier | None
    refusals: list[Refusal]


class Summary(NamedTuple):
    """What calling a function of this file does, directly or through others."""

    backward: bool = False
    step: bool = False
    read: bool = False
    write: bool = False
    forward: bool = False
    suspend: bool = False
    zeros: frozenset[tuple[str, frozenset[str]]] = frozenset()  # what it clears on every path: (optimizer, models)

    def join(self, other: Summary) -> Summary:
        return Summary(
            self.backward or other.backward,
            self.step or other.step,
            self.read or other.read,
            self.write or other.write,
            self.forward or other.forward,
            self.suspend or other.suspend,
            self.zeros | other.zeros,
        )


class Sites:
    """Reads statements of one file."""

    def __init__(self, names: Names, frames: Frames, roles: Roles) -> None:
        self.names, self.frames, self.roles = names, frames, roles
        self.autocast = names.runtime.get("autocast", "")
        self.scaler = names.runtime.get("scaler", "")
        self.summaries: dict[Frame, Summary] = {}
        self._summarize()

    # functions of this file --------------------------------------------------------------------------

    def _summarize(self) -> None:
        """The least fixed point of what each function does, over the calls between functions of this file."""
        called: dict[Frame, list[Frame]] = {}
        for frame in self.frames.all:
            called[frame] = [t for call in frame.calls for t in self.roles.targets(call, frame)]
            self.summaries[frame] = self._direct(frame)
        changed = True
        while changed:
            changed = False
            for frame, targets in called.items():
                summary = self.summaries[frame]
                for target in targets:
                    # A generator suspends itself, not its caller; what is cleared on some path is not cleared.
                    summary = summary.join(self.summaries[target]._replace(suspend=False, zeros=frozenset()))
                if summary != self.summaries[frame]:
                    self.summaries[frame] = summary
                    changed = True

    def _direct(self, frame: Frame) -> Summary:
        found = Summary()
        if isinstance(frame.node, ast.Module):
            return found
        for stmt in own_statements(frame.node.body):
            facts = self.read(stmt, frame)
            kinds = {e.kind for e in facts.events}
            found = Summary(
                found.backward or Kind.BACKWARD in kinds,
                found.step or Kind.STEP in kinds,
                found.read or Kind.READ in kinds,
                found.write or facts.barrier is Barrier.WRITE,
                found.forward or facts.compute in (Compute.FORWARD, Compute.MATMUL, Compute.LOSS),
                found.suspend or facts.barrier is Barrier.SUSPEND,
                found.zeros | self._cleared_always(stmt, facts, frame),
            )
        return found

    @staticmethod
    def _cleared_always(stmt: ast.stmt, facts: Facts, frame: Frame) -> frozenset[tuple[str, frozenset[str]]]:
        """What a statement of a function clears whenever that is called, under names that mean the same to its callers."""
        if stmt not in frame.node.body:
            return frozenset()
        zeros = {(e.key, e.roots) for e in facts.events if e.kind is Kind.ZERO}
        local = set(frame.bindings)
        return frozenset((key, roots) for key, roots in zeros if key not in local and not roots & local)

    # one statement -----------------------------------------------------------------------------------

    def read(self, stmt: ast.stmt, frame: Frame) -> Facts:
        """The facts of a statement's own expressions: of a compound statement only its header."""
        facts = Facts([], Compute.NONE, None, [])
        if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            return facts
        parents: dict[ast.AST, ast.AST] = {}
        nodes = list(_ordered(stmt, parents))
        ordinals = _ordinals(nodes)
        events, refusals = facts.events, facts.refusals
        compute, barrier = Compute.NONE, None
        for node in nodes:
            if isinstance(node, ast.Call):
                level = self._call(node, frame, ordinals, events, refusals)
                compute = level if level.value > compute.value else compute
                if self._writes(node, frame):
                    barrier = barrier or Barrier.WRITE
                hidden = self._hidden(node, frame)
                if hidden.write:
                    barrier = barrier or Barrier.WRITE
            elif isinstance(node, ast.Attribute) and node.attr in ("grad", "_grad"):
                self._gradient(node, frame, parents, events)
            elif isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
                barrier = Barrier.SUSPEND
            elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
                compute = Compute.MATMUL if compute.value < Compute.MATMUL.value else compute
        if isinstance(stmt, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets: list[ast.expr] = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
            if any(self._is_data(t) for t in targets):
                barrier = barrier or Barrier.WRITE
            self._created(stmt, targets, frame, events)
        elif isinstance(stmt, ast.For):
            at = (stmt.lineno, stmt.col_offset)
            if self._clears(stmt, frame):
                events.append(Raw(Kind.ZERO, self.roles.roots(stmt.iter, frame), "", *at))
            events.extend(Raw(Kind.ZERO, frozenset(), key, *at) for key in self._each_cleared(stmt, frame))
        if any(e.kind in (Kind.BACKWARD, Kind.STEP, Kind.UNSCALE, Kind.UPDATE, Kind.UNIT) for e in events):
            barrier = Barrier.TRAIN
        if any(e.kind is Kind.READ for e in events) and self._manual(stmt, frame, parents):
            refusals.append(Refusal("AMP903", stmt.lineno, stmt.col_offset, ""))
        return Facts(events, compute, barrier, refusals)

    def _call(
        self, node: ast.Call, frame: Frame, ordinals: dict[ast.AST, int], events: list[Raw], refusals: list[Refusal]
    ) -> Compute:
        """Notes the events of one call; returns how much it looks like a forward pass."""
        func, name = node.func, self.names.resolve(node.func)
        at = (node.lineno, node.col_offset)
        last = name.rpartition(".")[2]
        if self.scaler and isinstance(func, ast.Attribute) and dotted(func.value) == self.scaler:
            self._scaler_call(func.attr, node, events)
            return Compute.NONE
        if isinstance(func, ast.Attribute) and func.attr == "backward":
            self._backward(node, func, name, frame, ordinals, events, refusals)
            return Compute.NONE
        if isinstance(func, ast.Attribute) and func.attr == "step":
            return self._step(node, func, frame, ordinals, events, refusals)
        if isinstance(func, ast.Attribute) and func.attr == "zero_grad":
            self._zero(node, func, frame, events)
            return Compute.NONE
        if last.startswith("clip_grad") or last in ("get_total_norm", "clip_grads_with_norm_"):
            roots = self.roles.roots(node.args[0], frame) if node.args else frozenset()
            if isinstance(func, ast.Attribute) and not name.startswith("torch."):
                roots = self.roles.canonical(func.value, frame)
            events.append(Raw(Kind.READ, roots, "", *at))
            return Compute.NONE
        if name in (
            "torch.autograd.grad",
            "torch.func.grad",
            "torch.autograd.functional.jacobian",
            "torch.autograd.functional.hessian",
        ):
            refusals.append(Refusal("AMP902", *at, ""))
            return Compute.NONE
        if name == "torch.distributed.all_reduce" and any("grad" in dotted(n) for a in node.args for n in ast.walk(a)):
            refusals.append(Refusal("AMP917", *at, ""))
            return Compute.NONE
        return self._other_call(node, name, frame, events)

    def _scaler_call(self, method: str, node: ast.Call, events: list[Raw]) -> None:
        at = (node.lineno, node.col_offset)
        key = dotted(node.args[0]) if node.args else ""
        if method == "step":
            events.append(Raw(Kind.STEP, frozenset(), key, *at, done=True))
        elif method == "unscale_":
            events.append(Raw(Kind.UNSCALE, frozenset(), key, *at, done=True))
        elif method == "update":
            events.append(Raw(Kind.UPDATE, frozenset(), "", *at, done=True))

    def is_scaled(self, node: ast.AST) -> bool:
        """Whether an expression is `scaler.scale(...)`."""
        return (
            bool(self.scaler)
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "scale"
            and dotted(node.func.value) == self.scaler
        )

    def _backward(
        self,
        node: ast.Call,
        func: ast.Attribute,
        name: str,
        frame: Frame,
        ordinals: dict[ast.AST, int],
        events: list[Raw],
        refusals: list[Refusal],
    ) -> None:
        at = (node.lineno, node.col_offset)
        root: ast.AST = func.value
        if name == "torch.autograd.backward":
            tensors = node.args[:1] or [k.value for k in node.keywords if k.arg == "tensors"]
            if not tensors:
                return
            root = tensors[0]
        elif name.startswith("torch.distributed.autograd") or dotted(func.value).rpartition(".")[2] == "dist_autograd":
            refusals.append(Refusal("AMP904", *at, "distributed autograd keeps the gradients outside `.grad`"))
            return
        elif self._not_a_tensor(node, func, frame):
            if not any(self.summaries.get(t, Summary()).backward for t in self.roles.targets(node, frame)):
                refusals.append(
                    Refusal("AMP904", *at, f"`{dotted(func.value) or '...'}.backward(...)` is not a tensor's backward")
                )
            return
        if any(k.arg == "create_graph" and not _is_false(k.value) for k in node.keywords):
            refusals.append(Refusal("AMP902", *at, ""))
        done = self.is_scaled(root)
        if not done and self._computes_inside(root, frame):
            refusals.append(Refusal("AMP914", *at, ""))
        loss = tuple(sorted(uses_of(root)))
        events.append(Raw(Kind.BACKWARD, frozenset(), "", *at, ordinals[node], done, loss, name == "torch.autograd.backward"))

    def _not_a_tensor(self, node: ast.Call, func: ast.Attribute, frame: Frame) -> bool:
        """Whether `X.backward(...)` is a method of something other than a tensor (an engine, an autograd.Function)."""
        receiver = dotted(func.value)
        if receiver in ("self", "super", "cls", "ctx") or (
            isinstance(func.value, ast.Call) and dotted(func.value.func) == "super"
        ):
            return True
        if self.roles.targets(node, frame):
            return True
        if not receiver:
            return False
        return bool(node.args) and self.roles.of(func.value, frame) in (Role.OPTIMIZER, Role.MODEL, Role.WRAPPER)

    def _computes_inside(self, root: ast.AST, frame: Frame) -> bool:
        """Whether the loss expression does more than combine losses that were computed before."""
        for node in ast.walk(root):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult | ast.Pow):
                return True
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Attribute) and node.func.attr in (
                    "mean",
                    "sum",
                    "squeeze",
                    "view",
                    "reshape",
                    "unsqueeze",
                    "item",
                    "values",
                    "float",
                ):
                    if self.names.resolve(node.func).startswith("torch.") and node.func.attr in ("float", "item"):
                        return True
                    continue
                if dotted(node.func) in ("sum", "list", "tuple", "len", "min", "max") or self.names.resolve(node.func) in (
                    "torch.stack",
                    "torch.cat",
                    "torch.tensor",
                ):
                    continue
                return True
        return False

    def _step(
        self,
        node: ast.Call,
        func: ast.Attribute,
        frame: Frame,
        ordinals: dict[ast.AST, int],
        events: list[Raw],
        refusals: list[Refusal],
    ) -> Compute:
        at = (node.lineno, node.col_offset)
        key = dotted(func.value)
        role = self.roles.of(func.value, frame) if not self._is_closure_like(node, frame) else Role.OPTIMIZER
        arguments = [*node.args, *(k.value for k in node.keywords)]
        if self._hidden(node, frame).backward:
            return self._other_call(node, self.names.resolve(func), frame, events)  # a method that trains, called step
        if role is Role.SCHEDULER:
            events.append(Raw(Kind.SCHEDULE, frozenset(), key, *at, ordinals[node]))
            return Compute.NONE
        if role in (Role.OPTIMIZER, Role.WRAPPER):
            if role is Role.WRAPPER and self.roles.targets(node, frame):
                refusals.append(Refusal("AMP904", *at, f"`{key}` wraps an optimizer and steps it in its own `step`"))
            elif self._is_lbfgs(key, frame) or any(self._is_closure(a, frame) for a in arguments):
                refusals.append(Refusal("AMP901", *at, ""))
            elif arguments:
                refusals.append(Refusal("AMP912", *at, f"`{ast.unparse(arguments[0])[:40]}`"))
            elif not key or not self._is_stable(key, frame):
                refusals.append(Refusal("AMP913", *at, f"`{ast.unparse(func.value)[:40]}` stands for several optimizers"))
            else:
                events.append(Raw(Kind.STEP, frozenset(), key, *at, ordinals[node]))
            return Compute.NONE
        if self.roles.targets(node, frame):
            return self._other_call(node, self.names.resolve(func), frame, events)
        last = key.rpartition(".")[2]
        if not arguments and role in (Role.UNKNOWN, Role.MODEL) and last not in NOT_OPTIMIZERS:
            refusals.append(Refusal("AMP913", *at, f"nothing shows whether `{ast.unparse(func.value)[:40]}` is an optimizer"))
        return Compute.FORWARD if role is Role.MODEL else Compute.CALL

    def _is_stable(self, key: str, frame: Frame) -> bool:
        """Whether a key names one optimizer: not the variable of a loop over several."""
        return not any(b.how == "for" for b in self.frames.lookup(key, frame))

    def _is_closure(self, node: ast.expr, frame: Frame) -> bool:
        if isinstance(node, ast.Lambda):
            return True
        return dotted(node) in self.frames.functions or "closure" in dotted(node)

    def _is_closure_like(self, node: ast.Call, frame: Frame) -> bool:
        """Whether a call hands over a function of this file that goes backward: a step with a closure, whatever the receiver."""
        return any(
            self.summaries.get(target, Summary()).backward
            for a in node.args
            if isinstance(a, ast.Name)
            for target in self.frames.functions.get(a.id, ())
        )

    def _is_lbfgs(self, key: str, frame: Frame) -> bool:
        return any(
            isinstance(value, ast.Call) and self.roles.callee(value.func).endswith(".LBFGS")
            for value, _ in self.roles.sources(key, frame)
        )

    def _zero(self, node: ast.Call, func: ast.Attribute, frame: Frame, events: list[Raw]) -> None:
        at = (node.lineno, node.col_offset)
        role = self.roles.of(func.value, frame)
        key = dotted(func.value)
        method = self.frames.method_of(frame)
        if method is not None and key == method.self_name:
            events.append(Raw(Kind.ZERO, frozenset({"*"}), "", *at))
        elif role in (Role.OPTIMIZER, Role.WRAPPER):
            events.append(Raw(Kind.ZERO, frozenset(), key, *at))
        else:
            events.append(Raw(Kind.ZERO, self.roles.canonical(func.value, frame), "", *at))

    def _each_cleared(self, stmt: ast.For, frame: Frame) -> list[str]:
        """The optimizers that a loop over a tuple or list written out clears one after the other."""
        value: ast.expr | None = stmt.iter
        if value is not None and dotted(value):
            bindings = self.frames.lookup(dotted(value), frame)
            value = bindings[0].value if len(bindings) == 1 and not bindings[0].path else None
        if not isinstance(value, ast.Tuple | ast.List) or not isinstance(stmt.target, ast.Name):
            return []
        clears = any(
            isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and dotted(s.value.func) == f"{stmt.target.id}.zero_grad"
            for s in stmt.body
        )
        return [dotted(e) for e in value.elts if dotted(e)] if clears else []

    def _other_call(self, node: ast.Call, name: str, frame: Frame, events: list[Raw]) -> Compute:
        func, last = node.func, name.rpartition(".")[2]
        at = (node.lineno, node.col_offset)
        hidden = self._hidden(node, frame)
        if hidden.backward and hidden.step:
            events.append(Raw(Kind.UNIT, frozenset(), "", *at))
        elif hidden.backward or hidden.step:
            events.append(Raw(Kind.UNIT, frozenset({"partial"}), name, *at))
        events.extend(Raw(Kind.ZERO, roots, key, *at) for key, roots in sorted(hidden.zeros, key=str))
        if hidden.read and not (hidden.backward or hidden.step):
            events.append(Raw(Kind.READ, self._touched(node, frame), "", *at))
        if isinstance(func, ast.Attribute) and func.attr in MATMULS and not name.startswith("torch.optim"):
            return Compute.MATMUL
        if name.startswith("torch.nn.functional."):
            if last in MATMULS:
                return Compute.MATMUL
            return Compute.NONE if last in PREPARATION else Compute.LOSS
        if name.startswith("torch.") or last in HARMLESS or name.partition(".")[0] in STANDARD:
            return Compute.NONE
        if self.roles.targets(node, frame):
            return Compute.FORWARD if hidden.forward and not hidden.backward else Compute.CALL
        level = self._model_call(node, frame)
        if level is Compute.CALL and isinstance(func, ast.Attribute) and func.attr in MUTATORS | TENSOR_METHODS:
            level = Compute.NONE
        if not dotted(func).rpartition(".")[2][:1].isupper():
            touched = self._touched(node, frame)
            if level is Compute.CALL or (level is Compute.FORWARD and any(t.startswith("@") for t in touched)):
                if touched:
                    events.append(Raw(Kind.READ, touched, "", *at, soft=True))
        return level

    def _model_call(self, node: ast.Call, frame: Frame) -> Compute:
        func = node.func
        method = self.frames.method_of(frame)
        inside = method is not None and method.owner is not None and self.roles.is_module(method.owner)
        if isinstance(func, ast.Attribute):
            receiver = dotted(func.value)
            if inside and method is not None and receiver == method.self_name:
                role = self.roles.of(func, frame)
                return Compute.FORWARD if func.attr == "forward" or role is Role.MODEL else Compute.CALL
            role = self.roles.of(func, frame) if dotted(func) else Role.UNKNOWN
            if role is Role.MODEL and func.attr not in PASSIVE:
                return Compute.FORWARD
            if role is Role.LOSS:
                return Compute.LOSS
            base = self.roles.of(func.value, frame)
            if base is Role.MODEL:
                return Compute.NONE if func.attr in PASSIVE else Compute.FORWARD
            if base in (Role.OPTIMIZER, Role.SCHEDULER, Role.LOSS, Role.OTHER):
                return Compute.NONE
        elif isinstance(func, ast.Name):
            if inside and method is not None and func.id == method.self_name:
                return Compute.FORWARD
            if func.id in self.frames.classes:
                return Compute.NONE  # builds an object
            role = self.roles.of(func, frame)
            if role is Role.MODEL:
                return Compute.FORWARD
            if role is Role.LOSS:
                return Compute.LOSS
        elif isinstance(func, ast.Subscript | ast.Call):
            role = self.roles.of(func, frame)
            if role in (Role.MODEL, Role.LOSS):
                return Compute.FORWARD if role is Role.MODEL else Compute.LOSS
        arguments = [a.value if isinstance(a, ast.Starred) else a for a in [*node.args, *(k.value for k in node.keywords)]]
        last = dotted(func).rpartition(".")[2]
        if any(dotted(a) and self.roles.of(a, frame) is Role.MODEL for a in arguments) and not last[:1].isupper():
            return Compute.FORWARD
        return Compute.CALL

    def _hidden(self, node: ast.Call, frame: Frame) -> Summary:
        found = Summary()
        for target in self.roles.targets(node, frame):
            inner = self.summaries.get(target, Summary())
            found = found.join(inner)
        return found

    def _touched(self, node: ast.Call, frame: Frame) -> frozenset[str]:
        """The models and optimizers that a call receives, and so may look at the gradients of."""
        found: set[str] = set()
        values: list[ast.expr] = [*node.args, *(k.value for k in node.keywords)]
        if isinstance(node.func, ast.Attribute):
            values.append(node.func.value)
        for value in values:
            value = value.value if isinstance(value, ast.Starred) else value
            if (
                isinstance(value, ast.Call)
                and isinstance(value.func, ast.Attribute)
                and value.func.attr in ("parameters", "named_parameters")
            ):
                found |= self.roles.roots(value, frame)
            elif dotted(value):
                role = self.roles.of(value, frame)
                if role is Role.MODEL:
                    found |= self.roles.canonical(value, frame)
                elif role is Role.OPTIMIZER:
                    found.add("@" + dotted(value))
        return frozenset(found)

    # gradients, parameters ---------------------------------------------------------------------------

    def _gradient(self, node: ast.Attribute, frame: Frame, parents: dict[ast.AST, ast.AST], events: list[Raw]) -> None:
        """Notes that `.grad` is looked at or changed, unless it is only cleared or compared with None."""
        if self.names.resolve(node).startswith("torch."):
            return
        parent = parents.get(node)
        if isinstance(parent, ast.Compare) and len(parent.ops) == 1 and isinstance(parent.ops[0], ast.Is | ast.IsNot):
            return
        if isinstance(node.ctx, ast.Del):
            return
        if isinstance(node.ctx, ast.Store) and isinstance(parent, ast.Assign) and _is_none(parent.value):
            return
        if isinstance(parent, ast.If | ast.While | ast.BoolOp) or (
            isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
        ):
            return
        while isinstance(parent, ast.Attribute):
            if parent.attr in CLEARING:
                return
            if parent.attr in ("device", "dtype", "shape", "is_sparse"):
                return
            parent = parents.get(parent)
        events.append(Raw(Kind.READ, self._owner_of(node.value, frame), "", node.lineno, node.col_offset))

    def _owner_of(self, tensor: ast.expr, frame: Frame) -> frozenset[str]:
        """Whose parameter a tensor is: the roots of the loop that yields it, the model it lies in, or `=text` for itself alone."""
        text = dotted(tensor).removesuffix(".data")
        bindings = self.frames.lookup(text, frame)
        if any(b.how == "for" for b in bindings):
            return self.roles.roots(tensor, frame)
        base: ast.expr = tensor
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
            if dotted(base) and self.roles.of(base, frame) is Role.MODEL:
                return self.roles.canonical(base, frame)
        return frozenset({f"={text}"})

    def _clears(self, stmt: ast.For, frame: Frame) -> bool:
        """Whether a loop does nothing but clear the gradients of the parameters it runs over."""

        def clears(body: list[ast.stmt]) -> bool:
            for inner in body:
                if isinstance(inner, ast.If) and not inner.orelse:
                    if not clears(inner.body):
                        return False
                elif isinstance(inner, ast.Assign):
                    target = inner.targets[0]
                    if not (isinstance(target, ast.Attribute) and target.attr == "grad" and _is_none(inner.value)):
                        return False
                elif isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call):
                    text = dotted(inner.value.func)
                    if not (".grad." in text and text.endswith(("zero_", "detach_"))):
                        return False
                else:
                    return False
            return True

        return "parameters" in ast.dump(stmt.iter) and clears(stmt.body)

    def _is_data(self, node: ast.AST) -> bool:
        """Whether an assignment's target is `X.data`, in full or in part, and no gradient."""
        while isinstance(node, ast.Subscript):
            node = node.value
        parts = dotted(node).split(".")
        return "data" in parts[1:] and "grad" not in parts

    def _writes(self, node: ast.Call, frame: Frame) -> bool:
        """Whether a call changes parameters in place."""
        name = self.names.resolve(node.func)
        last = name.rpartition(".")[2]
        if last in WRITERS or name.startswith("torch.nn.init."):
            return True
        if not isinstance(node.func, ast.Attribute):
            return False
        attr, receiver = node.func.attr, node.func.value
        if attr in ("update", "step") and "ema" in dotted(receiver).lower():
            return True
        if not attr.endswith("_") or attr.endswith("__") or attr in ("requires_grad_", "detach_", "zero_grad_", "retain_grad_"):
            return False
        parts = {n.attr for n in ast.walk(receiver) if isinstance(n, ast.Attribute)}
        if "grad" in parts:
            return False
        if "data" in parts or parts & {"weight", "bias"}:
            return True
        text = dotted(receiver)
        return any(
            b.how == "for" and b.value is not None and "parameters" in ast.dump(b.value) for b in self.frames.lookup(text, frame)
        )

    def _manual(self, stmt: ast.stmt, frame: Frame, parents: dict[ast.AST, ast.AST]) -> bool:
        """Whether a statement that reads `.grad` moves what the gradient belongs to: a parameter update by hand."""
        bases = {dotted(n.value) for n in parents if isinstance(n, ast.Attribute) and n.attr in ("grad", "_grad")}
        bases.discard("")
        plain = {b.removesuffix(".data") for b in bases}
        if isinstance(stmt, ast.Assign | ast.AugAssign):
            targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
            texts = {dotted(t.value if isinstance(t, ast.Subscript) else t).removesuffix(".data") for t in targets}
            return bool(texts & plain)
        for node in parents:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
                if dotted(node.func.value).removesuffix(".data") in plain:
                    return True
        return False

    def _created(self, stmt: ast.stmt, targets: list[ast.expr], frame: Frame, events: list[Raw]) -> None:
        value = getattr(stmt, "value", None)
        if not isinstance(value, ast.Call):
            return
        for target in targets:
            if (
                dotted(target)
                and self.roles.callee(value.func).startswith("torch.optim.")
                and self.roles.of(target, frame) is Role.OPTIMIZER
            ):
                events.append(Raw(Kind.CREATE, frozenset(), dotted(target), stmt.lineno, stmt.col_offset))


# helpers ---------------------------------------------------------------------------------------------


def own_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements of a body, in source order, without those of functions and classes defined in it."""
    for stmt in body:
        yield stmt
        if not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            for block in blocks_of(stmt):
                yield from own_statements(block)


def blocks_of(stmt: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of a compound statement in source order."""
    if isinstance(stmt, ast.Try | ast.TryStar):
        return [stmt.body, *(h.body for h in stmt.handlers), stmt.orelse, stmt.finalbody]
    if isinstance(stmt, ast.Match):
        return [case.body for case in stmt.cases]
    return [b for b in (getattr(stmt, "body", None), getattr(stmt, "orelse", None)) if isinstance(b, list)]


def header(stmt: ast.stmt) -> list[ast.AST]:
    """The expressions of a statement itself, in order of evaluation."""
    if isinstance(stmt, ast.If | ast.While):
        return [stmt.test]
    if isinstance(stmt, ast.For | ast.AsyncFor):
        return [stmt.iter, stmt.target]
    if isinstance(stmt, ast.With | ast.AsyncWith):
        return [part for item in stmt.items for part in (item.context_expr, item.optional_vars) if part is not None]
    if isinstance(stmt, ast.Match):
        return [stmt.subject]
    if isinstance(stmt, ast.Try | ast.TryStar | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    if isinstance(stmt, ast.Assign):
        return [stmt.value, *stmt.targets]
    return list(ast.iter_child_nodes(stmt))


def _ordered(stmt: ast.stmt, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a statement's header in order of evaluation, operands before what uses them; fills `parents`."""

    def visit(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.Lambda):
            return
        for child in ast.iter_child_nodes(node):
            parents[child] = node
            yield from visit(child)
        yield node

    for part in header(stmt):
        parents[part] = stmt
        yield from visit(part)
    if isinstance(stmt, ast.AugAssign):
        yield stmt


def _ordinals(nodes: list[ast.AST]) -> dict[ast.AST, int]:
    """For each call of a method its number, in source order, among the calls of methods of that name in the statement."""
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    calls.sort(key=lambda n: (n.lineno, n.col_offset, -(n.end_lineno or 0), -(n.end_col_offset or 0)))
    counts: dict[str, int] = {}
    numbers: dict[ast.AST, int] = {}
    for call in calls:
        attr = call.func.attr  # type: ignore[attr-defined]
        numbers[call] = counts.get(attr, 0)
        counts[attr] = numbers[call] + 1
    return numbers


def uses_of(node: ast.AST) -> set[str]:
    """The texts of all values that an expression reads, with the objects they are attributes or elements of (but not `self`)."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute | ast.Subscript):
            text = dotted(inner)
            if text and text != "self":
                found.add(text)
    return found


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not node.value
