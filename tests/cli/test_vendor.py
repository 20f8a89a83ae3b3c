"""--runtime vendor: the runtime lies beside every converted script, ours is updated, and nobody else's is touched."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ampify import files, vendor
from ampify.convert import Options, convert
from ampify.proof import ProofError, prove
from tests.conftest import Ampify
from tests.fixtures_suite.eraser import erasure_problems

ROOT = Path(__file__).parents[2]
OURS = (ROOT / "runtime/ampify_runtime.py").read_bytes()
VENDOR = ("--runtime", "vendor")
NEWER = OURS.replace(b"ampify_runtime 0.", b"ampify_runtime 1000.", 1)
OLDER = b"# ampify_runtime 0.0.9 (as it was)\nscaler = None\n"
FOREIGN = {
    "code": b"autocast = None\n",
    "empty": b"",
    "marker further down": b'"""Mine."""\n# ampify_runtime 0.0.1 \n',
    "no version": b"# ampify_runtime is mine\n",
}


@pytest.fixture
def script(tmp_path: Path, training_script: bytes) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(training_script)
    return path


def _vendored(directory: Path) -> bytes | None:
    path = directory / "ampify_runtime.py"
    return path.read_bytes() if path.exists() else None


def test_writes_the_runtime_beside_the_script(ampify: Ampify, script: Path) -> None:
    done = ampify(*VENDOR, "train.py")
    assert done.returncode == 0, done.stderr
    assert b"from ampify_runtime import autocast, scaler\n" in script.read_bytes()
    assert _vendored(script.parent) == OURS
    modes = {stat.S_IMODE((script.parent / name).stat().st_mode) for name in ("train.py", "ampify_runtime.py")}
    assert len(modes) == 1, "it has the mode of a new file"
    assert b"train.py:4:1: AMP191 puts the runtime beside the script" in done.stderr
    assert sorted(os.listdir(script.parent)) == ["ampify_runtime.py", "train.py"]
    again = ampify(*VENDOR, "-v", ".")
    assert (again.returncode, b"AMP19" in again.stderr) == (0, False)


def test_the_script_runs_where_nothing_is_installed(ampify: Ampify, script: Path) -> None:
    ampify(*VENDOR, "train.py")
    script.write_bytes(script.read_bytes() + b"import ampify_runtime\nprint(ampify_runtime.__file__)\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, script], cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(script.parent / "ampify_runtime.py")


def test_once_a_directory(ampify: Ampify, tmp_path: Path, training_script: bytes, plain_script: bytes) -> None:
    for name in ("a/one.py", "a/two.py", "b/one.py", "c/plain.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(plain_script if "plain" in name else training_script)
    for options in (["--check"], ["--diff"], []):
        done = ampify(*VENDOR, *options, ".")
        assert re.findall(r"^(\S+):\d+:1: AMP191", done.stderr.decode(), re.MULTILINE) == ["a/one.py", "b/one.py"]
    assert [_vendored(tmp_path / d) for d in "abc"] == [OURS, OURS, None]


@pytest.mark.parametrize("options", [("--check",), ("--diff",), ("--check", "--diff")])
def test_check_and_diff_write_nothing(ampify: Ampify, script: Path, training_script: bytes, options: tuple[str, ...]) -> None:
    done = ampify(*VENDOR, *options, "train.py")
    assert done.returncode == ("--check" in options)
    assert (script.read_bytes(), os.listdir(script.parent)) == (training_script, ["train.py"])


@pytest.mark.parametrize("before", [None, OLDER])
def test_git_takes_the_diff(ampify: Ampify, script: Path, before: bytes | None) -> None:
    if before is not None:
        (script.parent / "ampify_runtime.py").write_bytes(before)
    patch = ampify(*VENDOR, "--diff", "train.py").stdout
    assert (b"--- /dev/null\n+++ b/ampify_runtime.py\n@@ -0,0 +1," in patch) == (before is None)
    subprocess.run(["git", "apply", "--whitespace=nowarn"], input=patch, check=True, cwd=script.parent)
    assert _vendored(script.parent) == OURS
    assert ampify("--check", "train.py").returncode == 0


def test_an_older_one_is_updated(ampify: Ampify, script: Path) -> None:
    (script.parent / "ampify_runtime.py").write_bytes(OLDER)
    done = ampify(*VENDOR, "train.py")
    assert (done.returncode, _vendored(script.parent)) == (0, OURS)
    assert b"AMP192 updates the runtime beside the script, ampify_runtime.py, from version 0.0.9 to " in done.stderr


@pytest.mark.parametrize("theirs", [NEWER, OURS + b"# edited by hand\n"], ids=["newer", "the same version"])
def test_one_that_is_as_new_stays(ampify: Ampify, script: Path, theirs: bytes) -> None:
    (script.parent / "ampify_runtime.py").write_bytes(theirs)
    done = ampify(*VENDOR, "train.py")
    assert (done.returncode, _vendored(script.parent)) == (0, theirs)
    assert b"AMP19" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--check",), ("--diff",)])
@pytest.mark.parametrize("kind", FOREIGN)
def test_nobody_elses_file_is_written_over(
    ampify: Ampify, script: Path, training_script: bytes, kind: str, options: tuple[str, ...]
) -> None:
    (script.parent / "ampify_runtime.py").write_bytes(FOREIGN[kind])
    done = ampify(*VENDOR, *options, "train.py")
    assert (done.returncode, done.stdout) == (3, b"")
    assert (script.read_bytes(), _vendored(script.parent)) == (training_script, FOREIGN[kind])
    first = done.stderr.decode().splitlines()[0]
    assert first.startswith("train.py: AMP993 cannot be converted: the ampify_runtime.py beside it is not ampify's")


def test_a_file_of_the_name_elsewhere_does_not_matter(ampify: Ampify, script: Path) -> None:
    (script.parent / "sub").mkdir()
    shutil.copy(script, script.parent / "sub")
    (script.parent / "ampify_runtime.py").write_bytes(FOREIGN["code"])
    assert ampify(*VENDOR, "train.py", "sub").returncode == 3
    assert _vendored(script.parent / "sub") == OURS


@pytest.mark.parametrize("kind", ["directory", "dangling link"])
def test_what_is_not_a_file_is_left(ampify: Ampify, script: Path, training_script: bytes, kind: str) -> None:
    place = script.parent / "ampify_runtime.py"
    if kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    done = ampify(*VENDOR, "train.py")
    assert (done.returncode, script.read_bytes()) == (3, training_script)
    assert b"the ampify_runtime.py beside it cannot be read: " in done.stderr


def test_a_script_that_cannot_be_written_gets_no_runtime(ampify: Ampify, script: Path, training_script: bytes) -> None:
    script.chmod(0o444)
    done = ampify(*VENDOR, "train.py")
    assert (done.returncode, script.read_bytes(), _vendored(script.parent)) == (3, training_script, None)


@pytest.mark.parametrize("text", [b"print('no training')\n", b"loss.backward()\n", b"def f(:\n"])
def test_nothing_is_written_where_nothing_is_converted(ampify: Ampify, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.py").write_bytes(text)
    ampify(*VENDOR, "x.py")
    assert os.listdir(tmp_path) == ["x.py"]


def test_beside_the_file_that_a_link_leads_to(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/train.py").write_bytes(training_script)
    (tmp_path / "link.py").symlink_to("real/train.py")
    assert ampify(*VENDOR, "link.py").returncode == 0
    assert (_vendored(tmp_path), _vendored(tmp_path / "real")) == (None, OURS)


def test_json_has_its_stable_shape(ampify: Ampify, script: Path) -> None:
    done = ampify(*VENDOR, "--format", "json", "--check", "train.py")
    (file,) = json.loads(done.stdout)["files"]
    assert set(file) == {"path", "status", "edits", "diagnostics"}
    (diagnostic,) = file["diagnostics"]
    assert (diagnostic["code"], diagnostic["severity"], diagnostic["line"]) == ("AMP191", "info", 4)


def test_standard_input_has_no_place_beside_it(ampify: Ampify, training_script: bytes) -> None:
    done = ampify(*VENDOR, "-", stdin=training_script)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--runtime vendor writes a file beside the script" in done.stderr


# packages --------------------------------------------------------------------------------------------

RELATIVE = b"import torch\nfrom . import data as _\n"


@pytest.fixture
def package(tmp_path: Path, training_script: bytes) -> Path:
    path = tmp_path / "pkg"
    path.mkdir()
    (path / "__init__.py").write_bytes(b"")
    (path / "data.py").write_bytes(b"")
    (path / "train.py").write_bytes(training_script)
    return path


def test_in_a_package_that_imports_relatively_so_does_the_script(ampify: Ampify, package: Path, training_script: bytes) -> None:
    (package / "train.py").write_bytes(RELATIVE + training_script)
    done = ampify(*VENDOR, "--dtype", "bf16", "pkg/train.py")
    assert done.returncode == 0, done.stderr
    output = (package / "train.py").read_bytes()
    assert b"\nfrom .ampify_runtime import autocast, configure, scaler\n" in output
    assert b"AMP193" not in done.stderr
    assert erasure_problems(RELATIVE + training_script, output) == []
    assert convert(output).status == "already"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "pkg.train"]
    subprocess.run(command, cwd=package.parent, env={**environment, "AMPIFY_MODE": "off"}, check=True)


def test_in_a_package_an_absolute_import_is_explained(ampify: Ampify, package: Path) -> None:
    done = ampify(*VENDOR, "pkg/train.py")
    assert done.returncode == 0
    assert b"\nfrom ampify_runtime import autocast, scaler\n" in (package / "train.py").read_bytes()
    assert b"pkg/train.py:4:1: AMP193 the script lies in a package" in done.stderr


@pytest.mark.parametrize("head", [b"import torch\nfrom .x import y\n", b"from ..x import y\nimport torch\n"])
def test_relative_only_when_vendored(training_script: bytes, head: bytes) -> None:
    assert b"\nfrom ampify_runtime import" in convert(head + training_script).output
    output = convert(head + training_script, Options(runtime="vendor")).output
    assert b"\nfrom .ampify_runtime import autocast, scaler\n" in output
    prove(head + training_script, output)
    with pytest.raises(ProofError):
        prove(head + training_script, output.replace(b"from .ampify_runtime", b"from ..ampify_runtime"))
    with pytest.raises(ProofError):
        prove(head + training_script, output.replace(b"from .ampify_runtime", b"from .runtime"))


# our own copy ----------------------------------------------------------------------------------------


def test_the_runtime_says_the_version_it_is_of() -> None:
    match = vendor.MARKER.match(OURS)
    assert match is not None
    assert match[1].decode() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_installed_layout_is_found(tmp_path: Path, training_script: bytes) -> None:
    """As in a wheel: the module lies beside the package, and a foreign one of the name where the command is run."""
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "ampify", site / "ampify", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "ampify_runtime.py").write_bytes(OURS)
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    (here / "ampify_runtime.py").write_bytes(OLDER)
    (here / "sub/train.py").write_bytes(training_script)
    command = [sys.executable, "-m", "ampify.cli", *VENDOR, "sub"]
    subprocess.run(command, cwd=here, env={**os.environ, "PYTHONPATH": str(site)}, check=True, capture_output=True)
    assert _vendored(here / "sub") == OURS


def test_a_runtime_that_is_nowhere_is_one_line(
    script: Path, training_script: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ampify.cli import main

    monkeypatch.setattr(files, "read_optional", lambda path: None)
    assert main([*VENDOR, str(script)]) == 3
    assert script.read_bytes() == training_script
    assert "ampify's own ampify_runtime.py was not found; install ampify again" in capsys.readouterr().err


def test_create_never_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(b"there")
    for link in (os.link, None):  # None: a file system without hard links
        if link is None:
            monkeypatch.setattr(os, "link", _no_links)
        with pytest.raises(files.FileError, match="File exists"):
            files.create(str(path), b"new")
        assert (path.read_bytes(), os.listdir(tmp_path)) == (b"there", ["x.py"])
    path.unlink()
    files.create(str(path), b"new")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"new", ["x.py"])


def _no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")
