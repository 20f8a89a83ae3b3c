"""Scalers: what an author's own loss scalers and autocast contexts are called, by what they are made of or plainly used as."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.names import AUTOCAST, Names, dotted

SCALERS = frozenset(
    {
        "torch.amp.GradScaler", "torch.amp.grad_scaler.GradScaler", "torch.cuda.amp.GradScaler", "torch.cpu.amp.GradScaler",
        "torch.cuda.amp.grad_scaler.GradScaler", "torch.cpu.amp.grad_scaler.GradScaler", "torch.GradScaler",
        "torch.xpu.amp.GradScaler",
    }
)  # fmt: skip
SHARDED = "torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler"
OWN = frozenset({"unscale_"})  # methods that nothing but a scaler has


class Made(NamedTuple):
    """A scaler that the file makes: its name, the call, and the statement."""

    text: str
    call: ast.Call
    stmt: ast.stmt


def made(names: Names) -> Iterator[Made]:
    """The scalers that a file makes and gives a name, also under a condition: `GradScaler() if amp else None`."""
    for kind in (ast.Assign, ast.AnnAssign):
        for stmt in names.nodes.of(kind):
            value = stmt.value  # type: ignore[attr-defined]
            targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]  # type: ignore[attr-defined]
            for choice in choices(value) if value is not None else ():
                if is_scaler_call(choice, names) and isinstance(choice, ast.Call):
                    yield from (Made(dotted(target), choice, stmt) for target in targets if dotted(target))


def is_scaler_call(node: ast.AST, names: Names) -> bool:
    """Whether an expression makes a scaler of torch's."""
    name = names.resolve(node.func) if isinstance(node, ast.Call) else ""
    return name in SCALERS or name == SHARDED or name.endswith(".ShardedGradScaler")


def scalers(names: Names) -> frozenset[str]:
    """The names of scalers: of those that are made here, and of what is plainly used as one. None where all are off for good."""
    own = list(made(names))
    if own and all(is_off(each.call) for each in own):
        return frozenset()
    found = {each.text for each in own}
    used: dict[str, set[str]] = {}
    for call in names.nodes.of(ast.Call):
        if isinstance(call.func, ast.Attribute) and (text := dotted(call.func.value)):
            used.setdefault(text, set()).add(call.func.attr)
        inner = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" else None
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "scale":
            used.setdefault(dotted(inner.func.value), set()).add("unscale_")
    other = _made_otherwise(names)
    for text, methods in used.items():
        if text and (methods & OWN or {"scale", "step", "update"} <= methods) and text not in other - found:
            found.add(text)
    return frozenset(found - {"self", ""})


def _made_otherwise(names: Names) -> set[str]:
    """The names that hold what a call gives which is none of torch's scalers: perhaps a scaler of another kind."""
    found: set[str] = set()
    for stmt in names.nodes.of(ast.Assign):
        if any(isinstance(c, ast.Call) and not is_scaler_call(c, names) for c in choices(stmt.value)):
            found.update(dotted(target) for target in stmt.targets)
    return found


def is_off(call: ast.Call) -> bool:
    """Whether a call has `enabled=False` written out."""
    return any(k.arg == "enabled" and isinstance(k.value, ast.Constant) and not k.value.value for k in call.keywords)


def contexts(names: Names) -> dict[str, list[ast.Call]]:
    """The names that hold autocast contexts, also those that may be null ones, with the calls that make these."""
    found: dict[str, list[ast.Call]] = {}
    for stmt in names.nodes.of(ast.Assign):
        calls = [c for c in choices(stmt.value) if isinstance(c, ast.Call) and names.resolve(c.func) in AUTOCAST]
        for target in stmt.targets:
            if calls and dotted(target):
                found.setdefault(dotted(target), []).extend(calls)
    return found


def choices(node: ast.expr) -> Iterator[ast.expr]:
    """What an expression may be: either side of a condition."""
    if isinstance(node, ast.IfExp):
        yield from choices(node.body)
        yield from choices(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from choices(value)
    else:
        yield node


def speaks_of_apex(names: Names) -> bool:
    """Whether a file has the mixed precision of NVIDIA's apex too."""
    return any(target.partition(".")[0] == "apex" for target in names.aliases.values())
