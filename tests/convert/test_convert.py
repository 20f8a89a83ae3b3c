"""convert(): options, what an edit says, converting once more, and a file to which fp32 code is added later."""

import re

import pytest

from ampify.convert import Options, Result, convert
from tests.convert.test_bad_input import check, converted_cases
from tests.fixtures_suite.cases import Case
from tests.fixtures_suite.eraser import erasure_problems

SCRIPT = b"""\
import torch
import torch.nn.functional as F

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(
        model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
scheduler.step()
with torch.no_grad():
    out = model(x)
"""

APPENDED = """

late_net = torch.nn.Linear(3, 1)
late_opt = torch.optim.SGD(late_net.parameters(), lr=0.1)
for late_x, late_y in late_data:
    late_opt.zero_grad()
    late_loss = torch.nn.functional.mse_loss(late_net(late_x), late_y)
    late_loss.backward()
    late_opt.step()
"""
LATE = """

late_net = torch.nn.Linear(3, 1)
late_opt = torch.optim.SGD(late_net.parameters(), lr=0.1)
for late_x, late_y in late_data:
    late_opt.zero_grad()
    with AUTOCAST():
        late_loss = torch.nn.functional.mse_loss(late_net(late_x), late_y)
    SCALER.scale(late_loss).backward()
    SCALER.step(late_opt)
    SCALER.update()
"""


def test_edits_say_what_and_where() -> None:
    edits = [(e.code, e.line, e.end_line) for e in check(SCRIPT).edits]
    assert edits == [
        ("AMP107", 3, 3),
        ("AMP101", 9, 10),
        ("AMP102", 11, 11),
        ("AMP103", 12, 12),
        ("AMP104", 13, 13),
        ("AMP105", 14, 14),
        ("AMP106", 14, 14),
        ("AMP108", 16, 16),
    ]


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_dtype(dtype: str) -> None:
    options = Options(dtype=dtype)  # type: ignore[arg-type]
    pinned, plain = check(SCRIPT, options), check(SCRIPT)
    line = f'configure(mode="{dtype}")\n'
    imported = pinned.output.decode().replace("import autocast, configure, scaler", "import autocast, scaler")
    assert imported.replace(line, "", 1) == plain.output.decode()
    assert pinned.output.decode().count(line) == 1
    assert erasure_problems(SCRIPT, pinned.output) == []
    assert check(pinned.output, options).status == "already"
    assert check(pinned.output).status == "already"


def test_dtype_changes_nothing_where_nothing_is_converted() -> None:
    for source in (b"print(1)\n", SCRIPT.replace(b"optimizer.step()", b"optimizer.step(closure)")):
        assert check(source, Options(dtype="bf16")) == check(source)


@pytest.mark.parametrize("case", converted_cases()[::3], ids=lambda case: case.name)
def test_again(case: Case) -> None:
    output = check(case.source).output
    again = check(output)
    if case.family == "pragmas":
        assert {d.code for d in again.diagnostics} <= {"AMP197", "AMP198"}
        again = again._replace(diagnostics=())
    assert again == Result("already", output)


# A method that looks at gradients is taken to look at those of all optimizers, where the instance says nothing of its models.
LOOKS_AT_ALL = {"calls/method_called_as_a_tensors"}
SPACED = [
    case for case in converted_cases() if not re.search(rb"\r|^\t|^  \S", case.source, re.M) and case.name not in LOOKS_AT_ALL
]


@pytest.mark.parametrize("case", SPACED[::2], ids=lambda case: case.name)
def test_one_more_loop_is_converted_alone(case: Case) -> None:
    """A converted file is not left alone because our import is there: what is added to it later is converted, and only that."""
    output = check(case.source).output.decode("utf-8-sig")
    names = _local_names(output)
    added = APPENDED if "import torch\n" in output or "import torch." in output else "\nimport torch\n" + APPENDED
    result = check((output.rstrip("\n") + added).encode())
    assert result.status == "converted", result.diagnostics
    assert {e.code for e in result.edits} == {"AMP101", "AMP102", "AMP104", "AMP105"}
    late = added.replace(APPENDED, LATE).replace("AUTOCAST", names["autocast"]).replace("SCALER", names["scaler"])
    assert result.output.decode() == output.rstrip("\n") + late


def _local_names(output: str) -> dict[str, str]:
    line = next(line for line in output.splitlines() if "from ampify_runtime import" in line)
    parts = [part.split(" as ") for part in line.partition(" import ")[2].split(", ")]
    return {part[0].strip(): part[-1].strip() for part in parts}


@pytest.mark.parametrize(
    ("source", "status"),
    [
        (b"", "unchanged"),
        (b"import torch\n", "unchanged"),
        (b"# loss.backward()\n", "unchanged"),
        (b"def backward(): pass\n", "unchanged"),
        (b"from ampify_runtime import scaler\n", "unchanged"),
        (SCRIPT, "converted"),
        (SCRIPT.replace(b"optimizer.zero_grad()", b"pass"), "refused"),
        (SCRIPT.replace(b"import torch\n", b"import torch\nfrom torch.cuda.amp import autocast\n"), "converted"),
        (SCRIPT.replace(b"import torch\n", b"import torch\nfrom torch.cuda.amp import autocast\nautocast()\n"), "converted"),
        (SCRIPT.replace(b"import torch\n", b"import torch\nfrom torch import autocast\nautocast('cuda')\n"), "already"),
        (SCRIPT + b")", "error"),
    ],
)
def test_status(source: bytes, status: str) -> None:
    assert check(source).status == status


def test_runs_of_the_same_input_are_equal() -> None:
    assert convert(SCRIPT) == convert(SCRIPT)


BY_USE = b"""\
import torch
import torch.nn.functional as F
def train(model, a, b, x):
    a.zero_grad()
    b.zero_grad()
    loss = F.mse_loss(model(x), x)
    loss.backward()
    a.step()
    b.step()
"""


def test_optimizers_known_only_by_their_use() -> None:
    """`scaler.step(a)` is as good a sign of an optimizer as `a.step()`: the proof must see what planning saw."""
    output = check(BY_USE).output
    assert output.count(b"scaler.step(") == 2
    assert check(output).status == "already"
