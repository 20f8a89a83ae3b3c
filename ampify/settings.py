"""Settings: the options of each file, where a configuration has some for patterns of paths."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ampify import files
from ampify.config import Config, Given, combined
from ampify.convert import Options

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


class Settings(NamedTuple):
    """What gives each file its options: the configuration and the command line. As Options, it answers for a file."""

    configured: Config
    given: Given
    timings: bool = False

    def of(self, path: str) -> Options:
        """The options of a file: those of later patterns take the place of earlier ones, and of what holds for all files."""
        directory = files.identity(os.path.dirname(self.configured.path) or os.curdir)
        relative = os.path.relpath(files.identity(path), directory).replace(os.sep, "/")
        inside = relative != os.pardir and not relative.startswith("../")
        found = self.configured
        for pattern, own in self.configured.per_file:
            if inside and _spec(pattern).match_file(relative):
                found = found._replace(**{key: value for key, value in own._asdict().items() if value})
        return combined(found, self.given)._replace(timings=self.timings)

    def vendors(self) -> bool:
        """Whether a file may get the runtime beside it."""
        said = {self.configured.runtime, *(own.runtime for _, own in self.configured.per_file)}
        return "vendor" in ({self.given.runtime} if self.given.runtime else said)


@lru_cache(maxsize=256)
def _spec(pattern: str) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([pattern])
