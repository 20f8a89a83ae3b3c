"""Paths as reports name them."""

import os


def below(path: str) -> str | None:
    """The path relative to the current directory, with slashes; None if the file is not below it."""
    try:
        found = os.path.relpath(os.path.abspath(path))
    except ValueError:  # another drive
        return None
    outside = found == os.pardir or found.startswith(os.pardir + os.sep)
    return None if outside else found.replace(os.sep, "/")


def relative(path: str) -> str:
    """The path as a diff names it: relative if the file is below the current directory, else absolute from the root."""
    inside = below(path)
    if inside is not None:
        return inside
    return os.path.splitdrive(os.path.abspath(path))[1].replace(os.sep, "/").lstrip("/")
