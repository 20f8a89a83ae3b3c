"""files.read and files.entries: what is no regular file is said in one line and never blocks."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ampify import files
from ampify.files import FileError


def _missing(path: Path) -> None:
    pass


def _directory(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the whole path is too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.py")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _below_a_file(path: Path) -> None:
    path.parent.joinpath("plain").write_bytes(b"")
    path.symlink_to("plain/x.py")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "No such file"),
        (_directory, "a directory"),
        (_pipe, "a named pipe"),
        (_socket, "a socket"),
        (_device, "a device"),
        (_dangling, "a symbolic link to a file that does not exist"),
        (_loop, "Too many levels of symbolic links"),
        (_below_a_file, "Not a directory"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "x.py"
    make(path)
    with pytest.raises(FileError, match=words) as caught:
        files.read(str(path))
    assert caught.value.code == files.UNREADABLE
    assert "\n" not in caught.value.message


def test_a_name_too_long_for_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="File name too long"):
        files.read(str(tmp_path / ("x" * 300)))


def test_reads_every_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "x.py").write_bytes(data)
    assert files.read(str(tmp_path / "x.py")).data == data


def test_every_name_of_a_file_is_one_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.py").touch()
    (tmp_path / "link.py").symlink_to("x.py")
    (tmp_path / "here").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    names = ["x.py", "./x.py", "link.py", "here/x.py", str(tmp_path / "x.py")]
    assert {files.identity(name) for name in names} == {os.path.realpath("x.py")}


def test_entries_are_sorted_and_links_are_neither_file_nor_directory(tmp_path: Path) -> None:
    (tmp_path / "b.py").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "d").symlink_to("b.py")
    assert files.entries(str(tmp_path)) == [
        ("a", False, True),
        ("b.py", True, False),
        ("c", False, False),
        ("d", False, False),
    ]


def test_a_directory_that_may_not_be_listed(unprivileged_directory: Path) -> None:
    inner = unprivileged_directory / "inner"
    inner.mkdir()
    inner.chmod(0)
    with pytest.raises(FileError, match="cannot list the directory: Permission denied"):
        files.entries(str(inner))
