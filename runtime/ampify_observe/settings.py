"""What an observed process is told, by its command line, and what it hands on to those that it starts, by the environment."""

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

VARIABLE = "AMPIFY_OBSERVE"


class Settings(NamedTuple):
    """How a script is to be observed.

    `record` is the directory that gets a file for each process. Each process stops when one of its optimizers has tried `steps`
    steps. `sources` has, by the real path of a file, the file that is read in its place. The first gradients of each optimizer
    are kept in `keep`, or compared with those that are in `reference`. `rounding` names a half-precision dtype in which the
    modules of a script are to compute that knows nothing of it.
    """

    record: str
    steps: int = 20
    seed: int = 0
    sources: Mapping[str, str] = MappingProxyType({})
    keep: str = ""
    reference: str = ""
    cuda_policy: bool = False
    rounding: str = ""

    def hand_on(self) -> None:
        """Lets the Python processes that this one starts be observed too: they find `children/sitecustomize.py` first."""
        os.environ[VARIABLE] = json.dumps({**self._asdict(), "sources": dict(self.sources)})
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "children")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def handed_on() -> Settings | None:
    """What the process that started this one was told."""
    given: dict[str, Any] | None = json.loads(os.environ.get(VARIABLE, "null"))
    return None if given is None else Settings(**given)
