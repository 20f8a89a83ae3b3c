"""Which training steps in float32 are finished, and which are left alone."""

import textwrap
from pathlib import Path

import pytest

from ampify.convert import Options, Result, convert
from ampify.project import run

HEAD = """\
import torch
from torch import nn
from torch.nn import functional as F

model = nn.Linear(4, 2)
other = nn.Linear(4, 2)
"""
IN_REGION = """\
        with torch.autocast("cuda"):
            loss = F.mse_loss(model(x), y)"""
SCALER = 'scaler = torch.amp.GradScaler("cuda")\n'
WITHOUT = """\
def {name}(data):
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    for x, y in data:
        optimizer.zero_grad()
        loss = F.mse_loss(other(x), y)
        loss.backward()
        optimizer.step()
"""
WITH = """\
def train(data):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = F.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
WARM_UP = WITHOUT.format(name="warm_up")
RUN = "warm_up([])\ntrain([])\n"


def converted(*parts: str, options: Options = Options()) -> Result:
    return convert("\n\n".join((HEAD, *parts)).encode(), options)


def notes(result: Result) -> list[str]:
    return [d.message for d in result.diagnostics if d.code == "AMP363"]


def test_it_is_written_as_the_other_one() -> None:
    result = converted(SCALER, WARM_UP, WITH, RUN)
    assert [e.code for e in result.edits] == ["AMP101", "AMP102", "AMP104", "AMP105"]
    finished = result.output.decode()
    assert finished.count('with torch.autocast("cuda"):') == finished.count("scaler.update()") == 2
    assert "ampify" not in finished
    assert convert(result.output).edits == ()


def test_the_code_can_be_left_out() -> None:
    assert converted(SCALER, WARM_UP, WITH, RUN, options=Options(skip=frozenset({"AMP363"}))).status == "already"


def test_several_are_finished_at_once() -> None:
    result = converted(SCALER, WARM_UP, WITHOUT.format(name="second"), WITH, RUN)
    assert [e.code for e in result.edits].count("AMP102") == 2


# What is right as it is: nobody is told anything.
MEANT = {
    "a choice by the device": (SCALER, WARM_UP, WITH, "if torch.cuda.is_available():\n    train([])\nelse:\n    warm_up([])\n"),
    "a choice by an option": (SCALER, WARM_UP, WITH, "use_amp = True\nif not use_amp:\n    warm_up([])\ntrain([])\n"),
    "a choice in an expression": (SCALER, WARM_UP, WITH, "(train if torch.cuda.is_available() else warm_up)([])\n"),
    "a choice by a name": (SCALER, WARM_UP, WITH, "run = {'a': warm_up, 'b': train}['a']\nrun([])\n"),
    "its name": (SCALER, WITHOUT.format(name="train_fp32"), WITH),
    "its name too": (SCALER, WITHOUT.format(name="baseline"), WITH),
    "its name says mixed precision": (SCALER, WITHOUT.format(name="without_amp"), WITH),
    "no scaler at all": (WARM_UP, 'with torch.autocast("cuda"):\n    print(model(torch.ones(1, 4)))\n'),
    "both sides of a condition": (
        SCALER,
        textwrap.dedent(
            """\
            use_amp = True
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for x, y in []:
                optimizer.zero_grad()
                with torch.autocast("cuda", enabled=use_amp):
                    loss = F.mse_loss(model(x), y)
                if use_amp:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                else:
                    loss.backward()
                    optimizer.step()
            """
        ),
    ),
    "the same optimizer": (
        SCALER,
        textwrap.dedent(
            """\
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for x, y in []:
                optimizer.zero_grad()
                F.mse_loss(model(x), y).backward()
                optimizer.step()
            for x, y in []:
                optimizer.zero_grad()
                with torch.autocast("cuda"):
                    loss = F.mse_loss(model(x), y)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            """
        ),
    ),
    "a framework": (SCALER, WARM_UP, WITH, "import accelerate\naccelerate.Accelerator()\n"),
}

# What cannot be written: the reason is told.
LEFT = {
    "a scaler of another function": (
        (WARM_UP, WITH.replace("    for x", "    scaler = torch.amp.GradScaler()\n    for x")),
        "`scaler` is not in its reach",
    ),
    "a scaler that is handed over": ((WARM_UP, WITH.replace("(data)", "(data, scaler)")), "the scaler is not made here"),
    "a scaler that may be None": (
        ("scaler = torch.amp.GradScaler() if torch.cuda.is_available() else None\n", WARM_UP, WITH),
        "`scaler` is not plainly a scaler",
    ),
    "a scaler that is made when run as a script": (
        (WARM_UP, WITH, f'if __name__ == "__main__":\n    {SCALER}    warm_up([])\n    train([])\n'),
        "`scaler` is not in its reach",
    ),
    "a scaler that is made later": ((WARM_UP, WITH, f"warm_up([])\n{SCALER}train([])\n"), "`scaler` is not in its reach"),
    "a function that runs it before the scaler is made": (
        (WARM_UP, "def main():\n    warm_up([])\n", "main()\n", SCALER, WITH),
        "`scaler` is not in its reach",
    ),
    "its own scaler": (
        (SCALER, WARM_UP.replace("    for x", "    scaler = 1\n    for x"), WITH),
        "`scaler` is not in its reach",
    ),
    "two scalers": (
        (
            SCALER,
            WARM_UP,
            WITH,
            'scaler2 = torch.amp.GradScaler("cuda")\n',
            WITH.replace("scaler", "scaler2").replace("train", "more"),
        ),
        "there is more than one scaler",
    ),
    "regions that differ": (
        (SCALER, WARM_UP, WITH, WITH.replace('"cuda"', '"cuda", dtype=torch.float16').replace("train", "more")),
        "regions differ",
    ),
    "an argument in the region": (
        (SCALER, WARM_UP, WITH.replace("(data)", "(data, device)").replace('"cuda"', "device")),
        "`device` of `torch.autocast(device)` is not in its reach",
    ),
    "no region written out": (
        (
            SCALER,
            WARM_UP,
            '@torch.autocast("cuda")\ndef cost(x, y):\n    return F.mse_loss(model(x), y)\n',
            WITH.replace(
                '        with torch.autocast("cuda"):\n            loss = F.mse_loss(model(x), y)', "        loss = cost(x, y)"
            ),
        ),
        "no region is written out",
    ),
    "gradients looked at by a hook": (
        (SCALER, WARM_UP.replace("    for x", "    other.weight.register_hook(print)\n    for x"), WITH),
        "AMP906",
    ),
}


@pytest.mark.parametrize("parts", MEANT.values(), ids=list(MEANT))
def test_what_is_meant_is_left_alone(parts: tuple[str, ...]) -> None:
    result = converted(*parts)
    assert (result.status, notes(result)) == ("already", [])


@pytest.mark.parametrize(("parts", "reason"), LEFT.values(), ids=list(LEFT))
def test_what_is_out_of_reach_is_told(parts: tuple[str, ...], reason: str) -> None:
    result = converted(*parts)
    assert result.output == "\n\n".join((HEAD, *parts)).encode()
    assert [reason in message for message in notes(result)] == [True], result.diagnostics


def test_a_mistake_beside_it_is_mended_first() -> None:
    clipped = WITH.replace(
        "        scaler.step", "        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        scaler.step"
    )
    result = converted(SCALER, WARM_UP, clipped, RUN)
    assert {"AMP301", "AMP101", "AMP102"} <= {e.code for e in result.edits}
    lines = "\n\n".join((HEAD, SCALER, WARM_UP, clipped, RUN)).splitlines()
    told = {e.code: lines[e.line - 1].strip() for e in result.edits}
    assert told["AMP102"] == "loss.backward()"
    assert told["AMP301"].startswith("nn.utils.clip_grad_norm_")


METHODS = """\
class Trainer:
    def __init__(self):
        {early}self.scaler = torch.amp.GradScaler("cuda")
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.other = torch.optim.SGD(other.parameters(), lr=0.1)

    def warm_up(self, x, y):
        self.other.zero_grad()
        loss = F.mse_loss(other(x), y)
        loss.backward()
        self.other.step()

    def train(self, x, y):
        self.optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = F.mse_loss(model(x), y)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
