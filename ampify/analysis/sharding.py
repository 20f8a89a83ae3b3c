"""FullyShardedDataParallel (FSDP1): the uses of it in which the runtime's scaler would not be right."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.names import Names
from ampify.analysis.syntax import is_false, is_none
from ampify.analysis.walk import walk
from ampify.program import Refusal

CLASS = "FullyShardedDataParallel"
FSDP1 = frozenset({f"torch.distributed.fsdp.{CLASS}", f"torch.distributed.fsdp.fully_sharded_data_parallel.{CLASS}"})
BUILDERS = frozenset({"torch.distributed.fsdp.wrap.enable_wrap", "torch.distributed.fsdp.wrap.wrap"})
POLICY = "torch.distributed.fsdp.wrap.CustomPolicy"  # may build each part with arguments of its own
GROUPS = ("process_group", "device_mesh")
POSITIONS = {1: "process_group", 3: "cpu_offload", 6: "mixed_precision", 15: "device_mesh"}  # of the class's arguments


def mentioned(tree: ast.Module, names: Names) -> Iterator[ast.Attribute | ast.Name]:
    """Where the class is spoken of, torch's or another of that name; importing it alone does not count."""
    if names.mentions(CLASS):
        for node in walk(tree):
            if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
                if names.resolve(node).rpartition(".")[2] == CLASS:
                    yield node


def find(tree: ast.Module, names: Names) -> Iterator[Refusal]:
    """The reasons against files that use it: the scaler asks all ranks of the default group, and has to know the precision."""
    uses = list(mentioned(tree, names))
    if not uses:
        return
    plain = _plain(tree, names)
    for use in uses:
        name = names.resolve(use)
        if name not in FSDP1:
            yield _refusal("AMP910", use, f"`{name}` is not plainly torch's")
        elif use not in plain:
            yield _refusal("AMP910", use, "what it is built with cannot be seen here")
    for node in walk(tree):
        if isinstance(node, ast.Call):
            if names.resolve(node.func) in FSDP1 | BUILDERS:
                yield from _built(node, names)
            elif isinstance(node.func, ast.Attribute) and node.func.attr == "summon_full_params":
                if any(k.arg in ("with_grads", None) and not is_false(k.value) for k in node.keywords) or len(node.args) > 5:
                    yield _refusal("AMP910", node, "`summon_full_params` gives out copies of the gradients")
        elif isinstance(node, (ast.Attribute, ast.Name)) and names.resolve(node) == POLICY:
            yield _refusal("AMP910", node, "`CustomPolicy` builds parts of it with other arguments")


def _plain(tree: ast.Module, names: Names) -> set[ast.AST]:
    """The expressions that the class may stand in without being built somewhere else: calls of it, tests, annotations."""
    found: set[ast.AST] = set()
    for node in walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.value)
        elif isinstance(node, ast.Call):
            found.add(node.func)
            name = names.resolve(node.func)
            if name in BUILDERS or name in ("isinstance", "issubclass"):
                found.update(inner for given in (*node.args, *(k.value for k in node.keywords)) for inner in walk(given))
        elif isinstance(node, ast.Compare):
            found.update((node.left, *node.comparators))
        elif isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            found.update(walk(node.annotation))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            found.update(walk(node.returns))
    return found


def _built(call: ast.Call, names: Names) -> Iterator[Refusal]:
    """What a call that builds it says of process groups and precision."""
    direct = names.resolve(call.func) in FSDP1
    given = [(POSITIONS.get(i) if direct else None, value) for i, value in enumerate(call.args)]
    hidden = [a for a in call.args if isinstance(a, ast.Starred)] + [k.value for k in call.keywords if k.arg is None]
    for value in hidden:
        yield _refusal("AMP910", value, f"`{ast.unparse(value)[:40]}` may hold a process group, or a precision")
    for name, value in (*given, *((k.arg, k.value) for k in call.keywords)):
        text = f"`{name}={ast.unparse(value)[:40]}`"
        if is_none(value):
            continue
        if name in GROUPS and names.resolve(value) != "torch.distributed.group.WORLD":
            yield _refusal("AMP910", value, f"{text} may leave out some that the scaler asks")
        elif name == "cpu_offload":  # torch unscales them without waiting for the copies of scale and found_inf from the device
            yield _refusal("AMP910", value, f"{text} puts gradients on the CPU, where the scale may not have arrived yet")
        elif name == "mixed_precision":
            yield _refusal("AMP918", value, text)


def _refusal(code: str, node: ast.expr, detail: str) -> Refusal:
    return Refusal(code, node.lineno, node.col_offset, detail)
