"""What many files in one call cost: time, and the memory of the command and of its workers.

    PYTHONPATH=.:runtime python -m tests.benchmarks.many_files

The files are made of the fixtures: scripts that know nothing of each other, scripts of one project that share modules with a
hazard that is rewritten for them, and a tree of files of which one in a hundred trains.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ampify.source import is_candidate
from tests.benchmarks.peers import markdown
from tests.fixtures_suite.cases import FIXTURES

FAMILIES = ("accumulation", "basic", "clip", "closures", "penalties", "schedulers")
COUNTS = (100, 300, 1000)
MOSTLY_UNTOUCHED = (1000, 3000, 10_000)
JOBS = (1, 2)

MODEL = """\
import torch
from torch import nn

from net.masks import hide


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x, mask):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return torch.softmax(hide(q @ k.transpose(-2, -1), mask), dim=-1) @ v
"""
MASKS = """\
import torch


def hide(scores, mask):
    return scores.masked_fill(mask == 0, -1e9)
"""
SCRIPT = """\
import torch
from torch import nn

from net.attention import Attention


def train(model, loader, optimizer, criterion):
    model.train()
    for x, mask, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(x, mask), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def main():
    torch.manual_seed({number})
    model = Attention(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [(torch.randn(4, 6, 8), torch.ones(4, 6, 6), torch.randn(4, 6, 8)) for _ in range(3)]
    for _ in range(2):
        train(model, loader, optimizer, nn.MSELoss())


if __name__ == "__main__":
    main()
"""


class Cost(NamedTuple):
    """Of one call. Memory in MiB: the most that the command itself had, and the most that one of its workers had."""

    files: int
    jobs: int
    wall: float
    cpu: float
    parent: float
    worker: float
    converted: int


def scripts(directory: Path, count: int) -> None:
    """Training scripts that know nothing of each other."""
    sources = [path.read_bytes() for family in FAMILIES for path in sorted((FIXTURES / family).glob("*.in.py"))]
    sources = [source for source in sources if b"import torch" in source]
    for number in range(count):
        (directory / f"train_{number:05}.py").write_bytes(sources[number % len(sources)])


def project(directory: Path, count: int) -> None:
    """Training scripts that share a model."""
    (directory / "net").mkdir()
    (directory / "net/__init__.py").touch()
    (directory / "net/attention.py").write_text(MODEL)
    (directory / "net/masks.py").write_text(MASKS)
    for number in range(count - 3):
        (directory / f"train_{number:05}.py").write_text(SCRIPT.format(number=number))


def mostly_untouched(directory: Path, count: int) -> None:
    """One training script in a hundred files, in packages of a hundred."""
    library = Path(os.__file__).parent
    plain = [path.read_bytes() for name in ("asyncio", "email", "http", "json") for path in sorted((library / name).glob("*.py"))]
    plain = [source for source in plain if not is_candidate(source)]
    training = [path.read_bytes() for path in sorted((FIXTURES / "basic").glob("*.in.py"))]
    for number in range(count):
        package = directory / f"package_{number // 100:03}"
        package.mkdir(exist_ok=True)
        train = number % 100 == 50
        source = training[number // 100 % len(training)] if train else plain[number % len(plain)]
        (package / f"{'train' if train else 'module'}_{number:05}.py").write_bytes(source)


WORKLOADS: dict[str, tuple[Callable[[Path, int], None], tuple[int, ...]]] = {
    "scripts": (scripts, COUNTS),
    "project": (project, COUNTS),
    "mostly untouched": (mostly_untouched, MOSTLY_UNTOUCHED),
}


def measure(make: Callable[[Path, int], None], count: int, jobs: int) -> Cost:
    """One call of the command, on files of its own."""
    directory = Path(tempfile.mkdtemp())
    try:
        make(directory, count)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "ampify.cli", f"--jobs={jobs}", "."],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(FIXTURES.parent)},
            stderr=subprocess.PIPE,
        ) as process:
            peaks: dict[int, int] = {}
            watch = threading.Thread(target=_watch, args=(process, peaks))
            watch.start()
            _, said = process.communicate()
            watch.join()
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process.returncode in (0, 3), said.decode()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        workers = [peak for pid, peak in peaks.items() if pid != process.pid]
        converted = sum(b"ampify_runtime" in path.read_bytes() for path in directory.glob("**/train_*.py"))
        return Cost(count, jobs, wall, cpu, peaks[process.pid] / 1024, max(workers, default=0) / 1024, converted)
    finally:
        shutil.rmtree(directory)


def _watch(process: subprocess.Popen[bytes], peaks: dict[int, int]) -> None:
    """Notes the most memory, in KiB, that a process and its children have had, until it ends."""
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            pids = [process.pid, *map(int, children.read_text().split())]
            for pid in pids:
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
                if "VmHWM" in status:
                    peaks[pid] = max(peaks.get(pid, 0), int(status["VmHWM"].split()[0]))
        except OSError:
            continue
        time.sleep(0.02)


def table(costs: dict[str, list[Cost]]) -> str:
    """Markdown."""
    head = ["files", "how many", "processes", "wall s", "CPU s", "CPU ms a file", "command MiB", "worker MiB", "converted"]
    rows = [
        [
            name,
            str(c.files),
            str(c.jobs),
            f"{c.wall:.1f}",
            f"{c.cpu:.1f}",
            f"{1000 * c.cpu / c.files:.1f}",
            f"{c.parent:.0f}",
            f"{c.worker:.0f}" if c.worker else "-",
            str(c.converted),
        ]
        for name, found in costs.items()
        for c in found
    ]
    return markdown(head, rows, left=1)


def measure_all() -> dict[str, list[Cost]]:
    return {name: [measure(make, n, jobs) for n in counts for jobs in JOBS] for name, (make, counts) in WORKLOADS.items()}


def main() -> None:
    print(table(measure_all()))


if __name__ == "__main__":
    main()
