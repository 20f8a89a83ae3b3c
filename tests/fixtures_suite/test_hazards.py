"""Every hazard fixture shows its hazard without the rule, and trains with it; and what makes such a fixture fail."""

from typing import NamedTuple

import pytest

from tests.fixtures_suite.cases import Case, all_cases, converted
from tests.fixtures_suite.forks import ForkServer
from tests.fixtures_suite.hazards import Hazard, after_problems, before_problems, read_hazard, without_rules

HAZARDS = [case for case in all_cases() if case.family == "hazards"]
NONE_YET = pytest.param(None, marks=pytest.mark.xfail(run=False, reason="there is no hazard fixture yet"))
each_hazard = pytest.mark.parametrize("case", HAZARDS or [NONE_YET], ids=lambda case: case and case.name)


@each_hazard
def test_without_the_rule_it_fails(case: Case, server: ForkServer) -> None:
    hazard = read_hazard(case.source)
    result = without_rules(case.source, hazard)
    assert result.status == "converted", result.diagnostics
    runs = server.run(case.source, "original"), server.run(result.output, hazard.mode)
    assert before_problems(hazard, *runs, hazard.mode) == []


@each_hazard
def test_with_the_rule_it_trains(case: Case, server: ForkServer) -> None:
    hazard = read_hazard(case.source)
    result = converted(case.source)
    if result.status == "refused":  # the rule is not to convert it
        assert hazard.codes & {d.code for d in result.diagnostics}
    else:
        runs = server.run(case.source, "original"), server.run(result.output, hazard.mode)
        assert after_problems(hazard, *runs, hazard.mode) == []


SCRIPT = """{header}
import torch
from torch import nn
{imports}
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    x, y = torch.randn(5, 4), torch.rand(5, 3)
    optimizer.zero_grad()
    with {region}:
        p = model(x)
        loss = {loss}
    {steps}
"""
IMPORTS = "import contextlib", "from ampify_runtime import autocast, scaler"
REGIONS = "contextlib.nullcontext()", "autocast()"
STEPS = "loss.backward(); optimizer.step()", "scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()"


class Example(NamedTuple):
    """A hazard by hand: its header, the loss as it is written, and as a rule would rewrite it."""

    header: str
    loss: str
    rewritten: str

    def script(self, loss: str, converted: bool) -> bytes:
        imports, region, steps = IMPORTS[converted], REGIONS[converted], STEPS[converted]
        return SCRIPT.format(header=self.header, imports=imports, region=region, loss=loss, steps=steps).encode()

    def problems(self, server: ForkServer) -> tuple[list[str], list[str]]:
        """Those of the runs without and with the rule."""
        hazard = read_hazard(self.script(self.loss, False))
        reference = server.run(self.script(self.loss, False), "original")
        before, after = (server.run(self.script(loss, True), hazard.mode) for loss in (self.loss, self.rewritten))
        return before_problems(hazard, reference, before, hazard.mode), after_problems(hazard, reference, after, hazard.mode)


EXAMPLES = {
    "BCE": Example(
        "# hazard: AMP200\n# dies: unsafe to autocast",
        "nn.functional.binary_cross_entropy(p.sigmoid(), y)",
        "nn.functional.binary_cross_entropy_with_logits(p, y)",
    ),
    "a small eps": Example(
        "#!/usr/bin/env python\n# A comment.\n\n# hazard: AMP200 AMP201\n# differs",
        "p.sum() + (p * p * 0 + 1e-12).sqrt().sum()",
        "p.sum() + (p.float() * p.float() * 0 + 1e-12).sqrt().sum()",
    ),
    "numpy has no bfloat16": Example(
        "# hazard: AMP200\n# dies: BFloat16\n# mode: bf16",
        "p.sum() + float(p.detach().numpy().sum())",
        "p.sum() + float(p.detach().float().numpy().sum())",
    ),
    "a sum overflows on the CPU": Example(
        "# hazard: AMP200\n# differs\n# policy: cpu",
        "(p + 10).exp().sum().log()",
        "(p.float() + 10).exp().sum().log()",
    ),
}
BCE, EPS = EXAMPLES["BCE"], EXAMPLES["a small eps"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_hazard_that_is_shown_and_solved(name: str, server: ForkServer) -> None:
    assert EXAMPLES[name].problems(server) == ([], [])


TAME = "(p - y).square().mean()"
# An example that is wrong, and what must be said of its run without the rule, or else of the one with it.
WRONG = {
    "it does not die": (BCE._replace(loss=TAME, rewritten=TAME), "without the rule it does not die", ""),
    "it dies of something else": (BCE._replace(header="# hazard: AMP200\n# dies: overflow"), "it does not die of 'overflow'", ""),
    "it does not differ": (EPS._replace(loss=TAME, rewritten=TAME), "it trains as the original does", ""),
    "it dies where it was to differ": (BCE._replace(header=EPS.header), "without the rule it dies", ""),
    "it is of the other policy": (BCE._replace(header=BCE.header + "\n# policy: cpu"), "without the rule it does not die", ""),
    "the original dies": (BCE._replace(loss="p.nothing"), "the original fails", "the original fails"),
    "the rule does not help": (BCE._replace(rewritten=BCE.loss), "", "with the rule: it fails"),
    "the rule changes the gradients": (EPS._replace(rewritten=f"1.1 * {TAME}"), "", "relative gradient error"),
    "the rule leaves the steps out": (EPS._replace(rewritten="p.sum() * float('inf')"), "", "steps by optimizer: {}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_hazard_fixture_is_seen(name: str, server: ForkServer) -> None:
    example, *expected = WRONG[name]
    for problems, word in zip(example.problems(server), expected, strict=True):
        assert bool(problems) == bool(word)
        assert any(word in problem for problem in problems) or not word, problems


HEADERS = {
    "# dies: x": "hazard: AMPnnn",
    "# hazard: BCE\n# dies: x": "hazard: AMPnnn",
    "# hazard: AMP210": "neither",
    "# hazard: AMP210\n# dies:": "neither",
    "# hazard: AMP210\n# dies: x\n# differs": "neither",
    "# hazard: AMP210\n# differs: a little": "neither",
    "# hazard: AMP210\nimport torch\n# dies: x": "neither",
    "# hazard: AMP210\n# hazard: AMP211\n# differs": "twice",
    "# hazard: AMP210\n# differs\n# mode: off": "no such mode",
    "# hazard: AMP210\n# differs\n# policy: mps": "no such mode",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_says_too_little_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=HEADERS[header]):
        read_hazard(header.encode() + b"\nimport torch\n")


def test_a_header_is_read() -> None:
    header = b"# A script.\n# hazard: AMP210 AMP211\n# dies: must have the same dtype, but\n# mode: bf16\n"
    assert read_hazard(header) == Hazard(frozenset({"AMP210", "AMP211"}), "must have the same dtype, but", "bf16", "cuda")
    assert read_hazard(header).mode == "cuda-bf16"
