"""Sites: what one statement does for a training step, and why it must not stand in a region."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from ampify.analysis import gradients, lambdas, owners, parts
from ampify.analysis.checkpoints import State
from ampify.analysis.effects import note_call
from ampify.analysis.facts import Facts
from ampify.analysis.frames import FUNCTIONS, Frame, Frames
from ampify.analysis.knowledge import Knowledge
from ampify.analysis.names import Names, dotted
from ampify.analysis.notes import Notes
from ampify.analysis.roles import Role, Roles
from ampify.analysis.steps import is_functional
from ampify.analysis.summaries import NOTHING, Summaries
from ampify.analysis.syntax import defs_and_uses, shown
from ampify.analysis.vocabulary import SECOND_ORDER, TRACES
from ampify.program import Barrier, Compute, Kind

SILENT = frozenset({ast.Constant, ast.Name, ast.keyword})
TRAINING = (Kind.BACKWARD, Kind.STEP, Kind.UNSCALE, Kind.UPDATE, Kind.UNIT)


class Sites(Knowledge):
    """Reads the statements of one file."""

    def __init__(self, names: Names, frames: Frames, roles: Roles, summaries: Summaries) -> None:
        super().__init__(names, frames, roles, summaries)
        self._facts: dict[ast.stmt, Facts] = {}
        self._texts: dict[ast.stmt, tuple[frozenset[str], frozenset[str]]] = {}

    def read(self, stmt: ast.stmt, frame: Frame) -> Facts:
        """The facts of a statement's own expressions: of a compound statement only its header. They are kept, unless they
        would say more if the functions were known that are being summarized."""
        facts = self._facts.get(stmt)
        if facts is None:
            if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
                return Facts([], Compute.NONE, None, [])
            unanswered = self.summaries.unanswered
            facts = _facts(Notes(self, stmt, frame))
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


def _facts(notes: Notes) -> Facts:
    """Reads the statement, node by node as they are evaluated."""
    compute, bare, barrier = Compute.NONE, Compute.NONE, None
    for node in notes.nodes:
        if node.__class__ in SILENT:
            continue
        if isinstance(node, ast.Call):
            level = note_call(notes, node)
            compute = max(compute, level, key=lambda level: level.value)
            bare = max(bare, Compute.NONE if _is_shielded(notes, node) else level, key=lambda level: level.value)
            barrier = barrier or _barrier(notes, node)
        elif isinstance(node, ast.Attribute) and node.attr in ("step", "backward"):
            _refuse_handed_on(notes, node)
        elif isinstance(node, ast.Attribute) and node.attr in ("grad", "_grad"):
            own = notes.known.names.is_scaler(node.value)  # scaler.grad(...)
            own = own or node in notes.known.unowned(notes.frame)
            if node in notes.known.exchange(notes.frame).sums:
                notes.note(Kind.EXCHANGE, node, gradients.owner_of(node.value, notes.frame, notes.roles))
            elif not own and gradients.reads_gradient(node, notes.roles, notes.parents):
                kind = Kind.REPLACE if isinstance(node.ctx, ast.Store) else Kind.READ
                notes.note(kind, node, gradients.owner_of(node.value, notes.frame, notes.roles))
        elif isinstance(node, ast.Lambda):
            _note_lambda(notes, node)
        elif isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
            barrier = Barrier.SUSPEND
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.MatMult):
            compute = max(compute, Compute.MATMUL, key=lambda level: level.value)
    _note_checkpoints(notes)
    if isinstance(notes.stmt, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets: list[ast.expr] = notes.stmt.targets if isinstance(notes.stmt, ast.Assign) else [notes.stmt.target]
        if any(gradients.is_data(t) for t in targets):
            barrier = barrier or Barrier.WRITE
        _note_created(notes, targets)
        _refuse_set(notes, targets)
    elif isinstance(notes.stmt, ast.For):
        if whose := gradients.cleared_all(notes.stmt, notes.frame, notes.roles):
            notes.note(Kind.ZERO, notes.stmt, whose)
        cleared = notes.known.groups.cleared(notes.stmt, notes.frame)
        for key in cleared or gradients.each_cleared(notes.stmt, notes.frame, notes.roles):
            notes.note(Kind.ZERO, notes.stmt, key=key)
    if any(e.kind in TRAINING or (e.runs and notes.known.trains(e.runs[0], notes.frame)) for e in notes.events):
        barrier = Barrier.TRAIN
    if any(e.kind in (Kind.READ, Kind.REPLACE) for e in notes.events) and gradients.updates_by_hand(notes.stmt, notes.parents):
        notes.refuse("AMP903", notes.stmt, shown(notes.stmt))
    shielded = compute is Compute.FORWARD and bare is Compute.NONE
    return Facts(notes.events, compute, barrier, notes.refusals, notes.binds, shielded)


def _is_shielded(notes: Notes, node: ast.Call) -> bool:
    """Whether a call runs functions of the file alone that turn gradients off round every model which they run."""
    targets = notes.roles.targets(node, notes.frame)
    own = bool(targets) and all(target.home is notes.frame.home for target in targets)
    hidden = notes.known.hidden(node, notes.frame) if own else NOTHING
    return hidden.forward and not hidden.exposed


def _barrier(notes: Notes, node: ast.Call) -> Barrier | None:
    """Why a call must not stand in a region; notes what the functions that it runs bind."""
    hidden = notes.known.hidden(node, notes.frame)
    notes.bind(hidden.binds)
    if hidden.write or gradients.writes_parameters(node, notes.frame, notes.roles):
        return Barrier.WRITE
    own = isinstance(node.func, ast.Attribute) and node.func.attr == "grad" and notes.known.names.is_scaler(node.func.value)
    steps = isinstance(node.func, ast.Attribute) and node.func.attr == "step" and is_functional(notes, node.func.value)
    if own or steps or hidden.differentiate or notes.known.names.resolve(node.func) in SECOND_ORDER:
        return Barrier.GRADIENT  # taken from an unscaled loss, it would underflow in half precision
    return Barrier.TRACE if notes.known.names.resolve(node.func) in TRACES else None


def _note_checkpoints(notes: Notes) -> None:
    """Notes where optimizers' states are saved and loaded, and where the scaler's are already."""
    stmt, found = notes.stmt, notes.known.checkpoints
    if (named := found.taken(stmt, notes.frame)) is not None:
        _note_state(notes, Kind.LOAD, named)
    if not any(isinstance(node, ast.Attribute) and node.attr in ("state_dict", "load_state_dict") for node in notes.nodes):
        return
    for state in found.saved(stmt, notes.nodes, notes.parents, notes.frame):
        _note_state(notes, Kind.SAVE, state, notes.ordinals[state.call])
    target = stmt.targets[0] if isinstance(stmt, ast.Assign) else None
    for value, key in found.own_keys(stmt, notes.nodes):
        text = dotted(target.value) if isinstance(target, ast.Subscript) else ""
        notes.note(Kind.SAVE, value, text=text, form=key, done=True)
    for node in notes.nodes:
        if not isinstance(node, ast.Call):
            continue
        if loaded := found.loaded(stmt, node, notes.frame):
            _note_state(notes, Kind.LOAD, loaded)
        elif found.loads_own(node):
            source, key = node.args[0], ""
            if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute):
                key = str(source.args[0].value) if source.args and isinstance(source.args[0], ast.Constant) else ""
                source = source.func.value
            notes.note(Kind.LOAD, node, text=dotted(source), form=key, done=True)


def _note_state(notes: Notes, kind: Kind, state: State, call: int = 0) -> None:
    """Notes an optimizer's state that is saved or loaded."""
    text = dotted(state.mapping) if state.mapping is not None else ""
    notes.note(kind, state.call, call=call, text=text, form=state.form, mapping=state.mapping)


