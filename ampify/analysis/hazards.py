"""Hazards of a whole file that refuse it today: losses, hooks, models and threads for which no safe rewriting exists yet."""

import ast
from collections.abc import Iterator

from ampify.analysis import lambdas, sharding
from ampify.analysis.frames import Frame
from ampify.analysis.names import Names, dotted
from ampify.analysis.roles import Role
from ampify.analysis.sites import Sites
from ampify.analysis.walk import walk
from ampify.program import Refusal

HOOKS = frozenset(
    "register_hook register_post_accumulate_grad_hook register_full_backward_hook register_backward_hook retain_grad "
    "register_full_backward_pre_hook register_multi_grad_hook register_comm_hook".split()
)
UNSCALED = frozenset({"torchdiffeq.odeint_adjoint", "torchsde.sdeint_adjoint"})  # their backward depends on the gradient's size
HALF = frozenset({"torch.half", "torch.float16", "torch.bfloat16"})


def find(tree: ast.Module, names: Names, sites: Sites) -> Iterator[Refusal]:
    """The reasons, found anywhere in a file that trains, to leave it alone."""
    for frame in sites.frames.all:
        for call in frame.calls:
            yield from _call(call, frame, names, sites)
        for function in frame.lambdas:
            yield from _lambda(function, frame, sites)
    yield from lambdas_out_of_sight(sites)
    yield from sharding.find(tree, names)
    if names.mentions("async_execution"):
        for node in (*names.nodes.of(ast.Attribute), *names.nodes.of(ast.Name)):
            if names.resolve(node) == "torch.distributed.rpc.functions.async_execution":
                yield Refusal("AMP911", node.lineno, node.col_offset, "`rpc.functions.async_execution`")


def hooks(frame: Frame) -> list[tuple[ast.Call, str]]:
    """The calls of a function that register hooks of backward passes, with the methods' names."""
    calls = [(c, c.func.attr) for c in frame.calls if isinstance(c.func, ast.Attribute)]
    return [(call, name) for call, name in calls if name in HOOKS]


def unscaled(names: Names) -> Iterator[tuple[int, str]]:
    """The functions of libraries, imported or named, round whose backward the runtime takes the loss scale off: (line, name)."""
    modules = {name.partition(".")[0] for name in UNSCALED}
    if modules.isdisjoint(name.partition(".")[0] for name in names.aliases.values()):
        return
    found = [(node.lineno, names.resolve(node)) for node in names.nodes.of(ast.Attribute)]
    found += [(node.lineno, f"{node.module}.{alias.name}") for node in names.nodes.of(ast.ImportFrom) for alias in node.names]
    yield from ((line, name.rpartition(".")[2]) for line, name in found if name in UNSCALED)


def _call(call: ast.Call, frame: Frame, names: Names, sites: Sites) -> Iterator[Refusal]:
    """The reasons in one call."""
    name = names.resolve(call.func)
    at = (call.lineno, call.col_offset)
    attr = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if attr in HOOKS:
        yield Refusal("AMP906", *at, f"`{attr}`")
    elif attr in ("half", "bfloat16") and isinstance(call.func, ast.Attribute):
        if sites.roles.of(call.func.value, frame) is Role.MODEL:
            yield Refusal("AMP918", *at, f"`{dotted(call.func) or attr}()`")
    elif attr == "to" and isinstance(call.func, ast.Attribute):
        given = [names.resolve(a) for a in (*call.args, *(k.value for k in call.keywords))]
        if HALF.intersection(given) and sites.roles.of(call.func.value, frame) is Role.MODEL:
            yield Refusal("AMP918", *at, f"`{ast.unparse(call)[:40]}`")
    elif name == "torch.set_default_dtype" and HALF.intersection(names.resolve(a) for a in call.args):
        yield Refusal("AMP918", *at, f"`{ast.unparse(call)[:40]}`")
    elif name in ("threading.Thread", "concurrent.futures.ThreadPoolExecutor.submit") or attr == "submit":
        targets = [k.value for k in call.keywords if k.arg == "target"] + call.args[:1]
        for target in targets:
            for function in sites.frames.functions.get(dotted(target), ()):
                if sites.summaries.of(function).backward:
                    yield Refusal("AMP911", *at, f"`{dotted(target)}`")


def lambdas_out_of_sight(sites: Sites) -> Iterator[Refusal]:
    """The lambdas of a file that look at gradients where nobody sees it."""
    roles = sites.roles
    for frame in sites.frames.all:
        for function in frame.lambdas:
            seen = lambdas.is_seen(function, frame.home.file.uses.parents, roles)
            if not seen and lambdas.looks_at_gradients(function, frame, roles):
                detail = f"`{ast.unparse(function)[:40]}`, which looks at gradients, may run where nobody sees it"
                yield Refusal("AMP904", function.lineno, function.col_offset, detail)


def _lambda(function: ast.Lambda, frame: Frame, sites: Sites) -> Iterator[Refusal]:
    """A part of the training step that runs wherever a lambda is called."""
    for node in walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            role = sites.roles.of(node.func.value, frame)
            steps = node.func.attr == "step" and not node.args and role in (Role.OPTIMIZER, Role.WRAPPER, Role.UNKNOWN)
            if steps or node.func.attr == "backward":
                yield Refusal("AMP904", node.lineno, node.col_offset, f"`{ast.unparse(node)[:40]}` stands in a lambda")
