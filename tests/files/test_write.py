"""files.write: every byte of the old file or every byte of the new one, whatever happens."""

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ampify import files
from ampify.files import FileError

OLD = b"old = 1\n" * 1000
NEW = b"new = 2\n" * 2000


def _script(directory: Path, name: str = "train.py") -> Path:
    path = directory / name
    path.write_bytes(OLD)
    return path


def _write(path: Path) -> None:
    files.write(files.read(str(path)), NEW)


def test_replaces_the_contents_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = _script(tmp_path)
    _write(path)
    assert path.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.parametrize("mode", [0o755, 0o644, 0o600, 0o4750])
def test_keeps_the_mode(tmp_path: Path, mode: int) -> None:
    path = _script(tmp_path)
    path.chmod(mode)
    _write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_keeps_extended_attributes(tmp_path: Path) -> None:
    path = _script(tmp_path)
    os.setxattr(path, "user.origin", b"a colleague")
    _write(path)
    assert os.getxattr(path, "user.origin") == b"a colleague"


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = _script(tmp_path / "real")
    link = tmp_path / "link.py"
    link.symlink_to("real/train.py")
    _write(link)
    assert os.readlink(link) == "real/train.py"
    assert target.read_bytes() == NEW
    assert os.listdir(tmp_path / "real") == ["train.py"]


def test_the_other_name_of_a_hard_link_keeps_the_old_contents(tmp_path: Path) -> None:
    path = _script(tmp_path)
    other = tmp_path / "other.py"
    other.hardlink_to(path)
    _write(path)
    assert (path.read_bytes(), other.read_bytes()) == (NEW, OLD)


def test_the_longest_name_that_a_file_can_have(tmp_path: Path) -> None:
    path = _script(tmp_path, "x" * 252 + ".py")
    _write(path)
    assert path.read_bytes() == NEW


def test_read_only_file_is_refused_also_for_root(tmp_path: Path) -> None:
    path = _script(tmp_path)
    path.chmod(0o444)
    with pytest.raises(FileError, match="read-only") as caught:
        _write(path)
    assert caught.value.code == files.UNWRITABLE
    assert path.read_bytes() == OLD


def test_read_only_directory(unprivileged_directory: Path) -> None:
    path = _script(unprivileged_directory)
    unprivileged_directory.chmod(0o555)
    with pytest.raises(FileError, match="its directory is read-only"):
        _write(path)
    assert path.read_bytes() == OLD


def test_a_file_that_somebody_else_may_write_only(unprivileged_directory: Path) -> None:
    path = _script(unprivileged_directory)
    snapshot = files.read(str(path))
    path.chmod(0o400)  # a rename would still succeed
    with pytest.raises(FileError, match="cannot be written: Permission denied"):
        files.write(snapshot, NEW)
    assert path.read_bytes() == OLD
    assert os.listdir(unprivileged_directory) == ["train.py"]


def test_unreadable_file(unprivileged_directory: Path) -> None:
    path = _script(unprivileged_directory)
    path.chmod(0o200)
    with pytest.raises(FileError, match="cannot be read: Permission denied") as caught:
        files.read(str(path))
    assert caught.value.code == files.UNREADABLE


def _edit(path: Path) -> None:
    path.write_bytes(b"by somebody else\n")


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_bytes(OLD.upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"by an editor that renames\n")
    other.replace(path)


@pytest.mark.parametrize("change", [_edit, _same_size_and_time, _replace])
def test_changed_since_it_was_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = _script(tmp_path)
    snapshot = files.read(str(path))
    change(path)
    theirs = path.read_bytes()
    with pytest.raises(FileError, match="changed"):
        files.write(snapshot, NEW)
    assert path.read_bytes() == theirs
    assert os.listdir(tmp_path) == ["train.py"]


def test_removed_since_it_was_read(tmp_path: Path) -> None:
    path = _script(tmp_path)
    snapshot = files.read(str(path))
    path.unlink()
    with pytest.raises(FileError) as caught:
        files.write(snapshot, NEW)
    assert caught.value.code == files.UNWRITABLE
    assert os.listdir(tmp_path) == []


def test_link_redirected_since_it_was_read(tmp_path: Path) -> None:
    first, second = _script(tmp_path, "first.py"), _script(tmp_path, "second.py")
    link = tmp_path / "link.py"
    link.symlink_to("first.py")
    snapshot = files.read(str(link))
    link.unlink()
    link.symlink_to("second.py")
    with pytest.raises(FileError, match="changed"):
        files.write(snapshot, NEW)
    assert first.read_bytes() == second.read_bytes() == OLD


def test_a_write_that_the_system_cuts_short(tmp_path: Path) -> None:
    path = _script(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(OLD) + 100, limits[1]))
    try:
        with pytest.raises(FileError, match="cannot be written: File too large"):
            _write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["train.py"]


# Every call of write() to the system, in order: its name, which of its calls, and whether the old bytes are still there
# before and after it. `open`: the file to check the permission, the new file, the file to see whether it changed, the
# directory to make the rename durable.
STEPS = [("open", 1), ("open", 2), ("fchown", 1), ("fchmod", 1), ("fsync", 1), ("open", 3), ("replace", 1), ("open", 4)]
MOMENTS = [(*step, moment) for step in STEPS for moment in ("before", "after")]


def _expected(name: str, call: int, moment: str) -> bytes:
    return NEW if (name, call, moment) == ("replace", 1, "after") or (name, call) == ("open", 4) else OLD


def _at(name: str, call: int, moment: str, strike: Callable[[], None]) -> Callable[..., Any]:
    """The system call of that name, struck before or after its call of that number."""
    real = getattr(os, name)
    calls = 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and moment == "before":
            strike()
        result = real(*args, **kwargs)
        if calls == call and moment == "after":
            strike()
        return result

    return struck


def _disk_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "call"), STEPS)
def test_disk_full_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    path = _script(tmp_path)
    snapshot = files.read(str(path))
    # The owner is kept where that is possible; what follows the rename can only fail to be durable.
    harmless = (name, call) in {("fchown", 1), ("open", 4)}
    with monkeypatch.context() as patch:
        patch.setattr(os, name, _at(name, call, "before", _disk_full))
        if harmless:
            files.write(snapshot, NEW)
        else:
            with pytest.raises(FileError, match=r"No space left on device|changed"):
                files.write(snapshot, NEW)
    assert path.read_bytes() == (NEW if harmless else OLD)
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.parametrize(("name", "call", "moment"), MOMENTS)
def test_interrupted_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, moment: str) -> None:
    path = _script(tmp_path)
    snapshot = files.read(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, name, _at(name, call, moment, _interrupt))
        with pytest.raises(KeyboardInterrupt):
            files.write(snapshot, NEW)
    assert path.read_bytes() == _expected(name, call, moment)
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.parametrize(("name", "call", "moment"), MOMENTS)
def test_killed_at_every_step(tmp_path: Path, name: str, call: int, moment: str) -> None:
    path = _script(tmp_path)
    snapshot = files.read(str(path))
    child = os.fork()
    if child == 0:
        try:
            setattr(os, name, _at(name, call, moment, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            files.write(snapshot, NEW)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert path.read_bytes() == _expected(name, call, moment)
    # What a killed process leaves behind is nothing that a later run would take for a script.
    assert [found for found in os.listdir(tmp_path) if found.endswith(".py")] == ["train.py"]
