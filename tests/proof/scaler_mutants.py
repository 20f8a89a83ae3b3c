"""Damage to what goes through the scaler."""

import re
from collections.abc import Iterator

from tests.proof.operators import OWN, STEP, UNSCALE, UPDATE, found, indent, operator, region_end, removing, simple


@operator
def drop_an_update(text: str) -> Iterator[str]:
    yield from removing(text, UPDATE)


@operator
def drop_an_unscale(text: str) -> Iterator[str]:
    yield from removing(text, UNSCALE)


@operator
def clip_before_unscale(text: str) -> Iterator[str]:
    for lines, at in found(text, UNSCALE):
        if "clip" in lines[at + 1] and simple(lines[at + 1]) and indent(lines[at]) == indent(lines[at + 1]):
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
    for lines, at in found(text, STEP):
        lines.insert(at, lines[at])
        yield "\n".join(lines)


@operator
def step_an_optimizer_as_a_schedule(text: str) -> Iterator[str]:
    for lines, at in found(text, STEP):
        lines[at] = lines[at].replace("scaler.step(", "scaler.step_scheduler(")
        yield "\n".join(lines)


@operator
def step_a_schedule_as_an_optimizer(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *scaler\.step_scheduler\(\w+\)$")):
        lines[at] = lines[at].replace("scaler.step_scheduler(", "scaler.step(")
        yield "\n".join(lines)


@operator
def step_an_environment_through_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"\benv\.step\((\w+)\)", text):
        yield text[: match.start()] + f"scaler.step(env, {match.group(1)})" + text[match.end() :]


@operator
def an_update_between_two_steps(text: str) -> Iterator[str]:
    for lines, at in found(text, STEP):
        if STEP.match(lines[at + 1]) and indent(lines[at]) == indent(lines[at + 1]):
            lines.insert(at + 1, " " * indent(lines[at]) + "scaler.update()")
            yield "\n".join(lines)


@operator
def an_update_before_the_step(text: str) -> Iterator[str]:
    for lines, at in found(text, STEP):
        lines.insert(at, " " * indent(lines[at]) + "scaler.update()")
        yield "\n".join(lines)


@operator
def an_update_with_an_argument(text: str) -> Iterator[str]:
    for lines, at in found(text, UPDATE):
        lines[at] = lines[at].replace("()", "(1.0)")
        yield "\n".join(lines)


@operator
def unscale_another_optimizer(text: str) -> Iterator[str]:
    stepped = [m.group(1) for line in text.split("\n") if (m := STEP.match(line))]
    for lines, at in found(text, UNSCALE):
        match = UNSCALE.match(lines[at])
        other = next((s for s in stepped if match is not None and s != match.group(1)), "another")
        lines[at] = " " * indent(lines[at]) + f"scaler.unscale_({other})"
        yield "\n".join(lines)


@operator
def unscale_twice(text: str) -> Iterator[str]:
    for lines, at in found(text, UNSCALE):
        lines.insert(at, lines[at])
        yield "\n".join(lines)


@operator
def unscale_in_every_micro_batch(text: str) -> Iterator[str]:
    """Moves an unscale_ that stands first in an `if` in front of it: into every micro-batch of an accumulation."""
    for lines, at in found(text, UNSCALE):
        if lines[at - 1].strip().startswith("if ") and "%" in lines[at - 1]:
            lines[at - 1 : at + 1] = [lines[at][4:], lines[at - 1]]
            yield "\n".join(lines)


@operator
def an_update_moved_out_of_its_if(text: str) -> Iterator[str]:
    """To the end of the loop's body, where it runs in every micro-batch."""
    for lines, at in found(text, UPDATE):
        outer = at - 1
        while outer and (not lines[outer].strip() or indent(lines[outer]) >= indent(lines[at])):
            outer -= 1
        if not lines[outer].strip().startswith("if ") or not any(".backward(" in line for line in lines[outer - 3 : outer]):
            continue
        end = region_end(lines, outer)
        lines.insert(end, " " * indent(lines[outer]) + "scaler.update()")
        del lines[at]
        yield "\n".join(lines)


@operator
def an_update_moved_into_an_if(text: str) -> Iterator[str]:
    for lines, at in found(text, UPDATE):
        for header in range(at + 1, len(lines)):
            if lines[header].strip() and indent(lines[header]) < indent(lines[at]):
                break
            if indent(lines[header]) == indent(lines[at]) and re.match(r" *if .*:$", lines[header]):
                lines.insert(header + 1, "    " + lines[at])
                del lines[at]
                yield "\n".join(lines)
                break


@operator
def an_update_for_each_optimizer(text: str) -> Iterator[str]:
    """In the loop over a collection of optimizers, after each one's step."""
    for lines, at in found(text, UPDATE):
        if STEP.search(lines[at - 1]) and indent(lines[at - 1]) > indent(lines[at]):
            lines[at] = " " * (indent(lines[at - 1]) - indent(lines[at])) + lines[at]
            yield "\n".join(lines)


@operator
def an_update_moved_behind_the_loop(text: str) -> Iterator[str]:
    if text.count("scaler.update()") > 1:
        return  # another one may do for both
    for lines, at in found(text, UPDATE):
        outer = at - 1
        while outer and (not lines[outer].strip() or indent(lines[outer]) >= indent(lines[at])):
            outer -= 1
        if re.match(r" *(for|while) .*:$", lines[outer]):
            end = region_end(lines, outer)
            lines.insert(end, " " * indent(lines[outer]) + "scaler.update()")
            del lines[at]
            yield "\n".join(lines)


@operator
def a_state_in_the_place_of_another(text: str) -> Iterator[str]:
    """The scaler's state under a key of the original's: as an entry, as a keyword, by item."""
    for match in re.finditer(r"""(["'])(\w+)\1(: |\] = )(?!scaler)(?=[^{}]*["']scaler["']\3scaler\.state_dict)""", text):
        yield re.sub(r"""["']scaler["'](?=(: |\] = )scaler\.state)""", match.group(2).join("''"), text)
    for match in re.finditer(r"(\w+)=(?!scaler)[^=\n]*, scaler=scaler\.state_dict", text):
        yield text.replace("scaler=scaler.state", f"{match.group(1)}=scaler.state")


@operator
def step_another_optimizer(text: str) -> Iterator[str]:
    stepped = sorted({m.group(1) for line in text.split("\n") if (m := STEP.match(line)) and "," not in m.group(1)})
    for lines, at in found(text, STEP):
        match = STEP.match(lines[at])
        for other in stepped:
            if match is not None and other != match.group(1) and "," not in match.group(1):
                lines[at] = " " * indent(lines[at]) + f"scaler.step({other})"
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
    for lines, at in found(text, re.compile(r"^ *scaler\.scale\(\w+\)\.backward\(\)$")):
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
    for lines, at in found(text, re.compile(r"^ *scaler\.unscale_\(.+\)$")):
        lines.insert(at + 1, " " * indent(lines[at]) + "scaler.update()")
        yield "\n".join(lines)


@operator
def an_update_in_front_of_the_backward(text: str) -> Iterator[str]:
    """In every micro-batch of an accumulation; elsewhere it comes to the same as an update behind the step."""
    for lines, at in found(text, re.compile(r"^ *scaler\.scale\(.*\)\.backward\(\)$")):
        if any(re.match(r" *if .*% .*:$", a) and OWN.search(b) for a, b in zip(lines[at:], lines[at + 1 : at + 4], strict=False)):
            lines.insert(at, " " * indent(lines[at]) + "scaler.update()")
            yield "\n".join(lines)
