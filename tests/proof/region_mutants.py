"""Damage to autocast regions."""

import re
from collections.abc import Iterator

from tests.proof.operators import REGION, found, indent, operator, region_end, simple


def _widened(text: str, over: str) -> Iterator[str]:
    """Regions that go on to the first line behind them that holds `over`."""
    for lines, at in found(text, REGION):
        end = last = region_end(lines, at)
        while last < len(lines) and lines[last].strip() and indent(lines[last]) >= indent(lines[at]) and over not in lines[last]:
            last += 1
        inside = last < len(lines) and over in lines[last] and indent(lines[last]) == indent(lines[at])
        if inside and all(indent(line) >= indent(lines[at]) and simple(line) for line in lines[end : last + 1]):
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
    for lines, at in found(text, re.compile(r"^(?!.*grad).*\.clamp_\(")):
        blanks = " " * indent(lines[at])
        lines[at : at + 1] = [f"{blanks}with autocast():", "    " + lines[at]]
        yield "\n".join(lines)


@operator
def a_region_in_a_region(text: str) -> Iterator[str]:
    for lines, at in found(text, REGION):
        end = region_end(lines, at)
        if all(simple(line) for line in lines[at + 1 : end]):
            lines[at + 1 : end] = ["    " + lines[at], *("    " + line for line in lines[at + 1 : end])]
            yield "\n".join(lines)


@operator
def a_region_with_an_argument(text: str) -> Iterator[str]:
    for lines, at in found(text, REGION):
        lines[at] = lines[at].replace("()", "(enabled=False)")
        yield "\n".join(lines)


@operator
def a_region_over_a_yield(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ +yield \S")):
        lines[at : at + 1] = [" " * indent(lines[at]) + "with autocast():", "    " + lines[at]]
        yield "\n".join(lines)


@operator
def a_region_over_a_whole_loop(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *for .*:$")):
        end = region_end(lines, at)
        if any("scaler.step(" in line for line in lines[at:end]) and '"""' not in "".join(lines[at:end]):
            lines[at:end] = [" " * indent(lines[at]) + "with autocast():", *("    " + line for line in lines[at:end])]
            yield "\n".join(lines)


@operator
def a_region_with_a_name(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *with autocast\(\):$")):
        lines[at] = lines[at].replace("():", "() as region:")
        yield "\n".join(lines)