"""


def test_methods_have_what_the_instance_has() -> None:
    assert "self.scaler.step(self.other)" in converted(METHODS.format(early="")).output.decode()
    early = converted(METHODS.format(early="self.warm_up(torch.ones(1, 4), torch.ones(1, 2))\n        "))
    assert ["`self.scaler` is not in its reach" in message for message in notes(early)] == [True]


def test_a_hazard_in_an_imported_file_stands_against_it(tmp_path: Path) -> None:
    masked = "import torch\nfrom torch import nn\n\nclass Masked(nn.Linear):\n    def forward(self, x):\n"
    masked += "        scores = torch.matmul(x, self.weight.t())\n        return scores.masked_fill(x[:, :2] > 0, {})\n"
    script = "\n\n".join((HEAD, "from masked import Masked\nother = Masked(4, 2)\n", SCALER, WARM_UP, WITH, RUN))
    for constant, status in ((-1e4, "converted"), (-1e9, "already")):
        (tmp_path / "masked.py").write_text(masked.format(constant))
        (tmp_path / "train.py").write_text(script)
        (outcome,) = run([str(tmp_path / "train.py")], Options(), write=False)
        assert (outcome.result.status, len(notes(outcome.result))) == (status, constant < -1e5)


def test_what_cannot_be_rendered_is_told() -> None:
    source = "\n\n".join((HEAD, SCALER, WARM_UP, WITH, RUN)).replace("\n\n\n", "\n\n\r", 1).encode()
    result = convert(source)
    assert result.output == source
    assert ["libcst does not reproduce the file" in message for message in notes(result)] == [True]


def test_what_does_not_compile_is_no_bug_of_ours() -> None:
    result = converted(SCALER, WARM_UP, WITH, RUN, "return\n")
    assert (result.status, result.bug, [d.code for d in result.diagnostics]) == ("error", False, ["AMP992"])
