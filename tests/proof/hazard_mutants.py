"""Damage to what the rules for hazards write."""

import re
from collections.abc import Iterator

from tests.proof.operators import found, indent, operator, region_end, simple


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
    for lines, at in found(text, re.compile(r"^ *with autocast\(enabled=False\):$")):
        end = region_end(lines, at)
        lines[at:end] = [line[4:] for line in lines[at + 1 : end]]
        yield "\n".join(lines)


@operator
def widen_a_disabled_region(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *with autocast\(enabled=False\):$")):
        end = region_end(lines, at)
        if end < len(lines) and simple(lines[end]) and indent(lines[end]) == indent(lines[at]):
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
    for lines, at in found(text, re.compile(r"^ *@(custom_fwd|custom_bwd|full_precision_fwd|unscaled_bwd)$")):
        del lines[at]
        yield "\n".join(lines)


@operator
def swap_the_runtimes_decorators(text: str) -> Iterator[str]:
    if "@custom_fwd" in text and "@custom_bwd" in text:
        yield text.replace("@custom_fwd", "@x").replace("@custom_bwd", "@custom_fwd").replace("@x", "@custom_bwd")
