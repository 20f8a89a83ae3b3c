"""Damage to converted scripts: each operator gives the ways in which it can spoil one, as new texts.

`python -m tests.proof.mutants` prints how many of each the proof kills; more operators are in user_mutants.py.
"""

import io
import re
import tokenize
from collections.abc import Callable, Iterator

Operator = Callable[[str], Iterator[str]]
OPERATORS: dict[str, Operator] = {}

UPDATE = re.compile(r"^ *scaler\.update\(\)$")
UNSCALE = re.compile(r"^ *scaler\.unscale_\((.+)\)$")
STEP = re.compile(r"^ *scaler\.step\((.+)\)$")
REGION = re.compile(r"^ *with autocast\(\):$")
IMPORT = re.compile(r"^from ampify_runtime import .*$")
OWN = re.compile(r"scaler|autocast|ampify_runtime")


def operator(function: Operator) -> Operator:
    OPERATORS[function.__name__.replace("_", " ")] = function
    return function


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _found(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[list[str], int]]:
    """A fresh list of the lines, and the number of one that matches, for each that does."""
    for number, line in enumerate(text.split("\n")):
        if pattern.search(line):
            yield text.split("\n"), number


def _removing(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for lines, at in _found(text, pattern):
        del lines[at]
        yield "\n".join(lines)


def _region_end(lines: list[str], at: int) -> int:
    """One past the last line of the region that begins in line `at`."""
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > _indent(lines[at])):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def _simple(line: str) -> bool:
    """Whether a line is a statement of its own, as far as looks tell."""
    text = line.strip()
    if (
        not text
        or text.startswith(("#", "@", ")", "]", "}", "'", '"', "import ", "from "))
        or text.endswith((":", ",", "(", "[", "{", "\\"))
    ):
        return False
    return text.count("(") == text.count(")") and text.count("[") == text.count("]") and '"""' not in text


# the scaler ------------------------------------------------------------------------------------------


@operator
def drop_an_update(text: str) -> Iterator[str]:
    yield from _removing(text, UPDATE)


@operator
def drop_an_unscale(text: str) -> Iterator[str]:
    yield from _removing(text, UNSCALE)


@operator
def clip_before_unscale(text: str) -> Iterator[str]:
    for lines, at in _found(text, UNSCALE):
        if "clip" in lines[at + 1] and _simple(lines[at + 1]) and _indent(lines[at]) == _indent(lines[at + 1]):
            lines[at : at + 2] = [lines[at + 1], lines[at]]
            yield "\n".join(lines)


