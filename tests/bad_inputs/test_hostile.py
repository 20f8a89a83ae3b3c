"""Files made to hurt: too large, too deep, full of what moves a terminal's cursor. The process lives and says it in one line."""

import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ampify.convert import convert
from ampify.files import LARGEST
from tests.conftest import TRAINING_SCRIPT, Ampify

SCRIPT = TRAINING_SCRIPT.encode()
MEMORY = 1 << 30  # what the command may take for them


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _run(directory: Path, *arguments: str, prepare: Callable[[], None] = _limited) -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).with_name("ampify")), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, timeout=120, check=False, preexec_fn=prepare)


LARGE = {
    "statements": b"x = 1\n" * 9_000_000,
    "a list": b"x = [" + b"1, " * 17_000_000 + b"]\n",
    "no Python at all": bytes(range(256)) * 200_000,
}


@pytest.mark.parametrize("case", LARGE)
def test_50_megabytes(tmp_path: Path, case: str) -> None:
    data = LARGE[case]
    assert len(data) > 50_000_000
    (tmp_path / "data.py").write_bytes(data)
    (tmp_path / "train.py").write_bytes(SCRIPT + data)
    (tmp_path / "zz.py").write_bytes(SCRIPT)
    done = _run(tmp_path, ".")
    assert done.returncode == 3, done.stderr
    lines = done.stderr.decode().splitlines()
    assert lines[0] == f"train.py:1:1: AMP927 it is too large to be analysed: {len(SCRIPT + data):,} bytes"
    assert lines[-1] == "1 file converted, 1 file left unchanged, 1 file refused."
    assert (tmp_path / "data.py").stat().st_size == len(data)
    assert (tmp_path / "train.py").stat().st_size == len(SCRIPT + data)


def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    with (tmp_path / "x.py").open("wb") as file:
        file.truncate(40 * LARGEST)  # a hole: it takes no space on the disk
    (tmp_path / "zz.py").write_bytes(SCRIPT)
    done = _run(tmp_path, ".")
    assert done.returncode == 3
    assert b"x.py: AMP990 cannot be read: it has 8,000,000,000 bytes, which is no Python source\n" in done.stderr
    assert done.stderr.endswith(b"1 file converted, 1 file failed.\n")


DEEP = {
    "and": lambda n: "z = " + "x and " * n + "1",
    "or": lambda n: "z = " + "x or " * n + "1",
    "sum": lambda n: "z = " + "1 + " * n + "1",
    "power": lambda n: "z = " + "1 ** " * n + "1",
    "minus": lambda n: "z = " + "-" * n + "1",
    "not": lambda n: "z = " + "not " * n + "1",
    "attributes": lambda n: "z = data" + ".a" * n,
    "calls": lambda n: "z = data" + "()" * n,
    "subscripts": lambda n: "z = data" + "[0]" * n,
    "parentheses": lambda n: "z = " + "(" * n + ")" * n,
    "dictionaries": lambda n: "z = " + "{1: " * n + "1" + "}" * n,
    "lambdas": lambda n: "z = " + "lambda: " * n + "1",
    "conditions": lambda n: "z = " + "1 if x else " * n + "1",
    "comprehension": lambda n: "z = [1 " + "for a in data " * n + "]",
    "comparisons": lambda n: "z = " + "1 < " * n + "1",
    "assignments": lambda n: "z = " * n + "1",
    "strings": lambda n: "z = (" + "'' " * n + ")",
    "formatted strings": lambda n: "z = (" + "f'{x}' " * n + ")",
    "elif": lambda n: "if x == 0:\n    pass\n" + "elif x == 1:\n    pass\n" * n,
    "blocks": lambda n: "".join(" " * i + "if x:\n" for i in range(n)) + " " * n + "pass",
    "decorators": lambda n: "@staticmethod\n" * n + "def g(): pass",
    "except": lambda n: "try:\n    pass\n" + "except ValueError:\n    pass\n" * n,
}


# Indentation ends at a hundred levels; the others are flat, and only take their time.
SIZES = {"blocks": (99, 150), "except": (3_000,), "assignments": (3_000,), "decorators": (3_000,)}


@pytest.mark.parametrize("case", DEEP)
def test_nested_and_chained(tmp_path: Path, case: str) -> None:
    """No size of them ends the process, and libcst's parser, which has no limit of its own, is not asked to try."""
    sizes = SIZES.get(case, (150, 900, 2_500, 30_000))
    for size in sizes:
        (tmp_path / f"x{size}.py").write_bytes(SCRIPT + DEEP[case](size).encode() + b"\n")
    (tmp_path / "zz.py").write_bytes(SCRIPT)
    done = _run(tmp_path, "--check", "--format", "json", ".", prepare=lambda: None)
    assert done.returncode in (1, 3), done.stderr
    statuses = {file["path"]: file["status"] for file in json.loads(done.stdout)["files"]}
    assert statuses.keys() == {*(f"x{size}.py" for size in sizes), "zz.py"}
    assert statuses["zz.py"] == "converted"
    for file in json.loads(done.stdout)["files"]:
        assert file["status"] in ("converted", "refused", "error")
        assert all(d["code"] in ("AMP920", "AMP922", "AMP992") for d in file["diagnostics"]), file


ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\x08\x7f\u202e\u2066\u200b\u2028"
# As bytes of a file: what the parser quotes in its messages, and what edited lines and those near them hold.
GARBLED = {
    "a comment": SCRIPT.replace(b"    loss.backward()", f"    # {ESCAPES}\n    loss.backward()  # {ESCAPES}".encode()),
    "a string": SCRIPT.replace(
        b"    loss.backward()", f"    print('{ESCAPES}')\n    loss.backward()".replace("\u2028", "").encode()
    ),
    "a syntax error": f"x = {ESCAPES}\n".encode() + SCRIPT,
    "an unfinished string": f"x = '{ESCAPES}\n".encode() + SCRIPT,
    "a coding line": b"# coding: \x1b[31m\n" + SCRIPT,
    "latin-1": b"# coding: latin-1\n" + SCRIPT.replace(b"loss.backward()", b"loss.backward()  # \x9b31m \x1b[31m"),
    "bad utf-8": SCRIPT + b"# \x9b31m\xff",
    "a refusal": SCRIPT.replace(b"optimizer.step()", f"optimizer.step('{ESCAPES[:-1]}')".encode()),
}


