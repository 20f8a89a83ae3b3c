"""The only module that touches disk: reads whole files, lists directories, replaces a file atomically."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import IO, NamedTuple

UNREADABLE = "AMP990"
UNWRITABLE = "AMP993"
LARGEST = 200_000_000  # bytes: nobody's source, and it has to fit in memory

CHANGED = "it changed while ampify was working on it, so it was left as it is: run ampify again"


class FileError(Exception):
    """A file that cannot be read or written: a diagnostic code and one line for people, without the path."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Snapshot(NamedTuple):
    """A file as it was read. `path` is what the user gave, `target` the file behind any symbolic links."""

    path: str
    target: str
    data: bytes
    status: os.stat_result


class Entry(NamedTuple):
    """One name in a directory. A symbolic link is neither a file nor a directory here."""

    name: str
    is_file: bool
    is_directory: bool


def identity(path: str) -> str:
    """One string for every name of a file, so that a file given twice is handled once.

    Hard links stay apart: replacing one name atomically leaves the other with the old contents, so each is handled.
    """
    return os.path.realpath(path)


def is_directory(path: str) -> bool:
    """Whether the path leads to a directory; a link to one counts, since somebody named it."""
    return os.path.isdir(path)


def is_file(path: str) -> bool:
    """Whether the path leads to a regular file."""
    return os.path.isfile(path)


def exists(path: str) -> bool:
    """Whether there is anything at the path, a dangling link included."""
    return os.path.lexists(path)


def entries(directory: str) -> list[Entry]:
    """What is in a directory, sorted by name; links are not followed. Raises FileError."""
    try:
        with os.scandir(directory) as found:
            listed = [
                Entry(entry.name, entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False)) for entry in found
            ]
    except OSError as error:
        raise FileError(UNREADABLE, f"cannot list the directory: {_reason(error)}") from error
    return sorted(listed)


def read(path: str) -> Snapshot:
    """Read a regular file. Never blocks on a pipe or a device. Raises FileError."""
    target = os.path.realpath(path)
    try:
        # Looked at before it is opened: opening a pipe blocks, and opening a device can do things.
        _refuse_special(os.stat(path).st_mode)
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _refuse_special(status.st_mode)
            if status.st_size > LARGEST:
                raise FileError(UNREADABLE, f"cannot be read: it has {status.st_size:,} bytes, which is no Python source")
            return Snapshot(path, target, file.read(), status)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and os.path.islink(path):
            raise FileError(UNREADABLE, "cannot be read: a symbolic link to a file that does not exist") from error
        raise FileError(UNREADABLE, f"cannot be read: {_reason(error)}") from error


def read_optional(path: str) -> bytes | None:
    """The bytes of a file that need not be there or be readable, such as a .gitignore."""
    try:
        return read(path).data
    except FileError:
        return None


def write(before: Snapshot, data: bytes) -> None:
    """Replace the file that was read, atomically: at every moment it holds all of the old or all of the new bytes.

    A symbolic link stays one: the file that it leads to is replaced. Mode, owner and extended attributes are kept; of
    a hard-linked file the other names keep the old contents. Nothing is left behind on an error or on Ctrl-C. A process that
    is killed may leave its temporary file: no name of a script, nothing reads it, and as another process may be writing
    it, nothing removes it either.
    Raises FileError if the file is read-only, changed since it was read, or cannot be replaced.
    """
    check_writable(before)
    directory = os.path.dirname(before.target)
    temporary = _temporary(directory)
    try:
        _fill(temporary, data, before)
        now = read(before.path)
        if now.target != before.target or now.data != before.data:
            raise FileError(UNWRITABLE, CHANGED)
        os.replace(temporary, before.target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, FileError) and error.code == UNREADABLE:
            raise FileError(UNWRITABLE, CHANGED) from error
        if isinstance(error, OSError):
            raise FileError(UNWRITABLE, f"cannot be written: {_reason(error)}") from error
        raise
    _sync_directory(directory)


