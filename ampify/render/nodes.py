"""Small builders of the syntax that ampify emits, and the rewriting of single calls."""

from collections.abc import Iterator, Sequence
from typing import Any

import libcst as cst


def method_call(receiver: str, method: str, arguments: Sequence[cst.Arg]) -> cst.Call:
    """`receiver.method(arguments)`."""
    return cst.Call(cst.Attribute(_named(receiver), cst.Name(method)), arguments)


def _named(text: str) -> cst.BaseExpression:
    """A name, or the attribute that an author's own scaler is."""
    return cst.parse_expression(text) if "." in text else cst.Name(text)


def line(small: cst.BaseSmallStatement) -> cst.SimpleStatementLine:
    return cst.SimpleStatementLine([small])


def statement(text: str) -> cst.BaseSmallStatement:
    """One simple statement from its text."""
    parsed = cst.parse_statement(text)
    assert isinstance(parsed, cst.SimpleStatementLine)
    return parsed.body[0]


def quoted(text: str, beside: cst.CSTNode) -> str:
    """The text of a statement with its single quotes as double ones, if the statement beside it has only such."""
    if "'" not in text or '"' in text:
        return text
    code = cst.Module([]).code_for_node(beside)
    return text.replace("'", '"') if '"' in code and "'" not in code else text


def runtime_import(names: Sequence[tuple[str, str]], relative: bool) -> cst.SimpleStatementLine:
    """`from ampify_runtime import name, name as alias`; with `relative` from the module of that name in the same package."""
    aliases = [
        cst.ImportAlias(cst.Name(name), asname=cst.AsName(cst.Name(local)) if local != name else None) for name, local in names
    ]
    return line(cst.ImportFrom(cst.Name("ampify_runtime"), aliases, relative=[cst.Dot()] if relative else []))


def region(context: str, body: Sequence[cst.BaseStatement], leading: Sequence[cst.EmptyLine]) -> cst.With:
    """`with autocast():`, or another context, round statements."""
    return cst.With([cst.WithItem(cst.parse_expression(context))], cst.IndentedBlock(body), leading_lines=leading)


def calls(node: cst.CSTNode, method: str) -> Iterator[cst.Call]:
    """The calls of methods and functions of that name, in source order, outer before inner; not those inside lambdas."""
    if isinstance(node, cst.Lambda):
        return
    if isinstance(node, cst.Call):
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        if isinstance(name, cst.Name) and name.value == method:
            yield node
    for child in node.children:
        yield from calls(child, method)


def replaced(small: cst.BaseSmallStatement, old: cst.Call, new: cst.Call) -> cst.BaseSmallStatement:
    """A statement with another call in the place of one."""
    if isinstance(small, (cst.Expr, cst.Assign)) and small.value is old:
        return small.with_changes(value=new)  # as nearly always, and much faster
    changed = small.deep_replace(old, new)
    assert isinstance(changed, cst.BaseSmallStatement)
    return changed


def through_scaler(call: cst.Call, form: str, scaler: str) -> cst.Call:
    """A call rewritten to go through the scaler; `form` as in ampify.plan.edits.Rewrite."""
    if form == "grad":
        return call.with_changes(func=cst.Attribute(_named(scaler), cst.Name("grad")))
    if form == "scale":
        func = cst.ensure_type(call.func, cst.Attribute)
        scaled = method_call(scaler, "scale", [cst.Arg(_bare(func.value))])
        return call.with_changes(func=func.with_changes(value=scaled))
    if form == "scale_tensors":
        at = next((i for i, a in enumerate(call.args) if a.keyword is None or a.keyword.value == "tensors"), 0)
        arguments = list(call.args)
        arguments[at] = arguments[at].with_changes(value=method_call(scaler, "scale", [cst.Arg(arguments[at].value)]))
        return call.with_changes(args=arguments)
    func = cst.ensure_type(call.func, cst.Attribute)
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")) if call.args else cst.MaybeSentinel.DEFAULT
    receiver = cst.Arg(_bare(func.value), comma=comma)
    changed = call.with_changes(func=func.with_changes(value=_named(scaler), attr=cst.Name(form)), args=[receiver, *call.args])
    if not call.args and not _has_comment(call.whitespace_before_args):
        changed = changed.with_changes(whitespace_before_args=cst.SimpleWhitespace(""))
    return changed


def _has_comment(space: cst.BaseParenthesizableWhitespace) -> bool:
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return False
    return space.first_line.comment is not None or any(empty.comment is not None for empty in space.empty_lines)


def with_state_beside(small: cst.BaseSmallStatement, state: cst.Call, key: str, scaler: str) -> cst.BaseSmallStatement:
    """A statement with `key: scaler.state_dict()` behind the entry of a dict that holds `state`."""
    changed = small.visit(_StateBeside(state, key, method_call(scaler, "state_dict", [])))
    assert isinstance(changed, cst.BaseSmallStatement)
    return changed


