"""Directories of our own for a while, and reports that are written over older ones."""

import os
import tempfile
from pathlib import Path

import pytest

from ampify import files
from ampify.files import FileError


def test_a_scratch_directory_goes_with_all_that_is_in_it() -> None:
    made = []

    def interrupted() -> None:
        with files.scratch() as directory:
            made.append(directory)
            with files.opened(os.path.join(files.subdirectory(directory, "inner"), "file")) as file:
                file.write(b"1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not os.path.exists(made[0])


def test_no_room_for_a_scratch_directory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(FileError, match="there is no temporary directory: No such file or directory"), files.scratch():
        pass


def test_a_report_is_written_over_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for data in (b"first", b"second"):
        files.replace(str(path), data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        files.replace(str(tmp_path / "nowhere/report.html"), b"")
