"""project.discover: which files a directory stands for, compared with git itself where git has an opinion."""

import os
import subprocess
from pathlib import Path

import pytest

from ampify import directories, project


def _tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _found(*paths: str) -> list[str]:
    found = list(project.discover(paths))
    assert [problem for _, problem in found] == [None] * len(found)
    return [path for path, _ in found]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_files_of_a_directory_sorted(here: Path) -> None:
    _tree(here, "src/b.py", "src/a/z.py", "src/c.txt", "src/x.pyi", "src/notes.py.bak", "src/é è.py")
    assert _found("src") == ["src/a/z.py", "src/b.py", "src/é è.py"]
    assert _found("src/") == ["src/a/z.py", "src/b.py", "src/é è.py"]


def test_the_current_directory_adds_no_prefix(here: Path) -> None:
    _tree(here, "a.py", "b/c.py")
    assert _found(".") == ["a.py", "b/c.py"]


def test_a_directory_outside_of_any_repository_and_from_outside(here: Path) -> None:
    _tree(here, "src/a.py")
    assert _found(str(here / "src")) == [str(here / "src/a.py")]


def test_a_named_file_is_always_taken(here: Path) -> None:
    _tree(here, "build/x.py", "script", ".git/hook")
    (here / ".gitignore").write_text("*\n")
    assert _found("build/x.py", "script", ".git/hook") == ["build/x.py", "script", ".git/hook"]


def test_a_directory_that_looks_like_a_file(here: Path) -> None:
    _tree(here, "x.py/y.py")
    assert _found(".") == ["x.py/y.py"]
    assert _found("x.py") == ["x.py/y.py"]


@pytest.mark.parametrize("name", sorted(directories.SKIPPED))
def test_skipped_directories(here: Path, name: str) -> None:
    _tree(here, f"{name}/x.py", "deep/y.py", f"deep/{name}/z.py")
    assert _found(".") == ["deep/y.py"]
    assert _found(name) == [f"{name}/x.py"]  # unless somebody names one


def test_an_environment_under_any_name(here: Path) -> None:
    _tree(here, "my-env/pyvenv.cfg", "my-env/lib/x.py", "y.py")
    assert _found(".") == ["y.py"]


def test_symbolic_links_are_not_followed(here: Path) -> None:
    _tree(here, "outside/x.py", "src/a.py")
    (here / "src/loop").symlink_to("..")
    (here / "src/linked").symlink_to("../outside")
    (here / "src/link.py").symlink_to("../outside/x.py")
    (here / "src/.#lock.py").symlink_to("somebody@host.1234")
    assert _found("src") == ["src/a.py"]
    assert _found("src/linked", "src/link.py") == ["src/linked/x.py", "src/link.py"]


def test_what_is_no_regular_file_is_passed_by(here: Path) -> None:
    _tree(here, "a.py")
    os.mkfifo("pipe.py")
    assert _found(".") == ["a.py"]


def test_nested_deeper_than_python_recurses(here: Path) -> None:
    place = "d"
    os.mkdir(place)
    for _ in range(1500):
        os.chdir(place)
        os.mkdir("d")
    Path("x.py").touch()
    os.chdir(here)
    found = list(project.discover(["d"]))
    # The path is longer than the system takes: that is a problem of this one directory, said and not raised.
    assert len(found) == 1
    assert found[0][1] is None or "too long" in found[0][1].message
    subprocess.run(["rm", "-rf", "d"], check=True)


