"""Verifications without a process that imports torch for each run: forks of one that has."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ampify import files
from ampify.convert import Options
from ampify.verify.compare import Comparison, compare
from ampify.verify.pair import against, of
from ampify.verify.runs import ERRORS, Request, Runner
from tests.forks import Forks


class ForkedRunner(Runner):
    """Runs what the command line of a run says in a fork."""

    def execute(self, name: str, command: Sequence[str], environment: Mapping[str, str], here: str) -> int | None:
        arguments = list(command[command.index("ampify_observe") + 1 :])
        return int(_server().run(arguments, dict(environment), f"{here}/{ERRORS}", os.getcwd()))


@cache
def _server() -> Forks:
    return Forks("tests.verify.observing:observe_here")


def observe_here(arguments: list[str], environment: dict[str, str], told: str, directory: str) -> bytes:
    """Observes a script in this process, which is another afterwards: its exit status."""
    import traceback

    from ampify_observe.__main__ import main

    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ampify_observe", *arguments]
    with open(told, "a") as errors, contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as error:
            return str(error.code or 0).encode()
        except BaseException:
            traceback.print_exc()
            return b"1"
    return b"0"


def verified(
    script: Path, converted: Path | None = None, modes: Sequence[str] = ("scale-only",), cuda_policy: bool = False
) -> Comparison:
    """The comparison of a script with its conversion, or with another script."""
    pair = against(str(script), str(converted)) if converted is not None else of(str(script), Options())
    with files.scratch() as scratch:
        runner = ForkedRunner(scratch, Request(steps=6, cuda_policy=cuda_policy), os.environ, lambda _: None)
        return compare(pair, tuple(modes), runner, lambda _: None)
