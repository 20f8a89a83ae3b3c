"""report.diff: real git takes every diff and makes the new bytes of it."""

import os
import subprocess
from pathlib import Path

import pytest

from ampify.convert import Result
from ampify.job import Outcome
from ampify.report import diff

OLD = b"import torch\n" + b"".join(b"line %d\n" % n for n in range(40)) + b"end = 1\n"
NEW = OLD.replace(b"line 5\n", b"line five\n    more\n").replace(b"line 30\n", b"")

CONTENTS = {
    "plain": (OLD, NEW),
    "crlf": (OLD.replace(b"\n", b"\r\n"), NEW.replace(b"\n", b"\r\n")),
    "mixed newlines": (OLD.replace(b"line 4\n", b"line 4\r\n"), NEW.replace(b"line 4\n", b"line 4\r\n")),
    "latin-1": (OLD.replace(b"line", b"\xe9\x85\xff"), NEW.replace(b"line", b"\xe9\x85\xff")),
    "form feed and others": (
        OLD.replace(b"line", b"\x0c\x0b\x1c\x1d\x1e"),
        NEW.replace(b"line", b"\x0c\x0b\x1c\x1d\x1e"),
    ),
    "utf-8": (OLD.replace(b"line", "\u2028é".encode()), NEW.replace(b"line", "\u2028é".encode())),
    "lone cr": (OLD.replace(b"line 6\n", b"line\r6\n"), NEW.replace(b"line 6\n", b"line\r6\n")),
    "no final newline": (OLD.rstrip(b"\n"), NEW.rstrip(b"\n")),
    "last line without newline changed": (OLD.rstrip(b"\n"), OLD.rstrip(b"\n") + b"00"),
    "final newline gained": (OLD.rstrip(b"\n"), OLD),
    "final newline lost": (OLD, OLD.rstrip(b"\n")),
    "one line": (b"a", b"b"),
    "looks like a header": (b"-- a\n++ b\n", b"-- a\n++ c\n"),
}

NAMES = [
    *(
        "train.py",
        "a dir/my train.py",
        "é/ünï.py",
        'quo"te.py',
        "back\\slash.py",
        "tab\t.py",
        "new\nline.py",
        "b/b/b.py",
    ),
    *("\x01\x7f.py", "trailing .py", " lead.py", "not utf-8 \udcff\udcfe.py", "\u202ereversed.py"),
]


def _diff(path: str, old: bytes, new: bytes) -> bytes:
    return diff.render(Outcome(path, old, Result("converted", new)))


def _apply(patch: bytes, *options: str) -> None:
    subprocess.run(["git", "apply", "--whitespace=nowarn", *options], input=patch, check=True)


@pytest.fixture(params=["in a repository", "outside of one"])
def here(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    if request.param == "in a repository":
        subprocess.run(["git", "init", "-q"], check=True)
    return tmp_path


@pytest.mark.parametrize("content", CONTENTS)
def test_git_takes_any_content(here: Path, content: str) -> None:
    old, new = CONTENTS[content]
    Path("x.py").write_bytes(old)
    _apply(_diff("x.py", old, new))
    assert Path("x.py").read_bytes() == new
    _apply(_diff("x.py", old, new), "--reverse")
    assert Path("x.py").read_bytes() == old


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_git_takes_any_name(here: Path, name: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(OLD)
    patch = _diff(name, OLD, NEW)
    _apply(patch)
    assert path.read_bytes() == NEW


def test_names_are_spelled_as_git_spells_them(here: Path) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    for name in NAMES:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(OLD)
        subprocess.run(["git", "add", "-N", "--", os.fsencode(name)], check=True)
        subprocess.run(["git", "add", "--", os.fsencode(name)], check=True)
        path.write_bytes(NEW)
        theirs = subprocess.run(["git", "diff", "--", os.fsencode(name)], check=True, capture_output=True).stdout
        headers = [line for line in theirs.split(b"\n") if line.startswith((b"--- ", b"+++ "))]
        assert _diff(name, OLD, NEW).split(b"\n")[:2] == headers


def test_in_a_subdirectory_paths_are_relative_to_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "sub/deep").mkdir(parents=True)
    (here / "sub/deep/x.py").write_bytes(OLD)
    monkeypatch.chdir(here / "sub")
    for path in ("deep/x.py", "./deep/../deep/x.py", str(here / "sub/deep/x.py")):
        assert _diff(path, OLD, NEW).startswith(b"--- a/deep/x.py\n+++ b/deep/x.py\n@@ -")
    _apply(_diff("deep/x.py", OLD, NEW))
    assert Path("deep/x.py").read_bytes() == NEW


def test_a_file_elsewhere_has_its_absolute_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "sub").mkdir()
    monkeypatch.chdir(here / "sub")
    header = _diff("../x.py", OLD, NEW).split(b"\n")[0]
    assert header == b"--- a" + os.fsencode(os.path.realpath(here)) + b"/x.py"


def test_several_files_are_one_patch(here: Path) -> None:
    patch = b""
    for name, (old, new) in CONTENTS.items():
        Path(name).write_bytes(old)
        patch += _diff(name, old, new)
    _apply(patch)
    assert {name: Path(name).read_bytes() for name in CONTENTS} == {name: new for name, (_, new) in CONTENTS.items()}


@pytest.mark.parametrize("status", ["already", "unchanged", "refused", "error"])
def test_no_diff_of_what_is_not_converted(status: str) -> None:
    assert diff.render(Outcome("x.py", OLD, Result(status, OLD))) == b""  # type: ignore[arg-type]
