"""The hooks of .pre-commit-hooks.yaml under the real pre-commit, on a repository made for the test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A sigmoid fed to BCELoss: ampify refuses to choose for its user.
REFUSED = (ROOT / "fixtures/refused/manual_update_data.in.py").read_bytes()


def _git(cwd: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.invalid", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """This checkout as a git repository of its own, uncommitted changes included, and its revision."""
    copy = tmp_path_factory.mktemp("hooks") / "ampify"
    copy.mkdir()
    for name in ("ampify", "runtime"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for pattern in ("*.toml", "*.md", "LICENSE", ".pre-commit-hooks.yaml"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, copy)
    _git(copy, "init", "-q")
    _git(copy, "add", ".")
    _git(copy, "commit", "-q", "-m", "hooks")
    return copy, _git(copy, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pre-commit keeps the environment that it builds, once for all tests here."""
    return tmp_path_factory.mktemp("pre-commit-home")


@pytest.fixture
def repository(tmp_path: Path, hooks: tuple[Path, str], training_script: bytes, plain_script: bytes) -> Path:
    """A repository with a script to convert, one that is refused and one without training, all of them staged."""
    place, revision = hooks
    config = [
        f"repos:\n- repo: {place}\n  rev: {revision}\n  hooks:",
        "  - id: ampify",
        "  - id: ampify-check\n    stages: [manual]\n",
    ]
    (tmp_path / ".pre-commit-config.yaml").write_text("\n".join(config))
    (tmp_path / "train.py").write_bytes(training_script)
    (tmp_path / "refused.py").write_bytes(REFUSED)
    (tmp_path / "plain.py").write_bytes(plain_script)
    (tmp_path / "notes.txt").write_bytes(training_script)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    return tmp_path


def _pre_commit(repository: Path, store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pre_commit", "run", "--color=never", "--verbose", *arguments]
    env = {**os.environ, "PRE_COMMIT_HOME": str(store)}
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, timeout=500, check=False)


def test_the_hook_converts_and_a_refused_script_does_not_block(repository: Path, store: Path, training_script: bytes) -> None:
    first = _pre_commit(repository, store, "ampify")
    assert first.returncode == 1
    assert "files were modified by this hook" in first.stdout
    assert "converted train.py" in first.stdout
    assert "refused.py:" in first.stdout
    assert b"ampify_runtime" in (repository / "train.py").read_bytes()
    assert (repository / "notes.txt").read_bytes() == training_script

    _git(repository, "add", ".")
    second = _pre_commit(repository, store, "ampify")
    assert second.returncode == 0, second.stdout
    assert "refused.py:" in second.stdout
    assert (repository / "refused.py").read_bytes() == REFUSED


def test_the_checking_hook_fails_and_changes_nothing(repository: Path, store: Path, training_script: bytes) -> None:
    run = _pre_commit(repository, store, "ampify-check", "--hook-stage", "manual")
    assert run.returncode == 1
    assert "exit code: 1" in run.stdout
    assert "would convert train.py" in run.stdout
    assert (repository / "train.py").read_bytes() == training_script

    only_refused = _pre_commit(repository, store, "ampify-check", "--hook-stage", "manual", "--files", "refused.py")
    assert only_refused.returncode == 0, only_refused.stdout


def test_arguments_and_files_and_notebooks(
    repository: Path, store: Path, hooks: tuple[Path, str], training_script: bytes
) -> None:
    place, revision = hooks
    (repository / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {place}\n  rev: {revision}\n  hooks:\n"
        "  - id: ampify\n    args: [--dtype, bf16]\n    files: ^src/\n"
        "  - id: ampify-check\n    args: [--isolated]\n    types_or: [jupyter]\n"
    )
    cells = [{"cell_type": "code", "source": training_script.decode().splitlines(keepends=True), "outputs": []}]
    notebook = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)
    (repository / "src").mkdir()
    (repository / "src" / "train.py").write_bytes(training_script)
    for path in ("src/train.ipynb", "other.ipynb"):
        (repository / path).write_text(notebook)
    _git(repository, "add", ".")

    converted = _pre_commit(repository, store, "ampify")
    assert converted.returncode == 1
    assert b'configure(mode="bf16")' in (repository / "src/train.py").read_bytes()
    assert b'configure(mode=\\"bf16\\")' in (repository / "src/train.ipynb").read_bytes()
    assert (repository / "train.py").read_bytes() == training_script
    assert (repository / "other.ipynb").read_text() == notebook

    checked = _pre_commit(repository, store, "ampify-check")
    assert checked.returncode == 1
    assert "would convert other.ipynb" in checked.stdout
    assert "train.py" not in checked.stdout


def test_a_file_that_does_not_parse_blocks(repository: Path, store: Path) -> None:
    (repository / "broken.py").write_text("def f(:\n")
    run = _pre_commit(repository, store, "ampify", "--files", "broken.py")
    assert run.returncode == 1
    assert "exit code: 3" in run.stdout


def test_the_environment_has_everything_but_torch(repository: Path, store: Path) -> None:
    assert _pre_commit(repository, store, "ampify", "--files", "plain.py").returncode == 0
    installed = {path.name for path in store.glob("repo*/py_env-*/lib/python*/site-packages/*")}
    assert {"ampify", "ampify_runtime.py", "libcst", "click"} <= installed
    assert "torch" not in installed
    assert list(store.glob("repo*/py_env-*/lib/python*/site-packages/ampify/py.typed"))
