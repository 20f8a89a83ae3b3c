"""Pragmas: which lines they hold for, what is said of them, and that nothing of a training step is converted by halves."""

import ast
import textwrap
from pathlib import Path

import pytest

from ampify.convert import Options, Result, convert
from ampify.job import Outcome
from ampify.pragmas import read
from ampify.project import run

ROOT = Path(__file__).parents[2]
HEAD = """\
import torch
import torch.nn.functional as F

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
"""
LOOP = """\
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
"""


def _lines(source: str) -> list[tuple[str, list[int], str]]:
    data = textwrap.dedent(source).encode()
    return [(p.word, sorted(p.lines), p.wrong.partition(":")[0]) for p in read(data, ast.parse(data))]


def _codes(result: Result) -> list[str]:
    return [d.code for d in result.diagnostics]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("a = 1  # ampify: skip\nb = 2\n", [1]),
        ("a = (1,\n  2)  # ampify: skip\n", [1, 2]),
        ("a = (1,  # noqa  # ampify: skip\n  2)\n", [1, 2]),
        ("a = 1; b = 2  # ampify:skip\n", [1]),
        ("for x in y:  # ampify: skip, as it is\n    a\n    b\nc\n", [1, 2, 3]),
        ("for x in y: a  # ampify: skip\nc\n", [1]),
        ("for x in (1,\n    2):  # ampify: skip\n    a\nc\n", [1, 2, 3]),
        ("if x:\n    a\nelse:  # ampify: skip\n    b\n    c\nd\n", [4, 5]),
        ("try:\n    a\nexcept E:  # ampify: skip\n    b\nfinally:\n    c\n", [4]),
        ("@d  # ampify: skip\ndef f():\n    a\n\n    b\nc\n", [1, 2, 3, 4, 5]),
        ("@d\n@e\ndef f():  # ampify: skip\n    a\nc\n", [1, 2, 3, 4]),
        ("class A:  # ampify: skip\n    a = 1\nc\n", [1, 2]),
        ("match x:\n    case 1:\n        a\n    case 2:  # ampify: skip\n        b\n", [5]),
        ("if x:\n    a  # ampify: skip\nc\n", [2]),
        ("a\r\nb  # ampify: skip\r\n", [2]),
        ("a\n\x0cb  # ampify: skip\n", [2]),
    ],
)
def test_skip_holds_for_the_statement_or_the_block(source: str, lines: list[int]) -> None:
    assert _lines(source) == [("skip", lines, "")]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("a\n# ampify: off\nb\nc\n# ampify: on\nd\n", [3, 4]),
        ("a\n# ampify: off\nb\nc\n", [3, 4]),
        ("for x in y:\n    a\n    # ampify: off\n    b\n    # ampify: on\n    c\n", [4]),
        ("# ampify: off\nfor x in y:\n    a\n    # ampify: on\n    c\n", [2, 3, 4]),
        ("# ampify: off\n@d\ndef f():\n    a\n# ampify: on\n", [2, 3, 4]),
    ],
)
def test_off_holds_until_on(source: str, lines: list[int]) -> None:
    assert _lines(source)[0] == ("off", lines, "")


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("a  # ampify: of\n", "`of` is none of skip, off, on, skip-file"),
        ("a  # ampify:\n", "`` is none of skip, off, on, skip-file"),
        ("# ampify: skip\na\n", "it stands on a line of its own"),
        ("a  # ampify: off\n", "`off` goes to a line of its own, `skip` to the end of one"),
        ("a\n# ampify: on\n", "there is no `off` before it"),
    ],
)
def test_what_is_wrong_with_a_pragma(source: str, wrong: str) -> None:
    assert [(lines, why) for _, lines, why in _lines(source)] == [([], wrong)]
    result = convert((HEAD + LOOP + source).encode())
    assert result.status == "converted"
    assert [(d.code, d.severity) for d in result.diagnostics] == [("AMP198", "warning")]


@pytest.mark.parametrize("text", ["'# ampify: skip'", '"""\n# ampify: skip-file\n"""', "x  # ampify skip", "x  # see ampify"])
def test_what_is_no_pragma(text: str) -> None:
    assert _lines(f"x = 1\n{text}\n") == []


