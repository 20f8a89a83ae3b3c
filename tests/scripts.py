"""Training scripts, run as `python train.py` runs them but in processes forked from one that has imported torch: importing it
is most of what a short script costs."""

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, mode: str = "off", scale: int = 1024, times: int = 1) -> str:
    """What a script of the working directory prints, run `times` times in one new process, with the runtime at hand.
    Raises AssertionError with what it wrote to stderr if it fails."""
    env = {**os.environ, "AMPIFY_MODE": mode, "AMPIFY_INIT_SCALE": str(scale)}
    order = {"script": script, "times": times, "directory": os.getcwd(), "env": env}
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    code, out, err = json.loads(server.stdout.readline())
    assert code == 0, err
    assert isinstance(out, str)
    return out


@cache
def _server() -> "subprocess.Popen[str]":
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.kill)
    return server


def _serve() -> None:
    import torch._dynamo  # noqa: F401  the first optimizer would import it

    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os._exit(_script(json.loads(line), out, err))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out.seek(0)
            err.seek(0)
            print(json.dumps([code, out.read().decode(), err.read().decode()]), flush=True)


def _script(order: dict[str, Any], out: IO[bytes], err: IO[bytes]) -> int:
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[:1] = [os.path.dirname(os.path.abspath(order["script"])), str(ROOT / "runtime")]
    try:
        for _ in range(order["times"]):
            runpy.run_path(order["script"], run_name="__main__")
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve()
