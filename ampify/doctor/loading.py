"""Loading: states of scalers that are loaded from checkpoints which may not have them, or into ones that are made again
(AMP328, AMP329, AMP333)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.names import dotted
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case
from ampify.doctor.machine import about_precision

BRANCHES = (ast.If, ast.IfExp, ast.While)
LOOPS = (ast.For, ast.AsyncFor, ast.While)


def find(case: Case) -> Iterator[Finding]:
    """The loads of a scaler's state that raise where the checkpoint is of a run without mixed precision."""
    for call, _ in case.calls_of_scaler("load_state_dict"):
        given = call.args[0] if len(call.args) == 1 and not call.keywords else None
        if not isinstance(given, ast.Subscript) or not isinstance(given.slice, ast.Constant) or _is_caught(case, call):
            continue
        key, saves = given.slice.value, list(_saves(case, given.slice.value))
        if not isinstance(key, str) or not saves:
            continue
        conditional = [_is_conditional(case, save) for save in saves]
        if None in conditional or _is_asked(case, call, given):
            continue
        if all(conditional) and not _is_named(case, key):
            yield Finding("AMP328", call.lineno, call.col_offset, f'{shown(call)}|"{key}"')
        elif not any(conditional) and _may_be_off(case) and not _is_looked_at(case, given):
            yield Finding("AMP329", call.lineno, call.col_offset, shown(call))

    yield from _made_after(case)


def _made_after(case: Case) -> Iterator[Finding]:
    """Scalers that are made again, below the line that loads the state, and above all that trains."""
    for call, frame in case.calls_of_scaler("load_state_dict"):
        text = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        body = case.body(frame)
        around = list(case.above(call))
        for made in case.made:
            later = made.text == text and made.stmt in body and made.stmt.lineno > call.lineno
            if (
                not later
                or made.stmt in around
                or not any(m.text == text and m.stmt in body and m.stmt.lineno < call.lineno for m in case.made)
            ):
                continue
            conditions = [n for n in case.above(made.stmt) if isinstance(n, (*BRANCHES, ast.Try, *LOOPS)) and n in body]
            used = any(
                dotted(n) == text and call.lineno < n.lineno < made.stmt.lineno
                for kind in (ast.Name, ast.Attribute)
                for n in case.names.nodes.of(kind)
            )
            shared = any(n in around and isinstance(n, LOOPS) for n in conditions)
            ended = any(isinstance(s, (ast.Return, ast.Raise)) and call.lineno < s.lineno < made.stmt.lineno for s in body)
            if all(n in around for n in conditions) and not shared and not used and not ended:
                if not _is_other_side(case, call, made.stmt):
                    yield Finding("AMP333", made.call.lineno, made.call.col_offset, f"`{text}`|{call.lineno}")


def _is_other_side(case: Case, call: ast.Call, stmt: ast.stmt) -> bool:
    """Whether a statement is on another side of a branch than a call."""
    inside = {call, *case.above(call)}
    for above in (stmt, *case.above(stmt)):
        parent = case.parents.get(above)
        if isinstance(parent, (ast.If, ast.Try)) and parent in inside:
            blocks = [b for name in ("body", "orelse", "handlers", "finalbody") if (b := getattr(parent, name, None))]
            if not any(above in block and any(s in inside for s in block) for block in blocks):
                return True
    return False


def _is_caught(case: Case, call: ast.Call) -> bool:
    """Whether an error of a call may be caught."""
    for above in case.above(call):
        if isinstance(above, FUNCTIONS):
            return False
        if (isinstance(above, ast.Try) and above.handlers) or (
            isinstance(above, ast.With) and "suppress" in ast.unparse(above.items[0])
        ):
            return True
    return False


def _saves(case: Case, key: object) -> Iterator[ast.expr]:
    """The states of scalers that the file puts into something under a key."""
    for stmt in case.names.nodes.of(ast.Assign):
        target = stmt.targets[0]
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == key:
            yield stmt.value
    for node in case.names.nodes.of(ast.Dict):
        for k, value in zip(node.keys, node.values, strict=True):
            if isinstance(k, ast.Constant) and k.value == key:
                yield value
    for keyword in case.names.nodes.of(ast.keyword):
        if keyword.arg == key and (
            _is_state(case, keyword.value) or dotted(getattr(case.parents[keyword], "func", keyword)) == "dict"
        ):
            yield keyword.value


def _is_state(case: Case, node: ast.expr) -> bool:
    """Whether an expression is the state of a scaler as it is."""
    func = node.func if isinstance(node, ast.Call) else None
    return isinstance(func, ast.Attribute) and func.attr == "state_dict" and case.names.is_scaler(func.value)


def _is_conditional(case: Case, value: ast.expr) -> bool | None:
    """Whether a state is saved with mixed precision only; None where that is not clear."""
    if not _is_state(case, value):
        return None
    tests = []
    for above in case.above(value):
        if isinstance(above, FUNCTIONS):
            break
        if isinstance(above, BRANCHES):
            tests.append(above.test)
        elif isinstance(above, (ast.Try, ast.DictComp)):
            return None
    return any(about_precision(t) for t in tests)


def _is_asked(case: Case, call: ast.Call, given: ast.Subscript) -> bool:
    """Whether a load depends on what is in the checkpoint, besides its keys."""
    name = dotted(given.value).partition(".")[0].partition("[")[0]
    for above in case.above(call):
        if isinstance(above, FUNCTIONS):
            break
        for node in walk(above.test) if isinstance(above, BRANCHES) else ():
            if isinstance(node, ast.Name) and node.id == name and not isinstance(case.parents.get(node), ast.Compare):
                return True
    return False


def _is_named(case: Case, key: str) -> bool:
    """Whether a key is asked for anywhere, or taken by a method: `"scaler" in checkpoint`, `checkpoint.get("scaler")`."""
    for node in case.names.nodes.of(ast.Constant):
        if node.value == key and not isinstance(case.parents.get(node), (ast.Subscript, ast.Dict)):
            return True
    return False


def _is_looked_at(case: Case, given: ast.Subscript) -> bool:
    """Whether the same state is looked at in another place."""
    return any(n is not given and ast.dump(n) == ast.dump(given) for n in case.names.nodes.of(ast.Subscript))


def _may_be_off(case: Case) -> bool:
    """Whether the scalers are on or off as an argument says, so that what they save may be empty."""
    values = [[k.value for k in made.call.keywords if k.arg == "enabled"] for made in case.made]
    return bool(values) and all(v and _is_chosen(case, v[0]) for v in values)


def _is_chosen(case: Case, value: ast.expr) -> bool:
    """Whether a value comes from outside: an argument, or an attribute."""
    if isinstance(value, ast.Attribute):
        return bool(dotted(value)) and not case.names.resolve(value).startswith("torch.")
    return isinstance(value, ast.Name) and value.id in case.names.arguments and value.id not in case.names.assigned
