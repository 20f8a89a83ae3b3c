"""Versions: what a report of a mistake should say of ampify and of what it is used with."""

import sys
from importlib import metadata


def line() -> str:
    """The versions in a line; torch is not imported for that, and need not be there."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{_version('ampify')} (Python {python}, {_version('libcst')}, {_version('torch')})"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"no {package}"
