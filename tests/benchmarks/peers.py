"""A throw-away environment with accelerate and lightning-fabric beside this interpreter's torch, and scripts run in it."""

import os
import subprocess
import venv
from pathlib import Path

import torch

from ampify import convert

PEERS = ("accelerate==1.15.0", "lightning-fabric==2.6.6")
RUNTIME = Path(__file__).parents[2] / "runtime"


def make_environment(directory: Path) -> Path:
    """Install the peers under `directory`; the interpreter. Needs a package index.

    This interpreter's packages are seen through a .pth file (`--system-site-packages` would show those of the
    interpreter below, if this one is itself in an environment). torch is held, so the peers run on the very same files.
    """
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    [site_packages] = directory.glob("lib/python*/site-packages")
    (site_packages / "host.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    held = directory / "held.txt"
    held.write_text(f"torch=={torch.__version__}\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(held), *PEERS]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
    assert installed.returncode == 0, installed.stderr
    seen = run(python, "-c", "import torch; print(torch.__version__, torch.__file__)").split()
    assert seen == [torch.__version__, torch.__file__], seen
    return python


def run(python: Path, *arguments: str, **variables: str) -> str:
    """What the interpreter prints, run on one thread and on the CPU, with ampify's runtime on its path and nothing else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AMPIFY_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    done = subprocess.run([str(python), *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def converted(source: str) -> str:
    """The plain script as ampify writes it."""
    result = convert(source.encode())
    assert result.status == "converted", (result.status, result.diagnostics)
    return result.output.decode()


def markdown(head: list[str], rows: list[list[str]], left: int = 2) -> str:
    """A table; the first `left` columns are text, the others numbers."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]

    def line(row: list[str]) -> str:
        cells = [cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(head), line(rule), *map(line, rows)])
