"""What the command meets on disk and on its streams: one clear line, the right exit code, every other file handled."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ampify.cli import main
from tests.conftest import TRAINING_SCRIPT, Ampify

SCRIPT = TRAINING_SCRIPT.encode()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "zz.py"
    path.write_bytes(SCRIPT)
    return path


def _missing(path: Path) -> None:
    pass


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.py")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _read_only(path: Path) -> None:
    path.write_bytes(SCRIPT)
    path.chmod(0o444)


PROBLEMS = [
    (_missing, "AMP990 cannot be read: No such file or directory"),
    (_dangling, "AMP990 cannot be read: a symbolic link to a file that does not exist"),
    (_loop, "AMP990 cannot be read: Too many levels of symbolic links"),
    (os.mkfifo, "AMP990 cannot be read: it is a named pipe, not a regular file"),
    (_read_only, "AMP993 cannot be written: the file is read-only"),
]


@pytest.mark.parametrize(("make", "words"), PROBLEMS)
def test_one_line_exit_3_and_the_other_file_is_converted(
    ampify: Ampify, tmp_path: Path, good: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "x.py")
    for options in ([], ["--allow-refused"]):
        good.write_bytes(SCRIPT)
        done = ampify(*options, "x.py", "zz.py")
        assert done.returncode == 3
        lines = done.stderr.decode().splitlines()
        assert lines[0] == f"x.py: {words}"
        assert lines[1].startswith("converted zz.py")
        assert lines[-1] == "1 file converted, 1 file failed."
        assert b"ampify_runtime" in good.read_bytes()


def test_a_file_given_twice_is_one_file(ampify: Ampify, tmp_path: Path, good: Path) -> None:
    (tmp_path / "link.py").symlink_to("zz.py")
    (tmp_path / "here").symlink_to(".")
    done = ampify("-v", "zz.py", "./zz.py", ".", "link.py", "here", "here/zz.py", str(good))
    assert done.returncode == 0
    assert done.stderr.count(b"converted zz.py: ") == 1
    assert done.stderr.endswith(b"\n1 file converted.\n")
    assert (tmp_path / "link.py").is_symlink()


def test_links_directories_and_modes(ampify: Ampify, tmp_path: Path, good: Path) -> None:
    good.chmod(0o755)
    (tmp_path / "hard.py").hardlink_to(good)
    (tmp_path / "link.py").symlink_to("zz.py")
    (tmp_path / "x.py").mkdir()
    (tmp_path / "x.py/in.py").write_bytes(SCRIPT)
    (tmp_path / "x.py/up").symlink_to("..")
    assert ampify("link.py", "x.py").returncode == 0
    assert os.readlink(tmp_path / "link.py") == "zz.py"
    assert b"ampify_runtime" in good.read_bytes()
    assert good.stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "hard.py").read_bytes() == SCRIPT  # its other name keeps what it had
    assert b"ampify_runtime" in (tmp_path / "x.py/in.py").read_bytes()


def test_a_read_only_directory(unprivileged_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unprivileged_directory / "x.py"
    path.write_bytes(SCRIPT)
    unprivileged_directory.chmod(0o555)
    monkeypatch.chdir(unprivileged_directory)
    assert main(["x.py"]) == 3
    monkeypatch.undo()
    assert path.read_bytes() == SCRIPT


def test_a_read_only_file_can_still_be_checked(ampify: Ampify, tmp_path: Path) -> None:
    _read_only(tmp_path / "x.py")
    assert ampify("--check", "x.py").returncode == 1
    assert (tmp_path / "x.py").read_bytes() == SCRIPT


@pytest.mark.parametrize(
    "name", ["a b.py", "new\nline.py", "é.py", "bell\x07\x1b[2J.py", "\udcff\udcfe.py", "-x.py", "\u202e.py"]
)
def test_unusual_names(ampify: Ampify, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SCRIPT)
    done = ampify("--", name, env={"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 0
    assert b"ampify_runtime" in (tmp_path / name).read_bytes()
    lines = done.stderr.split(b"\n")
    assert len(lines) == 3  # one a file, the summary, nothing
    assert lines[0].isascii()
    assert not any(byte < 32 for byte in lines[0])


def test_a_file_called_dash_is_written_with_its_directory(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "-").write_bytes(SCRIPT)
    assert ampify("./-").returncode == 0
    assert b"ampify_runtime" in (tmp_path / "-").read_bytes()


def test_json_and_diff_on_a_stream_that_cannot_spell_the_name(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "é\udcff.py").write_bytes(SCRIPT)
    for options in (["--check", "--format", "json"], ["--diff"]):
        done = ampify(*options, ".", env={"PYTHONIOENCODING": "ascii"})
        assert done.returncode == (1 if "--check" in options else 0)
        assert done.stdout.isascii()


def _shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """The command line in a shell, for redirections; `$AMPIFY` is the command."""
    ampify = str(Path(sys.executable).with_name("ampify"))
    script = f"set -o pipefail; {command}"
    env = {**os.environ, "AMPIFY": ampify}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=env, capture_output=True, timeout=60, check=False)


def test_broken_pipe_of_a_diff(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"x{n}.py").write_bytes(SCRIPT + b"# long\n" * 3000)
    done = _shell("$AMPIFY --diff --check . | true", tmp_path)
    assert done.returncode == 1  # what --check found, and not that the reader left
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_broken_pipe_of_the_messages_does_not_stop_the_conversion(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"x{n}.py").write_bytes(SCRIPT)
    done = _shell("$AMPIFY -v . 2>&1 | true", tmp_path)
    assert done.returncode == 0
    assert all(b"ampify_runtime" in path.read_bytes() for path in tmp_path.glob("*.py"))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("$AMPIFY - <&-", 3, "standard input is closed"),
        ("$AMPIFY - 0> out", 3, "cannot read standard input"),
        ("$AMPIFY - < zz.py >&-", 3, "standard output is closed"),
        ("$AMPIFY - < zz.py > /dev/full", 3, "cannot write to standard output: No space left on device"),
        ("$AMPIFY --diff zz.py > /dev/full", 3, "cannot write to standard output: No space left on device"),
        ("$AMPIFY --help > /dev/full", 3, "No space left on device"),
    ],
)
def test_streams_that_cannot_be_used(tmp_path: Path, good: Path, command: str, code: int, words: str) -> None:
    done = _shell(command, tmp_path)
    assert done.returncode == code
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert "Exception ignored" not in done.stderr.decode()
    assert good.read_bytes() == SCRIPT


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_nobody_to_tell(tmp_path: Path, good: Path, redirection: str) -> None:
    assert _shell(f"$AMPIFY -v zz.py missing.py {redirection}", tmp_path).returncode == 3
    assert b"ampify_runtime" in good.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["zz.py"]


def test_interrupt_while_it_waits_for_standard_input(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, threading\n"
        "from ampify.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "sys.exit(main(['-']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.wait(timeout=30) == 130
        output, words = process.communicate()
    assert output == b""
    assert b"interrupted" in words
    assert b"Traceback" not in words
