"""Runs of the two programs: each in a process of its own, with the same seeds, observed from outside by `ampify_observe`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

from ampify import files
from ampify.verify.pair import Program
from ampify.verify.records import Run, made, read

PAUSE = 0.1  # seconds between two looks at a run
GRACE = 1.0  # seconds that processes have to end
LAST = 12  # lines of what a script wrote that are shown
RECORD, ERRORS = "record", "errors"  # in the directory of a run
FIXED = {"PYTHONHASHSEED": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # or else two runs are not the same
OWN = ("AMPIFY_MODE", "AMPIFY_DEVICE", "AMPIFY_INIT_SCALE", "AMPIFY_REPORT")


class Request(NamedTuple):
    """How the programs are to be run."""

    arguments: tuple[str, ...] = ()
    steps: int = 20
    seed: int = 0
    timeout: float = 600.0
    scale: float = 65536.0  # that fp16 begins with, as the runtime does
    cuda_policy: bool = False


def unable() -> str:
    """Why nothing can be run here; empty if it can."""
    if find_spec("torch") is None:
        return f"torch is not installed for {sys.executable}: install ampify where the scripts train, beside torch"
    if find_spec("ampify_observe") is None:
        return f"ampify_observe is not installed for {sys.executable}: install ampify again"
    return ""


class Runner:
    """Runs programs one after the other, in the user's `environment`; what they leave behind lies in `scratch`. `told` is told
    how many steps were made."""

    def __init__(self, scratch: str, request: Request, environment: Mapping[str, str], told: Callable[[str], None]) -> None:
        self._scratch, self.request, self._told = scratch, request, told
        self._environment = {name: value for name, value in environment.items() if name not in OWN}
        self._number = 0
        self.kept = files.subdirectory(scratch, "gradients")  # of the reference

    def run(self, name: str, program: Program, environment: Mapping[str, str], *extra: str) -> Run:
        """Runs a program until it has made its steps, ends or takes too long."""
        self._number += 1
        here = files.subdirectory(self._scratch, str(self._number))
        record = files.subdirectory(here, RECORD)
        command = [sys.executable, "-P", "-m", "ampify_observe", record]
        command += ["--steps", str(self.request.steps), "--seed", str(self.request.seed), *extra]
        if program.sources:
            command += ["--sources", _written(program, here)]
        if self.request.cuda_policy:
            command.append("--cuda-policy")
        command += [program.script, *self.request.arguments]
        status = self.execute(name, command, {**self._environment, **FIXED, **environment}, here)
        failure = _failure(status, self.request.timeout)
        told = _last(files.read_optional(f"{here}/{ERRORS}") or b"") if failure else ()
        return Run(read(record), failure, told)

    def execute(self, name: str, command: Sequence[str], environment: Mapping[str, str], here: str) -> int | None:
        """The exit status of a command; None if it takes too long. An interrupt ends it, with all that it started."""
        with files.opened(f"{here}/printed") as printed, files.opened(f"{here}/{ERRORS}") as errors:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                start_new_session=True,  # a group of processes of its own
            )
            try:
                return self._wait(name, process, f"{here}/{RECORD}")
            finally:
                _end(process)

    def _wait(self, name: str, process: "subprocess.Popen[bytes]", record: str) -> int | None:
        """The exit status; None if it takes too long."""
        deadline = time.monotonic() + self.request.timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(PAUSE)
            steps = made(record)
            self._told(f"{name}: {steps} of {self.request.steps} steps" if steps else f"{name} starts")
        return None


def _written(program: Program, directory: str) -> str:
    """Writes down what is to be read in the place of which file; the path of the list."""
    places = {}
    for number, (path, source) in enumerate(program.sources.items()):
        places[path] = f"{directory}/{number}.py"
        with files.opened(places[path]) as file:
            file.write(source)
    with files.opened(f"{directory}/sources.json") as file:
        file.write(json.dumps(places).encode())
    return f"{directory}/sources.json"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process with all that it started. Not by an interrupt: scripts catch that, and go on to save what they have."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _failure(status: int | None, timeout: float) -> str:
    if status is None:
        return f"it took more than {timeout:g} seconds (--timeout)"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with exit code {status}" if status else ""


def _last(written: bytes) -> tuple[str, ...]:
    """The last lines of what a script wrote to standard error, less the frames of the observation in a traceback."""
    kept: list[str] = []
    own = False
    for line in written.decode("utf-8", "replace").replace("\r", "\n").splitlines():
        if not line.startswith("    "):  # no line of a frame, but the next one, or the end
            own = line.startswith('  File "') and (f"{os.sep}ampify_observe{os.sep}" in line or "<frozen" in line)
        if not own and set(line) - set(" ^~"):
            kept.append(line)
    return tuple(kept[-LAST:])
