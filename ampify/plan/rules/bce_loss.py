"""BCE loss: binary cross entropy of probabilities under autocast

What it finds: `nn.BCELoss`, and `F.binary_cross_entropy` in a statement of its own, where autocast may be on; and the sigmoid or
softmax that the probabilities come from, through names, reshaping, layers and functions of the file.

Why it matters: CUDA's autocast raises "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast".
With autocast off only round the loss, a sigmoid in float16 has rounded 0.99999 to 1 before: the gradient of the loss is then
0 or NaN, so the sigmoid has to run in float32 too.

Before:

    self.main = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())
    criterion = nn.BCELoss()
    recon = torch.sigmoid(self.decoder(z))
    loss = F.binary_cross_entropy(recon, images, reduction="sum")

After:

    self.main = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())
    full_precision(self.main[-1])
    criterion = nn.BCELoss()
    full_precision(criterion)
    recon = torch.sigmoid(self.decoder(z).float())
    with autocast(enabled=False):
        loss = F.binary_cross_entropy(recon.float(), images.float(), reduction="sum")

Safety: safe. In float32 the casts do nothing, and `full_precision` does something in half precision only; it makes the module one
of a subclass with the same name, so `isinstance` holds and `type(module) is nn.Sigmoid` no longer does. Where the sigmoid is
not in sight, or the file works in float64, the file is refused (AMP905).

Source: "Prefer binary_cross_entropy_with_logits over binary_cross_entropy" in the "Autocast Op Reference".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ampify.analysis.forward import level_of
from ampify.analysis.frames import Frame
from ampify.analysis.modules import Place
from ampify.analysis.names import dotted
from ampify.analysis.operators import WIDE
from ampify.analysis.precision import Precision
from ampify.analysis.syntax import header
from ampify.analysis.walk import walk
from ampify.plan.edits import Edit, Insert
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import default_of
from ampify.plan.rules.file import File
from ampify.plan.rules.site import Site
from ampify.program import Compute

if TYPE_CHECKING:
    from ampify.analysis.probabilities import Origin, Probabilities

CODE, REFUSED = "AMP201", "AMP905"
LOSS, FUNCTION = "torch.nn.BCELoss", "torch.nn.functional.binary_cross_entropy"
WORDS = frozenset({"BCELoss", "binary_cross_entropy"})
TENSORS = ("input", "target", "weight")
METADATA = frozenset("float shape size dtype device dim ndim numel item".split())


def survey(file: File) -> Iterator[Finding]:
    """The losses on probabilities of a file, with the sigmoids before them."""
    calls = [(call, frame) for frame in file.frames.all for call in frame.calls]
    losses = [call for call, _ in calls if file.resolve(call.func) == LOSS]
    functions = [(call, frame) for call, frame in calls if file.resolve(call.func) == FUNCTION or _inline(call, file)]
    called = {call.func for call, _ in calls}
    nodes = file.names.nodes
    mentions = [n for n in (*nodes.of(ast.Attribute), *nodes.of(ast.Name)) if file.resolve(n) == FUNCTION]
    derived = [info for info in file.frames.classes.values() if LOSS in info.bases]
    if CODE in file.asked:
        yield from _returned(file)
    if not (losses or mentions or derived):
        return
    if (scripted := _scripted(file)) is not None:
        yield scripted
        return
    yield from (Finding(i.node, detail=f"`{i.node.name}` derives from `BCELoss`", refuse=REFUSED) for i in derived)
    where = _where(file)
    for node in mentions:
        stmt = where.home[node][0] if node in where.home else None
        if node not in called and not (isinstance(stmt, ast.Assign) and stmt.value is node):
            yield Finding(
                node, detail="`binary_cross_entropy` is handed on, and where it is called is not in sight", refuse=REFUSED
            )
    for call, frame in functions:
        if call in where.home and file.autocasts(where.home[call][0], frame):
            yield from _function(call, Site(file, frame, where.home[call][0], CODE), where)
    for loss in losses:
        if not any(call.func is loss for call, _ in functions):
            yield from _module(
                loss, [(c, f) for c, f in calls if any(b.value is loss for b in where.modules.built(c.func, f))], file, where
            )


def asks(file: File) -> bool:
    """Whether a file has losses on probabilities, which models in other files may compute."""
    if WORDS.isdisjoint(file.words):
        return False
    nodes = file.names.nodes
    return any(file.resolve(n) in (LOSS, FUNCTION) for n in (*nodes.of(ast.Attribute), *nodes.of(ast.Name)))


def _returned(file: File) -> Iterator[Finding]:
    """The sigmoids and softmaxes whose values the modules of a file return, for a loss in another file."""
    where = _where(file)
    for origin in _origins(file, where):
        yield from _widened(origin, file, where)


def _where(file: File) -> Probabilities:
    from ampify.analysis.probabilities import Probabilities  # only for a file with such a loss: start-up is measured

    return Probabilities(file.names, file.frames, file.roles)


def _origins(file: File, where: Probabilities) -> Iterator[Origin]:
    """What the modules of a file return."""
    for info in file.modules():
        forward = info.methods.get("forward")
        for node in walk(forward.node) if forward is not None else ():
            if isinstance(node, ast.Return) and node.value is not None and where.home.get(node.value, (None, None))[1] is forward:
                yield from where.origins(node.value)


def _elsewhere(file: File) -> bool:
    """Whether a file that this one imports has a model that returns a sigmoid or softmax."""
    return any(
        origin.operand is not None or origin.place is not None
        for other in file.others
        for origin in _origins(other, _where(other))
    )


def _inline(call: ast.Call, file: File) -> bool:
    """Whether it is `nn.BCELoss()(output, target)`."""
    return isinstance(call.func, ast.Call) and file.resolve(call.func.func) == LOSS


def _module(loss: ast.Call, calls: list[tuple[ast.Call, Frame]], file: File, where: Probabilities) -> Iterator[Finding]:
    place = where.modules.place(loss)
    calls = [(call, frame) for call, frame in calls if call in where.home]
    if not calls and place is not None and not _mentioned(place[1], where):
        return  # built, and never called
    under = [call for call, frame in calls if file.autocasts(where.home[call][0], frame)]
    if calls and not under:
        return
    if place is None or not calls:
        reason = "is not bound by a plain assignment" if place is None else "is called by code that is not in sight"
        yield Finding(loss, detail=f"`{ast.unparse(loss)[:40]}` {reason}", refuse=REFUSED)
        return
    yield from _below(loss, place, file)
    for call in under:
        yield from _probabilities(call, _given(call, "input", 0), file, where)


def _mentioned(text: str, where: Probabilities) -> bool:
    """Whether anything but methods of it is made use of by this name, or by its last part."""
    last = text.rpartition(".")[2]
    receivers = {n.value for n in where.home if isinstance(n, ast.Attribute)}
    used = (
        n for n in where.home if isinstance(n, (ast.Name, ast.Attribute)) and isinstance(n.ctx, ast.Load) and n not in receivers
    )
    return any(dotted(n).rpartition(".")[2] == last for n in used)


def _function(call: ast.Call, at: Site, where: Probabilities) -> Iterator[Finding]:
    if at.file.float64:
        yield Finding(call, detail="the file works in float64", refuse=REFUSED)
        return
    if not at.stands_apart() or any(call in walk(f) for f in at.frame.lambdas):
        yield Finding(call, detail="it has to stand in a simple statement", refuse=REFUSED)
        return
    yield from _probabilities(call, _given(call, "input", 0), at.file, where)
    given = [_given(call, name, i) for i, name in enumerate(TENSORS)]
    edits: list[Edit] = [at.disabled(), *(at.float(a) for a in given if a is not None and at.half(a) and not _missing(a, at))]
    for node in (n for part in header(at.stmt) for n in walk(part)):
        wide: list[ast.AST] = []
        if isinstance(node, ast.Call) and at.resolve(node.func) != FUNCTION and not _is_loss(node, at, where):
            level = level_of(node, at.frame, at.file.roles)
            last = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
            if level in (Compute.MATMUL, Compute.FORWARD, Compute.CALL) or at.file.roles.targets(node, at.frame):
                yield _apart(call, node)
                return
            wide = [*node.args[:1]] if level is Compute.LOSS else [node] if last in WIDE else []
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.MatMult, ast.Pow)):
            wide = [node.left] if isinstance(node.op, ast.Pow) else [node]
        for leaf in (leaf for one in wide for leaf in _leaves(one, at)):
            if not _floating(leaf, at):
                yield _apart(call, node)
                return
            edits.append(at.float(leaf))
    yield Finding(call, tuple(dict.fromkeys(edits)))


def _missing(node: ast.expr, at: Site) -> bool:
    """Whether an argument may be None: a parameter that is None by default, and of which nothing else is known."""
    bound = at.file.frames.lookup(dotted(node), at.frame) if dotted(node) else []
    if any(b.how == "param" for b in bound) and any(_asks_for_none(n, dotted(node)) for n in walk(at.frame.node)):
        return True
    defaults = [default_of(dotted(node), b.frame) for b in bound if b.how == "param"]
    passed = [value for b in bound if b.how == "param" for value, _ in at.file.roles.passed(dotted(node), b.frame)]
    values = (*defaults, *passed, *(b.value for b in bound if b.how != "param"))
    return any(isinstance(v, ast.Constant) and v.value is None for v in values)


def _asks_for_none(node: ast.AST, text: str) -> bool:
    return isinstance(node, ast.Compare) and dotted(node.left) == text and isinstance(node.ops[0], (ast.Is, ast.IsNot))


def _apart(call: ast.Call, node: ast.AST) -> Finding:
    detail = f"give `{ast.unparse(node)[:40]}` a statement of its own, outside of the one with the loss"
    return Finding(call, detail=detail, refuse=REFUSED)


def _is_loss(call: ast.Call, at: Site, where: Probabilities) -> bool:
    """Whether it calls an `nn.BCELoss`, which keeps itself in float32."""
    built = where.modules.built(call.func, at.frame)
    return _inline(call, at.file) or any(b.value is not None and at.resolve(b.value.func) == LOSS for b in built)


def _leaves(node: ast.AST, at: Site) -> Iterator[ast.expr]:
    """The values in an expression that may be in half, where autocast would have computed in float32."""
    places = (ast.Name, ast.Attribute, ast.Subscript)
    for inner in walk(node):
        if isinstance(inner, places) and isinstance(inner.ctx, ast.Load) and at.half(inner):
            outer = at.parent(inner)
            longer = isinstance(outer, ast.Subscript) and outer.value is inner and at.half(outer)
            if not longer and not (isinstance(outer, ast.Attribute) and (outer.attr in METADATA or at.half(outer))):
                yield inner


def _floating(leaf: ast.expr, at: Site) -> bool:
    """Whether a value that may be in half is a floating-point tensor for certain: what callers pass may be labels."""
    if at.of(leaf) is Precision.HALF or at.frame not in at.file.called:
        return True
    bound = at.file.frames.lookup(dotted(leaf), at.frame) if dotted(leaf) else []
    if not bound or any(b.how != "param" for b in bound):
        return False
    passed = at.file.roles.passed(dotted(leaf), at.frame)
    return bool(passed) and all(
        frame not in at.file.called and at.file.precisions(frame).of(value) > Precision.FULL for value, frame in passed
    )


def _given(call: ast.Call, name: str, position: int) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), call.args[position] if position < len(call.args) else None)


def _probabilities(call: ast.Call, given: ast.expr | None, file: File, where: Probabilities) -> Iterator[Finding]:
    """The sigmoids that the probabilities of one loss come from."""
    origins = where.origins(given) if given is not None and not isinstance(given, ast.Starred) else []
    elsewhere = known = _elsewhere(file)
    # Of a model that is built with a sigmoid or without one, the loss can only take what the one with it gives.
    squashed = {origin.node for origin in origins if origin.operand is not None or origin.place is not None}
    for origin in (o for o in origins if o.aside or not o.unbounded or o.node not in squashed):
        stmt, frame = where.home.get(origin.node, (None, file.frames.module))
        precision = file.precisions(frame).of(origin.node) if stmt is not None else Precision.NONE
        if origin.operand is not None or origin.place is not None:
            known = True
            yield from _widened(origin, file, where)
        elif (
            not (elsewhere and _foreign(origin.node, frame, file, where))
            and precision is not Precision.FULL
            and not (origin.aside and precision is Precision.NONE)
        ):
            text = ast.unparse(origin.node)[:40]
            yield Finding(call, detail=f"no sigmoid or softmax is in sight behind `{text}`", refuse=REFUSED)
            return
        else:
            known = known or precision is Precision.FULL
    if not known:
        yield Finding(call, detail="no sigmoid or softmax is in sight before it", refuse=REFUSED)


def _foreign(node: ast.expr, frame: Frame, file: File, where: Probabilities) -> bool:
    """Whether an expression that gives no probabilities in this file may give some in another: no function or layer of torch."""
    if not isinstance(node, ast.Call):
        return True
    built = [file.resolve(b.value.func) for b in where.modules.built(node.func, frame) if b.value is not None]
    return not any(name.startswith("torch.") for name in (*built, file.resolve(node.func)))


def _widened(origin: Origin, file: File, where: Probabilities) -> Iterator[Finding]:
    """What lets a sigmoid compute in float32."""
    if origin.place is not None:
        yield from _below(origin.node, origin.place, file)
    elif origin.operand is not None:
        stmt, frame = where.home[origin.node]
        at = Site(file, frame, stmt, CODE)
        if file.autocasts(stmt, frame) and at.of(origin.operand) is not Precision.FULL:
            if file.float64:
                yield Finding(origin.node, detail="the file works in float64", refuse=REFUSED)
            else:
                yield Finding(origin.node, (at.float(origin.operand),))


def _below(node: ast.AST, place: Place, file: File) -> Iterator[Finding]:
    """`full_precision(...)` below what binds a module, unless it is there."""
    stmt, text = place
    if (scripted := _scripted(file)) is not None:
        yield scripted
        return
    own = file.names.runtime.get("full_precision", "")
    written = {ast.unparse(c) for f in file.frames.all for c in f.calls if own and dotted(c.func) == own}
    if ast.unparse(ast.parse(f"{own}({text})")) not in written:
        escaped = text.replace("{", "{{").replace("}", "}}")
        yield Finding(node, (Insert(file.number(stmt), True, f"{{full_precision}}({escaped})", CODE),))


def _scripted(file: File) -> Finding | None:
    """The refusal of a file that compiles code by `torch.jit.script`."""
    node = next((n for n in walk(file.reading.tree) if file.resolve(n) == "torch.jit.script"), None)
    detail = "`torch.jit.script` does not compile what would keep it there"
    return Finding(node, detail=detail, refuse=REFUSED) if node is not None else None


RULE = Rule(
    CODE,
    "bce-loss",
    "safe",
    "binary cross entropy of probabilities under autocast",
    "keeps probabilities and their cross entropy in float32",
    "return logits and use BCEWithLogitsLoss",
    words=WORDS,
    survey=survey,
    asks=asks,
)
