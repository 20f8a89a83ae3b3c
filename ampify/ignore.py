"""What a .gitignore says of one file or directory: a thin layer over pathspec.

pathspec answers for whole trees: to it a pattern that matches a directory also matches all below, and one that is for
directories only yields to any other. A walk from the top down asks about one name at a time, and git's answer is that of
the last pattern about this very name. So directories have a spec of their own, in which patterns have lost their final
slash, and are asked about like files: there pathspec, too, lets the last pattern decide.

Where it is known to differ from git, see tests/files/test_ignore.py.
"""

import os
import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

# Imported where it is needed: only a walk that meets a .gitignore waits for it.
if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


class Rules(NamedTuple):
    """The patterns of one .gitignore, as they are asked about a file, and about a directory."""

    files: "GitIgnoreSpec"
    directories: "GitIgnoreSpec"


def parse(data: bytes) -> Rules:
    """The rules of a .gitignore. Lines that mean nothing are left out."""
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).split("\n")
    patterns = [line if line.endswith("\\ ") else line.rstrip() for line in lines]
    return Rules(
        # One that brings a directory back stays: below, it outweighs the pattern that it took the directory from.
        _spec(pattern for pattern in patterns if not pattern.endswith("/") or pattern.startswith("!")),
        _spec(pattern.removesuffix("/") for pattern in patterns if not pattern.endswith("//")),
    )


class Selection(NamedTuple):
    """What a configuration says of the files in directories. `include` is None if it takes all of them."""

    directory: str
    include: "GitIgnoreSpec | None"
    exclude: Rules

    def takes(self, path: str) -> bool:
        """Whether a file, by its path relative to the directory, is one of those to include."""
        return self.include is None or self.include.match_file(path)


def select(directory: str, include: Iterable[str] | None, exclude: Iterable[str]) -> Selection:
    """The selection by patterns that are relative to a directory."""
    spec = _spec(include) if include is not None else None
    return Selection(directory, spec, parse(os.fsencode("\n".join(exclude))))


def is_pattern(text: str) -> bool:
    """Whether a text means something as a pattern by itself: neither empty, nor a comment, nor several lines, nor an error."""
    return "\n" not in text and bool(text.strip()) and not text.startswith("#") and bool(_spec([text]).patterns)


def decide(rules: Rules, path: str, is_directory: bool) -> bool | None:
    """Whether the path (relative to the .gitignore, with slashes) is ignored; None if no rule is about it.

    Asked from the top down: what is in an ignored directory cannot be brought back, and nobody should ask about it.
    """
    spec = rules.directories if is_directory else rules.files
    return spec.check_file(path).include


def _spec(patterns: Iterable[str]) -> "GitIgnoreSpec":
    """One spec of all patterns that mean something: git passes over the others, pathspec raises."""
    from pathspec import GitIgnoreSpec

    valid = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about regular expressions that pathspec makes: nobody can change them
        for pattern in patterns:
            try:
                GitIgnoreSpec.from_lines([pattern])
            except (ValueError, re.error):
                continue
            valid.append(pattern)
        return GitIgnoreSpec.from_lines(valid)
