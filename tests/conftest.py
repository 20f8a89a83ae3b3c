"""What all tests share: the installed command, a plain training script, an unprivileged user, no silent skips in CI."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

# The start of a test's id, and why CI may skip it. A skip that is not listed here is a failure there: a check that
# quietly stopped running looks the same as one that passes.
ALLOWED_SKIPS: dict[str, str] = {
    "tests/bad_inputs/test_hostile.py::test_a_file_system_that_is_full": "containers may forbid to mount; others limit sizes",
}

TRAINING_SCRIPT = """\
import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
for x, y in data:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
"""

PLAIN_SCRIPT = "print('no training here')\n"

Ampify = Callable[..., subprocess.CompletedProcess[bytes]]

_unexpected_skips: dict[str, str] = {}


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and not report.nodeid.startswith(tuple(ALLOWED_SKIPS)):
        _unexpected_skips[report.nodeid] = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skip(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and _unexpected_skips and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("CI") and _unexpected_skips:
        terminalreporter.section("skipped, but not in ALLOWED_SKIPS of tests/conftest.py", red=True, bold=True)
        for nodeid, reason in _unexpected_skips.items():
            terminalreporter.line(f"{nodeid}: {reason}")


@pytest.fixture
def training_script() -> bytes:
    """The simplest training loop, as bytes."""
    return TRAINING_SCRIPT.encode()


@pytest.fixture
def plain_script() -> bytes:
    """A file without a training step, as bytes."""
    return PLAIN_SCRIPT.encode()


@pytest.fixture
def ampify(tmp_path: Path) -> Ampify:
    """The installed command, run in tmp_path: `ampify("--check", "train.py", stdin=b"...", env={...})`."""
    command = shutil.which("ampify", path=str(Path(sys.executable).parent))
    assert command, "ampify is not installed beside this Python: python -m pip install -e '.[dev]'"

    def run(
        *arguments: str | bytes, stdin: bytes = b"", cwd: Path = tmp_path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [command, *arguments],
            input=stdin,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def unprivileged_directory() -> Iterator[Path]:
    """A directory to test permissions in: root, who may do everything, is somebody else while the test runs."""
    directory = Path(tempfile.mkdtemp())
    if os.geteuid() != 0:
        yield directory
    else:
        nobody = 65534
        os.chown(directory, nobody, nobody)
        os.setegid(nobody)
        os.seteuid(nobody)
        try:
            yield directory
        finally:
            os.seteuid(0)
            os.setegid(0)
    for place in (directory, *(p for p in directory.rglob("*") if p.is_dir())):
        place.chmod(0o700)
    shutil.rmtree(directory)
