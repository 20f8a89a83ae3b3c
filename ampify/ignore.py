"""What a .gitignore says of one file or directory: a thin layer over pathspec.

pathspec answers for whole trees: to it a pattern that matches a directory also matches all below, and one that is for
directories only yields to any other. A walk from the top down asks about one name at a time, and git's answer is that of
the last pattern about this very name. So directories have a spec of their own, in which patterns have lost their final
slash; with it they are asked about like files, and there pathspec, too, lets the last pattern decide.

Known to differ from git, all rare (tests/files/test_ignore.py): `?` is one character rather than one byte; a negated
bracket takes a slash too; a class such as `[[:alpha:]]` and a backslash in a bracket are read literally; and where nested
files disagree, a directory that the nearest one brings back keeps what a farther one ignores by name.
"""

import os
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

# Imported where it is needed: only who walks directories with a .gitignore waits for it.
if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


class Rules(NamedTuple):
    """The patterns of one .gitignore that can be about a file, and those that can be about a directory."""

    files: "GitIgnoreSpec"
    directories: "GitIgnoreSpec"


def parse(data: bytes) -> Rules:
    """The rules of a .gitignore. Lines that mean nothing are left out."""
    from pathspec import GitIgnoreSpec

    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")
    patterns = [line if line.endswith("\\ ") else line.rstrip() for line in lines]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the regular expressions that pathspec makes: nothing the user can change
        return Rules(
            GitIgnoreSpec.from_lines(p for p in patterns if not p.endswith("/") and _is_valid(p)),
            GitIgnoreSpec.from_lines(p for p in (pattern.removesuffix("/") for pattern in patterns) if _is_valid(p)),
        )


def decide(rules: Rules, path: str, is_directory: bool) -> bool | None:
    """Whether the path (relative to the .gitignore, with slashes) is ignored; None if no rule is about it.

    Asked from the top down: what is in an ignored directory cannot be brought back, and nobody should ask about it.
    """
    spec = rules.directories if is_directory else rules.files
    return spec.check_file(path).include


def _is_valid(pattern: str) -> bool:
    """Whether pathspec reads a pattern; git passes over one that makes no sense, pathspec raises."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        return False
    return True