def test_an_unlistable_directory_is_a_problem_and_the_others_go_on(
    unprivileged_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(unprivileged_directory, "a/x.py", "b/y.py", "c/z.py")
    (unprivileged_directory / "b").chmod(0)
    monkeypatch.chdir(unprivileged_directory)
    found = [(path, problem.message if problem else "") for path, problem in project.discover(["."])]
    monkeypatch.undo()
    assert found == [("a/x.py", ""), ("b", "cannot list the directory: Permission denied"), ("c/z.py", "")]


NAMES = (
    *(
        "keep.py",
        "drop.py",
        "a/keep.py",
        "a/drop.py",
        "a/b/keep.py",
        "a/b/drop.py",
        "a/b/c/d.py",
        "out/x.py",
        "out/y/z.py",
    ),
    *(
        "a/out/x.py",
        "logs/keep.py",
        "logs/other.py",
        "logs/deep/keep.py",
        "#hash.py",
        "!bang.py",
        "sp ace.py",
        "ünï.py",
    ),
    *("gen_1.py", "gen_10.py", "gen_x.py", "trailing.py", "data/x.py", "data/y.py", "sub/data/x.py"),
)

IGNORES: dict[str, dict[str, str]] = {
    "name": {".gitignore": "drop.py\n"},
    "directory": {".gitignore": "out/\n"},
    "anchored": {".gitignore": "/out\n/drop.py\n"},
    "middle slash": {".gitignore": "a/out\na/b/drop.py\n"},
    "negation": {".gitignore": "*.py\n!keep.py\n"},
    "children but one": {".gitignore": "/logs/*\n!/logs/keep.py\n"},
    "all below but one": {".gitignore": "/logs/**\n!/logs/keep.py\n"},
    "no return to a dropped directory": {".gitignore": "logs\n!logs/keep.py\n"},
    "allow list": {".gitignore": "*\n!*/\n!keep.py\n"},
    "star star": {".gitignore": "a/**/drop.py\n**/data/x.py\n"},
    "classes": {".gitignore": "gen_[0-9].py\ngen_?.py\n"},
    "comments and escapes": {".gitignore": "#hash.py\n\\#hash.py\n\\!bang.py\n"},
    "spaces": {".gitignore": "sp ace.py   \ntrailing.py   \n"},
    "crlf": {".gitignore": "drop.py\r\nout/\r\n"},
    "byte order mark": {".gitignore": "\ufeffdrop.py\n"},
    "no final newline": {".gitignore": "drop.py"},
    "unicode": {".gitignore": "ü*.py\n"},
    "meaningless": {".gitignore": "!\n\\\n/\n//\n[\ndrop.py\n"},
    "empty": {".gitignore": ""},
    "nested": {"a/.gitignore": "drop.py\n/out\n"},
    "nested overrides": {".gitignore": "drop.py\n", "a/.gitignore": "!drop.py\n", "a/b/.gitignore": "*\n!.gitignore\n"},
    "nested anchors": {"a/.gitignore": "/keep.py\nb/c/\n"},
}


@pytest.mark.parametrize("case", IGNORES)
@pytest.mark.parametrize("start", [".", "a", "a/b"])
def test_gitignore_as_git_reads_it(here: Path, case: str, start: str) -> None:
    _tree(here, *NAMES)
    for name, content in IGNORES[case].items():
        (here / name).write_bytes(content.encode())
    git = ["git", "-c", "core.excludesFile=", "-c", "core.quotePath=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard", "--", start], check=True, capture_output=True
    )
    expected = sorted(name for name in listed.stdout.decode().split("\0") if name.endswith(".py"))
    assert sorted(_found(start)) == expected


def test_gitignore_above_counts_up_to_the_root_of_the_repository_only(here: Path) -> None:
    _tree(here, "repo/src/x.py", "repo/src/y.py")
    (here / ".gitignore").write_text("x.py\n")
    (here / "repo/.gitignore").write_text("y.py\n")
    assert _found("repo/src") == ["repo/src/x.py", "repo/src/y.py"]  # no repository
    (here / "repo/.git").mkdir()
    assert _found("repo/src") == ["repo/src/x.py"]


def test_a_named_directory_is_walked_though_ignored(here: Path) -> None:
    _tree(here, "out/deep/x.py")
    (here / ".git").mkdir()
    (here / ".gitignore").write_text("out/\n")
    assert _found(".") == []
    assert _found("out") == ["out/deep/x.py"]
    assert _found("out/deep") == ["out/deep/x.py"]