@pytest.mark.parametrize("case", GARBLED)
def test_what_is_said_is_plain_text(ampify: Ampify, tmp_path: Path, case: str) -> None:
    (tmp_path / f"x{ESCAPES}\n.py").write_bytes(GARBLED[case])
    text = ampify("-v", "--check", ".").stderr.decode()
    assert "AMP" in text
    assert all(line.isprintable() for line in text.split("\n")), text
    report = ampify("--check", "--format", "json", ".").stdout
    assert report.isascii()
    (file,) = json.loads(report)["files"]
    assert file["path"] == f"x{ESCAPES}\n.py"


@pytest.mark.parametrize(
    "arguments",
    [["--\x1b[31m"], ["--skip", "\x1b[31m", "x"], ["--dtype", "\x1b[31m", "x"], ["--config", "\x1b[31m", "x"], ["\x1b[31m"]],
)
def test_what_is_said_of_the_command_line_is_plain_text(ampify: Ampify, arguments: list[str]) -> None:
    done = ampify(*arguments)
    assert done.returncode in (2, 3)
    assert all(line.isprintable() for line in done.stderr.decode().split("\n"))


def _on_a_terminal(directory: Path, *arguments: str) -> str:
    """What the command shows on a terminal; the terminal's line ends taken out again."""
    master, slave = pty.openpty()
    command = [str(Path(sys.executable).with_name("ampify")), *arguments]
    with subprocess.Popen(command, cwd=directory, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 4096):
                shown += data
        except OSError:  # how a terminal on Linux says that the other side is gone
            pass
        os.close(master)
        assert process.wait(timeout=60) in (0, 1, 3)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("case", GARBLED)
def test_a_diff_is_harmless_on_a_terminal_and_exact_elsewhere(ampify: Ampify, tmp_path: Path, case: str) -> None:
    (tmp_path / "x.py").write_bytes(GARBLED[case])
    result = convert(GARBLED[case])
    shown = _on_a_terminal(tmp_path, "--diff", "--color", "never", "x.py")
    assert all(line.replace("\t", "").isprintable() for line in shown.split("\n")), shown
    # The colours of a diff, which are ours, are all that a terminal may see besides.
    assert re.sub("\x1b\\[(0|1|3[1236])m", "", _on_a_terminal(tmp_path, "--diff", "--color", "always", "x.py")) == shown
    exact = ampify("--diff", "x.py").stdout
    if result.status == "converted":
        assert "+from ampify_runtime import" in shown
        subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=exact, check=True)
        assert (tmp_path / "x.py").read_bytes() == result.output
    else:
        assert exact == b""


def test_a_diff_of_tabs_and_carriage_returns_stays_readable_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes(SCRIPT.replace(b"    ", b"\t").replace(b"\n", b"\r\n"))
    shown = _on_a_terminal(tmp_path, "--diff", "--color", "never", "x.py")
    assert "\n+\tscaler.step(optimizer)\n" in shown


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk: the system cuts the write short."""
    (tmp_path / "x.py").write_bytes(SCRIPT + b"# long\n" * 3000)
    (tmp_path / "zz.py").write_bytes(SCRIPT)
    before = (tmp_path / "x.py").read_bytes()
    done = _run(tmp_path, ".", prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert done.returncode == 3
    assert b"x.py: AMP993 cannot be written: File too large\n" in done.stderr
    assert done.stderr.endswith(b"1 file converted, 1 file failed.\n")
    assert (tmp_path / "x.py").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["x.py", "zz.py"]


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """One of 64 KB in memory, where the system lets us have one."""
    (tmp_path / "x.py").write_bytes(SCRIPT + b"# long\n" * 5500)
    script = (
        'mkdir disk && mount -t tmpfs -o size=64k none disk && cp x.py disk/ && cd disk && "$0" . 2>../said; '
        "echo $? >../code; ls -A . >../there; cmp x.py ../x.py"
    )
    command = ["unshare", "-Urm", "sh", "-c", script, str(Path(sys.executable).with_name("ampify"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    if not (tmp_path / "code").exists():
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")
    assert done.returncode == 0, done
    assert (tmp_path / "code").read_text() == "3\n"
    assert "AMP993 cannot be written: No space left on device" in (tmp_path / "said").read_text()
    assert (tmp_path / "there").read_text() == "x.py\n"
