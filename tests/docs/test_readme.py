"""README.md: what it shows is what happens."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ampify.convert import convert
from ampify.diagnostics import REFUSALS
from tests.conftest import Ampify

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_diff_is_what_ampify_prints(ampify: Ampify) -> None:
    done = ampify("--diff", "fixtures/readme/short.in.py", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert _blocks("diff") == [done.stdout.decode()]


def test_the_verification_is_what_ampify_prints(ampify: Ampify) -> None:
    """But for what other machines round, and for the time and the memory that it took."""

    def lasting(lines: str) -> list[list[str]]:
        return [re.sub(r"[\d.]+ +\d+$|[\d.]+ % off", "", line).split() for line in lines.splitlines()]

    done = ampify("verify", "fixtures/readme/train.in.py", cwd=ROOT)
    (shown,) = [block for block in _blocks("text") if "verdict" in block]
    table = done.stdout.decode().partition("\n\n")[0]
    assert (done.returncode, lasting(table)) == (0, lasting(shown)), done.stderr


def test_the_shipped_example_is_the_one_in_the_first_command() -> None:
    assert _blocks("sh")[0].strip().endswith(".venv/bin/ampify --diff fixtures/readme/train.in.py")


def test_ci_runs_the_test_command() -> None:
    install, command = [line.removesuffix(" &&") for line in _blocks("sh")[1].splitlines()][-2:]
    ci = (ROOT / ".ci/run").read_text().splitlines()
    assert command == "python -m pytest -n 2"
    assert command in ci
    assert any(shlex.split(line)[-1:] == shlex.split(install)[-1:] for line in ci if " pip install " in line)


def test_ci_and_readme_install_the_pinned_torch() -> None:
    pinned = re.search(r'"(torch==\S+)"', (ROOT / "pyproject.toml").read_text())
    assert pinned
    assert f"pip install {pinned[1]} &&\n" in _blocks("sh")[1]
    assert re.search(rf"^python -m pip install .*{re.escape(pinned[1])}$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_the_refusals_are_the_ones_in_the_code() -> None:
    def reason(message: str) -> str:
        return message.removesuffix(": {}").replace("{}", "…").replace("|", "\\|")

    expected = "\n".join(f"| {code} | {reason(message)} |" for code, (message, _) in REFUSALS.items())
    assert "\n".join(re.findall(r"^\| AMP9\d\d \|.*$", README, re.MULTILINE)) == expected


def test_every_command_line_is_one(ampify: Ampify) -> None:
    described = ampify("--help").stdout.decode() + ampify("verify", "--help").stdout.decode()
    lines = [line for line in README.splitlines() if not line.startswith("$ git ")]
    for option in {word for line in lines for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}:
        assert option in described, option


@pytest.mark.parametrize("variable", ["AMPIFY_MODE", "AMPIFY_DEVICE", "AMPIFY_INIT_SCALE"])
def test_a_wrong_setting_names_what_the_table_names(variable: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| `{variable}`"))
    code = "import ampify_runtime as r; r.autocast(); r.scaler.scale(__import__('torch').ones(()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "runtime"), variable: "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"ValueError: {variable}='nonsense'")
    for value in re.findall(r"`([a-z][a-z0-9-]*)`", row.split("|")[2]):
        assert value in message


def test_files_that_are_named_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_settings_of_some_files_do_what_is_said(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    _, block = _blocks("toml")
    (tmp_path / "pyproject.toml").write_text(block)
    for name in ("experiments/a/b.py", "release/train.py", "train.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(training_script)
    assert ampify(".").returncode == 0
    assert [p.name for p in tmp_path.rglob("*.py") if b'configure(mode="fp16")' in p.read_bytes()] == ["b.py"]
    assert [p.parent.name for p in tmp_path.rglob("ampify_runtime.py")] == ["release"]


def test_the_pragma_in_the_example_leaves_the_step_alone() -> None:
    (example,) = (block for block in _blocks("python") if "ampify: skip" in block)
    head = "import torch\nmodel = torch.nn.Linear(1, 1)\noptimizer = torch.optim.SGD(model.parameters())\n"
    assert convert((head + example).encode()).status == "unchanged"
    assert convert((head + example.replace("# ampify: skip", "")).encode()).status == "converted"


def test_the_yaml_is_yaml_and_names_what_there_is(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    hook, action = map(yaml.safe_load, _blocks("yaml"))
    shipped = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    used = [hook for repo in hook["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in used} <= shipped.keys()
    steps = [step for job in action["jobs"].values() for step in job["steps"]]
    commands = [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("ampify ")]
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "train.py").write_bytes(training_script)
    done = [ampify(*command[1:]) for command in commands]
    assert [(run.returncode, run.stdout.startswith(b"::notice file=")) for run in done] == [(1, True)]
    described = ampify("--help").stdout.decode()
    for word in (word for words in (*commands, *(hook["args"] for hook in used)) for word in words):
        assert not word.startswith("-") or re.search(rf"^ +{re.escape(word)}\b", described, re.MULTILINE), word


def test_the_configuration_does_what_its_comments_say(ampify: Ampify, tmp_path: Path, training_script: bytes) -> None:
    block, _ = _blocks("toml")
    assert tuple(tomllib.loads(block)["tool"]["ampify"]) == ("exclude", "include", "dtype", "runtime", "skip", "unsafe")
    (tmp_path / "pyproject.toml").write_text(block)
    taken = ["src/a.py", "train.py"]
    names = [*taken, "src/legacy/b.py", "src/x_pb2.py", "legacy/train.py", "tools/c.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(training_script)
    done = ampify("-v", ".")
    assert done.returncode == 0
    assert done.stderr.startswith(b"configured by pyproject.toml\n")
    assert [name for name in names if b'configure(mode="bf16")' in (tmp_path / name).read_bytes()] == taken
    assert [name for name in names if (tmp_path / name).read_bytes() != training_script] == taken
    only = block.replace("skip =", "only =")
    (tmp_path / "pyproject.toml").write_text(only)
    assert only != block
    assert ampify("-v", ".").returncode == 0
