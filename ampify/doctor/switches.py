"""Switches: what decides whether there is mixed precision, and decides wrongly: options that are always true (AMP327), torch's
version compared as text (AMP331)."""

from __future__ import annotations

import ast
import operator
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from ampify.analysis.names import AUTOCAST, Names, dotted
from ampify.analysis.scalers import is_scaler_call
from ampify.analysis.syntax import shown
from ampify.analysis.walk import walk
from ampify.doctor.base import Finding
from ampify.doctor.case import Case

PARSING = re.compile("bool|eval|parse|str|lower|int|json|yaml|loads")  # in the names of what makes a value of a text
RELEASES = [f"1.{minor}.0" for minor in range(6, 14)] + [f"2.{minor}.0" for minor in range(14)]
OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
VERSIONS = ("torch.__version__", "torch.version.__version__")
FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}


def find(case: Case) -> Iterator[Finding]:
    """The findings of what the file's mixed precision depends on."""
    for call in case.names.nodes.of(ast.Call):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            option = _option(call)
            if option and _is_always_true(case, call, option) and _decides(case, _holders(case, option)):
                yield Finding("AMP327", call.lineno, call.col_offset, f"`{_flag(call)}`")
    yield from _versions(case)


# options ---------------------------------------------------------------------------------------------


def _texts(call: ast.Call) -> list[str]:
    return [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def _flag(call: ast.Call) -> str:
    return next((t for t in _texts(call) if t.startswith("--")), "")


def _option(call: ast.Call) -> str:
    """The attribute that an option's value gets; empty where it is no option with a name that is written out."""
    given = {k.arg: k.value for k in call.keywords}
    if None in given or not _flag(call) or len(_texts(call)) != len(call.args):
        return ""
    dest = given.get("dest")
    if dest is not None:
        return str(dest.value) if isinstance(dest, ast.Constant) else ""
    return _flag(call).lstrip("-").replace("-", "_")


def _is_always_true(case: Case, call: ast.Call, option: str) -> bool:
    """Whether any text that is given for an option, `False` too, is true: of `type=bool`, or kept as a text where a bool is the
    default."""
    given = {k.arg: k.value for k in call.keywords}
    if "action" in given:
        return False
    if "type" in given:
        return case.names.resolve(given["type"]) == "bool" and "bool" not in case.names.rebound
    default = given.get("default")
    plain = isinstance(default, ast.Constant) and isinstance(default.value, bool)
    if not plain or "choices" in given or given.keys() & {"const", "nargs"}:
        return False
    return all(_is_plain_read(case, node) for node in _reads(case, option))


def _reads(case: Case, option: str) -> list[ast.Attribute]:
    """Where the attribute of an option is looked at, or set."""
    found = [n for n in case.names.nodes.of(ast.Attribute) if n.attr == option and isinstance(n.value, (ast.Name, ast.Attribute))]
    return [n for n in found if not case.names.resolve(n).startswith(("torch.", "apex."))]


def _is_plain_read(case: Case, node: ast.Attribute) -> bool:
    """Whether a value is not made of the text that it may be: compared, parsed, or set."""
    parent = case.parents.get(node)
    if not isinstance(node.ctx, ast.Load) or isinstance(parent, (ast.Compare, ast.Attribute, ast.Subscript, ast.Dict)):
        return False
    parent = case.parents.get(parent) if isinstance(parent, ast.keyword) else parent
    return not (isinstance(parent, ast.Call) and PARSING.search(ast.unparse(parent.func).lower()))


def _holders(case: Case, option: str) -> set[str]:
    """The texts that hold whether an option is true: its attribute, and names that are plainly assigned it."""
    reads = set(_reads(case, option))
    if any(not isinstance(n.ctx, ast.Load) for n in reads):
        return set()  # it is made anew of what was given
    found = {dotted(n) for n in reads}
    for name, values in case.names.assigned.items():
        if any(_asks(value, found) for value in values):
            found.add(name)
    return found


def _asks(test: ast.expr, texts: set[str]) -> bool:
    """Whether a condition asks whether one of some values is true."""
    if isinstance(test, ast.BoolOp):
        return any(_asks(value, texts) for value in test.values)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return _asks(test.operand, texts)
    return dotted(test) in texts


def _decides(case: Case, texts: set[str]) -> bool:
    """Whether one of some values decides whether there is a scaler or a region."""
    if any(k.arg == "enabled" and _asks(k.value, texts) for call in _makers(case) for k in call.keywords):
        return True
    return any(_asks(choice.test, texts) and _is_about(case.names, choice) for choice in _choices(case))


def _makers(case: Case) -> Iterator[ast.Call]:
    """The calls that make scalers and regions."""
    for call in case.names.nodes.of(ast.Call):
        if case.names.resolve(call.func) in AUTOCAST or is_scaler_call(call, case.names):
            yield call


def _choices(case: Case) -> Iterator[ast.If | ast.IfExp]:
    yield from case.names.nodes.of(ast.If)
    yield from case.names.nodes.of(ast.IfExp)


def _is_about(names: Names, choice: ast.AST) -> bool:
    """Whether there is anything of torch's mixed precision on a side of a choice."""
    for node in walk(choice):
        if isinstance(node, ast.Call) and (names.resolve(node.func) in AUTOCAST or is_scaler_call(node, names)):
            return True
        if isinstance(node, ast.Attribute) and names.is_scaler(node.value):
            return True
    return False


# versions --------------------------------------------------------------------------------------------


def _versions(case: Case) -> Iterator[Finding]:
    """Comparisons of texts of torch's version that choose for or against mixed precision, here, or against all that runs here,
    where a file is imported."""
    for choice in _choices(case):
        for test, wrong in _wrong(case.names, choice.test):
            if _is_about(case.names, choice) or _ends(choice):
                yield Finding("AMP331", test.lineno, test.col_offset, f"{shown(test)}|{wrong}")
    for call in _makers(case):
        for value in (k.value for k in call.keywords if k.arg == "enabled"):
            bound = case.names.assigned.get(dotted(value), [])
            for test, wrong in _wrong(case.names, bound[0] if len(bound) == 1 else value):
                yield Finding("AMP331", test.lineno, test.col_offset, f"{shown(test)}|{wrong}")
    yield from _in_importers(case)


def _in_importers(case: Case) -> Iterator[Finding]:
    """Scripts that import this file, and end where a text of torch's version says so; told where mixed precision begins here."""
    made = list(_makers(case))
    if case.finder is None or not made:
        return
    first = min(made, key=lambda c: (c.lineno, c.col_offset))
    for path in sorted(case.finder.importers(case.file.path)):
        seen = case.finder.seen(path)
        if seen is None or case.file.path not in case.finder.outline(path).imports:
            continue
        for choice in seen.names.nodes.of(ast.If):
            for test, wrong in _wrong(seen.names, choice.test) if _ends(choice) else ():
                where = os.path.relpath(path, os.path.dirname(case.file.path) or ".")
                yield Finding("AMP331", first.lineno, first.col_offset, f"{shown(test)} in {where}:{test.lineno}|{wrong}")


def _ends(choice: ast.If | ast.IfExp) -> bool:
    """Whether the first thing on a side of a branch is an error."""
    return isinstance(choice, ast.If) and any(isinstance(s, ast.Raise) for s in choice.body + choice.orelse)


def _wrong(names: Names, test: ast.expr) -> Iterator[tuple[ast.Compare, str]]:
    """The comparisons in a condition that take a release of torch for an older or a newer one, with the first of these."""
    for node in walk(test):
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in OPERATORS:
            continue
        left, right, op = node.left, node.comparators[0], type(node.ops[0])
        if isinstance(left, ast.Constant):
            left, right, op = right, left, FLIPPED[op]
        text = _version(names, left)
        if text is None or not isinstance(right, ast.Constant) or not re.fullmatch(r"\d+(\.\d+)*", str(right.value)):
            continue
        if not isinstance(right.value, str):
            continue
        bound, compare = right.value, OPERATORS[op]
        for release in RELEASES:
            if _number(release, bound) == _number(bound, bound):
                continue
            if compare(text(release), bound) != compare(_number(release, bound), _number(bound, bound)):
                yield node, release
                break


def _number(version: str, bound: str) -> list[int]:
    """A version to as many places as another has."""
    return [int(part) for part in version.split(".")][: bound.count(".") + 1]


def _version(names: Names, node: ast.expr, depth: int = 3) -> Callable[[str], str] | None:
    """What an expression makes of torch's version as a plain text; None where it is not one. `torch.__version__` itself is none:
    it compares as a version does."""
    if isinstance(node, ast.Name) and depth and len(bound := names.assigned.get(node.id, [])) == 1:
        return _version(names, bound[0], depth - 1)
    if names.resolve(node) == "torch.version.__version__":
        return str
    if isinstance(node, ast.Call) and dotted(node.func) == "str" and len(node.args) == 1:
        return str if names.resolve(node.args[0]) in VERSIONS else None
    if not isinstance(node, ast.Subscript):
        return None
    call = node.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "split":
        cut = [a.value for a in call.args if isinstance(a, ast.Constant)]
        first = isinstance(node.slice, ast.Constant) and node.slice.value == 0
        return str if cut == ["+"] and first and names.resolve(call.func.value) in VERSIONS else None
    inner = str if names.resolve(node.value) in VERSIONS else _version(names, node.value, depth)
    part = node.slice if isinstance(node.slice, ast.Slice) else None
    if inner is None or part is None or part.lower is not None or part.step is not None:
        return None
    end = part.upper.value if isinstance(part.upper, ast.Constant) else None
    return (lambda release: inner(release)[:end]) if isinstance(end, int) else None
