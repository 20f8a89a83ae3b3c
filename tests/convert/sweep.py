"""The sweep: what becomes of every Python file that is installed here, the standard library's and all packages'.

`PYTHONPATH=.:runtime python -m tests.convert.sweep` converts each by itself, writes nothing, and prints what came of them.
"""

import random
import re
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ampify.convert import Result, convert
from ampify.source import is_candidate

TORCH = re.compile(rb"\btorch\b")
SLOWEST = 5

# torch's own files that are not left alone without a word, and why that is right. What they hold is code that goes backward
# for whoever calls it, so that it may be a part of somebody's training step; the files of TRAINING do train.
REFUSED = {
    "torch/_dynamo/debug_utils.py": "goes backward to compare two compilations of a model",
    "torch/_dynamo/external_utils.py": "calls the backward of an autograd.Function that it is given",
    "torch/_functorch/autograd_function.py": "calls the backward of an autograd.Function that it is given",
    "torch/_inductor/fx_passes/numeric_utils.py": "trains two models, without clearing gradients, and compares them",
    "torch/_inductor/utils.py": "goes backward from what a function returns, to get its code",
    "torch/_tensor.py": "is what defines Tensor.backward and looks at gradients in __deepcopy__",
    "torch/distributed/pipelining/_backward.py": "is the backward pass of a pipeline's stage",
    "torch/distributed/tensor/debug/_op_coverage.py": "goes backward to see the operators of a model",
}
TRAINING = "torch/testing/_internal/"  # loops and parts of loops, to test torch with


class Swept(NamedTuple):
    """One file, what became of it, and the CPU time in seconds that this took."""

    name: str
    source: bytes
    result: Result
    seconds: float


def installed() -> Iterator[tuple[str, Path]]:
    """All Python files of the standard library and of what is installed, with names that do not depend on where that is."""
    standard, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for path in sorted(standard.rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.relative_to(standard).as_posix(), path
    for path in sorted(packages.rglob("*.py")):
        yield path.relative_to(packages).as_posix(), path


def sample(many: int) -> list[tuple[str, Path]]:
    """Some files, most of them such as a look at the bytes does not pass over; the same ones at every run."""
    short = [(name, path) for name, path in installed() if path.stat().st_size < 40_000]
    chosen = random.Random(1)
    candidates = [(name, path) for name, path in short if is_candidate(path.read_bytes())]
    return [*chosen.sample(candidates, min(many, len(candidates))), *chosen.sample(short, min(many // 3, len(short)))]


def swept(files: Iterable[tuple[str, Path]]) -> Iterator[Swept]:
    """Converts each file by itself."""
    for name, path in files:
        source = path.read_bytes()
        start = time.process_time()
        result = convert(source)
        yield Swept(name, source, result, time.process_time() - start)


def wrong(one: Swept) -> str:
    """What is wrong with what became of a file; empty if nothing is."""
    name, source, result, _ = one
    status, torch = result.status, TORCH.search(source) is not None
    if result.bug:
        return result.diagnostics[0].message
    if status != "converted" and result.output != source:
        return f"{status}, and not the bytes that it was"
    if status == "error":
        return "an error, but Python reads it" if _is_read(source) else ""
    if status in ("converted", "refused", "already") and not torch:
        return f"{status}, without torch"
    ours = not name.startswith("torch/") or name.startswith(TRAINING)
    known = status in ("unchanged", "already") or (status == "refused" and name in REFUSED)
    return "" if ours or known else f"{status}: {[d.message for d in result.diagnostics]}"


def _is_read(source: bytes) -> bool:
    try:
        compile(source, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def report(found: list[Swept]) -> str:
    """How many files, what became of them, and how long it took."""
    counts = Counter(one.result.status for one in found)
    lines = [f"{len(found):,} files, {sum(len(one.source) for one in found):,} bytes"]
    lines.append(", ".join(f"{count:,} {status}" for status, count in counts.most_common()))
    lines.append(f"{sum(one.seconds for one in found):.0f} s of CPU time; the slowest:")
    lines += [f"  {one.seconds:.1f} s {one.name}" for one in sorted(found, key=lambda one: -one.seconds)[:SLOWEST]]
    told = sorted(one for one in found if one.result.status != "unchanged")
    lines += [f"{one.result.status:<9} {one.name}" + "".join({f" {d.code}": 0 for d in one.result.diagnostics}) for one in told]
    return "\n".join(lines)


if __name__ == "__main__":
    everything = list(swept(installed()))
    print(report(everything))
    bad = [f"{one.name}: {wrong(one)}" for one in everything if wrong(one)]
    sys.exit("\n".join(bad))
