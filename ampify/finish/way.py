"""The author's way: by what name a function can reach the scaler, and which context the regions of the file have."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection
from typing import NamedTuple

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.scalers import is_scaler_call
from ampify.doctor.case import Case


class Way(NamedTuple):
    """The scaler and the context of a region, as the author writes them."""

    scaler: str
    region: str


class OutOfReachError(Exception):
    """A function cannot do as the author does elsewhere; the message says what it lacks."""


def way(case: Case, source: bytes, done: Collection[int], frame: Frame, first: int) -> Way:
    """What a training step in `frame`, whose first statement has the line `first`, is to write; `done` are the numbers of the
    statements that train with mixed precision. Raises OutOfReachError."""
    if len(case.scalers) != 1 or len(case.made) != 1:
        raise OutOfReachError("there is more than one scaler" if len(case.scalers) > 1 else "the scaler is not made here")
    (scaler,) = case.scalers
    made = case.made[0]
    if made.text != scaler or not is_scaler_call(made.stmt.value or made.call, case.names):  # type: ignore[attr-defined]
        raise OutOfReachError(f"`{scaler}` is not plainly a scaler")
    if not _reaches(case, scaler, made.stmt, frame, first):
        raise OutOfReachError(f"`{scaler}` is not in its reach")
    return Way(scaler, _region(case, source, done, frame, first))


def _region(case: Case, source: bytes, done: Collection[int], frame: Frame, first: int) -> str:
    """The context that all regions of training steps have."""
    numbers = case.reading.numbers
    found: dict[str, tuple[ast.expr, ast.With]] = {}
    for block in case.names.nodes.of(ast.With):
        if numbers[block][0] in done or any(n in done for n in range(*numbers[block])):
            found.update(
                (ast.dump(i.context_expr), (i.context_expr, block)) for i in block.items if case.names.is_autocast(i.context_expr)
            )
    if len(found) != 1:
        raise OutOfReachError("regions differ" if found else "no region is written out")
    ((context, block),) = found.values()
    text = ast.get_source_segment(source.decode("utf-8", "replace"), context) or ""
    if "\n" in text or "{" in text or not text.isascii():
        raise OutOfReachError("the context of a region is more than a line")
    own = next(f for f in case.file.frames.all if block in case.body(f))
    for node in ast.walk(context):
        if isinstance(node, ast.Name) and not _means_the_same(case, node.id, own, frame, first):
            raise OutOfReachError(f"`{node.id}` of `{text}` is not in its reach")
    return text


def _means_the_same(case: Case, name: str, one: Frame, other: Frame, first: int) -> bool:
    """Whether a name of one function is the same thing in another: of the module, set before; or both are methods of a class."""
    if one is other:
        return all(_line(b.value) < first for b in one.bindings.get(name, ()))
    if name == one.self_name == other.self_name and one.owner is not None and one.owner is other.owner:
        return True
    if any(name in f.bindings or name in f.declared for f in (*one.chain(), *other.chain()) if f.parent is not None):
        return False
    if name in case.names.aliases or (hasattr(builtins, name) and not case.names.means(name)):
        return True
    bound = case.file.frames.module.bindings.get(name, ())
    return len(bound) == 1 and bound[0].how == "assign" and _at_top(case, bound[0].value) and _line(bound[0].value) < first


def _reaches(case: Case, scaler: str, made: ast.stmt, frame: Frame, first: int) -> bool:
    """Whether a function can use a scaler by its name, and it is made before."""
    base, _, attribute = scaler.partition(".")
    if attribute:
        init = frame.owner.methods.get("__init__") if frame.owner is not None and base == frame.self_name else None
        if init is None or made not in init.node.body or "." in attribute:
            return False
        return not any(dotted(c.func).startswith(f"{base}.") and c.lineno < made.lineno for c in init.calls)
    if any(base in f.bindings or base in f.declared for f in frame.chain() if f.parent is not None):
        return made in frame.node.body and made.lineno < first and len(frame.bindings.get(base, ())) == 1
    bound = case.file.frames.module.bindings.get(base, ())
    if len(bound) != 1 or made not in case.tree.body:
        return False
    if frame.parent is None:
        return made.lineno < first
    before = [c for c in case.file.frames.module.calls if c.lineno < made.lineno]  # one of them may run the function
    return not any(case.roles.targets(c, case.file.frames.module) for c in before)


def _at_top(case: Case, value: ast.AST | None) -> bool:
    """Whether a value is assigned by a statement of the module itself, under no condition."""
    return value is not None and case.statement_of(value) in case.tree.body


def _line(node: ast.AST | None) -> int:
    return getattr(node, "lineno", 0)
