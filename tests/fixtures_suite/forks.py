"""A process that has imported torch and forks a child for every run, which costs milliseconds and shares nothing.

Not the test process itself: other tests may have started threads there, and a fork must not meet them.
"""

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

TIMEOUT = 60.0
ROOT = Path(__file__).resolve().parents[2]


class ForkServer:
    """Runs scripts with `run`; `close` ends the process. Any run of it may be repeated: each starts afresh."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str], dict[str, Any]] = {}
        paths = [str(ROOT), str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AMPIFY_")}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "tests.fixtures_suite.forks"]
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, source: bytes, mode: str, path: str = "script.py", *, again: bool = False) -> dict[str, Any]:
        """The record of one run (see record.run_script); `again` runs it although its record is known."""
        import torch

        key = (source, mode)
        if again or key not in self._known:
            _send(self._process.stdin, pickle.dumps((source, path, mode)))
            reply = pickle.loads(_receive(self._process.stdout))
            if isinstance(reply, str):
                raise RuntimeError(reply)
            self._known[key] = torch.load(_bytes_io(reply), "cpu", weights_only=False)
        return self._known[key]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _bytes_io(data: bytes) -> IO[bytes]:
    import io

    return io.BytesIO(data)


def _send(stream: Any, data: bytes) -> None:
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _receive(stream: Any) -> bytes:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    return stream.read(struct.unpack("<Q", header)[0])


def _child(request: bytes, pipe: int) -> None:
    """Run one script and write its record; never returns."""
    status = 1
    try:
        import torch

        from tests.fixtures_suite.record import run_script

        buffer = _bytes_io(b"")
        torch.save(run_script(*pickle.loads(request)), buffer)
        with os.fdopen(pipe, "wb") as out:
            out.write(buffer.getvalue())
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _answer(request: bytes) -> bytes | str:
    """Fork, and collect what the child writes; a sentence if it died or took too long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(request, write)
    os.close(write)
    chunks, deadline = [], time.monotonic() + TIMEOUT
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            break
        chunk = os.read(read, 1 << 20)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(read)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGKILL:
        return f"the run took more than {TIMEOUT:g} s, or was killed"
    return b"".join(chunks) if status == 0 else f"the run died with status {status}"


def _serve() -> None:
    import torch
    import torch._dynamo  # optimizers import it at their first use, which takes a second in each fork
    import torch.utils.data

    import tests.fixtures_suite.record  # noqa: F401

    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a run's C code prints must not reach the replies
    while True:
        try:
            request = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(replies, pickle.dumps(_answer(request)))


if __name__ == "__main__":
    _serve()
