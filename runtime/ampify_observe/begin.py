"""The beginning of an observed process: other sources are read at once, all else is done as soon as torch is imported."""

import os
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ampify_observe.settings import Settings
from ampify_observe.sources import Sources


def begin(settings: Settings) -> None:
    """Observes this process."""
    Sources(settings.sources).install()
    random.seed(settings.seed)
    if "torch" in sys.modules:
        _observe(settings)
    else:
        sys.meta_path.insert(0, _Torch(settings))


class _Torch(MetaPathFinder):
    """Finds torch as others find it, and is there when it is imported: a process without it is not made to import it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of torch, whose loader goes on to the observation; None of all else."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def executed(module: ModuleType) -> None:
                loader.exec_module = execute
                execute(module)
                _observe(self._settings)

            loader.exec_module = executed
        return spec


def _observe(settings: Settings) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from ampify_observe import cuda_policy, rounding
    from ampify_observe.recorder import Recorder

    with suppress(ImportError):
        import numpy

        numpy.random.seed(settings.seed)
    torch.manual_seed(settings.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if settings.cuda_policy:
        cuda_policy.install()
    if settings.rounding:
        rounding.install(getattr(torch, settings.rounding))
    Recorder(settings).install()
