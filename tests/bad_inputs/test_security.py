"""Converting is reading: nothing of the scripts is run, nothing but the given files is written, nothing leaves the machine."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TRAINING_SCRIPT, Ampify

# What a module does that is imported or run: it leaves a mark, and fails.
TRAP = "open({mark!r}, 'a').write(__name__ + ' from ' + __file__)\nraise SystemExit('the script was run')\n"
# Names that the converter imports itself, that Python imports at its start, that a test runner or a build would run.
NAMES = """
ampify_runtime ast bisect builtins click collections conftest contextlib copy difflib functools hashlib io itertools json libcst
linecache logging model multiprocessing numpy os pathspec pickle re setup site sitecustomize stat string tokenize tomllib torch
types typing usercustomize warnings
""".split()
# Runs the command with every event of Python's audit written down: imports, opened files, processes, connections. It is for
# `python -P`, as the installed command is: without the current directory on the path.
WATCHED = r"""
import json, os, sys
seen = []
BEYOND = ('socket.', 'subprocess.', 'ctypes.', 'urllib.', 'http.', 'ftplib.', 'smtplib.', 'webbrowser.', 'pty.', 'winreg.')
PROCESSES = 'os.system os.exec os.posix_spawn os.spawn os.startfile os.kill signal.pthread_kill'.split()
CHANGES = '''os.remove os.rename os.link os.symlink os.mkdir os.rmdir os.chmod os.chown os.truncate os.utime os.setxattr
    os.removexattr shutil.rmtree os.mkfifo os.mknod'''.split()
def hook(event, arguments):
    if event.startswith(BEYOND) or event in PROCESSES:
        seen.append([event, repr(arguments)])
    elif event in CHANGES:
        seen.append([event, *(os.fsdecode(a) if isinstance(a, (str, bytes)) else repr(a) for a in arguments)])
    elif event == 'open' and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append(['write', os.path.abspath(os.fsdecode(arguments[0]))])
    elif event == 'exec':
        seen.append(['exec', arguments[0].co_filename])
sys.addaudithook(hook)
from ampify.cli import main
code = main(sys.argv[2:])
json.dump([code, seen], open(sys.argv[1], 'w'))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project whose every other module is a trap; outside of it lie files that links in it lead to."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    (project / "lib").mkdir(parents=True)
    outside.mkdir()
    mark = str(tmp_path / "mark")
    for directory in (project, project / "lib"):
        for name in NAMES:
            (directory / f"{name}.py").write_text(TRAP.format(mark=mark))
    (project / "torch").mkdir()
    (project / "torch/__init__.py").write_text(TRAP.format(mark=mark))
    script = f"import model, lib.model\nfrom lib import *\n{TRAINING_SCRIPT}{TRAP.format(mark=mark)}"
    for path in (project / "train.py", project / "lib/train.py", outside / "train.py", outside / "other.py"):
        path.write_text(script)
    (project / "link.py").symlink_to("../outside/train.py")
    (project / "linked").symlink_to("../outside")
    return project


