"""Parts: whether all calls are in sight of a function that does a part of a training step for others."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import header, own_statements, shown
from ampify.analysis.walk import children, walk
from ampify.program import Refusal, first

TENSORS = frozenset({"data", "grad"})  # attributes that are tensors
# Methods that much else has too: a call of one on something unknown says nothing.
COMMON = frozenset({"backward", "forward", "step", "train", "update", "zero_grad"})


def find(tree: ast.Module, parts: list[Frame], roles: Roles) -> Iterator[Refusal]:
    """What may run one of the `parts` where nobody sees it: the scaler would be in one half of a training step only."""
    functions = {f.name for f in parts if f.owner is None}
    methods = {f.name for f in parts if f.owner is not None} - COMMON
    if not parts:
        return
    yield from _otherwise(tree, parts, roles)
    called = _called(roles)
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        stack.extend(children(node))
        call, frame = called.get(id(node), (None, None))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in functions and call is None:
            yield _refusal(node, f"`{node.id}`, which does a part of it, is handed on")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in methods:
            if call is None or frame is None:
                yield _refusal(node, f"`{dotted(node) or node.attr}`, which does a part of it, is handed on")
            elif not roles.targets(call, frame):
                yield _refusal(node, f"nothing shows what `{ast.unparse(node)[:40]}` is a method of")


def unseen(tree: ast.Module, readers: dict[Frame, frozenset[str]], roles: Roles) -> Iterator[Refusal]:
    """What may run, where nobody sees it, one of the functions that look at gradients: they would be scaled ones.

    `readers` has for each what it looks at. What looks at its own parameters' alone may be handed on: who calls it hands it the
    model, and is taken for one that may look at gradients.
    """
    if not readers:
        return
    yield from _otherwise(tree, list(readers), roles)
    for method in implicit(readers):
        for place in mentions(tree, method):
            yield _refusal(place, unseen_detail(method))
    yield from unseen_calls(tree, readers, roles)


def unseen_calls(tree: ast.Module, readers: dict[Frame, frozenset[str]], roles: Roles) -> Iterator[Refusal]:
    """What of `unseen` may run by a name in a file, which the functions need not be of."""
    functions = {f.name: f for f in readers if f.owner is None}
    methods = {f.name: f for f in readers if f.owner is not None and f.name not in COMMON}
    if not functions and not methods:
        return
    called = _called(roles)
    applied = {id(a) for call, _ in called.values() for a in call.args if call.func is not a}
    for node in walk(tree):
        call, frame = called.get(id(node), (None, None))
        name = ""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in functions and call is None:
            reader = functions[node.id]
            name = node.id if id(node) in applied or not _of_parameters(reader, readers[reader]) else ""
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in methods:
            reader = methods[node.attr]
            if first(dotted(node)) in roles.names.imported:
                continue
            if call is None or frame is None or is_property(reader):
                name = node.attr
            elif not roles.targets(call, frame) and not (call.args and _of_parameters(reader, readers[reader])):
                name = node.attr if not _is_tensor(node.value, frame, roles) else ""
        elif isinstance(node, ast.Call) and dotted(node.func) == "getattr" and len(node.args) > 1:
            given = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            name = given if isinstance(given, str) and given in methods else ""
            if frame is not None and frame.method is not None and not isinstance(node.args[1], ast.Constant):
                name = _any_of(methods, frame.method, node.args[0]) if id(node) in called else ""
        if name and isinstance(node, ast.expr):
            yield _refusal(node, f"`{name}`, which looks at gradients, may run where nobody sees it")


def _any_of(methods: dict[str, Frame], method: Frame, instance: ast.expr) -> str:
    """One of some methods that an instance has where any of its methods may be called: `getattr(self, name)()`."""
    if method.owner is None or dotted(instance) != method.self_name:
        return ""
    return next((n for n, f in methods.items() if f.owner in method.home.everywhere(method.owner)), "")


def implicit(readers: Iterable[Frame]) -> list[Frame]:
    """The methods that run without a call of their name: `__call__`, `__exit__` and the like, and what builds an instance."""
    return [f for f in readers if f.owner is not None and f.name.startswith("__") and f.name.endswith("__")]


def mentions(tree: ast.Module, method: Frame) -> Iterator[ast.expr]:
    """Where the class of a method is spoken of by its name."""
    name = method.owner.node.name if method.owner is not None else ""
    for node in walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            if name == (node.id if isinstance(node, ast.Name) else node.attr):
                yield node


def hands_on(node: ast.Attribute, frame: Frame, roles: Roles) -> bool:
    """Whether a `step` or `backward` that is not called is an optimizer's, or may be a tensor's: nobody can tell when it runs."""
    role, text = roles.of(node.value, frame), dotted(node.value)
    if node.attr == "step":
        return role in (Role.OPTIMIZER, Role.WRAPPER)
    if not text:
        return not (isinstance(node.value, ast.Call) and dotted(node.value.func) == "super")
    if text in ("self", "cls", "ctx") or first(text) in roles.names.aliases or role is Role.MODEL:
        return False
    return roles.class_named(text) is None and roles.class_of(text, frame) is None


def handed_on(frame: Frame) -> Iterator[ast.Attribute]:
    """The steps and backward passes that a function hands on, if not for another `step` of the optimizer's own."""
    home = frame.home
    if home.names.attributes.isdisjoint(("step", "backward")):
        return
    called = {id(call.func) for call in frame.calls}
    for stmt in own_statements(frame.node.body):
        if isinstance(stmt, ast.Assign) and any(isinstance(t, ast.Attribute) and t.attr == "step" for t in stmt.targets):
            continue
        for node in (n for part in header(stmt) for n in walk(part)):
            handed = isinstance(node, ast.Attribute) and node.attr in ("step", "backward") and isinstance(node.ctx, ast.Load)
            if handed and id(node) not in called and isinstance(node, ast.Attribute):
                if hands_on(node, frame, home.file.roles):
                    yield node


