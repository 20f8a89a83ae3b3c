"""Costs: what is right and slower than it has to be: evaluation in float32 beside training in mixed precision, other work inside
of regions (AMP334, AMP335)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.regions import WITHS, calls_of_region

PLAIN = re.compile(
    r"no_grad|inference_mode|set_grad_enabled|tqdm|open|record_function|profile|Progress"
)  # contexts without dtypes
SAMPLING = frozenset({"sample", "generate"})
REDUCING = re.compile(r"(all_)?(reduce|gather)(_\w+)?|broadcast|barrier")
LOGGING = re.compile(r"(print|\w*log(ger|ging)?\.(info|warning|debug)|sys\.exit|\w*writer\.add_\w+)")


def find(case: Case) -> Iterator[Finding]:
    """The findings beside the training steps of the file."""
    regions = {node: calls for kind in WITHS for node in case.names.nodes.of(kind) if (calls := calls_of_region(case, node))}
    training = [f for f in case.file.frames.all if _trains(f)]
    trained = {
        node: frame for frame in training for node in case.body(frame) if node in regions and _runs_model(case, node, frame)
    }
    if not trained:
        return
    for node, frame in trained.items():
        yield from _besides(case, node, frame)
    if all(any(node in case.body(f) for f in training) for node in regions) and not _is_cast_elsewhere(case):
        for frame in case.file.frames.all:
            yield from _evaluated(case, frame, training)


def _trains(frame: Frame) -> bool:
    """Whether a function goes backward and steps."""
    return {"backward", "step"} <= {c.func.attr for c in frame.calls if isinstance(c.func, ast.Attribute)}


def _models(case: Case, node: ast.AST, frame: Frame) -> Iterator[ast.Call]:
    """The calls of models in a statement, and of what they sample."""
    for call in walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, (ast.Name, ast.Attribute)) and call in frame.calls:
            if case.roles.of(call.func, frame) is Role.MODEL and dotted(call.func):
                yield call


def _runs_model(case: Case, node: ast.AST, frame: Frame) -> bool:
    return any(True for _ in _models(case, node, frame))


# evaluation ------------------------------------------------------------------------------------------


def _is_cast_elsewhere(case: Case) -> bool:
    """Whether models may be under autocast by other means: a decorator, a context that is not known, something set for all."""
    for frame in case.file.frames.all:
        if not isinstance(frame.node, ast.Module) and any("autocast" in ast.unparse(d) for d in frame.node.decorator_list):
            return True
    wide = ("set_autocast_enabled", "set_autocast_gpu_dtype", "set_autocast_dtype", "autocast_mode", "half", "bfloat16")
    return any(word in case.names.attributes for word in wide)


def _evaluated(case: Case, frame: Frame, training: list[Frame]) -> Iterator[Finding]:
    """The first call of a model without gradients in a function that casts nothing, and that nobody in sight calls under
    autocast."""
    without = not isinstance(frame.node, ast.Module) and any(case.names.is_no_grad(d) for d in frame.node.decorator_list)
    for call in sorted(frame.calls, key=lambda c: (c.lineno, c.col_offset)):
        around = list(case.above(call))
        withs = [n for n in around if isinstance(n, WITHS) and n in case.body(frame)]
        contexts = [item.context_expr for n in withs for item in n.items]
        if not all(PLAIN.search(ast.unparse(context)) for context in contexts):
            continue
        samples = isinstance(call.func, ast.Attribute) and call.func.attr in SAMPLING and _is_sampled(case, call, frame, training)
        stopped = without or any(case.names.is_no_grad(context) for context in contexts)
        model = stopped and isinstance(call.func, (ast.Name, ast.Attribute)) and case.roles.of(call.func, frame) is Role.MODEL
        if (model and _is_called_plainly(case, frame)) or samples:
            yield Finding("AMP334", call.lineno, call.col_offset, shown(call))
            return


def _is_sampled(case: Case, call: ast.Call, frame: Frame, training: list[Frame]) -> bool:
    """Whether a training function has a model sample, by methods that are in sight, and run without gradients."""
    assert isinstance(call.func, ast.Attribute)
    classes = case.file.frames.classes.values()
    methods = [info.methods[call.func.attr] for info in classes if call.func.attr in info.methods]
    stopped = [
        m for m in methods if not isinstance(m.node, ast.Module) and any(case.names.is_no_grad(d) for d in m.node.decorator_list)
    ]
    return frame in training and bool(methods) and methods == stopped and case.roles.of(call.func.value, frame) is Role.MODEL


def _is_called_plainly(case: Case, frame: Frame) -> bool:
    """Whether nobody in sight calls a function under a context that may cast."""
    if isinstance(frame.node, ast.Module) or not frame.name.isidentifier():
        return True
    trees = [case.tree]
    if case.finder is not None and case.file.path:
        seen = [case.finder.seen(path) for path in case.finder.importers(case.file.path)]
        trees += [s.tree for s in seen if s is not None]
    for tree in trees:
        for node in walk(tree):
            plain = not isinstance(node, WITHS) or all(PLAIN.search(ast.unparse(item.context_expr)) for item in node.items)
            if not plain and any(isinstance(c, ast.Call) and dotted(c.func).endswith(frame.name) for c in walk(node)):
                return False
    return True


# work in regions -------------------------------------------------------------------------------------


def _besides(case: Case, region: ast.AST, frame: Frame) -> Iterator[Finding]:
    """The first thing in a region, below a call of a model, that is no part of the forward pass or the loss."""
    first = min((c.lineno for c in _models(case, region, frame)), default=0)
    found: list[ast.AST] = []
    for node in walk(region):
        if node is region or getattr(node, "lineno", 0) <= first:
            continue
        if isinstance(node, WITHS) and all(case.names.is_no_grad(item.context_expr) for item in node.items):
            if not _runs_model(case, node, frame):
                found.append(node)
        elif isinstance(node, ast.Call) and dotted(node.func):
            last = dotted(node.func).rpartition(".")[2]
            if (REDUCING.fullmatch(last) and not _is_tensor_method(case, node)) or LOGGING.fullmatch(dotted(node.func)):
                found.append(node)
    if found:
        at = min(found, key=lambda n: (getattr(n, "lineno", 0), getattr(n, "col_offset", 0)))
        yield Finding("AMP335", getattr(at, "lineno", 0), getattr(at, "col_offset", 0), shown(at))


def _is_tensor_method(case: Case, call: ast.Call) -> bool:
    """Whether a call is an operation on a tensor rather than between processes: `torch.gather`, `x.gather(...)`."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name = case.names.resolve(call.func)
    return not name.startswith("torch.distributed.") and not case.names.is_foreign(call.func)
