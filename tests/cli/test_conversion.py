"""The installed command on a real script: in place, --check, --diff, standard input, JSON."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ampify.convert import convert
from tests.conftest import Ampify


@pytest.fixture
def train(tmp_path: Path, training_script: bytes) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(training_script)
    return path


@pytest.fixture
def converted(training_script: bytes) -> bytes:
    result = convert(training_script)
    assert result.status == "converted"
    return result.output


def test_a_note_is_printed_once_and_is_no_failure(ampify: Ampify, train: Path) -> None:
    train.write_bytes(train.read_bytes() + b"torch.save(optimizer.state_dict(), 'optimizer.pt')\n")
    line = train.read_bytes().count(b"\n")
    report = json.loads(ampify("--format", "json", "--check", "train.py").stdout)
    assert [(d["code"], d["severity"], d["line"]) for d in report["files"][0]["diagnostics"]] == [("AMP194", "info", line)]
    assert ampify("--check", "-q", "train.py").stderr == b""
    done = ampify("train.py")
    assert done.returncode == 0
    assert done.stderr.decode().splitlines()[1:3] == [
        f"train.py:{line}:12: AMP194 an optimizer's state is saved without the scaler's: "
        "a resumed run starts at the initial loss scale",
        "  save scaler.state_dict() too, and load it by scaler.load_state_dict(...)",
    ]
    assert b"AMP194" not in ampify("train.py").stderr


def test_converts_in_place_and_then_has_nothing_to_do(ampify: Ampify, train: Path, converted: bytes) -> None:
    done = ampify("train.py")
    assert done.returncode == 0
    assert train.read_bytes() == converted
    assert done.stdout == b""
    assert done.stderr.startswith(b"converted train.py: ")
    assert done.stderr.endswith(b"\n1 file converted.\n")
    again = ampify("--check", "train.py")
    assert (again.returncode, again.stdout) == (0, b"")
    assert train.read_bytes() == converted


def test_check_writes_nothing_and_exits_1(ampify: Ampify, train: Path, training_script: bytes) -> None:
    done = ampify("--check", "train.py")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"would convert train.py: ")
    assert done.stderr.endswith(b"\n1 file would be converted.\n")
    assert train.read_bytes() == training_script


@pytest.mark.parametrize(("options", "code"), [(["--diff"], 0), (["--diff", "--check"], 1)])
def test_diff_is_what_git_applies(
    ampify: Ampify, train: Path, training_script: bytes, converted: bytes, options: list[str], code: int
) -> None:
    done = ampify(*options, "train.py")
    assert done.returncode == code
    assert train.read_bytes() == training_script
    subprocess.run(["git", "apply"], input=done.stdout, cwd=train.parent, check=True)
    assert train.read_bytes() == converted


def test_diff_of_nothing_is_empty(ampify: Ampify, tmp_path: Path, plain_script: bytes) -> None:
    (tmp_path / "plain.py").write_bytes(plain_script)
    done = ampify("--diff", "plain.py")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"1 file would be left unchanged.\n"


def test_standard_input_to_standard_output(ampify: Ampify, training_script: bytes, converted: bytes) -> None:
    done = ampify("-", "--stdin-filename", "src/train.py", stdin=training_script)
    assert (done.returncode, done.stdout) == (0, converted)
    assert done.stderr.startswith(b"converted src/train.py: ")


def test_standard_input_that_needs_nothing_is_echoed(ampify: Ampify) -> None:
    source = b"# \xe9, no newline at the end\r\nx = 1"
    done = ampify("-", stdin=b"# coding: latin-1\r\n" + source)
    assert (done.returncode, done.stdout) == (0, b"# coding: latin-1\r\n" + source)


def test_standard_input_with_check_and_diff(ampify: Ampify, training_script: bytes) -> None:
    check = ampify("--check", "-", stdin=training_script)
    assert (check.returncode, check.stdout) == (1, b"")
    diff = ampify("--diff", "--stdin-filename", "a/train.py", "-", stdin=training_script)
    assert diff.returncode == 0
    assert diff.stdout.startswith(b"--- a/a/train.py\n+++ b/a/train.py\n@@ ")


def test_standard_input_that_does_not_parse_gives_nothing(ampify: Ampify) -> None:
    done = ampify("-", stdin=b"def f(:\n")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"<stdin>:1:")
    assert b"Traceback" not in done.stderr


def test_dtype_pins_the_precision(ampify: Ampify, training_script: bytes) -> None:
    done = ampify("--dtype", "bf16", "-", stdin=training_script)
    assert done.returncode == 0
    assert b'configure(mode="bf16")' in done.stdout


def test_json(ampify: Ampify, train: Path, plain_script: bytes, training_script: bytes) -> None:
    train.with_name("plain.py").write_bytes(plain_script)
    done = ampify("--check", "--format", "json", "train.py", "plain.py", "missing.py")
    assert done.returncode == 3
    assert done.stderr == b""
    report = json.loads(done.stdout)
    assert list(report) == ["version", "files", "summary"]
    assert report["version"] == 1
    converted, plain, missing = report["files"]
    assert list(converted) == ["path", "status", "edits", "diagnostics"]
    assert (converted["path"], converted["status"]) == ("train.py", "converted")
    lines = training_script.count(b"\n")
    for edit in converted["edits"]:
        assert list(edit) == ["code", "line", "end_line", "message"]
        assert 1 <= edit["line"] <= edit["end_line"] <= lines + 1  # an insertion may be behind the last
    assert plain == {"path": "plain.py", "status": "unchanged", "edits": [], "diagnostics": []}
    assert missing["status"] == "error"
    (diagnostic,) = missing["diagnostics"]
    assert list(diagnostic) == ["code", "severity", "line", "column", "message", "help"]
    assert (diagnostic["code"], diagnostic["severity"]) == ("AMP990", "error")
    counts = {"files": 3, "converted": 1, "already": 0, "unchanged": 1, "refused": 0, "error": 1}
    assert report["summary"] == counts | {"edits": len(converted["edits"])}


def test_json_converts_too_and_reads_standard_input_with_check(ampify: Ampify, train: Path, converted: bytes) -> None:
    source = train.read_bytes()
    assert json.loads(ampify("--format", "json", "train.py").stdout)["summary"]["converted"] == 1
    assert train.read_bytes() == converted
    done = ampify("--format", "json", "--check", "--stdin-filename", "x.py", "-", stdin=source)
    assert done.returncode == 1
    assert json.loads(done.stdout)["files"][0]["path"] == "x.py"


def test_a_directory(ampify: Ampify, train: Path, plain_script: bytes, converted: bytes) -> None:
    train.with_name("plain.py").write_bytes(plain_script)
    done = ampify(".")
    assert done.returncode == 0
    assert done.stderr.endswith(b"\n1 file converted, 1 file left unchanged.\n")
    assert train.read_bytes() == converted


def test_a_directory_without_python_files_says_so(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    done = ampify("src")
    assert (done.returncode, done.stderr) == (0, b"No Python files found: nothing to do.\n")


def test_verbose_lists_every_edit_and_every_file(ampify: Ampify, train: Path, plain_script: bytes) -> None:
    train.with_name("plain.py").write_bytes(plain_script)
    report = json.loads(ampify("--check", "--format", "json", "train.py").stdout)
    lines = ampify("--check", "-v", ".").stderr.decode().splitlines()
    assert "left unchanged plain.py" in lines
    edits = [f"  train.py:{e['line']}: {e['code']} {e['message']}" for e in report["files"][0]["edits"]]
    assert edits
    assert [line for line in lines if line.startswith("  ")] == edits


def test_quiet_says_nothing_of_what_went_well(ampify: Ampify, train: Path, converted: bytes) -> None:
    done = ampify("-q", "train.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert train.read_bytes() == converted


def test_quiet_still_prints_errors(ampify: Ampify) -> None:
    done = ampify("-q", "missing.py")
    assert done.returncode == 3
    assert done.stderr == b"missing.py: AMP990 cannot be read: No such file or directory\n"


def test_the_same_file_by_many_names_is_handled_once(ampify: Ampify, train: Path, converted: bytes) -> None:
    train.with_name("link.py").symlink_to("train.py")
    done = ampify("train.py", "./train.py", "link.py", str(train), ".")
    assert done.stderr.count(b"converted train.py") == 1
    assert done.stderr.endswith(b"\n1 file converted.\n")
    assert train.read_bytes() == converted


def test_mode_755_and_links_survive(ampify: Ampify, train: Path, converted: bytes) -> None:
    train.chmod(0o755)
    link = train.with_name("link.py")
    link.symlink_to("train.py")
    assert ampify("link.py").returncode == 0
    assert os.readlink(link) == "train.py"
    assert train.read_bytes() == converted
    assert train.stat().st_mode & 0o777 == 0o755
    assert sorted(os.listdir(train.parent)) == ["link.py", "train.py"]
