"""Directories: the files below one, less what git ignores and what a configuration leaves out."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from ampify import files, ignore
from ampify.files import FileError

# Never walked into: version control, caches, environments and build results hold nobody's training script.
SKIPPED = frozenset(
    {
        ".eggs",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        "__pycache__",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
    }
)
TAKEN = (".py", ".ipynb")


class _Ignore(NamedTuple):
    """One .gitignore: its rules speak of paths below its directory."""

    directory: str
    rules: ignore.Rules


def walk(root: str, selection: ignore.Selection | None) -> Iterator[tuple[str, FileError | None]]:
    """The `.py` files and notebooks below a directory that are selected, sorted, less what git ignores. Symbolic links are not
    followed."""
    absolute = files.identity(root)
    above = _ignores_above(absolute)
    if _ignored(absolute, True, above):
        above = ()  # named by hand: it is wanted, whatever the repository around it says
    excluded = (_Ignore(selection.directory, selection.exclude),) if selection is not None else ()
    if _ignored(absolute, True, excluded):
        excluded = ()
    # A stack rather than recursion: nesting is as deep as the user likes.
    stack: list[tuple[str, str, tuple[_Ignore, ...], bool]] = [(root, absolute, above, True)]
    while stack:
        shown, place, ignores, is_directory = stack.pop()
        if not is_directory:
            yield shown, None
            continue
        try:
            entries = files.entries(place)
        except FileError as problem:
            yield shown, problem
            continue
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names and place != absolute:
            continue
        if ".gitignore" in names:
            ignores = (*ignores, *_read_ignore(place))
        for entry in reversed(entries):
            child = os.path.join(place, entry.name)
            wanted = entry.name not in SKIPPED if entry.is_directory else entry.name.endswith(TAKEN)
            wanted = wanted and (entry.is_directory or (entry.is_file and _selected(child, selection)))
            if wanted and not _ignored(child, entry.is_directory, (*ignores, *excluded)):
                name = entry.name if shown == os.curdir else os.path.join(shown, entry.name)
                stack.append((name, child, ignores, entry.is_directory))


def _ignores_above(directory: str) -> tuple[_Ignore, ...]:
    """The .gitignore files of the directories above, from the root of the git repository down; none outside of one."""
    parents = []
    here = directory
    while not files.exists(os.path.join(here, ".git")):
        parent = os.path.dirname(here)
        if parent == here:
            return ()
        parents.append(parent)
        here = parent
    return tuple(found for parent in reversed(parents) for found in _read_ignore(parent))


def _read_ignore(directory: str) -> list[_Ignore]:
    data = files.read_optional(os.path.join(directory, ".gitignore"))
    return [_Ignore(directory, ignore.parse(data))] if data else []


def _ignored(path: str, is_directory: bool, ignores: tuple[_Ignore, ...]) -> bool:
    """The last .gitignore with an opinion decides: the nearest. The directories above the path are known not to be ignored."""
    for directory, rules in reversed(ignores):
        relative = _below(directory, path)
        if not relative:
            continue
        decision = ignore.decide(rules, relative, is_directory)
        if decision is not None:
            return decision
    return False


def _selected(path: str, selection: ignore.Selection | None) -> bool:
    """Whether a file is one to include; patterns say nothing of what is outside of their directory."""
    relative = _below(selection.directory, path) if selection is not None else ""
    return selection is None or not relative or selection.takes(relative)


def _below(directory: str, path: str) -> str:
    """The path relative to a directory, with slashes; empty if it is the directory, or outside of it."""
    relative = os.path.relpath(path, directory).replace(os.sep, "/")
    return "" if relative in (os.curdir, os.pardir) or relative.startswith("../") else relative
