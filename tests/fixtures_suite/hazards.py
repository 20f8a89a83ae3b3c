"""Hazards of half precision: scripts that die, or learn something else, when they are converted without the rule for them.

fixtures/hazards/<case>.in.py is a fixture as any other, with comments above its first statement that say what happens without:

# hazard: AMP210            the codes of the rules, separated by spaces
# dies: unsafe to autocast  a part of what it says when it dies; or `# differs`: other gradients at the first step
# mode: bf16                the dtype that shows it; fp16 if not given
# policy: cpu               seen under the CPU's autocast policy only; CUDA's if not given
"""

import re
from typing import NamedTuple

from ampify.convert import Options, Result, convert
from tests.fixtures_suite.cases import TOLERANCE
from tests.fixtures_suite.compare import Record, close_problems, divergences

_KEYS = ("hazard", "dies", "differs", "mode", "policy")


class Hazard(NamedTuple):
    codes: frozenset[str]
    dies: str  # empty: it differs
    dtype: str
    policy: str

    @property
    def mode(self) -> str:
        return f"cuda-{self.dtype}" if self.policy == "cuda" else self.dtype


def read_hazard(source: bytes) -> Hazard:
    """What a script's header says of it. Raises ValueError for a header that says too little, or something else."""
    header = re.match(r"(?:[ \t]*(?:#.*)?\n)*", source.decode())
    assert header
    lines = re.findall(rf"^# ({'|'.join(_KEYS)})\b:?[ \t]*(.*?)[ \t]*$", header[0], re.MULTILINE)
    said = dict(lines)
    codes, dtype, policy = said.get("hazard", "").split(), said.get("mode", "fp16"), said.get("policy", "cuda")
    if len(said) != len(lines):
        raise ValueError("it says something twice")
    if not codes or not all(re.fullmatch(r"AMP\d{3}", code) for code in codes):
        raise ValueError("no `# hazard: AMPnnn`")
    if ("dies" in said) == ("differs" in said) or said.get("dies") == "" or said.get("differs"):
        raise ValueError("neither `# dies: <message>` nor `# differs`, or both")
    if dtype not in ("fp16", "bf16") or policy not in ("cuda", "cpu"):
        raise ValueError(f"no such mode or policy: {dtype}, {policy}")
    return Hazard(frozenset(codes), said.get("dies", ""), dtype, policy)


def without_rules(source: bytes, hazard: Hazard) -> Result:
    """The conversion in which the hazard's codes neither rewrite nor refuse anything."""
    return convert(source, Options(skip=hazard.codes))


def before_problems(hazard: Hazard, reference: Record, before: Record, mode: str) -> list[str]:
    """Why the run without the rule does not show the hazard; empty if it does.

    On an accelerator any exception will do: its kernels have other words for the same.
    """
    if reference["error"]:
        return [f"the original fails: {reference['error']}"]
    if hazard.dies:
        if not before["error"]:
            return ["without the rule it does not die"]
        if hazard.dies not in before["error"] and not mode.startswith("gpu-"):
            return [f"without the rule it does not die of {hazard.dies!r}: {before['error']}"]
        return []
    if before["error"]:
        return [f"without the rule it dies: {before['error']}"]
    return [] if divergences(reference, before, TOLERANCE[mode]) else ["without the rule it trains as the original does"]


def after_problems(hazard: Hazard, reference: Record, after: Record, mode: str) -> list[str]:
    return [f"with the rule: {problem}" for problem in close_problems(reference, after, TOLERANCE[mode])]