@pytest.mark.parametrize("line", LOOP.splitlines())
def test_a_pragma_leaves_all_of_a_step_alone_or_does_nothing(line: str) -> None:
    source = (HEAD + LOOP.replace(line, f"{line}  # ampify: skip")).encode()
    result = convert(source)
    if "zero_grad" in line:
        assert (result.status, _codes(result)) == ("converted", ["AMP198"])
    else:
        assert (result.status, result.output, _codes(result)) == ("unchanged", source, ["AMP197"])


def test_a_second_step_is_converted_all_the_same() -> None:
    result = convert((HEAD + LOOP.replace("data:", "data:  # ampify: skip", 1) + LOOP).encode())
    assert (result.status, _codes(result)) == ("converted", ["AMP197"])
    assert result.output.decode().count("optimizer.step()\n") == 1
    again = convert(result.output)
    assert (again.status, again.output, _codes(again)) == ("already", result.output, ["AMP197"])


def test_a_step_that_is_finished_behind_its_loop_is_left_alone_too() -> None:
    loop = LOOP.replace("    optimizer.step()", "    if len(x) > 4:\n        optimizer.step()  # ampify: skip")
    result = convert((HEAD + loop + "optimizer.step()\n").encode())
    assert (result.status, _codes(result)) == ("unchanged", ["AMP197"])


def test_an_unused_pragma_is_reported_and_check_does_not_fail_for_it() -> None:
    done = convert((HEAD + LOOP).encode()).output.replace(b"import torch\n", b"import torch  # ampify: skip\n", 1)
    result = convert(done)
    assert (result.status, _codes(result)) == ("already", ["AMP198"])


def test_a_refused_step_that_is_left_alone_refuses_nothing() -> None:
    manual = "def by_hand(w):{}\n    w.sum().backward()\n    with torch.no_grad():\n        w -= w.grad\n"
    assert convert((HEAD + manual.format("") + LOOP).encode()).status == "refused"
    assert convert((HEAD + manual.format("  # ampify: skip") + LOOP).encode()).status == "converted"


@pytest.mark.parametrize("gone", ["", "    optimizer.zero_grad()\n"])
def test_the_rest_is_refused_for_its_own_reason(gone: str) -> None:
    left = LOOP.replace("data:", "data:  # ampify: skip").replace(gone, "")
    clipped = LOOP.replace("    optimizer.zero_grad()\n", "").replace(
        "    optimizer.step()\n",
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    if len(x) > 4:\n        optimizer.step()\n        optimizer.zero_grad()\n",
    )
    assert _codes(convert((HEAD + left + "optimizer.zero_grad()\n" + clipped).encode())) == ["AMP909"]


def test_a_hook_stays_a_reason_against_what_is_left() -> None:
    hook = "model.weight.register_hook(lambda g: g.clamp(-1, 1))"
    assert convert(f"{HEAD}{hook}  # ampify: skip\n{LOOP}".encode()).status == "unchanged"
    refused = convert(f"{HEAD}def prepare():  # ampify: skip\n    {hook}\n\n\nprepare()\n{LOOP}".encode())
    assert (refused.status, _codes(refused)) == ("refused", ["AMP906"])
    assert convert(f"# ampify: skip-file\n{HEAD}{hook}\n{LOOP}".encode()).status == "unchanged"


def test_a_thread_stays_a_reason_against_what_it_runs() -> None:
    body = LOOP.rstrip().replace("\n", "\n    ")
    thread = f"import threading\n\n\ndef train():\n    {body}\n\n\n"
    main = f"def main():  # ampify: skip\n    threading.Thread(target=train).start()\n    {body}\n\n\nmain()\n"
    refused = convert((HEAD + thread + main).encode())
    assert (refused.status, _codes(refused)) == ("refused", ["AMP911"])


def test_skip_file_and_other_pragmas_say_one_thing() -> None:
    source = (HEAD + LOOP.replace("step()", "step()  # ampify: skip") + "# ampify: skip-file\n").encode()
    result = convert(source)
    assert [(d.code, d.line, d.severity) for d in result.diagnostics] == [("AMP197", 12, "info")]


# existing mixed precision ------------------------------------------------------------------------------

