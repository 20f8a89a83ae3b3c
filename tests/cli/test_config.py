"""[tool.ampify] of pyproject.toml: which file holds, what it says, and mistakes in it."""

import os
import sys
from pathlib import Path

import pytest

from ampify.cli import main
from tests.conftest import Ampify

MASKED = """\
import torch
import torch.nn as nn
import torch.nn.functional as F

model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in [(torch.randn(8, 4), torch.randn(8, 4))]:
    optimizer.zero_grad()
    scores = model(x)
    scores = scores.masked_fill(x > 0, -1e9)
    loss = F.mse_loss(torch.sqrt(scores.softmax(-1) + 1e-12), y)
    loss.backward()
    optimizer.step()
"""


@pytest.fixture
def here(tmp_path: Path, training_script: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with scripts in several places; the current directory."""
    for name in ("train.py", "old/train.py", "src/a.py", "src/deep/b.py", "src/deep/made_pb2.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(training_script)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _configure(text: str, directory: str = ".") -> None:
    Path(directory, "pyproject.toml").write_text(f"[tool.ampify]\n{text}\n")


def _would_convert(capsys: pytest.CaptureFixture[str], *arguments: str) -> set[str]:
    assert main(["--diff", *arguments]) == 0
    lines = capsys.readouterr().err.splitlines()
    return {line.split(" ")[2].removesuffix(":") for line in lines if line.startswith("would convert ")}


ALL = {"train.py", "old/train.py", "src/a.py", "src/deep/b.py", "src/deep/made_pb2.py"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ALL),
        ("exclude = []", ALL),
        ('exclude = ["old/"]', ALL - {"old/train.py"}),
        ('exclude = ["old"]', ALL - {"old/train.py"}),
        ('exclude = ["*_pb2.py"]', ALL - {"src/deep/made_pb2.py"}),
        ('exclude = ["/train.py"]', ALL - {"train.py"}),
        ('exclude = ["train.py"]', ALL - {"train.py", "old/train.py"}),
        ('exclude = ["train.py", "!old/train.py"]', ALL - {"train.py"}),
        ('exclude = ["src/**/deep/"]', ALL - {"src/deep/b.py", "src/deep/made_pb2.py"}),
        ('exclude = ["nothing/of/the/kind"]', ALL),
        ('include = ["src/"]', {"src/a.py", "src/deep/b.py", "src/deep/made_pb2.py"}),
        ('include = ["src"]\nexclude = ["*_pb2.py"]', {"src/a.py", "src/deep/b.py"}),
        ('include = ["/*.py"]', {"train.py"}),
        ('include = ["src/", "!src/deep/"]', {"src/a.py"}),
        ("include = []", set()),
    ],
)
def test_which_files_of_a_directory_are_taken(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, expected: set[str]
) -> None:
    _configure(text)
    assert _would_convert(capsys, ".") == expected
    # The same from elsewhere: patterns are relative to the configuration's directory, however the paths are spelled.
    os.chdir("src")
    assert {os.path.normpath(f"src/{path}") for path in _would_convert(capsys, "..")} == expected
    assert {os.path.relpath(path, here) for path in _would_convert(capsys, str(here))} == expected


def test_other_files_are_not_made_scripts_by_being_included(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("src/data.csv").write_text("1;2\n")
    _configure('include = ["src/"]')
    assert main(["."]) == 0
    assert "data.csv" not in capsys.readouterr().err


def test_what_is_named_is_taken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _configure('exclude = ["src/", "train.py", "*_pb2.py"]\ninclude = ["nowhere/"]')
    assert _would_convert(capsys, "train.py", "src/deep/made_pb2.py") == {"train.py", "src/deep/made_pb2.py"}
    _configure('exclude = ["src/"]')
    assert _would_convert(capsys, "src") == {"src/a.py", "src/deep/b.py", "src/deep/made_pb2.py"}


def test_git_has_its_say_besides(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".gitignore").write_text("old/\n")
    _configure('exclude = ["*_pb2.py"]')
    assert _would_convert(capsys, ".") == ALL - {"old/train.py", "src/deep/made_pb2.py"}


def test_patterns_say_nothing_of_files_outside(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _configure('exclude = ["*.py"]', "src")
    assert _would_convert(capsys, "src/deep", "old") == {"src/deep/b.py", "src/deep/made_pb2.py", "old/train.py"} - {
        "src/deep/b.py",
        "src/deep/made_pb2.py",
    }
    _configure('include = ["a.py"]', "src")
    assert _would_convert(capsys, "src", "old") == {"src/a.py", "old/train.py"}


@pytest.mark.parametrize(
    "text", ["[tool.ampify]", "[ tool . ampify ]", '[tool."ampify"]', "  [tool.ampify] # why", "\ufeff[tool.ampify]"]
)
def test_the_nearest_file_with_the_table_holds(here: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    Path("pyproject.toml").write_text(f'{text}\nexclude = ["b.py"]\n', encoding="utf-8")
    Path("src/pyproject.toml").write_text('[project]\nname = "ampify"\n[tool.ruff]\nexclude = ["a.py"]\n')  # not ours: passed by
    Path("src/deep/pyproject.toml").write_text("[tool.ampify]\ndtype = 'bf16'\n")  # below the path: of no concern
    assert "configured by" not in _verbose(capsys, "--isolated", "src")
    assert "configured by pyproject.toml\n" in _verbose(capsys, "src")
    assert "configured by src/deep/pyproject.toml\n" in _verbose(capsys, "src/deep/b.py")
    assert "configured by src/deep/pyproject.toml\n" in _verbose(capsys, "src/deep", "src")
    assert "configured by pyproject.toml\n" in _verbose(capsys, "src", "src/deep")
    os.chdir("src")
    assert "configured by ../pyproject.toml\n" in _verbose(capsys, "a.py")
    assert "configured by" not in _quiet(capsys, "a.py")


def _verbose(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["-v", "--check", *arguments])
    return capsys.readouterr().err


def _quiet(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["--check", *arguments])
    return capsys.readouterr().err


def test_a_link_has_the_configuration_of_its_own_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("src/link.py").symlink_to("../train.py")
    _configure("dtype = 'bf16'", "src")
    assert "configured by src/pyproject.toml\n" in _verbose(capsys, "src/link.py")
    assert "configured by" not in _verbose(capsys, "train.py")


def test_a_missing_first_path_has_a_place_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _configure("dtype = 'bf16'")
    assert "configured by pyproject.toml\n" in _verbose(capsys, "missing.py", "train.py")
    assert "configured by pyproject.toml\n" in _verbose(capsys, "nowhere/missing.py")


def _converted(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["--diff", *arguments, "train.py"]) == 0
    return capsys.readouterr().out


def test_dtype_and_runtime(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _configure('dtype = "bf16"')
    assert 'configure(mode="bf16")' in _converted(capsys)
    assert 'configure(mode="fp16")' in _converted(capsys, "--dtype", "fp16")
    assert "configure" not in _converted(capsys, "--isolated")
    _configure('runtime = "torch"')
    assert "torch.autocast" in _converted(capsys)
    assert "from ampify_runtime import" in _converted(capsys, "--runtime", "import")
    _configure('runtime = "vendor"')
    assert "+++ b/ampify_runtime.py" in _converted(capsys)


def test_rules(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text(MASKED)
    mask, epsilon = "torch.finfo", ".float() + 1e-12"

    def found(*arguments: str) -> tuple[bool, bool]:
        output = _converted(capsys, *arguments)
        return mask in output, epsilon in output

    assert found() == (True, True)
    _configure('skip = ["AMP210"]')
    assert found() == (False, True)
    assert found("--skip", "AMP211") == (True, False)  # what the command line says of a key replaces it
    _configure('only = ["AMP210"]')
    assert found() == (True, False)
    assert found("--only", "AMP211") == (False, True)
    assert found("--skip", "AMP210") == (False, False)
    assert found("--isolated") == (True, True)


def test_unsafe(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ampify import project

    seen = []
    monkeypatch.setattr(project, "run", lambda paths, options, **_: (_ for _ in seen.append(options.unsafe) or []))
    for text in ("", "unsafe = true", "unsafe = false"):
        _configure(text)
        for arguments in ([], ["--unsafe"], ["--no-unsafe"]):
            assert main([*arguments, "train.py"]) == 0
    assert seen == [False, True, False, True, True, False, False, True, False]


def test_a_file_that_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _configure('dtype = "fp16"')
    Path("other.toml").write_text('[tool.ampify]\ndtype = "bf16"\n')
    assert 'configure(mode="bf16")' in _converted(capsys, "--config", "other.toml")
    Path("old/other.toml").write_text('[tool.ampify]\nexclude = ["train.py"]\n')
    assert _would_convert(capsys, "--config", "old/other.toml", ".") == ALL - {"old/train.py"}


def test_standard_input_takes_the_configuration_of_its_name(ampify: Ampify, here: Path, training_script: bytes) -> None:
    _configure('dtype = "bf16"')
    _configure('dtype = "fp16"', "src")
    assert b'mode="bf16"' in ampify("-", stdin=training_script).stdout
    assert b'mode="fp16"' in ampify("--stdin-filename", "src/x.py", "-", stdin=training_script).stdout
    assert b"mode=" not in ampify("--isolated", "-", stdin=training_script).stdout
    _configure('runtime = "vendor"')
    done = ampify("-", stdin=training_script)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"vendor" in done.stderr


MISTAKES = [
    ('dtpye = "bf16"', 'pyproject.toml: [tool.ampify] has no key "dtpye"; did you mean "dtype"?'),
    ('Exclude = ["x"]', 'pyproject.toml: [tool.ampify] has no key "Exclude"; did you mean "exclude"?'),
    ("zzz = 1", 'has no key "zzz"; there are include, exclude, dtype, runtime, only, skip, unsafe'),
    ('dtype = "bf-16"', 'dtype of [tool.ampify]: it has to be "fp16" or "bf16", not "bf-16"; did you mean "bf16"?'),
    ('dtype = "float8"', 'dtype of [tool.ampify]: it has to be "fp16" or "bf16", not "float8"'),
    ("dtype = 16", 'it has to be "fp16" or "bf16", not a number'),
    ("dtype = 1979-05-27", "not a date or time"),
    ('runtime = "vendored"', 'did you mean "vendor"?'),
    ('exclude = "old/"', "exclude of [tool.ampify]: it has to be a list of strings, not a string"),
    ("include = [1]", "include of [tool.ampify]: it has to be a list of strings, and there is a number in it"),
    ("exclude = [['x']]", "and there is a list in it"),
    ("exclude = ['']", 'exclude of [tool.ampify]: "" is no pattern as in a .gitignore'),
    ("exclude = ['# old']", "is no pattern"),
    ("exclude = ['!']", "is no pattern"),
    ('exclude = ["a\\nb"]', "is no pattern"),
    ('skip = "AMP210"', "skip of [tool.ampify]: it has to be a list of strings, not a string"),
    ('skip = ["amp210"]', 'skip of [tool.ampify]: "amp210" is none of the rules that can be chosen; did you mean "AMP210"?'),
    ('only = ["AMP901"]', 'only of [tool.ampify]: "AMP901" is none of the rules'),
    ('unsafe = "yes"', "unsafe of [tool.ampify]: it has to be true or false, not a string"),
    ("unsafe = 1", "not a number"),
    ("\n\nexclude = [", "pyproject.toml:4: it is not valid TOML"),
    ("\n\nexclude = = 1\n\n\n", "pyproject.toml:4: it is not valid TOML"),
    ("dtype = 'fp16'\ndtype = 'fp16'", "it is not valid TOML"),
    ("x = " + "[" * 100_000, "pyproject.toml"),
    ('"\\u001b[2J" = 1', 'has no key "\\x1b[2J"'),
    ("[[tool.ampify]]", "pyproject.toml"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[text[:20] for text, _ in MISTAKES])
def test_mistakes_are_one_line_and_exit_code_2(
    here: Path, capsys: pytest.CaptureFixture[str], training_script: bytes, text: str, words: str
) -> None:
    _configure(text)
    for arguments in (["train.py"], ["--check", "--allow-refused", "."], ["--format", "json", "."]):
        assert main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith("Error: pyproject.toml:")
        assert words in line
        assert line.isprintable()
    assert Path("train.py").read_bytes() == training_script
    assert main(["--isolated", "--diff", "train.py"]) == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n[tool.ampify]\n# caf\xe9\n", "pyproject.toml:3: it is not UTF-8, as TOML has to be"),
        (b"[tool.ampify]\0", "pyproject.toml:1: it is not valid TOML"),
        (b"[[tool.ampify]]\n", "tool.ampify has to be a table, [tool.ampify]"),
        (b"[tool]\nampify = 3\n[tool.ampify.x]\n", "pyproject.toml"),
    ],
)
def test_bytes_that_are_no_configuration(here: Path, capsys: pytest.CaptureFixture[str], data: bytes, words: str) -> None:
    Path("pyproject.toml").write_bytes(data)
    assert main(["train.py"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "missing.toml"], "Error: missing.toml: cannot be read: No such file or directory"),
        (["--config", "old"], "Error: old: cannot be read: it is a directory, not a regular file"),
        (["--config", "train.py"], "Error: train.py: it has no [tool.ampify]"),
        (["--config", "x.toml", "--isolated"], "--config and --isolated cannot be given together"),
    ],
)
def test_a_file_that_is_named_and_cannot_be_used(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main([*arguments, "train.py"]) == 2
    assert words in capsys.readouterr().err


def test_broken_files_of_others_are_none_of_our_concern(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("src/pyproject.toml").write_text("[tool.ruff\nampify = [")
    os.mkfifo("old/pyproject.toml")
    Path("src/deep/pyproject.toml").mkdir()
    assert _would_convert(capsys, "src", "old") == ALL - {"train.py"}


def test_tomllib_is_imported_for_a_table_only(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomllib", None)  # importing it fails
    Path("pyproject.toml").write_text('[project]\ndependencies = ["ampify"]\n[tool.ruff]\n')
    assert main(["--check", "train.py"]) == 1
    _configure("")
    assert main(["--check", "train.py"]) == 123


# settings of some files ---------------------------------------------------------------------------------


def test_settings_of_some_files(here: Path) -> None:
    _configure(
        'dtype = "fp16"\n[tool.ampify.per-file]\n"src/" = { dtype = "bf16" }\n"*_pb2.py" = { runtime = "torch" }\n'
        '"/old/train.py" = { runtime = "vendor" }'
    )
    assert main(["."]) == 0
    for name in ALL:
        text = (here / name).read_text()
        dtype = "bf16" if name.startswith("src/") else "fp16"
        assert (f'configure(mode="{dtype}")' in text) == ("pb2" not in name)
        assert ("torch.amp" in text) == ("pb2" in name)
    assert [p.parent.name for p in here.rglob("ampify_runtime.py")] == ["old"]


def test_later_patterns_win_key_by_key_and_the_command_line_over_all(here: Path) -> None:
    _configure('[tool.ampify.per-file]\n"*.py" = { dtype = "bf16", runtime = "torch" }\n"train.py" = { dtype = "fp16" }')
    assert main(["src/a.py", "train.py"]) == 0
    assert "bfloat16" in (here / "src/a.py").read_text()
    assert "dtype=torch.float16" in (here / "train.py").read_text()
    assert main(["--runtime", "import", "--dtype", "bf16", "old/train.py"]) == 0
    assert 'configure(mode="bf16")' in (here / "old/train.py").read_text()


def test_rules_of_some_files(here: Path) -> None:
    (here / "train.py").write_text(MASKED)
    (here / "src/a.py").write_text(MASKED)
    _configure('skip = ["AMP211"]\n[tool.ampify.per-file]\n"src/*" = { only = ["AMP211"], skip = ["AMP225"] }')
    assert main(["train.py", "src/a.py"]) == 0
    own, other = (here / "train.py").read_text(), (here / "src/a.py").read_text()
    assert ("finfo" in own, ".float()" in own) == (True, False)
    assert ("finfo" in other, ".float()" in other) == (False, True)


def test_settings_of_some_files_hold_in_every_process_and_for_standard_input(ampify: Ampify, here: Path) -> None:
    script = (here / "train.py").read_bytes()
    for number in range(24):
        (here / f"src/n{number}.py").write_bytes(script)
    _configure('[tool.ampify.per-file]\n"src/n?.py" = { dtype = "bf16" }')
    assert ampify("--jobs", "2", ".").returncode == 0
    pinned = {path.name for path in here.rglob("*.py") if b"bf16" in path.read_bytes()}
    assert pinned == {f"n{number}.py" for number in range(10)}
    assert b"bf16" in ampify("-", "--stdin-filename", "src/n1.py", stdin=script).stdout
    assert b"bf16" not in ampify("-", stdin=script).stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a.py" = { dtpye = "bf16" }', '[tool.ampify.per-file."a.py"] has no key "dtpye"; did you mean "dtype"?'),
        ('"a.py" = { exclude = ["b"] }', '[tool.ampify.per-file."a.py"] has no key "exclude"'),
        (
            '"a.py" = { dtype = "bf17" }',
            'dtype of [tool.ampify.per-file."a.py"]: it has to be "fp16" or "bf16", not "bf17"; did you mean',
        ),
        ('"a.py" = { skip = ["AMP2100"] }', '"AMP2100" is none of the rules that can be chosen; did you mean "AMP210"?'),
        ('"a.py" = "bf16"', '"a.py" has to be a table, such as { dtype = "bf16" }, not a string'),
        ('"" = { dtype = "bf16" }', '"" is no pattern as in a .gitignore'),
    ],
)
def test_mistakes_in_settings_of_some_files(here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    _configure(f"[tool.ampify.per-file]\n{text}")
    assert main(["train.py"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('per-file = "a.py"', "per-file of [tool.ampify]: it has to be a table of patterns, not a string"),
        ("per-files = {}", '[tool.ampify] has no key "per-files"; did you mean "per-file"?'),
    ],
)
def test_per_file_is_a_table(here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    _configure(text)
    assert main(["train.py"]) == 2
    assert message in capsys.readouterr().err
