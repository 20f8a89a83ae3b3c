"""Training scripts, run as `python train.py` runs them, but without importing torch for each: that is most of what a short one
costs."""

import contextlib
import io
import os
import pickle
import runpy
import sys
import traceback
from functools import cache

from tests.forks import ROOT, Forks


def run(script: str, mode: str = "off", scale: int = 1024, times: int = 1) -> str:
    """What a script of the working directory prints, run `times` times in one new process, with the runtime at hand.
    Raises AssertionError with what it wrote to stderr if it fails."""
    env = {**os.environ, "AMPIFY_MODE": mode, "AMPIFY_INIT_SCALE": str(scale)}
    failed, out, err = pickle.loads(_server().run(script, os.getcwd(), env, times))
    assert not failed, err
    assert isinstance(out, str)
    return out


@cache
def _server() -> Forks:
    return Forks("tests.scripts:run_here")


def run_here(script: str, directory: str, env: dict[str, str], times: int) -> bytes:
    """Runs a script in this process, which is another afterwards: whether it failed, and what it wrote, pickled."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:1] = [os.path.dirname(os.path.abspath(script)), str(ROOT / "runtime")]
    sys.argv = [script]
    failed = False
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            for _ in range(times):
                runpy.run_path(script, run_name="__main__")
        except BaseException:
            traceback.print_exc()
            failed = True
    return pickle.dumps((failed, out.getvalue(), err.getvalue()))