def _note_created(notes: Notes, targets: list[ast.expr]) -> None:
    """Notes the building of an optimizer of torch's."""
    value = getattr(notes.stmt, "value", None)
    if isinstance(value, ast.Call) and notes.roles.callee(value.func).startswith("torch.optim."):
        for target in targets:
            if dotted(target) and notes.roles.of(target, notes.frame) is Role.OPTIMIZER:
                notes.note(Kind.CREATE, notes.stmt, key=dotted(target))


def _note_lambda(notes: Notes, node: ast.Lambda) -> None:
    """Notes what a lambda looks at that runs within its statement."""
    call = lambdas.call_in_place(node, notes.parents, notes.roles)
    if call is not None and lambdas.looks_at_gradients(node, notes.frame, notes.roles):
        given = [owners.roots(a, notes.frame, notes.roles) for a in call.args if a is not node]
        notes.note(Kind.READ, call, notes.members(frozenset().union(*given)))


def _refuse_handed_on(notes: Notes, node: ast.Attribute) -> None:
    """A step or backward that is handed on instead of called: nobody can tell when it runs."""
    parent = notes.parents.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        return
    if isinstance(node.ctx, ast.Load) and parts.hands_on(node, notes.frame, notes.roles):
        # One without the other is no training step, however it is called.
        if notes.known.names.mentions("step" if node.attr == "backward" else "backward"):
            notes.refuse("AMP904", node, parts.handed_detail(node))


def _refuse_set(notes: Notes, targets: list[ast.expr]) -> None:
    """An attribute that is set on an optimizer during training: it takes part in backward passes, by hooks of its own."""
    for target in targets:
        if isinstance(target, ast.Attribute) and target.attr not in ("param_groups", "defaults", "zero_grad", "step"):
            used = notes.known.frames.methods_used(dotted(target.value), notes.frame)
            if notes.roles.of(target.value, notes.frame) is Role.OPTIMIZER and used & {"step", "zero_grad"}:
                notes.refuse("AMP906", notes.stmt, f"`{dotted(target)} = ...` turns on")
