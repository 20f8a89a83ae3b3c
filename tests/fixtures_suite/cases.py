"""The fixtures on disk: fixtures/<family>/<case>.in.py, what converting them gives, and how that is written down."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from ampify.convert import Result, convert

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"

# Relative L2 error of all gradients of an optimizer's first step; five layers of small-batch norm reach 0.005 and 0.08.
TOLERANCE = {"fp16": 0.02, "bf16": 0.15, "cuda-fp16": 0.02, "cuda-bf16": 0.15, "gpu-fp16": 0.02, "gpu-bf16": 0.15}

# Their scripts train nothing that is to be compared here; some cannot even run. For those of `misuse` and
# `finished` tests/doctor and tests/finish do that.
NOT_RUN = frozenset({"already", "finished", "misuse", "noop", "refused"})

# Their scripts have mixed precision of their own, which is written anew: nothing of what is said of our forms holds of them.
# tests/migration runs them.
MIGRATED = frozenset({"migration", "apex", "by_hand"})


class Case(NamedTuple):
    name: str
    source_path: Path

    @property
    def source(self) -> bytes:
        return self.source_path.read_bytes()

    @property
    def family(self) -> str:
        return self.source_path.parent.name

    @property
    def output_path(self) -> Path:
        """The converted script; there is none if nothing is converted."""
        return self.source_path.with_name(self.source_path.name.removesuffix(".in.py") + ".out.py")

    @property
    def diagnostics_path(self) -> Path:
        return self.source_path.with_name(self.source_path.name.removesuffix(".in.py") + ".diag.txt")

    @property
    def is_converted(self) -> bool:
        return self.output_path.exists()


@cache
def all_cases() -> tuple[Case, ...]:
    return tuple(case for case in _found() if case.family not in MIGRATED)


@cache
def migrations() -> tuple[Case, ...]:
    return tuple(case for case in _found() if case.family in MIGRATED)


def _found() -> list[Case]:
    paths = sorted(FIXTURES.glob("*/*.in.py"))
    return [Case(f"{path.parent.name}/{path.name.removesuffix('.in.py')}", path) for path in paths]


@cache
def converted(source: bytes) -> Result:
    return convert(source)


def rendered(result: Result) -> str:
    """A result as it is kept in <case>.diag.txt: the status, then a line for each diagnostic, in the order given."""
    lines = [f"status: {result.status}" + (" (bug)" if result.bug else "")]
    lines += [f"{d.line}:{d.column} {d.code} {d.severity}: {d.message}" for d in result.diagnostics]
    return "\n".join(lines) + "\n"


def expected_files(case: Case, result: Result) -> dict[Path, bytes | None]:
    """What must lie beside the case; None: no such file."""
    output = result.output if result.status == "converted" else None
    return {case.output_path: output, case.diagnostics_path: rendered(result).encode()}
