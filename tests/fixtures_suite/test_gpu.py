"""The fixtures on an accelerator, whose policy and kernels are the real ones: run with -m gpu.

Each script trains with the accelerator as torch's default device, in fp32 and as converted. Skipped is what does not run there in
fp32, such as a script that names the CPU in one place only.
"""

import pytest
import torch

from tests.fixtures_suite.cases import NOT_RUN, TOLERANCE, Case, all_cases, converted
from tests.fixtures_suite.compare import Record, close_problems
from tests.fixtures_suite.forks import ForkServer
from tests.fixtures_suite.hazards import after_problems, before_problems, read_hazard, without_rules

CONVERTED = [case for case in all_cases() if case.family not in NOT_RUN and case.is_converted]
HAZARDS = [case for case in CONVERTED if case.family == "hazards"]

NONE_YET = pytest.param(None, marks=pytest.mark.xfail(run=False, reason="there is no hazard fixture yet"))

needs_accelerator = pytest.mark.skipif(not torch.accelerator.is_available(), reason="torch reports no accelerator")


def _original(case: Case, server: ForkServer) -> Record:
    reference = server.run(case.source, "gpu-original")
    if reference["error"]:
        pytest.skip(f"it does not run there in fp32: {reference['error'].strip().splitlines()[-1]}")
    return reference


@pytest.mark.gpu
@needs_accelerator
@pytest.mark.parametrize("mode", ["gpu-fp16", "gpu-bf16"])
@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
def test_half_precision_is_close(case: Case, mode: str, server: ForkServer) -> None:
    reference = _original(case, server)
    assert close_problems(reference, server.run(converted(case.source).output, mode), TOLERANCE[mode]) == []


@pytest.mark.gpu
@needs_accelerator
@pytest.mark.parametrize("case", HAZARDS or [NONE_YET], ids=lambda case: case and case.name)
def test_a_hazard_shows_without_its_rule_and_trains_with_it(case: Case, server: ForkServer) -> None:
    hazard = read_hazard(case.source)
    if hazard.policy == "cpu":
        pytest.skip("a hazard of the CPU's policy")
    reference = _original(case, server)
    mode = f"gpu-{hazard.dtype}"
    outputs = without_rules(case.source, hazard).output, converted(case.source).output
    before, after = (server.run(output, mode) for output in outputs)
    assert before_problems(hazard, reference, before, mode) == []
    assert after_problems(hazard, reference, after, mode) == []


# Runs on every machine, so that the modes above are known to work: without an accelerator they are the CPU's.
ORIGINAL = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    x = torch.randn(5, 2, 4)
    loss = F.mse_loss(model(x), x.sum(2, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_the_modes_for_an_accelerator_draw_no_dropout(server: ForkServer) -> None:
    source = ORIGINAL.encode()
    assert server.run(source, "gpu-original")["steps"] != []
    without = server.run(source.replace(b"0.5", b"0.0"), "gpu-original")
    output = converted(source).output
    for mode in ("gpu-fp16", "gpu-bf16"):
        assert close_problems(without, server.run(output, mode), TOLERANCE[mode]) == []
    wrong = server.run(output.replace(b"scaler.scale(loss)", b"loss"), "gpu-fp16")
    assert "backward of a loss that scaler.scale() did not return" in close_problems(without, wrong, TOLERANCE["gpu-fp16"])


def test_the_server_does_not_touch_the_accelerator_before_it_forks(server: ForkServer) -> None:
    script = b"import torch\nprint(torch.cuda.is_initialized())\n"
    assert server.run(script, "original")["printed"] == "False\n"
    assert server.run(b"import torch\nprint(torch.empty(1).device.type)\n", "gpu-original")["printed"].strip() == (
        torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    )
