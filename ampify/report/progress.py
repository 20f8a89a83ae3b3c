"""The line of counts that a terminal shows while many files are converted."""

import sys
import time

PATIENCE = 1.0  # seconds before anything is shown
PAUSE = 0.1  # seconds between two changes


class ProgressLine:
    """The last line of standard error, written over again and again; nothing where that is no terminal, or not `wanted`."""

    def __init__(self, wanted: bool = True) -> None:
        self._terminal = wanted and sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + PATIENCE
        self._shown = 0  # characters

    def told(self, what: str, done: int, total: int) -> None:
        """Shows what is being done, to how many files it has been, and of how many; not too often."""
        self.show(f"{done} of {total} files {what}")

    def show(self, what: str) -> None:
        """Shows what is being done; not too often."""
        if self._terminal and (now := time.monotonic()) >= self._next:
            self._next = now + PAUSE
            self._write(f"ampify: {what}")

    def erase(self) -> None:
        """Leaves nothing of the line."""
        if self._shown:
            self._write("")

    close = erase

    def _write(self, text: str) -> None:
        blank = " " * (self._shown - len(text))
        self._shown = len(text)
        try:
            sys.stderr.write(f"\r{text}{blank}" if text else f"\r{blank}\r")
            sys.stderr.flush()
        except OSError:  # nobody looks any more
            self._terminal, self._shown = False, 0
