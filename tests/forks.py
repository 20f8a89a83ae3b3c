"""A process that has imported torch and forks a child for every task, which costs milliseconds and shares nothing.

Not the test process itself: other tests may have started threads there, and a fork must not meet them.
"""

import importlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TIMEOUT = 60.0
ROOT = Path(__file__).resolve().parents[1]


class Forks:
    """Does a task, a function named `package.module:function` that returns bytes, in a new process each time."""

    def __init__(self, task: str) -> None:
        paths = [str(ROOT), str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AMPIFY_")}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "tests.forks", task]
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, *given: object) -> bytes:
        """What the task returns. Raises RuntimeError if the process died or took too long."""
        _send(self._process.stdin, pickle.dumps(given))
        reply = pickle.loads(_receive(self._process.stdout))
        if isinstance(reply, str):
            raise RuntimeError(reply)
        assert isinstance(reply, bytes)
        return reply

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _send(stream: Any, data: bytes) -> None:
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def _receive(stream: Any) -> bytes:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    data = stream.read(struct.unpack("<Q", header)[0])
    assert isinstance(data, bytes)
    return data


def _child(task: str, request: bytes, pipe: int) -> None:
    """Does the task once and writes what it returns; never returns."""
    status = 1
    try:
        result = _function(task)(*pickle.loads(request))
        with os.fdopen(pipe, "wb") as out:
            out.write(result)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _answer(task: str, request: bytes) -> bytes | str:
    """Fork, and collect what the child writes; a sentence if it died or took too long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(task, request, write)
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


def _function(task: str) -> Any:
    module, _, name = task.partition(":")
    return getattr(importlib.import_module(module), name)


def _serve(task: str) -> None:
    import torch
    import torch._dynamo  # optimizers import it at their first use, which takes a second in each fork
    import torch.utils.data

    _function(task)
    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a run's C code prints must not reach the replies
    while True:
        try:
            request = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(replies, pickle.dumps(_answer(task, request)))


if __name__ == "__main__":
    _serve(sys.argv[1])
