"""More damage: to the user's statements, to the layout of the file, to checkpoints and to what the rules for hazards write."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator

from tests.proof.mutants import OWN, STEP, _found, _indent, _region_end, _simple, operator

# the user's statements -------------------------------------------------------------------------------


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
    for lines, at in _found(text, re.compile(r"^ +\S")):
        if _simple(lines[at]) and not OWN.search(lines[at]):
            lines.insert(at, lines[at])
            yield "\n".join(lines)


@operator
def move_a_statement_behind_its_block(text: str) -> Iterator[str]:
    """But not out of a region."""
    for lines, at in _found(text, re.compile(r"^ +\S")):
        if at + 1 < len(lines) and _simple(lines[at]) and re.match(r" *\w", lines[at]) and lines[at + 1].strip():
            if 0 < _indent(lines[at + 1]) < _indent(lines[at]) and _indent(lines[at - 1]) == _indent(lines[at]):
                header = next(line for line in reversed(lines[:at]) if line.strip() and _indent(line) < _indent(lines[at]))
                if "autocast()" in header:
                    continue
                lines[at] = " " * _indent(lines[at + 1]) + lines[at].strip()
                yield "\n".join(lines)


@operator
def negate_a_condition(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *(if|while) (?!not )[^:]*:$")):
        lines[at] = re.sub(r"\b(if|while) (.*):$", r"\1 not (\2):", lines[at])
        yield "\n".join(lines)


@operator
def swap_the_branches(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *if .*:$")):
        middle = _region_end(lines, at)
        if middle < len(lines) and lines[middle] == " " * _indent(lines[at]) + "else:":
            end = _region_end(lines, middle)
            first, second = lines[at + 1 : middle], lines[middle + 1 : end]
            if first != second:
                lines[at + 1 : end] = [*second, lines[middle], *first]
                yield "\n".join(lines)


@operator
def another_iterable(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *for .* in [\w.]+:$")):
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
    for lines, at in _found(text, re.compile(r"^ *@(?!custom|full|unscaled)")):
        del lines[at]
        yield "\n".join(lines)


@operator
def change_an_import(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^(import|from) (?!ampify_runtime)")):
        lines[at] += " as other" if " as " not in lines[at] and "," not in lines[at] else "_"
        yield "\n".join(lines)
    for lines, at in _found(text, re.compile(r"^(import|from) (?!ampify_runtime)")):
        del lines[at]
        yield "\n".join(lines)


@operator
def swap_the_runtimes_names(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        yield text.replace("import autocast, scaler\n", "import autocast as scaler, scaler as autocast\n")


@operator
def configure_what_nobody_asked_for(text: str) -> Iterator[str]:
    line = "from ampify_runtime import autocast, scaler\n"
    if line in text:
        new = "from ampify_runtime import autocast, configure, scaler\n"
        for call in (
            'configure(mode="off")',
            'configure(mode="scale-only")',
            "configure(init_scale=1.0)",
            'configure(device="cpu")',
        ):
            yield text.replace(line, new + call + "\n")


# what goes through the scaler ------------------------------------------------------------------------


@operator
def step_another_optimizer(text: str) -> Iterator[str]:
    stepped = sorted({m.group(1) for line in text.split("\n") if (m := STEP.match(line)) and "," not in m.group(1)})
    for lines, at in _found(text, STEP):
        match = STEP.match(lines[at])
        for other in stepped:
            if match is not None and other != match.group(1) and "," not in match.group(1):
                lines[at] = " " * _indent(lines[at]) + f"scaler.step({other})"
                yield "\n".join(lines)
                break


@operator
def step_without_its_closure(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.step\(([\w.]+), [^()\n]*\)", text):
        yield text[: match.start()] + f"scaler.step({match.group(1)})" + text[match.end() :]


@operator
def scale_another_loss(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.scale\((\w+)\)\.backward", text):
        yield text[: match.start(1)] + "other" + text[match.end(1) :]
        yield text[: match.start(1)] + f"{match.group(1)} * 2" + text[match.end(1) :]


@operator
def scale_the_result_of_a_closure(text: str) -> Iterator[str]:
    for match in re.finditer(r"(?m)^( +return )(loss)$", text):
        yield text[: match.start(2)] + "scaler.scale(loss)" + text[match.end(2) :]


@operator
def a_backward_of_the_scaled_and_the_plain(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *scaler\.scale\(\w+\)\.backward\(\)$")):
        lines.insert(at, lines[at].replace("scaler.scale(", "(").replace(".backward()", ".backward(retain_graph=True)"))
        yield "\n".join(lines)


@operator
def a_gradient_past_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bscaler\.grad\(", text):
        yield text[: match.start()] + "torch.autograd.grad(" + text[match.end() :]


@operator
def a_schedule_past_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.step_scheduler\(([\w.]+)\)", text):
        yield text[: match.start()] + f"{match.group(1)}.step()" + text[match.end() :]


@operator
def an_update_behind_the_unscale(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *scaler\.unscale_\(.+\)$")):
        lines.insert(at + 1, " " * _indent(lines[at]) + "scaler.update()")
        yield "\n".join(lines)


@operator
def an_update_in_front_of_the_backward(text: str) -> Iterator[str]:
    """In every micro-batch of an accumulation; elsewhere it comes to the same as an update behind the step."""
    for lines, at in _found(text, re.compile(r"^ *scaler\.scale\(.*\)\.backward\(\)$")):
        if any(re.match(r" *if .*% .*:$", a) and OWN.search(b) for a, b in zip(lines[at:], lines[at + 1 : at + 4], strict=False)):
            lines.insert(at, " " * _indent(lines[at]) + "scaler.update()")
            yield "\n".join(lines)


@operator
def a_region_over_a_yield(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ +yield \S")):
        lines[at : at + 1] = [" " * _indent(lines[at]) + "with autocast():", "    " + lines[at]]
        yield "\n".join(lines)


@operator
def a_region_over_a_whole_loop(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *for .*:$")):
        end = _region_end(lines, at)
        if any("scaler.step(" in line for line in lines[at:end]) and '"""' not in "".join(lines[at:end]):
            lines[at:end] = [" " * _indent(lines[at]) + "with autocast():", *("    " + line for line in lines[at:end])]
            yield "\n".join(lines)


