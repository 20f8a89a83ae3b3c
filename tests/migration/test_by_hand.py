"""Loss scaling by hand: taken out where it is exact, and left where it is not."""

import ast
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ampify.convert import convert
from ampify.migration.apex_proof import prove_by_hand
from ampify.migration.by_hand import find, without
from ampify.proof import ProofError
from ampify.render.splice import replace
from tests.fixtures_suite.cases import TOLERANCE, Case, converted, expected_files, migrations
from tests.fixtures_suite.compare import close_problems, exact_problems
from tests.fixtures_suite.forks import ForkServer

CASES = [case for case in migrations() if case.family == "by_hand"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

SCRIPT = """import torch
import torch.nn as nn

SCALE = 1024.0
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in data:
    optimizer.zero_grad()
    loss = model(batch).mean()
    (loss * SCALE).backward()
    for p in model.parameters():
        p.grad.data.div_(SCALE)
    optimizer.step()
"""
BARE = """import torch
import torch.nn as nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in data:
    optimizer.zero_grad()
    loss = model(batch).mean()
    loss.backward()
    optimizer.step()
"""
DIVISIONS = (
    "p.grad.div_(SCALE)", "p.grad /= SCALE", "p.grad.data /= SCALE", "p.grad = p.grad / SCALE",
    "p.grad.data = p.grad.data / SCALE", "p.grad.mul_(1 / SCALE)", "p.grad.data.mul_(1.0 / SCALE)", "p.grad *= 1.0 / SCALE",
)  # fmt: skip
LEFT = {
    "no power of two": ("1024.0", "1000.0"),
    "chosen": ("1024.0", "args.scale"),
    "bound twice": ("for batch in data:\n", "SCALE = 2.0\nfor batch in data:\n"),
    "used otherwise": ("    optimizer.step()", "    print(SCALE)\n    optimizer.step()"),
    "not divided": ("        p.grad.data.div_(SCALE)", "        p.grad.data.div_(2.0)"),
    "divided twice": ("        p.grad.data.div_(SCALE)", "        p.grad.data.div_(SCALE)\n        p.grad.data.div_(SCALE)"),
    "under another condition": (
        "        p.grad.data.div_(SCALE)",
        "        if p.dim() > 1:\n            p.grad.data.div_(SCALE)",
    ),
    "other parameters": ("for p in model.parameters()", "for p in model.bias.parameters()"),
    "of another optimizer": ("SGD(model.parameters()", "SGD(other.parameters()"),
    "looked at before": ("    for p in", "    print(model.weight.grad)\n    for p in"),
    "two backwards": ("    optimizer.zero_grad()\n", "    optimizer.zero_grad()\n    model(batch).sum().backward()\n"),
    "never cleared": ("    optimizer.zero_grad()\n", ""),
    "cleared behind": ("    optimizer.step()\n", "    optimizer.step()\n    optimizer.zero_grad()\n"),
    "a step elsewhere": ("for batch in data:\n", "optimizer.step()\nfor batch in data:\n"),
    "under a condition": ("    optimizer.step()", "    if batch is last:\n        optimizer.step()"),
    "exported": ("SCALE = 1024.0\n", "SCALE = 1024.0\n__all__ = ['SCALE']\n"),
}
WRONG = {
    "no backward": ("    loss.backward()\n", ""),
    "another backward": ("    loss.backward()\n", "    loss.backward(retain_graph=True)\n"),
    "the product": ("    loss.backward()\n", "    (loss * 1024.0).backward()\n"),
    "the loop": ("    optimizer.step()\n", "    for p in model.parameters():\n        pass\n    optimizer.step()\n"),
    "no step": ("    optimizer.step()\n", ""),
    "white space": ("lr=0.1", "lr = 0.1"),
    "a comment": ("import torch\n", "import torch  # new\n"),
}  # fmt: skip


@each_case
def test_output_is_as_recorded(case: Case) -> None:
    for path, content in expected_files(case, converted(case.source)).items():
        assert (path.read_bytes() if path.exists() else None) == content, f"{path.name}: see update.py"
    again = converted(converted(case.source).output)
    assert (again.status, again.output) == ("already", converted(case.source).output)


@pytest.mark.parametrize("mode", ["off", "scale-only", "growing"])
@each_case
def test_trains_identically(case: Case, mode: str, server: ForkServer) -> None:
    reference = server.run(case.source, "original")
    problems = exact_problems(reference, server.run(converted(case.source).output, mode))
    assert [p for p in problems if "SCALE" not in p and ".scale" not in p and not p.startswith((".p ", ".p is"))] == []


@pytest.mark.parametrize("mode", ["fp16", "bf16", "cuda-fp16"])
@each_case
def test_half_precision_is_close(case: Case, mode: str, server: ForkServer) -> None:
    reference, candidate = server.run(case.source, "original"), server.run(converted(case.source).output, mode)
    assert close_problems(reference, candidate, TOLERANCE[mode]) == []


@pytest.mark.parametrize("division", DIVISIONS)
def test_divisions(division: str) -> None:
    result = convert(SCRIPT.replace("p.grad.data.div_(SCALE)", division).encode())
    assert result.output == convert(BARE.encode()).output
    assert [(e.code, e.line) for e in result.edits if e.code == "AMP356"] == [("AMP356", 4), ("AMP356", 10), ("AMP356", 11)]


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_as_it_is(case: str) -> None:
    old, new = LEFT[case]
    assert SCRIPT.count(old) == 1
    result = convert(SCRIPT.replace(old, new).encode())
    assert not result.bug
    assert "AMP356" not in {e.code for e in result.edits}
    assert b"SCALE" in result.output


def test_the_right_script_passes() -> None:
    prove_by_hand(SCRIPT.encode(), BARE.encode())


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_script_does_not(case: str) -> None:
    right, wrong = WRONG[case]
    with pytest.raises(ProofError):
        prove_by_hand(SCRIPT.encode(), BARE.replace(right, wrong, 1).encode())


def _loops() -> Iterator[str]:
    """Training loops that scale by hand, rightly or wrongly."""
    for factor, division, module, clear, back, step in itertools.product(
        ("2**10", "12.0"),
        ("p.grad /= S", "p.grad.mul_(1 / S)", "p.grad *= S"),
        ("model", "other"),
        ("optimizer.zero_grad()", "pass"),
        ("(loss * S).backward()", "(loss / 2 * S).backward()", "(loss * S).backward(); model.weight.sum().backward()"),
        (
            "optimizer.step()",
            "nn.utils.clip_grad_norm_(model.parameters(), 0.01); optimizer.step()",
            "i % 2 and optimizer.step()",
        ),
    ):
        yield (
            f"import torch\nimport torch.nn as nn\nS = {factor}\ntorch.manual_seed(0)\n"
            "model, other = nn.Linear(3, 2), nn.Linear(3, 2)\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
            f"for i in range(3):\n    {clear}\n    loss = model(torch.randn(4, 3)).pow(2).mean()\n    {back}\n"
            f"    for p in {module}.parameters():\n        if p.grad is not None:\n            {division}\n    {step}\n"
        )


def _trained(source: str) -> list[torch.Tensor]:
    scope: dict[str, Any] = {}
    exec(compile(source, "script.py", "exec"), scope)
    return list(scope["model"].parameters())


def test_what_is_taken_out_is_exact() -> None:
    """Of all loops the ones that are changed train as before, to the bit."""
    taken = 0
    for source in _loops():
        found = find(ast.parse(source))
        if found is not None:
            taken += 1
            bare = replace(source.encode(), without(found, source.encode())[0]).decode()
            assert all(map(torch.equal, _trained(source), _trained(bare))), source
    assert taken == 8
