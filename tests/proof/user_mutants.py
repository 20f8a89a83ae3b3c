"""Damage to the user's statements."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

from tests.proof.operators import (
    OWN,
    STEP,
    found,
    indent,
    operator,
    region_end,
    simple,
)


@operator
def lose_a_comment(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines = text.split("\n")
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
            yield "\n".join(lines)


@operator
def change_a_comment(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines = text.split("\n")
            lines[token.start[0] - 1] = lines[token.start[0] - 1].replace(token.string, token.string + " too")
            yield "\n".join(lines)


@operator
def change_a_constant(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NUMBER:
            lines = text.split("\n")
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column] + "7" + lines[row - 1][column:]
            yield "\n".join(lines)


@operator
def change_a_string(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and token.string[-2:] not in ('""', "''"):
            yield text.replace(token.string, token.string[:-1] + "!" + token.string[-1], 1)


@operator
def drop_a_statement(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ +\S")):
        if simple(lines[at]) and not OWN.search(lines[at]):
            if indent(lines[at - 1]) == indent(lines[at]) and simple(lines[at - 1]):
                del lines[at]
                yield "\n".join(lines)


@operator
def swap_two_statements(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ +\S")):
        pair = lines[at : at + 2]
        if len(pair) == 2 and pair[0] != pair[1] and indent(pair[0]) == indent(pair[1]):
            if all(simple(line) and not OWN.search(line) for line in pair):
                lines[at : at + 2] = [pair[1], pair[0]]
                yield "\n".join(lines)


@operator
def add_a_statement(text: str) -> Iterator[str]:
    for lines, at in found(text, STEP):
        lines.insert(at, " " * indent(lines[at]) + "torch.manual_seed(0)")
        yield "\n".join(lines)


@operator
def indent_a_text(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and "\n" in token.string:
            yield text.replace(token.string, token.string.replace("\n", "\n    "), 1)


def _edited(text: str, change: Callable[[ast.AST], bool]) -> Iterator[str]:
    """The text with one statement written anew, for each simple one of one line that `change` changes."""
    for stmt in ast.walk(ast.parse(text)):
        if isinstance(stmt, ast.Expr | ast.Assign | ast.AugAssign | ast.Return) and stmt.lineno == stmt.end_lineno:
            lines = text.split("\n")
            line = lines[stmt.lineno - 1]
            if OWN.search(line) or ";" in line or not line.isascii() or '"' in line:
                continue
            if any(change(node) for node in ast.walk(stmt)):
                new = line[: stmt.col_offset] + ast.unparse(stmt) + line[stmt.end_col_offset :]
                lines[stmt.lineno - 1] = new
                yield "\n".join(lines)


@operator
def swap_two_arguments(text: str) -> Iterator[str]:
    def change(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and len(node.args) > 1 and ast.dump(node.args[0]) != ast.dump(node.args[1]):
            node.args[:2] = node.args[1::-1]
            return True
        return False

    yield from _edited(text, change)


@operator
def drop_an_argument(text: str) -> Iterator[str]:
    def change(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and bool(node.args or node.keywords) and (node.keywords or node.args).pop() is not None

    yield from _edited(text, change)


@operator
def change_an_operator(text: str) -> Iterator[str]:
    def change(node: ast.AST) -> bool:
        if isinstance(node, ast.BinOp | ast.AugAssign):
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            return True
        return False

    yield from _edited(text, change)


@operator
def change_a_method(text: str) -> Iterator[str]:
    def change(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node.func.attr += "_"
            return True
        return False

    yield from _edited(text, change)


@operator
def change_what_is_assigned(text: str) -> Iterator[str]:
    def change(node: ast.AST) -> bool:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            node.id += "_"
            return True
        return False

    yield from _edited(text, change)


@operator
def duplicate_a_statement(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ +\S")):
        if simple(lines[at]) and not OWN.search(lines[at]):
            lines.insert(at, lines[at])
            yield "\n".join(lines)


@operator
def move_a_statement_behind_its_block(text: str) -> Iterator[str]:
    """But not out of a region."""
    for lines, at in found(text, re.compile(r"^ +\S")):
        if at + 1 < len(lines) and simple(lines[at]) and re.match(r" *\w", lines[at]) and lines[at + 1].strip():
            if 0 < indent(lines[at + 1]) < indent(lines[at]) and indent(lines[at - 1]) == indent(lines[at]):
                header = next(line for line in reversed(lines[:at]) if line.strip() and indent(line) < indent(lines[at]))
                if "autocast()" in header:
                    continue
                lines[at] = " " * indent(lines[at + 1]) + lines[at].strip()
                yield "\n".join(lines)


@operator
def negate_a_condition(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *(if|while) (?!not )[^:]*:$")):
        lines[at] = re.sub(r"\b(if|while) (.*):$", r"\1 not (\2):", lines[at])
        yield "\n".join(lines)


@operator
def swap_the_branches(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *if .*:$")):
        middle = region_end(lines, at)
        if middle < len(lines) and lines[middle] == " " * indent(lines[at]) + "else:":
            end = region_end(lines, middle)
            first, second = lines[at + 1 : middle], lines[middle + 1 : end]
            if first != second:
                lines[at + 1 : end] = [*second, lines[middle], *first]
                yield "\n".join(lines)


@operator
def another_iterable(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *for .* in [\w.]+:$")):
        lines[at] = lines[at][:-1] + "[1:]:"
        yield "\n".join(lines)


@operator
def change_an_f_string(text: str) -> Iterator[str]:
    for match in re.finditer(r"(?<![\w])f\"[^\"\n{]*\{[^{}\n:]+(:\.\d)f\}", text):
        yield text[: match.start(1)] + ":.9" + text[match.end(1) :]
    for match in re.finditer(r"(?<![\w])f\"(?=[^\"\n]*\{)", text):
        yield text[: match.start()] + '"' + text[match.end() :]
        yield text[: match.end()] + "!" + text[match.end() :]


@operator
def change_a_decorator(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *@(?!custom|full|unscaled)")):
        del lines[at]
        yield "\n".join(lines)


@operator
def change_an_import(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^(import|from) (?!ampify_runtime)")):
        lines[at] += " as other" if " as " not in lines[at] and "," not in lines[at] else "_"
        yield "\n".join(lines)
    for lines, at in found(text, re.compile(r"^(import|from) (?!ampify_runtime)")):
        del lines[at]
        yield "\n".join(lines)
