"""Command lines that are wrong, and what starting up costs."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import Ampify


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give the scripts or directories to convert"),
        (["--check"], "give the scripts or directories to convert"),
        (["-", "x.py"], "cannot be given together"),
        (["-", "-"], "cannot be given together"),
        (["--stdin-filename", "y.py", "x.py"], "needs the path -"),
        (["--format", "json", "--diff", "x.py"], "--diff"),
        (["--format", "json", "-"], "needs --check"),
        (["--format", "github", "--diff", "x.py"], "--format github cannot be given together with --diff"),
        (["--format", "sarif", "-"], "--format sarif with - needs --check"),
        (["--format", "html", "--diff", "--check", "x.py"], "--diff"),
        (["--format", "xml", "x.py"], "xml"),
        (["--explain", "x.py"], "needs --diff"),
        (["--explain", "--check", "x.py"], "needs --diff"),
        (["--diff", "--color", "sometimes", "x.py"], "sometimes"),
        (["--dtype", "fp8", "x.py"], "fp8"),
        (["-q", "-v", "x.py"], "-q and -v"),
        (["--chekc", "x.py"], "--chekc"),
    ],
)
def test_usage_errors(ampify: Ampify, tmp_path: Path, training_script: bytes, arguments: list[str], words: str) -> None:
    (tmp_path / "x.py").write_bytes(training_script)
    done = ampify(*arguments, stdin=training_script)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert (tmp_path / "x.py").read_bytes() == training_script


def test_version(ampify: Ampify) -> None:
    done = ampify("--version")
    assert done.returncode == 0
    python = ".".join(map(str, sys.version_info[:3]))
    libcst, torch = (metadata.version(package) for package in ("libcst", "torch"))
    assert done.stdout.decode() == f"ampify 0.1.0 (Python {python}, libcst {libcst}, torch {torch})\n"


def test_the_version_needs_no_torch_and_does_not_import_it() -> None:
    program = (
        "import sys; from importlib import metadata; version = metadata.version\n"
        "def without(package):\n"
        "    if package == 'torch': raise metadata.PackageNotFoundError(package)\n"
        "    return version(package)\n"
        "metadata.version = without\n"
        "from ampify.cli import main\n"
        "assert main(['--version']) == 0\n"
        "assert not {'torch', 'libcst'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(", no torch)\n")


def _completions(ampify: Ampify, *words: str) -> list[str]:
    line = {"_AMPIFY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("ampify", *words)), "COMP_CWORD": str(len(words))}
    done = ampify(env=line)
    assert (done.returncode, done.stderr) == (0, b"")
    return [line.partition(",")[2] for line in done.stdout.decode().splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--dt"], ["--dtype"]),
        (["--che"], ["--check"]),
        (["--runtime", ""], ["import", "vendor", "torch"]),
        (["--dtype", "b"], ["bf16"]),
        (["--skip", "amp201"], ["AMP201"]),
        (["--only", "AMP211"], ["AMP211"]),
    ],
)
def test_completion(ampify: Ampify, words: list[str], expected: list[str]) -> None:
    assert _completions(ampify, *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_shells(ampify: Ampify, shell: str) -> None:
    done = ampify(env={"_AMPIFY_COMPLETE": f"{shell}_source"})
    assert done.returncode == 0
    assert b"_AMPIFY_COMPLETE" in done.stdout


def test_help_shows_examples_and_every_exit_code(ampify: Ampify) -> None:
    done = ampify("--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "ampify --diff train.py" in text
    assert {"skip", "off", "on", "skip-file"} <= set(re.findall(r"# ampify: ([\w-]+)", text))
    assert len(text.splitlines()) < 100
    codes = text.split("Exit codes:")[1].split()
    assert {"0", "1", "2", "3", "123", "130"} <= set(codes)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plain.py"], ["--check", "plain.py"], ["."], ["-"], ["--diff", "-"], ["plain.py", "p2.py"]]
)
def test_start_up_imports_nothing_heavy(tmp_path: Path, plain_script: bytes, arguments: list[str]) -> None:
    for name in ("plain.py", "p2.py"):
        (tmp_path / name).write_bytes(plain_script)
    program = (
        "import sys; before = set(sys.modules)\n"
        "from ampify.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], input=plain_script, cwd=tmp_path, capture_output=True, check=True
    )
    imported = set(done.stderr.decode().splitlines()[-1].split())
    assert "ampify.cli" in imported
    heavy = {"libcst", "torch", "importlib.metadata", "concurrent.futures", "tomllib", "multiprocessing", "tempfile"}
    assert not imported & heavy