@operator
def drop_a_scale(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.scale\((\w+)\)", text):
        yield text[: match.start()] + match.group(1) + text[match.end() :]


@operator
def scale_twice(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.scale\((\w+)\)", text):
        yield text[: match.start()] + f"scaler.scale({match.group()})" + text[match.end() :]


@operator
def scale_where_it_is_computed(text: str) -> Iterator[str]:
    for match in re.finditer(r"(?m)^( +loss = )([\w.]+\(.*\))$", text):
        if match.group(2).count("(") == match.group(2).count(")"):
            yield text[: match.start()] + f"{match.group(1)}scaler.scale({match.group(2)})" + text[match.end() :]


@operator
def scale_what_is_logged(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bloss\.item\(\)", text):
        yield text[: match.start()] + "scaler.scale(loss).item()" + text[match.end() :]


@operator
def a_plain_step(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.step\(([\w.]+)\)", text):
        yield text[: match.start()] + f"{match.group(1)}.step()" + text[match.end() :]


@operator
def step_twice(text: str) -> Iterator[str]:
    for lines, at in _found(text, STEP):
        lines.insert(at, lines[at])
        yield "\n".join(lines)


@operator
def step_an_optimizer_as_a_schedule(text: str) -> Iterator[str]:
    for lines, at in _found(text, STEP):
        lines[at] = lines[at].replace("scaler.step(", "scaler.step_scheduler(")
        yield "\n".join(lines)


@operator
def step_a_schedule_as_an_optimizer(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ *scaler\.step_scheduler\(\w+\)$")):
        lines[at] = lines[at].replace("scaler.step_scheduler(", "scaler.step(")
        yield "\n".join(lines)


@operator
def step_an_environment_through_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"\benv\.step\((\w+)\)", text):
        yield text[: match.start()] + f"scaler.step(env, {match.group(1)})" + text[match.end() :]


@operator
def an_update_between_two_steps(text: str) -> Iterator[str]:
    for lines, at in _found(text, STEP):
        if STEP.match(lines[at + 1]) and _indent(lines[at]) == _indent(lines[at + 1]):
            lines.insert(at + 1, " " * _indent(lines[at]) + "scaler.update()")
            yield "\n".join(lines)


@operator
def an_update_before_the_step(text: str) -> Iterator[str]:
    for lines, at in _found(text, STEP):
        lines.insert(at, " " * _indent(lines[at]) + "scaler.update()")
        yield "\n".join(lines)


@operator
def an_update_with_an_argument(text: str) -> Iterator[str]:
    for lines, at in _found(text, UPDATE):
        lines[at] = lines[at].replace("()", "(1.0)")
        yield "\n".join(lines)


@operator
def unscale_another_optimizer(text: str) -> Iterator[str]:
    stepped = [m.group(1) for line in text.split("\n") if (m := STEP.match(line))]
    for lines, at in _found(text, UNSCALE):
        match = UNSCALE.match(lines[at])
        other = next((s for s in stepped if match is not None and s != match.group(1)), "another")
        lines[at] = " " * _indent(lines[at]) + f"scaler.unscale_({other})"
        yield "\n".join(lines)


@operator
def unscale_twice(text: str) -> Iterator[str]:
    for lines, at in _found(text, UNSCALE):
        lines.insert(at, lines[at])
        yield "\n".join(lines)


@operator
def unscale_in_every_micro_batch(text: str) -> Iterator[str]:
    """Moves an unscale_ that stands first in an `if` in front of it: into every micro-batch of an accumulation."""
    for lines, at in _found(text, UNSCALE):
        if lines[at - 1].strip().startswith("if ") and "%" in lines[at - 1]:
            lines[at - 1 : at + 1] = [lines[at][4:], lines[at - 1]]
            yield "\n".join(lines)


@operator
def an_update_moved_out_of_its_if(text: str) -> Iterator[str]:
    """To the end of the loop's body, where it runs in every micro-batch."""
    for lines, at in _found(text, UPDATE):
        outer = at - 1
        while outer and (not lines[outer].strip() or _indent(lines[outer]) >= _indent(lines[at])):
            outer -= 1
        if not lines[outer].strip().startswith("if ") or not any(".backward(" in line for line in lines[outer - 3 : outer]):
            continue
        end = _region_end(lines, outer)
        lines.insert(end, " " * _indent(lines[outer]) + "scaler.update()")
        del lines[at]
        yield "\n".join(lines)


@operator
def an_update_moved_into_an_if(text: str) -> Iterator[str]:
    for lines, at in _found(text, UPDATE):
        for header in range(at + 1, len(lines)):
            if lines[header].strip() and _indent(lines[header]) < _indent(lines[at]):
                break
            if _indent(lines[header]) == _indent(lines[at]) and re.match(r" *if .*:$", lines[header]):
                lines.insert(header + 1, "    " + lines[at])
                del lines[at]
                yield "\n".join(lines)
                break


@operator
def an_update_for_each_optimizer(text: str) -> Iterator[str]:
    """In the loop over a collection of optimizers, after each one's step."""
    for lines, at in _found(text, UPDATE):
        if STEP.search(lines[at - 1]) and _indent(lines[at - 1]) > _indent(lines[at]):
            lines[at] = " " * (_indent(lines[at - 1]) - _indent(lines[at])) + lines[at]
            yield "\n".join(lines)


@operator
def an_update_moved_behind_the_loop(text: str) -> Iterator[str]:
    if text.count("scaler.update()") > 1:
        return  # another one may do for both
    for lines, at in _found(text, UPDATE):
        outer = at - 1
        while outer and (not lines[outer].strip() or _indent(lines[outer]) >= _indent(lines[at])):
            outer -= 1
        if re.match(r" *(for|while) .*:$", lines[outer]):
            end = _region_end(lines, outer)
            lines.insert(end, " " * _indent(lines[outer]) + "scaler.update()")
            del lines[at]
            yield "\n".join(lines)


@operator
def a_state_in_the_place_of_another(text: str) -> Iterator[str]:
    """The scaler's state under a key of the original's: as an entry, as a keyword, by item."""
    for match in re.finditer(r"""(["'])(\w+)\1(: |\] = )(?!scaler)(?=[^{}]*["']scaler["']\3scaler\.state_dict)""", text):
        yield re.sub(r"""["']scaler["'](?=(: |\] = )scaler\.state)""", match.group(2).join("''"), text)
    for match in re.finditer(r"(\w+)=(?!scaler)[^=\n]*, scaler=scaler\.state_dict", text):
        yield text.replace("scaler=scaler.state", f"{match.group(1)}=scaler.state")


# regions ---------------------------------------------------------------------------------------------


def _widened(text: str, over: str) -> Iterator[str]:
    """Regions that go on to the first line behind them that holds `over`."""
    for lines, at in _found(text, REGION):
        end = last = _region_end(lines, at)
        while (
            last < len(lines) and lines[last].strip() and _indent(lines[last]) >= _indent(lines[at]) and over not in lines[last]
        ):
            last += 1
        inside = last < len(lines) and over in lines[last] and _indent(lines[last]) == _indent(lines[at])
        if inside and all(_indent(line) >= _indent(lines[at]) and _simple(line) for line in lines[end : last + 1]):
            lines[end : last + 1] = ["    " + line for line in lines[end : last + 1]]
            yield "\n".join(lines)


@operator
def a_region_over_a_backward(text: str) -> Iterator[str]:
    yield from _widened(text, ".backward(")


@operator
def a_region_over_a_step(text: str) -> Iterator[str]:
    yield from _widened(text, "scaler.step(")


@operator
def a_region_over_a_clamp(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^(?!.*grad).*\.clamp_\(")):
        blanks = " " * _indent(lines[at])
        lines[at : at + 1] = [f"{blanks}with autocast():", "    " + lines[at]]
        yield "\n".join(lines)


@operator
def a_region_in_a_region(text: str) -> Iterator[str]:
    for lines, at in _found(text, REGION):
        end = _region_end(lines, at)
        if all(_simple(line) for line in lines[at + 1 : end]):
            lines[at + 1 : end] = ["    " + lines[at], *("    " + line for line in lines[at + 1 : end])]
            yield "\n".join(lines)


@operator
def a_region_with_an_argument(text: str) -> Iterator[str]:
    for lines, at in _found(text, REGION):
        lines[at] = lines[at].replace("()", "(enabled=False)")
        yield "\n".join(lines)


# the original's statements ---------------------------------------------------------------------------


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
    for lines, at in _found(text, re.compile(r"^ +\S")):
        if _simple(lines[at]) and not OWN.search(lines[at]):
            if _indent(lines[at - 1]) == _indent(lines[at]) and _simple(lines[at - 1]):
                del lines[at]
                yield "\n".join(lines)


@operator
def swap_two_statements(text: str) -> Iterator[str]:
    for lines, at in _found(text, re.compile(r"^ +\S")):
        pair = lines[at : at + 2]
        if len(pair) == 2 and pair[0] != pair[1] and _indent(pair[0]) == _indent(pair[1]):
            if all(_simple(line) and not OWN.search(line) for line in pair):
                lines[at : at + 2] = [pair[1], pair[0]]
                yield "\n".join(lines)


@operator
def add_a_statement(text: str) -> Iterator[str]:
    for lines, at in _found(text, STEP):
        lines.insert(at, " " * _indent(lines[at]) + "torch.manual_seed(0)")
        yield "\n".join(lines)


@operator
def indent_a_text(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and "\n" in token.string:
            yield text.replace(token.string, token.string.replace("\n", "\n    "), 1)


# the import ------------------------------------------------------------------------------------------


@operator
def drop_the_import(text: str) -> Iterator[str]:
    yield from _removing(text, IMPORT)


@operator
def import_too_late(text: str) -> Iterator[str]:
    for lines, at in _found(text, IMPORT):
        line = lines.pop(at)
        yield "\n".join(lines).rstrip("\n") + f"\n{line}\n"


@operator
def import_too_little(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        yield text.replace("import autocast, scaler\n", "import scaler\n")
        yield text.replace("import autocast, scaler\n", "import autocast\n")


@operator
def import_over_another_name(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text and "import torch\n" in text:
        yield text.replace("import autocast, scaler\n", "import autocast, configure as torch, scaler\n")


@operator
def import_from_elsewhere(text: str) -> Iterator[str]:
    yield text.replace("from ampify_runtime import", "from ampify_runtimes import")


@operator
def rename_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bscaler\.", text):
        yield text[: match.start()] + "scalar." + text[match.end() :]


@operator
def configure_in_the_loop(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        for lines, at in _found(text.replace("import autocast, scaler\n", "import autocast, configure, scaler\n"), STEP):
            lines.insert(at, " " * _indent(lines[at]) + "configure(mode='bf16')")
            yield "\n".join(lines)


if __name__ == "__main__":
    from tests.proof.test_mutants import report

    print(report())
