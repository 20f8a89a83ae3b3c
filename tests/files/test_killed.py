"""files.write and files.create, struck at any moment: by SIGKILL or Ctrl-C at every bytecode, and at random times."""

import contextlib
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ampify import files
from ampify.convert import convert
from tests.conftest import TRAINING_SCRIPT

OLD = b"old = 1\n" * 1000
NEW = b"new = 2\n" * 2000


def _strike_at(moment: int, strike: Callable[[], None]) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that strikes at one of the bytecodes that run in files.py: every call of the system is between two."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == moment:
                strike()
        return trace

    return trace


def _struck(moment: int, strike: Callable[[], None], work: Callable[[], None]) -> None:
    before = sys.gettrace()
    sys.settrace(_strike_at(moment, strike))
    try:
        work()
    finally:
        sys.settrace(before)


def _moments(work: Callable[[], None]) -> int:
    """How many bytecodes of files.py the work takes."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        passed += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return passed


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _killed_at(moment: int, work: Callable[[], None]) -> bool:
    """Does the work in another process, which is killed at that moment; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            _struck(moment, _kill, work)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _litter(directory: Path, *known: str) -> list[str]:
    return [name for name in os.listdir(directory) if name not in known]


def _is_harmless(name: str) -> bool:
    """Whether nobody takes a file for code: Python does not import it, a directory that is converted passes it by."""
    return name.startswith(".ampify-") and name.endswith(".tmp")


def _script(directory: Path) -> Path:
    path = directory / "train.py"
    path.write_bytes(OLD)
    path.chmod(0o755)
    return path


def _write(path: Path) -> None:
    files.write(files.read(str(path)), NEW)


def test_killed_at_every_bytecode_of_a_write(tmp_path: Path) -> None:
    path = _script(tmp_path)
    link = tmp_path / "link.py"
    link.symlink_to("train.py")
    moments = _moments(lambda: _write(link))
    assert moments > 200
    seen = set()
    for moment in range(1, moments + 1):
        path = _script(tmp_path)
        assert _killed_at(moment, lambda: _write(link)), moment
        seen.add(path.read_bytes())
        assert path.read_bytes() in (OLD, NEW), moment
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, moment
        assert os.readlink(link) == "train.py", moment
        left = _litter(tmp_path, "train.py", "link.py")
        assert len(left) <= 1, moment
        assert all(map(_is_harmless, left)), moment
        for name in left:
            assert path.read_bytes() == OLD, moment  # after the rename there is none
            (tmp_path / name).unlink()
    assert seen == {OLD, NEW}


def test_interrupted_at_every_bytecode_of_a_write(tmp_path: Path) -> None:
    path = _script(tmp_path)
    seen = set()
    for moment in range(1, _moments(partial(_write, path)) + 1):
        path = _script(tmp_path)
        with contextlib.suppress(KeyboardInterrupt):
            _struck(moment, _interrupt, partial(_write, path))
        seen.add(path.read_bytes())
        assert path.read_bytes() in (OLD, NEW), moment
        assert stat.S_IMODE(path.stat().st_mode) == 0o755, moment
        assert _litter(tmp_path, "train.py") == [], moment
    assert seen == {OLD, NEW}


def test_killed_at_every_bytecode_of_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "ampify_runtime.py"
    moments = _moments(lambda: files.create(str(path), NEW))
    path.unlink()
    seen = set()
    for moment in range(1, moments + 1):
        assert _killed_at(moment, lambda: files.create(str(path), NEW)), moment
        seen.add(path.exists())
        assert not path.exists() or path.read_bytes() == NEW, moment
        path.unlink(missing_ok=True)
        for name in _litter(tmp_path):
            assert _is_harmless(name), moment
            (tmp_path / name).unlink()
    assert seen == {False, True}


def test_killed_at_random_times(tmp_path: Path) -> None:
    path = _script(tmp_path)
    chance = random.Random(3)
    seen = []
    for _ in range(300):
        child = os.fork()
        if child == 0:
            while True:
                before = files.read(str(path))
                files.write(before, OLD if before.data == NEW else NEW)
        time.sleep(chance.uniform(0, 0.006))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(path.read_bytes())
        assert seen[-1] in (OLD, NEW)
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert 20 < seen.count(NEW) < 280
    assert all(map(_is_harmless, _litter(tmp_path, "train.py")))


def test_what_is_left_behind_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING_SCRIPT)
    (tmp_path / ".ampify-1-0123456789abcdef.tmp").write_text(TRAINING_SCRIPT)
    done = subprocess.run([sys.executable, "-m", "ampify.cli", "."], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stderr.endswith(b"1 file converted.\n")
    # Another process may be writing it, so it is not ours to remove.
    assert (tmp_path / ".ampify-1-0123456789abcdef.tmp").read_text() == TRAINING_SCRIPT


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"train_{n}.py" for n in range(40)]
    for path in paths:
        path.write_text(TRAINING_SCRIPT)
    return paths


@pytest.mark.parametrize("wave", range(6))
@pytest.mark.parametrize(("blow", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_command_struck_while_it_writes(tmp_path: Path, many: list[Path], blow: signal.Signals, code: int, wave: int) -> None:
    program = (
        "import signal, sys\n"
        "from ampify.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "sys.exit(main(['.']))\n"
    )
    source = TRAINING_SCRIPT.encode()
    # The last file that is seen written may yet be undone; those before it are done with.
    settled = 1 + wave * 3
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while sum(path.read_bytes() != source for path in many) <= settled and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(wave * 0.003)
        process.send_signal(blow)
        assert process.wait(timeout=60) == code
        words = process.stderr.read() if process.stderr else b""
    assert b"Traceback" not in words
    assert {path.read_bytes() for path in many} <= {source, convert(source).output}
    assert sum(path.read_bytes() != source for path in many) >= settled
    left = _litter(tmp_path, *(path.name for path in many))
    assert all(map(_is_harmless, left))
    assert blow is signal.SIGKILL or not left
