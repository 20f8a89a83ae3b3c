"""The vendored runtime: a copy of ampify_runtime.py beside a script, so that nothing need be installed where it trains."""

import os
import re
from typing import NamedTuple

from ampify import files
from ampify.diagnostics import Diagnostic, note
from ampify.files import FileError, Snapshot

NAME = "ampify_runtime.py"
# How our file begins. Whatever begins otherwise is somebody else's, and is never written over.
MARKER = re.compile(rb"# ampify_runtime (\d+(?:\.\d+)*) ")
RELATIVE = re.compile(rb"^from \.ampify_runtime import ", re.MULTILINE)


class Copy(NamedTuple):
    """The runtime to be put beside a script: over `before`, an older one, or where no file is yet."""

    path: str
    before: Snapshot | None
    data: bytes

    def write(self) -> None:
        """Write it, atomically. Raises FileError, also if a file has appeared there meanwhile."""
        try:
            if self.before is None:
                files.create(self.path, self.data)
            else:
                files.write(self.before, self.data)
        except FileError as problem:
            raise _of_the_copy(problem) from problem

    def diagnostic(self, line: int) -> Diagnostic:
        """What a report says of it, at the line of the import."""
        if self.before is None:
            return note("AMP191", line, f"version {_version(self.data)}")
        return note("AMP192", line, f"from version {_version(self.before.data)} to {_version(self.data)}")


def beside(script: Snapshot) -> Copy | None:
    """What a converted script needs beside it; None if a runtime as new as ours is there. Raises FileError if another file is.

    Beside means in the directory of the file itself, where Python looks first when it runs a script through a link.
    """
    path = os.path.join(shown_directory(script), NAME)
    ours = _own()
    if not files.exists(path):
        return Copy(path, None, ours)
    try:
        theirs = files.read(path)
    except FileError as problem:
        raise _of_the_copy(problem) from problem
    if not MARKER.match(theirs.data):
        message = f"cannot be converted: the {NAME} beside it is not ampify's; rename that file, or use --runtime import"
        raise FileError(files.UNWRITABLE, message)
    if _order(ours) <= _order(theirs.data):
        return None
    if os.path.basename(theirs.target) != NAME or os.path.dirname(theirs.target) != os.path.dirname(script.target):
        message = f"cannot be converted: the {NAME} beside it is a symbolic link to an older one; nobody gave that file"
        raise FileError(files.UNWRITABLE, f"{message}: update it by hand")
    return Copy(path, theirs, ours)


def package_note(script: Snapshot, output: bytes, line: int) -> Diagnostic | None:
    """What to know of a script that lies in a package and imports absolutely; None of any other."""
    if RELATIVE.search(output) or not files.exists(os.path.join(shown_directory(script), "__init__.py")):
        return None
    return note("AMP193", line, "")


def shown_directory(script: Snapshot) -> str:
    """The directory of the file behind a script's path, spelled as the path is where no link is in between."""
    shown, real = os.path.dirname(script.path), os.path.dirname(script.target)
    return shown if files.identity(shown or os.curdir) == real else real


def _of_the_copy(problem: FileError) -> FileError:
    return FileError(problem.code, f"the {NAME} beside it {problem.message}")


def _version(data: bytes) -> str:
    match = MARKER.match(data)
    assert match is not None
    return match[1].decode()


def _order(data: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in _version(data).split("."))


def _own() -> bytes:
    """The source of the runtime that came with this ampify; it is never imported, as it imports torch.

    Raises FileError if it is nowhere to be found.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # In a checkout, which an editable install leads to, it lies in runtime/; an installed one lies beside the package.
    for path in (os.path.join(root, "runtime", NAME), os.path.join(root, NAME), _elsewhere()):
        data = files.read_optional(path) if path else None
        if data is not None and MARKER.match(data):
            return data
    raise FileError(files.UNREADABLE, f"cannot be converted: ampify's own {NAME} was not found; install ampify again")


def _elsewhere() -> str:
    """Where Python would import the runtime from, or an empty string. A top-level module is found without importing it."""
    from importlib.util import find_spec  # only here: start-up is measured

    spec = find_spec("ampify_runtime")
    return (spec.origin or "") if spec is not None else ""