def check_writable(before: Snapshot) -> None:
    """Raises FileError if a file that was read may not be replaced; the bytes are not touched."""
    if not before.status.st_mode & 0o222:
        # Also for root, who could: the mode is the wish of whoever set it.
        raise FileError(UNWRITABLE, "cannot be written: the file is read-only")
    try:
        # Renaming over a file asks no permission of the file itself, so ask for it.
        os.close(os.open(before.target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))
    except OSError as error:
        raise FileError(UNWRITABLE, f"cannot be written: {_reason(error)}") from error


def create(path: str, data: bytes) -> None:
    """Write a new file, atomically: it is there with all of its bytes, or it is not there.

    Never replaces anything: raises FileError if there is something at the path, or if it cannot be written.
    """
    directory = os.path.dirname(os.path.abspath(path))
    temporary = _temporary(directory)
    try:
        _fill(temporary, data, None)
        try:
            os.link(temporary, path)  # fails if there is something, which os.replace would not
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.replace(temporary, path)
    except OSError as error:
        raise FileError(UNWRITABLE, f"cannot be written: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    _sync_directory(directory)


def replace(path: str, data: bytes) -> None:
    """Write a report, over an older one if there is one: atomically. Raises FileError."""
    if os.path.lexists(path):
        write(read(path), data)
    else:
        create(path, data)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A directory of our own for a while; it goes with all that is in it. Raises FileError if there is no room for one."""
    import tempfile  # only here: start-up is measured

    try:
        directory = tempfile.TemporaryDirectory(prefix="ampify-", ignore_cleanup_errors=True)
    except OSError as error:
        raise FileError(UNWRITABLE, f"there is no temporary directory: {_reason(error)}") from error
    with directory as path:
        yield path


def subdirectory(directory: str, name: str) -> str:
    """A new directory in one of our own; its path. Raises OSError."""
    path = os.path.join(directory, name)
    os.mkdir(path)
    return path


def opened(path: str) -> IO[bytes]:
    """A new file in a directory of our own, for another process to write to. Raises OSError."""
    return open(path, "xb")


def _temporary(directory: str) -> str:
    """A name for a temporary file. Made here rather than by tempfile.mkstemp, so that the name is known before the file
    exists and an interrupt between the two leaves nothing behind."""
    return os.path.join(directory, f".ampify-{os.getpid()}-{os.urandom(8).hex()}.tmp")


def _reason(error: OSError) -> str:
    """The system's words without the path, which the reader of the message has already."""
    return error.strerror or str(error)


def _refuse_special(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "a special file")
    raise FileError(UNREADABLE, f"cannot be read: it is {kind}, not a regular file")


def _fill(temporary: str, data: bytes, before: Snapshot | None) -> None:
    """Write a new file down to the disk: with the mode, owner and attributes of the old one, or else with a new file's mode."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(temporary, flags, 0o666 if before is None else 0o600)
    except PermissionError as error:
        why = ", and files are replaced" if before is not None else ""
        raise FileError(UNWRITABLE, f"cannot be written: its directory is read-only{why}") from error
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if before is not None:
            _copy_ownership(file.fileno(), before)
        os.fsync(file.fileno())


def _copy_ownership(descriptor: int, before: Snapshot) -> None:
    """Owner, group, mode and extended attributes (which hold access lists), as far as the system lets us."""
    if hasattr(os, "fchown"):
        for owner in (before.status.st_uid, -1):
            with contextlib.suppress(OSError):
                os.fchown(descriptor, owner, before.status.st_gid)
                break
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(before.target):
                with contextlib.suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(before.target, name))
    if hasattr(os, "fchmod"):
        # Last: changing the owner clears the set-id bits.
        os.fchmod(descriptor, stat.S_IMODE(before.status.st_mode))


def _sync_directory(directory: str) -> None:
    """Make the rename itself durable. The new contents are in place already, so a failure here is nobody's concern."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