OWN = """\
import torch
from torch.amp import GradScaler, autocast

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    with autocast("cuda"):
        loss = torch.nn.functional.mse_loss(model(x), y)
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""


def test_findings_of_skipped_lines_are_not_told() -> None:
    assert _codes(convert(OWN.encode())) == ["AMP301"]
    result = convert(OWN.replace("1.0)", "1.0)  # ampify: skip").encode())
    assert (result.status, _codes(result)) == ("already", ["AMP197"])


def test_spellings_of_skipped_lines_stay() -> None:
    old = OWN.replace("torch.amp", "torch.cuda.amp").replace('"cuda"', "").replace("1.0)", "1.0)  # ampify: skip")
    assert convert(old.encode()).status == "converted"
    source = old.replace("autocast():", "autocast():  # ampify: skip").encode()
    result = convert(source)
    assert (result.status, result.output, _codes(result)) == ("already", source, ["AMP197", "AMP197"])


def test_a_step_in_float32_beside_others_is_not_finished() -> None:
    more = (
        "\n\ndef again():\n"
        + "".join(f"    {line}\n" for line in LOOP.replace("data:", "data:{}").splitlines())
        + "\n\nagain()\n"
    )
    own = OWN.replace("    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n", "")
    own = "import torch.nn.functional as F\n" + own
    assert convert((own + more.format("")).encode()).status == "converted"
    source = (own + more.format("  # ampify: skip")).encode()
    result = convert(source)
    assert (result.status, result.output, _codes(result)) == ("already", source, ["AMP197"])


# several files -----------------------------------------------------------------------------------------

HELPER = """\
def descend(loss, optimizer):
    optimizer.zero_grad()
    loss.backward()
"""
SCRIPT = """\
import torch
import torch.nn.functional as F
from helper import descend

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]:
    loss = F.mse_loss(model(x), y)
    descend(loss, optimizer)
    optimizer.step()
"""


def _outcomes(directory: Path, **sources: str) -> dict[str, Outcome]:
    for name, source in sources.items():
        (directory / f"{name}.py").write_text(source)
    outcomes = run([str(directory)], Options(), write=False, keep=True)
    return {Path(outcome.path).stem: outcome for outcome in outcomes}


def test_a_part_in_another_file_stays_with_the_step(tmp_path: Path) -> None:
    done = _outcomes(tmp_path, helper=HELPER, one=SCRIPT)
    assert {name: outcome.result.status for name, outcome in done.items()} == {"helper": "converted", "one": "converted"}
    done = _outcomes(tmp_path, helper=HELPER, one=SCRIPT.replace(".step()", ".step()  # ampify: skip"))
    assert {name: outcome.result.status for name, outcome in done.items()} == {"helper": "unchanged", "one": "unchanged"}
    done = _outcomes(tmp_path, helper=HELPER.replace("d()", "d()  # ampify: skip"), one=SCRIPT)
    assert {name: outcome.result.status for name, outcome in done.items()} == {"helper": "unchanged", "one": "unchanged"}
    assert [(d.code, d.line) for d in done["one"].result.diagnostics] == [("AMP197", 9)]


@pytest.mark.parametrize("pragma", [".step()  # ampify: skip", ".step()\n# ampify: skip-file"])
def test_a_part_is_not_converted_for_one_script_while_another_leaves_it_alone(tmp_path: Path, pragma: str) -> None:
    done = _outcomes(tmp_path, helper=HELPER, one=SCRIPT, two=SCRIPT.replace(".step()", pragma))
    statuses = {name: outcome.result.status for name, outcome in done.items()}
    assert statuses["two"] == "unchanged"
    assert "converted" not in statuses.values()
    assert (_codes(done["one"].result), _codes(done["helper"].result)) == (["AMP926"], ["AMP928"])


def test_a_hazard_in_a_model_of_another_file(tmp_path: Path) -> None:
    model = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.l = torch.nn.Linear(4, 4)\n\n    def forward(self, x):\n        x = self.l(x)\n"
        "        return x.masked_fill(x > 0, -1e9){}\n"
    )
    script = HEAD.replace("torch.nn.Linear(4, 1)", "Net()").replace("\n", "\nfrom net import Net\n", 1) + LOOP
    done = _outcomes(tmp_path, net=model.format(""), train=script)
    assert {name: outcome.result.status for name, outcome in done.items()} == {"net": "converted", "train": "converted"}
    done = _outcomes(tmp_path, net=model.format("  # ampify: skip"), train=script)
    assert {name: outcome.result.status for name, outcome in done.items()} == {"net": "unchanged", "train": "converted"}