def handed_detail(node: ast.Attribute) -> str:
    """What is said of a step or backward that is handed on."""
    return f"{shown(node)} is called under another name"


def unseen_detail(frame: Frame) -> str:
    """What is said of a method that looks at gradients and runs without a call of its name."""
    return (
        f"`{frame.owner.node.name if frame.owner else ''}.{frame.name}`, which looks at gradients, may run where nobody sees it"
    )


def _otherwise(tree: ast.Module, functions: list[Frame], roles: Roles) -> Iterator[Refusal]:
    """The functions whose calls do something else than their statements, one after the other, say."""
    for frame in functions:
        if isinstance(frame.node, ast.Module):
            continue
        inside = [n for stmt in own_statements(frame.node.body) for e in header(stmt) for n in walk(e)]
        if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in inside):
            yield _refusal(frame.node, f"`{frame.name}` is a generator, and goes on where nobody sees it")
        for decorator in frame.node.decorator_list:
            called = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if not all(_calls_once(f) for f in roles.frames.functions.get(called, ())):
                yield _refusal(decorator, f"`{called}` may call `{frame.name}` more than once, or not at all")
    methods = {f.name for f in functions if f.owner is not None}
    names = {f.name for f in functions if f.owner is None}
    for node in walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if not isinstance(node, ast.Assign) or not isinstance(target, ast.Attribute):
                continue
            value = node.value.func if isinstance(node.value, ast.Call) else node.value
            function = isinstance(value, ast.Lambda) or dotted(value) in roles.frames.functions
            made = isinstance(node.value, ast.Call) and dotted(value).rpartition(".")[2] in ("MethodType", "partial")
            replaced = target.attr in methods and (made or (function and value is node.value) or target.attr not in COMMON)
            if (replaced and not isinstance(node.value, ast.Constant)) or dotted(node.value) in names:
                yield _refusal(target, f"`{dotted(target) or target.attr}` gets another function")


def _is_tensor(node: ast.expr, frame: Frame, roles: Roles, seen: frozenset[str] = frozenset()) -> bool:
    """Whether an expression can only be a tensor, whose methods are torch's: `loss.norm()`, `p.grad.norm()`."""
    while isinstance(node, (ast.Subscript, ast.UnaryOp)):
        node = node.value if isinstance(node, ast.Subscript) else node.operand
    if isinstance(node, ast.Attribute) and node.attr in TENSORS:
        return True
    if isinstance(node, ast.Call):
        of_torch = roles.names.resolve(node.func).startswith("torch.") and roles.of(node, frame) is Role.OTHER
        method = isinstance(node.func, ast.Attribute) and _is_tensor(node.func.value, frame, roles, seen)
        return of_torch or method or roles.of(node.func, frame) in (Role.MODEL, Role.LOSS)
    if isinstance(node, ast.BinOp):
        return _is_tensor(node.left, frame, roles, seen) or _is_tensor(node.right, frame, roles, seen)
    text = dotted(node)
    found = roles.frames.lookup(text, frame) if text and text not in seen else []
    return bool(found) and all(
        b.value is not None and not b.path and _gives_tensors(b.value, b.how, b.frame, roles, seen | {text}) for b in found
    )


def _gives_tensors(value: ast.expr, how: str, frame: Frame, roles: Roles, seen: frozenset[str]) -> bool:
    if how == "for":
        return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "parameters"
    return how == "assign" and _is_tensor(value, frame, roles, seen)


def _calls_once(decorator: Frame) -> bool:
    """Whether a decorator of the file calls what it decorates at one place, in no loop."""
    given = {a.arg for n in walk(decorator.node) if isinstance(n, ast.arguments) for a in (*n.posonlyargs, *n.args)}
    calls = [n for n in walk(decorator.node) if isinstance(n, ast.Call) and dotted(n.func) in given]
    branches = ast.If | ast.IfExp | ast.For | ast.While | ast.Try
    apart = [c for n in walk(decorator.node) if isinstance(n, branches) for c in walk(n) if c in calls]
    return len(calls) == 1 and not apart


def _called(roles: Roles) -> dict[int, tuple[ast.Call, Frame]]:
    """By the expressions that are called, the calls."""
    return {id(call.func): (call, frame) for frame in roles.frames.all for call in frame.calls}


def _of_parameters(frame: Frame, looked: frozenset[str]) -> bool:
    """Whether all that a function looks at are its parameters, the instance aside: models, optimizers, tensors. What is an
    attribute of one, as `trainer.model` is, whoever calls it does not show."""
    given = {name for name, ways in frame.bindings.items() if any(b.how == "param" for b in ways)} - {frame.self_name}
    return bool(looked) and all(root.lstrip("=@") in given for root in looked)


def is_property(frame: Frame) -> bool:
    """Whether a method runs where its name is only mentioned."""
    node = frame.node
    return not isinstance(node, ast.Module) and any(dotted(d).endswith("property") for d in node.decorator_list)


def _refusal(node: ast.expr | ast.stmt, detail: str) -> Refusal:
    return Refusal("AMP904", node.lineno, node.col_offset, detail)
