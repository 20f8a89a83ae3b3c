"""Damage to what is saved and loaded of the scaler's state."""

import re
from collections.abc import Iterator

from tests.proof.operators import found, operator


@operator
def save_without_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r""",? *["']?scaler["']?[:=] ?scaler\.state_dict\(\)""", text):
        yield text[: match.start()] + text[match.end() :]
    for lines, at in found(text, re.compile(r"^ *\w+\[.scaler.\] = scaler\.state_dict\(\)$")):
        del lines[at]
        yield "\n".join(lines)


@operator
def load_without_the_scaler(text: str) -> Iterator[str]:
    for lines, at in found(text, re.compile(r"^ *scaler\.load_state_dict\(")):
        del lines[at]
        yield "\n".join(lines)


@operator
def load_another_key(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.load_state_dict\(\w+\.(?:get|pop)\((.)(scaler)\1", text):
        for other in ("optimizer", "scalar", "grad_scaler"):
            yield text[: match.start(2)] + other + text[match.end(2) :]


@operator
def load_a_key_that_old_checkpoints_lack(text: str) -> Iterator[str]:
    for match in re.finditer(r"""scaler\.load_state_dict\((\w+)\.(?:get|pop)\((["']scaler["']), \{\}\)\)""", text):
        yield text[: match.start()] + f"scaler.load_state_dict({match.group(1)}[{match.group(2)}])" + text[match.end() :]


@operator
def load_and_leave_it_there(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.load_state_dict\(\w+\.(pop|get)\(", text):
        yield text[: match.start(1)] + {"pop": "get", "get": "pop"}[match.group(1)] + text[match.end(1) :]


@operator
def load_from_elsewhere(text: str) -> Iterator[str]:
    for match in re.finditer(r"scaler\.load_state_dict\((\w+)\.(?:get|pop)", text):
        yield text[: match.start(1)] + "elsewhere" + text[match.end(1) :]


@operator
def save_the_optimizer_as_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"""(?<=["']: )scaler\.state_dict""", text):
        yield text[: match.start()] + "optimizer.state_dict" + text[match.end() :]


@operator
def load_the_scaler_into_the_optimizer(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bscaler\.load_state_dict\(", text):
        yield text[: match.start()] + "optimizer.load_state_dict(" + text[match.end() :]
