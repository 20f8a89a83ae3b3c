"""What a conversion costs beside the least that it could cost, and beside other tools that rewrite the same file.

`PYTHONPATH=.:runtime python -m tests.benchmarks.cost [ROUNDS]` prints the tables.

Whole processes, each in an environment of its own, take turns; what counts is the CPU time of the process, user and system,
and its largest resident set. The least for a converted file is to import click and libcst, to parse the file with both parsers
and to write it once; for an untouched one to import click and to parse it. In process the two take turns, too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import libcst

from ampify import convert
from tests.benchmarks.peers import markdown

ROUNDS = 15
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("training_script.py")
UNTOUCHED = "import math\n\n\ndef area(radius):\n    return math.pi * radius**2\n"

# How each is run on a file, and whether it is built on libcst.
TOOLS = {
    "ampify": (["ampify", "--quiet"], True),
    "usort": (["usort", "format"], True),
    "autotyping": (["python", "-m", "autotyping", "--safe"], True),
    "torchfix": (["torchfix"], True),
    "black": (["black", "--quiet"], False),
    "pyupgrade": (["pyupgrade", "--py311-plus"], False),
    "django-upgrade": (["django-upgrade", "--target-version", "5.2"], False),
}
LEAST = {
    "converted": "import sys, ast, click, libcst; s = open(sys.argv[1], 'rb').read(); ast.parse(s); libcst.parse_module(s).bytes",
    "untouched": "import sys, ast, click; ast.parse(open(sys.argv[1], 'rb').read())",
    "memory": "import sys, libcst; libcst.parse_module(open(sys.argv[1], 'rb').read()).bytes",
}

# A process starts with the resident set of the one that starts it, so a small one has to.
RUNNER = """\
import os, sys
null = os.open(os.devnull, os.O_RDWR)
streams = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
_, status, used = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=streams), 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


class Cost(NamedTuple):
    """What one command costs on one file: CPU time in ms (the median of the rounds, and the fastest), memory in MiB."""

    time: float
    fastest: float
    memory: float


def make_environment(directory: Path, package: str) -> Path:
    """Install a tool under `directory`; its folder of commands. Needs a package index."""
    venv.create(directory, with_pip=True)
    commands = directory / "bin"
    install = [str(commands / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
    assert installed.returncode == 0, installed.stderr
    return commands


def commands(environments: Path) -> dict[str, list[str]]:
    """The command of each tool, and of the least, without the file."""
    found: dict[str, list[str]] = {}
    for tool, (command, _) in TOOLS.items():
        place = make_environment(environments / tool, str(ROOT) if tool == "ampify" else tool)
        found[tool] = [str(place / command[0]), *command[1:]]
    python = str(environments / "ampify" / "bin" / "python")
    for name, program in LEAST.items():
        found[f"least, {name}"] = [python, "-c", program]
    return found


def _once(command: list[str], source: str, directory: Path) -> tuple[float, float]:
    """CPU time in ms and largest resident set in MiB of a command on a fresh copy of a source."""
    file = directory / "train.py"
    file.write_text(source)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    runner = [sys.executable, "-I", "-S", "-c", RUNNER, *command, str(file)]
    done = subprocess.run(runner, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=True)
    cpu, resident = map(float, done.stdout.split())
    return cpu * 1e3, resident / 1024


def measure(environments: Path, rounds: int = ROUNDS) -> dict[tuple[str, str], Cost]:
    """The cost of every command on a converted and on an untouched file, by file and command."""
    sources = {"converted": SCRIPT.read_text(), "untouched": UNTOUCHED}
    times: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    known = commands(environments)
    with tempfile.TemporaryDirectory() as directory:
        for round_ in range(rounds + 1):
            for kind, source in sources.items():
                for name, command in known.items():
                    cost = _once(command, source, Path(directory))
                    if round_:  # the first writes byte code
                        times[kind, name].append(cost)
    return {
        key: Cost(statistics.median(t for t, _ in found), min(t for t, _ in found), max(m for _, m in found))
        for key, found in times.items()
    }


def in_process(rounds: int = ROUNDS) -> tuple[float, float]:
    """CPU time in ms of a conversion, and of libcst's parsing and writing of the same file: the fastest of the rounds."""
    source = SCRIPT.read_bytes()
    assert convert(source).status == "converted"
    ours, least = [], []
    for _ in range(rounds):
        least.append(_timed(lambda: libcst.parse_module(source).bytes))
        ours.append(_timed(lambda: convert(source)))
    return min(ours), min(least)


def _timed(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return (time.process_time() - started) * 1e3


def table(costs: dict[tuple[str, str], Cost]) -> str:
    """Markdown: by tool, milliseconds and ratio to the least of a converted file and of an untouched one, and memory."""
    head = ["whole process", "built on libcst", "converted, ms", "ratio", "untouched, ms", "ratio", "memory, MiB"]
    rows = []
    names = ["least", *sorted(TOOLS, key=lambda tool: costs["converted", tool].time)]
    for name in names:
        row = [name, "" if name == "least" else "yes" if TOOLS[name][1] else "no"]
        for kind in ("converted", "untouched"):
            least = costs[kind, f"least, {kind}"].time
            own = least if name == "least" else costs[kind, name].time
            row += [f"{own:.0f}", f"{own / least:.2f}"]
        memory = costs["converted", "least, memory" if name == "least" else name].memory
        rows.append([*row, f"{memory:.0f}"])
    return markdown(head, rows)


def ratios(costs: dict[tuple[str, str], Cost]) -> dict[str, float]:
    """ampify's ratios to the least: time of a converted and of an untouched file, and memory."""
    ours = {kind: costs[kind, "ampify"] for kind in ("converted", "untouched")}
    least = {kind: costs[kind, f"least, {kind}"] for kind in ours}
    return {
        "converted": ours["converted"].time / least["converted"].time,
        "untouched": ours["untouched"].time / least["untouched"].time,
        "memory": ours["converted"].memory / costs["converted", "least, memory"].memory,
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        costs = measure(Path(directory), rounds)
    print(table(costs))
    ours, least = in_process(rounds)
    print(f"\nin process: {ours:.1f} ms, {ours / least:.2f} times libcst's parsing and writing ({least:.1f} ms)")


if __name__ == "__main__":
    main()