@operator
def a_region_with_a_name(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *with autocast\(\):$")):
        lines[at] = lines[at].replace("():", "() as region:")
        yield "\n".join(lines)


# checkpoints -----------------------------------------------------------------------------------------


@operator
def save_without_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r""",? *["']?scaler["']?[:=] ?scaler\.state_dict\(\)""", text):
        yield text[: match.start()] + text[match.end() :]
    for lines, at in _found(text, re.compile(r"^ *\w+\[.scaler.\] = scaler\.state_dict\(\)$")):
        del lines[at]
        yield "\n".join(lines)


@operator
def load_without_the_scaler(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *scaler\.load_state_dict\(")):
        del lines[at]
        yield "\n".join(lines)


@operator
def load_another_key(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.load_state_dict\(\w+\.get\((.)(scaler)\1", text):
        for other in ("optimizer", "scalar", "grad_scaler"):
            yield text[: match.start(2)] + other + text[match.end(2) :]


@operator
def load_a_key_that_old_checkpoints_lack(text: str) -> Iterator[str]:
    for match in re.finditer(r"""scaler\.load_state_dict\((\w+)\.get\((["']scaler["']), \{\}\)\)""", text):
        yield text[: match.start()] + f"scaler.load_state_dict({match.group(1)}[{match.group(2)}])" + text[match.end() :]


@operator
def load_from_elsewhere(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.load_state_dict\((\w+)\.get", text):
        yield text[: match.start(1)] + "elsewhere" + text[match.end(1) :]


@operator
def save_the_optimizer_as_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"""(?<=["']: )scaler\.state_dict""", text):
        yield text[: match.start()] + "optimizer.state_dict" + text[match.end() :]


@operator
def load_the_scaler_into_the_optimizer(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bscaler\.load_state_dict\(", text):
        yield text[: match.start()] + "optimizer.load_state_dict(" + text[match.end() :]


# rules for hazards -----------------------------------------------------------------------------------


@operator
def drop_a_float(text: str) -> Iterator[str]:
    for match in re.finditer(r"\.float\(\)", text):
        yield text[: match.start()] + text[match.end() :]


@operator
def a_cast_to_another_dtype(text: str) -> Iterator[str]:
    for match in re.finditer(r"\.float\(\)", text):
        for other in (".half()", ".double()", ".to(torch.float16)", ".float().detach()", ".int()"):
            yield text[: match.start()] + other + text[match.end() :]


@operator
def drop_a_disabled_region(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *with autocast\(enabled=False\):$")):
        end = _region_end(lines, at)
        lines[at:end] = [line[4:] for line in lines[at + 1 : end]]
        yield "\n".join(lines)


@operator
def widen_a_disabled_region(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *with autocast\(enabled=False\):$")):
        end = _region_end(lines, at)
        if end < len(lines) and _simple(lines[end]) and _indent(lines[end]) == _indent(lines[at]):
            lines[end] = "    " + lines[end]
            yield "\n".join(lines)


@operator
def enable_a_disabled_region(text: str) -> Iterator[str]:
    for match in re.finditer(r"autocast\(enabled=(False)\)", text):
        yield text[: match.start(1)] + "True" + text[match.end(1) :]


@operator
def another_bound(text: str) -> Iterator[str]:
    for match in re.finditer(r"\b(max|min)\(([^()]+), torch\.finfo\((\w+)\.dtype\)\.(min|max)\)", text):
        bound, value, name, limit = match.groups()
        other = {"max": "min", "min": "max"}
        for new in (
            f"{other[bound]}({value}, torch.finfo({name}.dtype).{limit})",
            f"{bound}({value}, torch.finfo({name}.dtype).{other[limit]})",
            f"{bound}({value} + 1, torch.finfo({name}.dtype).{limit})",
            value,
        ):
            yield text[: match.start()] + new + text[match.end() :]


@operator
def drop_a_decorator_of_the_runtime(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *@(custom_fwd|custom_bwd|full_precision_fwd|unscaled_bwd)$")):
        del lines[at]
        yield "\n".join(lines)


@operator
def swap_the_runtimes_decorators(text: str) -> Iterator[str]:
    if "@custom_fwd" in text and "@custom_bwd" in text:
        yield text.replace("@custom_fwd", "@x").replace("@custom_bwd", "@custom_fwd").replace("@x", "@custom_bwd")


# layout ----------------------------------------------------------------------------------------------


@operator
def other_line_ends(text: str) -> Iterator[str]:
    yield text.replace("\n", "\r\n")
    yield text.replace("\n", "\r\n", 1)


@operator
def a_byte_order_mark(text: str) -> Iterator[str]:
    yield "\ufeff" + text


@operator
def another_end_of_the_file(text: str) -> Iterator[str]:
    yield text.rstrip("\n") if text.endswith("\n") else text + "\n"
    yield text + "\n\n"


@operator
def white_space_behind_a_line(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"\S$")):
        if not OWN.search(lines[at]):
            lines[at] += "  "
            yield "\n".join(lines)


@operator
def white_space_inside_a_line(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^[^\"'#]* = [^\"'#]*$")):
        if not OWN.search(lines[at]):
            lines[at] = lines[at].replace(" = ", "  =  ", 1)
            yield "\n".join(lines)


@operator
def drop_an_empty_line(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^$")):
        if 0 < at < len(lines) - 1:
            del lines[at]
            yield "\n".join(lines)


@operator
def add_an_empty_line(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^\S")):
        lines.insert(at + 1, "")
        yield "\n".join(lines)


@operator
def other_quotes(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and re.fullmatch(r'"[^"\'\\\n]+"', token.string):
            lines = text.split("\n")
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + "'" + token.string[1:-1] + "'" + line[column + len(token.string) :]
            if not OWN.search(line):
                yield "\n".join(lines)


@operator
def move_a_comment(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *#")):
        if at + 2 < len(lines) and lines[at + 1].strip() and "#" not in lines[at + 1] and _simple(lines[at + 1]):
            lines[at : at + 2] = [lines[at + 1], lines[at]]
            yield "\n".join(lines)


@operator
def indent_otherwise(text: str) -> Iterator[str]:
    """The body of a function deeper than it was."""
    for lines, at in _found(text, re.compile(r"^def .*:$")):
        end = _region_end(lines, at)
        if '"""' not in "\n".join(lines[at:end]):
            lines[at + 1 : end] = ["  " + line if line.strip() else line for line in lines[at + 1 : end]]
            yield "\n".join(lines)