class _StateBeside(cst.CSTTransformer):
    def __init__(self, state: cst.Call, key: str, own: cst.Call) -> None:
        self.state, self.key, self.own = state, key, own

    def leave_Dict(self, original_node: cst.Dict, updated_node: cst.Dict) -> cst.BaseExpression:
        for i, element in enumerate(original_node.elements):
            if isinstance(element, cst.DictElement) and _holds(element.value, self.state):
                quote = element.key.quote if isinstance(element.key, cst.SimpleString) else '"'
                new = cst.DictElement(
                    cst.SimpleString(f"{quote}{self.key}{quote}"),
                    self.own,
                    whitespace_after_colon=element.whitespace_after_colon,
                )
                space, closing = original_node.lbrace.whitespace_after, updated_node.rbrace.whitespace_before
                elements, closing = _inserted(list(updated_node.elements), i, new, space, closing)
                rbrace = updated_node.rbrace.with_changes(whitespace_before=closing)
                return updated_node.with_changes(elements=elements, rbrace=rbrace)
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        for i, argument in enumerate(original_node.args):
            if argument.keyword is not None and _holds(argument.value, self.state):
                new = argument.with_changes(keyword=cst.Name(self.key), value=self.own, comma=cst.MaybeSentinel.DEFAULT)
                space, closing = original_node.whitespace_before_args, argument.whitespace_after_arg
                args, closing = _inserted(list(updated_node.args), i, new, space, closing)
                args[i] = args[i].with_changes(whitespace_after_arg=cst.SimpleWhitespace(""))
                args[i + 1] = args[i + 1].with_changes(whitespace_after_arg=closing)
                return updated_node.with_changes(args=args)
        return updated_node


def _holds(value: cst.BaseExpression, state: cst.Call) -> bool:
    """Whether the value of an entry is a state, by itself, as a copy or under a condition; not of an entry further inside."""
    if isinstance(value, cst.IfExp):
        return _holds(value.body, state) or _holds(value.orelse, state)
    if isinstance(value, cst.Call) and value is not state and [a.keyword for a in value.args] == [None]:
        return _holds(value.args[0].value, state)
    return value is state


def _inserted(
    items: list[Any], at: int, new: Any, opening: cst.BaseParenthesizableWhitespace, closing: cst.BaseParenthesizableWhitespace
) -> tuple[list[Any], cst.BaseParenthesizableWhitespace]:
    """The entries of a dict or call with a new one behind the one at `at`, one to a line if they are; comments stay in place.

    `closing` is what stands behind the last entry, if it has no comma; it comes back without a comment that belongs to that.
    """
    before = items[at]
    between: cst.BaseParenthesizableWhitespace = cst.SimpleWhitespace(" ")
    if isinstance(opening, cst.ParenthesizedWhitespace):
        between = cst.ParenthesizedWhitespace(indent=opening.indent, last_line=opening.last_line)
    after = before.comma.whitespace_after if isinstance(before.comma, cst.Comma) else None
    last = at == len(items) - 1
    if isinstance(between, cst.ParenthesizedWhitespace):
        if isinstance(after, cst.ParenthesizedWhitespace):
            between, after = between.with_changes(first_line=after.first_line), _without_comment(after)
        elif last and isinstance(closing, cst.ParenthesizedWhitespace):
            between, closing = between.with_changes(first_line=closing.first_line), _without_comment(closing)
    if after is not None:
        new = new.with_changes(comma=before.comma.with_changes(whitespace_after=after))
    items[at : at + 1] = [before.with_changes(comma=cst.Comma(whitespace_after=between)), new]
    return items, closing


def _without_comment(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    return space.with_changes(first_line=space.first_line.with_changes(comment=None, whitespace=cst.SimpleWhitespace("")))


def _bare(node: cst.BaseExpression) -> cst.BaseExpression:
    """The expression without the parentheses that a call's own make superfluous."""
    plain = all(isinstance(p.whitespace_after, cst.SimpleWhitespace) for p in node.lpar)
    if len(node.lpar) == 1 and plain and isinstance(node.rpar[0].whitespace_before, cst.SimpleWhitespace):
        if not isinstance(node, (cst.Tuple, cst.GeneratorExp, cst.Yield, cst.NamedExpr)):
            return node.with_changes(lpar=[], rpar=[])
    return node


class _Deeper(cst.CSTTransformer):
    """Finishes what libcst's own indenting of a moved row leaves: lines continued by a backslash go along, blank lines stay."""

    def __init__(self, outer: str, step: str) -> None:
        self.step, self.indents = step, [outer]

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        self.indents.append(self.indents[-1] + (node.indent if node.indent is not None else self.step))

    def leave_IndentedBlock(self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock) -> cst.BaseSuite:
        self.indents.pop()
        return updated_node

    def leave_SimpleWhitespace(
        self, original_node: cst.SimpleWhitespace, updated_node: cst.SimpleWhitespace
    ) -> cst.BaseParenthesizableWhitespace:
        if "\\" not in updated_node.value:
            return updated_node
        return updated_node.with_changes(value=updated_node.value.replace("\n", "\n" + self.step))

    def leave_EmptyLine(self, original_node: cst.EmptyLine, updated_node: cst.EmptyLine) -> cst.EmptyLine:
        if updated_node.comment is not None or not updated_node.indent:
            return updated_node
        written = self.indents[-1] + updated_node.whitespace.value
        return updated_node.with_changes(indent=False, whitespace=cst.SimpleWhitespace(written))


def deeper(row: cst.BaseStatement, outer: str, step: str) -> cst.BaseStatement:
    """A row of a block indented by `outer`, to stand one `step` deeper."""
    if isinstance(row, cst.SimpleStatementLine) and not row.leading_lines:
        if "\n" not in cst.Module([]).code_for_node(row).removesuffix("\n"):
            return row  # as nearly always, and much faster
    changed = row.visit(_Deeper(outer, step))
    assert isinstance(changed, cst.BaseStatement)
    return changed


def split_leading(lines: Sequence[cst.EmptyLine]) -> tuple[list[cst.EmptyLine], list[cst.EmptyLine]]:
    """The lines above a statement, through the last blank one, and the comments that belong to the statement itself."""
    blank = max((i for i, line in enumerate(lines) if line.comment is None), default=-1)
    return list(lines[: blank + 1]), list(lines[blank + 1 :])
