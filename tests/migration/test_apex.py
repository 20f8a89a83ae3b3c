"""apex.amp: taken out down to the fp32 script, which is converted; or left alone, with the reason."""

import re

import pytest

from ampify.convert import Options, Result, convert
from ampify.migration import apex_proof
from ampify.proof import ProofError
from tests.fixtures_suite.cases import TOLERANCE, Case, converted, expected_files, migrations
from tests.fixtures_suite.compare import close_problems, exact_problems
from tests.fixtures_suite.forks import ForkServer
from tests.migration.fp32_apex import STUB

CASES = [case for case in migrations() if case.family == "apex"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_converted = pytest.mark.parametrize("case", [c for c in CASES if c.is_converted], ids=lambda case: case.name)

SCRIPT = """import torch
import torch.nn as nn
from apex import amp

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model, optimizer = amp.initialize(model, optimizer, opt_level="O1")
for batch in data:
    loss = model(batch).mean()
    optimizer.zero_grad()
    with amp.scale_loss(loss, optimizer) as scaled_loss:
        scaled_loss.backward()
    optimizer.step()
"""
INITIALIZE = 'amp.initialize(model, optimizer, opt_level="O1")'
LEFT = {
    "O2": ('"O1"', '"O2"', "changes the dtype of the model itself"),
    "O3": ('"O1"', '"O3"', "changes the dtype of the model itself"),
    "O0": ('"O1"', '"O0"', "trains without mixed precision"),
    "a level that is chosen": ('"O1"', "args.opt_level", "may be O2 or O3"),
    "a level by position": (INITIALIZE, 'amp.initialize(model, optimizer, None, "O2")', "changes the dtype"),
    "a fixed scale": ('"O1"', '"O1", loss_scale=128.0', "`loss_scale=128.0` is asked"),
    "a limit of the scale": ('"O1"', '"O1", max_loss_scale=2.0**16', "`max_loss_scale=2.0 ** 16` is asked"),
    "a batch norm": ('"O1"', '"O1", keep_batchnorm_fp32=True', "is asked"),
    "what is given back": ("model, optimizer = " + INITIALIZE, "use(" + INITIALIZE + ")", "is not followed"),
    "handed on": ("for batch", "use(amp)\nfor batch", "is handed on"),
    "another function": ("for batch", "amp.register_half_function(torch, 'bmm')\nfor batch", "has no counterpart"),
    "another part of apex": ("torch.optim.SGD", "apex.optimizers.FusedSGD", "`apex.optimizers.FusedSGD` is used besides"),
    "the scaled loss outside": ("    optimizer.step()", "    print(scaled_loss)\n    optimizer.step()", "is used outside"),
    "a loss that is computed twice": (
        "amp.scale_loss(loss, optimizer) as scaled_loss:\n",
        "amp.scale_loss(loss / 2, optimizer) as scaled_loss:\n        print(scaled_loss)\n",
        "used more than once",
    ),
    "two contexts": ("with amp.scale_loss", "with context, amp.scale_loss", "is used outside of the block"),
    "no initialize": ("model, optimizer = " + INITIALIZE, "pass", "is not called in this file"),
    "a name of other things": ("for batch", "amp = 3\nfor batch", "means other things"),
    "parameters without a name": (
        "    optimizer.step()",
        "    nn.utils.clip_grad_norm_(amp.master_params(other), 1.0)\n    optimizer.step()",
        "parameters of `other` cannot be named",
    ),
    "a state that is handed on": ("for batch", "use(amp.state_dict())\nfor batch", "is not saved in a dict"),
    "nothing left": ("    optimizer.step()\n", "", "is not converted"),
    "another mixed precision": (
        "for batch in data:\n",
        "s = torch.cuda.amp.GradScaler()\nfor batch in data:\n",
        "there is mixed precision of `torch.cuda.amp` besides",
    ),
    "a function of nothing else": (
        "for batch in data:\n",
        "def load(state):\n    amp.load_state_dict(state)\nfor batch in data:\n",
        "a block does nothing but",
    ),
    "a line shared": ("model, optimizer = amp", "x = 1; model, optimizer = amp", "shares a line"),
    "two conditions": (
        "model, optimizer = amp",
        "if a:\n    if b:\n        model, optimizer = amp",
        "is called under two conditions",
    ),
    "in a loop": ("model, optimizer = amp", "for _ in range(2):\n    model, optimizer = amp", "in a loop"),
    "a switch that acts": ("model, optimizer = amp", "if pop():\n    model, optimizer = amp", "does more than look"),
}


def migrated(source: str, options: Options = Options()) -> Result:
    result = convert(source.encode(), options)
    assert not result.bug, result.diagnostics
    return result


@each_case
def test_output_is_as_recorded(case: Case) -> None:
    result = converted(case.source)
    assert not result.bug
    for path, content in expected_files(case, result).items():
        assert (path.read_bytes() if path.exists() else None) == content, f"{path.name}: see update.py"


@each_converted
def test_output_is_stable_and_has_no_apex(case: Case) -> None:
    output = converted(case.source).output
    assert b"amp.scale_loss" not in output
    assert b"import amp" not in output
    again = converted(output)
    assert (again.status, again.output) == ("already", output)


@pytest.mark.parametrize("mode", ["off", "scale-only", "growing"])
@each_converted
def test_trains_identically(case: Case, mode: str, server: ForkServer) -> None:
    reference = server.run(STUB + case.source, "original")
    assert reference["steps"], "it takes no optimizer step"
    problems = exact_problems(reference, server.run(converted(case.source).output, mode))
    assert [p for p in problems if not re.search(r"\.scaled(_loss)? is gone", p)] == []


@pytest.mark.parametrize("mode", ["fp16", "bf16", "cuda-fp16"])
@each_converted
def test_half_precision_is_close(case: Case, mode: str, server: ForkServer) -> None:
    reference, candidate = server.run(STUB + case.source, "original"), server.run(converted(case.source).output, mode)
    assert close_problems(reference, candidate, TOLERANCE[mode]) == []


def test_the_edits_are_at_the_lines_of_the_original() -> None:
    result = migrated(SCRIPT)
    assert [(e.code, e.line) for e in result.edits] == [
        ("AMP354", 3),
        ("AMP107", 4),
        ("AMP354", 7),
        ("AMP101", 9),
        ("AMP354", 11),
        ("AMP102", 12),
        ("AMP104", 13),
        ("AMP105", 14),
    ]


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_alone(case: str) -> None:
    old, new, why = LEFT[case]
    assert SCRIPT.count(old) == 1
    source = SCRIPT.replace(old, new)
    if "apex.optimizers" in source:
        source = "import apex\n" + source
    result = migrated(source)
    assert (result.status, result.output) == ("already", source.encode()) or "torch.cuda" in source
    assert b"amp.scale_loss(" in result.output
    assert any(d.code == "AMP361" and d.severity == "info" and why in d.message for d in result.diagnostics), result.diagnostics


def test_torch_alone_has_no_place_for_a_switch() -> None:
    switched = SCRIPT.replace("model, optimizer = amp", "if half:\n    model, optimizer = amp")
    result = migrated(switched, Options(runtime="torch"))
    assert result.status == "already"
    assert "is switched by `not half`" in result.diagnostics[0].message
    assert migrated(switched).status == "converted"
    assert b"torch.amp.GradScaler" in migrated(SCRIPT, Options(runtime="torch")).output


def test_a_switch_by_keyword() -> None:
    result = migrated(SCRIPT.replace('"O1"', '"O1", enabled=args.half'))
    assert b'if not args.half:\n    configure(mode="off")\nfor batch' in result.output


SWITCHED = SCRIPT.replace("model, optimizer = amp", "if half:  # or not\n    model, optimizer = amp")
FP32 = """import torch
import torch.nn as nn
from ampify_runtime import configure

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
if not half:
    configure(mode="off")
# or not
for batch in data:
    loss = model(batch).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
WRONG = {
    "another switch": ("if not half:", "if half:"),
    "no switch": ('if not half:\n    configure(mode="off")\n', ""),
    "switched to something": ('mode="off"', 'mode="fp16"'),
    "a statement more": ('    configure(mode="off")\n# or not\n', '    configure(mode="off")\n# or not\nx = 1\n'),
    "switched too early": (
        'optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nif not half:\n    configure(mode="off")\n',
        'if not half:\n    configure(mode="off")\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n',
    ),
    "no backward": ("    loss.backward()\n", ""),
    "two backwards": ("    loss.backward()\n", "    loss.backward()\n    loss.backward()\n"),
    "another loss": ("    loss.backward()\n", "    batch.backward()\n"),
    "a step lost": ("    optimizer.step()\n", ""),
    "a comment lost": ("# or not\n", ""),
    "white space": ("loss = model(batch).mean()", "loss = model(batch) .mean()"),
    "no Python": ("for batch in data:", "for batch in data"),
    "apex left": ("import torch.nn as nn\n", "import torch.nn as nn\nfrom apex import amp\n"),
}


def test_the_right_fp32_script_passes() -> None:
    apex_proof.prove(SWITCHED.encode(), FP32.encode())


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_fp32_script_does_not(case: str) -> None:
    right, wrong = WRONG[case]
    assert FP32.count(right) == 1
    with pytest.raises(ProofError):
        apex_proof.prove(SWITCHED.encode(), FP32.replace(right, wrong).encode())
