"""Other sources in the place of files: a script, or a module that it imports, runs as if the file at its path had them."""

import builtins
import functools
import io
import linecache
import os
import sys
import traceback
import types
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from typing import Any


class Sources:
    """What is read in the place of files, by their real paths.

    Paths stay the originals': `__file__`, relative imports, what lies beside a file. Nothing is written, also no bytecode.
    """

    def __init__(self, instead: Mapping[str, str]) -> None:
        self._instead = instead

    def of(self, path: str) -> bytes | None:
        """The bytes in the place of a file; None if it is read itself."""
        other = self._instead.get(os.path.realpath(path))
        if other is None:
            return None
        with open(other, "rb") as file:
            return file.read()

    def install(self) -> None:
        """Has imports, scripts that `runpy` runs (as a spawned process does), tracebacks and `inspect` read them."""
        if not self._instead:
            return
        get_code, open_code = SourceFileLoader.get_code, io.open_code

        @functools.wraps(get_code)
        def get_other_code(loader: SourceFileLoader, name: str) -> types.CodeType | None:
            path = loader.get_filename(name)
            source = self.of(path)
            if source is None:
                return get_code(loader, name)
            self._show(path, source)
            return loader.source_to_code(source, path)

        def open_other_code(path: str) -> Any:
            source = self.of(path)
            if source is None:
                return open_code(path)
            self._show(path, source)
            return io.BytesIO(source)

        setattr(SourceFileLoader, "get_code", get_other_code)  # noqa: B010 - a method of a base class, for mypy
        io.open_code = open_other_code
        sys.excepthook = traceback.print_exception  # that of C reads the files

    @staticmethod
    def _show(path: str, source: bytes) -> None:
        text = source.decode("utf-8", "replace")
        linecache.cache[path] = (len(source), None, text.splitlines(keepends=True), path)


def run(path: str, arguments: list[str]) -> None:
    """Runs a script as `python script.py arguments` does, in a module of its own by the name of `__main__`."""
    full = os.path.abspath(path)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(full))
    main = types.ModuleType("__main__")
    # Runs of `python` have neither of the two: __spec__ is None, and a process that is spawned looks for __file__.
    vars(main).update(__file__=full, __builtins__=builtins, __loader__=SourceFileLoader("__main__", full), __cached__=None)
    sys.modules["__main__"] = main
    with io.open_code(full) as file:
        code = compile(file.read(), full, "exec", dont_inherit=True)
    exec(code, vars(main))