def _snapshot(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """All there is below a directory: modes, and contents or where a link leads."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        held: bytes | str = os.readlink(path) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else ""
        found[path.relative_to(root).as_posix()] = (mode, held)
    return found


def _changed(before: dict[str, tuple[int, bytes | str]], after: dict[str, tuple[int, bytes | str]]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


CALLS = {
    "a script": (["train.py"], {"project/train.py"}),
    "its directory": (["."], {"project/train.py", "project/lib/train.py"}),
    "a link": (["link.py"], {"outside/train.py"}),
    "a linked directory": (["linked"], {"outside/train.py", "outside/other.py"}),
    "only looking": (["--check", "--diff", ".", "link.py"], set()),
    "the runtime": (["--runtime", "vendor", "lib/train.py"], set()),  # the module of that name is a trap: it fails
}


@pytest.mark.parametrize("case", CALLS)
def test_only_the_given_files_are_written_and_nothing_is_run(ampify: Ampify, place: Path, case: str) -> None:
    arguments, expected = CALLS[case]
    before = _snapshot(place.parent)
    done = ampify(*arguments, cwd=place)
    assert done.returncode in (0, 1, 3), done.stderr
    assert b"Traceback" not in done.stderr
    assert _changed(before, _snapshot(place.parent)) == expected
    assert not (place.parent / "mark").exists()


def test_the_runtime_is_put_beside_the_scripts_alone(ampify: Ampify, place: Path) -> None:
    for path in place.rglob("ampify_runtime.py"):
        path.unlink()
    before = _snapshot(place.parent)
    assert ampify("--runtime", "vendor", "lib/train.py", cwd=place).returncode == 0
    assert _changed(before, _snapshot(place.parent)) == {"project/lib/train.py", "project/lib/ampify_runtime.py"}


def test_an_older_runtime_behind_a_link_is_not_written(ampify: Ampify, place: Path) -> None:
    for path in place.rglob("ampify_runtime.py"):
        path.unlink()
    old = b"# ampify_runtime 0.0.1 \n"
    (place.parent / "outside/ampify_runtime.py").write_bytes(old)
    (place / "ampify_runtime.py").symlink_to("../outside/ampify_runtime.py")
    before = _snapshot(place.parent)
    done = ampify("--runtime", "vendor", "train.py", cwd=place)
    assert done.returncode == 3
    assert (
        b"train.py: AMP993 cannot be converted: the ampify_runtime.py beside it is a symbolic link to an older one" in done.stderr
    )
    assert _changed(before, _snapshot(place.parent)) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["."],
        ["--check", "--diff", "--format", "text", "."],
        ["--check", "--format", "json", "."],
        ["--check", "--format", "sarif", "."],
        ["--format", "html", "."],
    ],
)
def test_what_python_itself_sees(place: Path, arguments: list[str]) -> None:
    """Of Python's audit events: no connection, no process, no code of the project, no write but that of the given files."""
    (place / "pyproject.toml").write_text('[tool.ampify]\nexclude = ["nothing"]\n')
    log = place.parent / "log"
    done = subprocess.run(
        [sys.executable, "-P", "-c", WATCHED, str(log), *arguments], cwd=place, capture_output=True, check=True, timeout=120
    )
    assert b"Traceback" not in done.stderr
    code, seen = json.loads(log.read_text())
    assert code == (1 if "--check" in arguments else 0)
    root = str(place.parent)
    written = set()
    for event, *details in seen:
        if event == "exec":
            assert not details[0].startswith(root), details
            assert details[0] not in ("<source>", "<converted>", "<unknown>"), details
        elif event == "write" and not details[0].endswith(".pyc") and "__pycache__" not in details[0]:
            written.add(details[0])
        elif event in ("os.rename", "os.remove", "os.chmod", "os.chown", "os.setxattr"):
            if "__pycache__" not in str(details[0]):
                written.update(details[: 2 if event == "os.rename" else 1])
        elif event == "os.mkdir":
            assert details[0].endswith("__pycache__"), details
        elif event != "write":
            raise AssertionError((event, details))
    written -= {"/dev/null", str(log)}
    ours = {w for w in written if not os.path.basename(w).startswith(".ampify-") and not w.isdigit()}
    assert ours == (set() if "--check" in arguments else {str(place / "train.py"), str(place / "lib/train.py")})


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    deeds = {
        "socket.connect": "import socket; s = socket.socket(); s.settimeout(0.01); s.connect(('127.0.0.1', 9))",
        "subprocess.Popen": "import subprocess; subprocess.run(['true'])",
        "os.system": "import os; os.system('true')",
        "write": "open('x', 'w')",
        "exec": "exec('1')",
    }
    for event, deed in deeds.items():
        # The end of the program is replaced: `main` is the deed.
        program = WATCHED.replace("code = main(sys.argv[2:])", f"try:\n    {deed}\nexcept OSError:\n    pass\ncode = 0")
        subprocess.run([sys.executable, "-c", program, "log"], cwd=tmp_path, check=True, timeout=60)
        assert event in {found for found, *_ in json.loads((tmp_path / "log").read_text())[1]}
