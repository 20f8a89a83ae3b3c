"""Many files in one call: the same outcomes whoever does the work, and what becomes of the others when a process dies."""

import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ampify import graph, job
from ampify.cli import main
from ampify.convert import Options, Result, Surroundings, convert
from tests.conftest import TRAINING_SCRIPT, Ampify

MANY = 24  # more than what one process does by itself
MODEL = "import torch\n\n\ndef hide(scores, mask):\n    return scores.masked_fill(mask == 0, -1e9)\n"
SHARING = TRAINING_SCRIPT.replace("import torch\n", "import torch\nfrom shared.masks import hide\n", 1).replace(
    "F.mse_loss(model(x), y)", "F.mse_loss(hide(model(x), y), y)"
)
REFUSED = TRAINING_SCRIPT.replace("loss.backward()", "loss.backward(create_graph=True)")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scripts by themselves, scripts that share a file, one that cannot be converted, and what is no script."""
    monkeypatch.chdir(tmp_path)
    for number in range(MANY):
        Path(f"alone_{number:02}.py").write_text(f"# {number}\n{TRAINING_SCRIPT}")
    Path("shared").mkdir()
    Path("shared/__init__.py").touch()
    Path("shared/masks.py").write_text(MODEL)
    for number in range(4):
        Path(f"sharing_{number}.py").write_text(SHARING)
    Path("refused.py").write_text(REFUSED)
    Path("broken.py").write_text("this is no Python\n")
    Path("plain.py").write_text("print('no training here')\n")
    return tmp_path


def _paths() -> list[str]:
    return sorted(path.as_posix() for path in Path().rglob("*.py"))


def _contents() -> dict[str, bytes]:
    return {path: Path(path).read_bytes() for path in _paths()}


def _changed(before: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in _contents().items() if data != before[path]}


def _reported(ampify: Ampify, *arguments: str) -> tuple[int, dict[str, object], list[str]]:
    done = ampify("--check", "--format", "json", *arguments)
    assert b"Traceback" not in done.stderr, done.stderr
    files = json.loads(done.stdout)["files"]
    return done.returncode, {file["path"]: file for file in files}, [file["path"] for file in files]


@pytest.mark.parametrize("runtime", ["import", "vendor"])
def test_the_same_outcomes_whoever_does_the_work_and_in_any_order(ampify: Ampify, runtime: str) -> None:
    code, files, order = _reported(ampify, f"--runtime={runtime}", "--jobs=1", ".")
    assert code == 3
    assert order == sorted(order, key=lambda path: path.split("/"))
    statuses = {path: file["status"] for path, file in files.items()}  # type: ignore[index]
    assert statuses["shared/masks.py"] == statuses["sharing_3.py"] == statuses["alone_00.py"] == "converted"
    assert (statuses["refused.py"], statuses["broken.py"], statuses["plain.py"]) == ("refused", "error", "unchanged")
    assert _reported(ampify, f"--runtime={runtime}", "--jobs=2", ".") == (code, files, order)
    shuffled = random.Random(0).sample(order, len(order))
    for jobs in ("--jobs=1", "--jobs=3"):
        assert _reported(ampify, f"--runtime={runtime}", jobs, *shuffled) == (code, files, shuffled)


def test_the_same_files_are_written(ampify: Ampify, tmp_path: Path) -> None:
    before = _contents()
    assert ampify("--jobs=1", ".").returncode == 3
    written = _contents()
    for path, data in before.items():
        Path(path).write_bytes(data)
    done = ampify("--jobs=2", ".")
    assert (done.returncode, _contents()) == (3, written)
    assert done.stderr.decode().splitlines()[-1].startswith(f"{MANY + 5} files converted")
    assert written["shared/masks.py"] != before["shared/masks.py"]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize(("count", "starts"), [(20, False), (21, True)])
def test_processes_are_started_for_more_than_twenty_scripts_only(tmp_path: Path, count: int, starts: bool) -> None:
    program = "import sys; from ampify.cli import main; main(sys.argv[1:]); print('multiprocessing' in sys.modules)"
    command = [sys.executable, "-c", program, "--check", "-q", "--jobs=2", "plain.py", *_paths()[:count]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{starts}\n"


def test_one_process_where_one_is_asked_for(tmp_path: Path) -> None:
    program = "import sys; from ampify.cli import main; main(sys.argv[1:]); print('multiprocessing' in sys.modules)"
    command = [sys.executable, "-c", program, "--check", "-q", "--jobs=1", "."]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_a_wrong_number_of_processes(ampify: Ampify, jobs: str) -> None:
    assert ampify(f"--jobs={jobs}", ".").returncode == 2


# what dies ------------------------------------------------------------------------------------------------


def _dying(how: Callable[[], object], what: bytes) -> Callable[..., Result]:
    def instead(source: bytes, options: Options = Options(), around: Surroundings = Surroundings()) -> Result:
        if what in source:
            how()
        return convert(source, options, around)

    return instead


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit() -> None:
    os._exit(7)


@pytest.mark.parametrize(("how", "words"), [(_kill, "ended by signal 9"), (_exit, "ended with exit code 7")])
def test_a_process_that_dies_is_an_error_of_its_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: Callable[[], None], words: str
) -> None:
    monkeypatch.setattr(job, "convert", _dying(how, b"# 7\n"))
    before = _contents()
    assert main(["--jobs=2", "."]) == 123
    assert [line for line in capfd.readouterr().err.splitlines() if words in line and line.startswith("alone_07.py: AMP999")]
    unchanged = {path for path, data in _contents().items() if data == before[path]}
    assert unchanged == {"alone_07.py", "refused.py", "broken.py", "plain.py", "shared/__init__.py"}


def test_a_process_that_dies_of_a_file_that_others_need(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "convert", _dying(_kill, MODEL.encode()))
    before = _contents()
    assert main(["--jobs=2", "."]) == 123
    said = capfd.readouterr().err
    assert "shared/masks.py: AMP999" in said
    assert said.count("AMP925") == 4
    written = {path for path, data in _contents().items() if data != before[path]}
    assert written == {f"alone_{number:02}.py" for number in range(MANY)}


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_an_error_that_leaves_no_room_is_one_of_its_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    def fail() -> None:
        raise error("none left")

    monkeypatch.setattr(job, "convert", _dying(fail, b"# 7\n"))
    assert main(["--jobs=2", "."]) == 123
    said = capfd.readouterr().err
    assert f"alone_07.py: AMP999 ampify itself failed; please report this: {error.__name__}: none left" in said
    assert "28 files converted" in said


def test_a_process_that_dies_of_a_first_look(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    parse = graph.parse

    def dying(source: bytes) -> object:
        if b"# 7\n" in source:
            _kill()
        return parse(source)

    monkeypatch.setattr(graph, "parse", dying)
    assert main(["--jobs=2", "."]) == 123
    said = capfd.readouterr().err
    assert [line for line in said.splitlines() if "AMP999" in line and line.startswith("alone_07.py: ")]
    assert said.count("AMP999") == 1
    assert "28 files converted" in said


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_exception_in_a_first_look(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], jobs: str) -> None:
    def failing(source: bytes) -> object:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(graph, "parse", failing)
    assert main([f"--jobs={jobs}", "."]) == 123
    assert capfd.readouterr().err.count("RuntimeError: unforeseen") == len(_paths())


# all or none ----------------------------------------------------------------------------------------------


def test_a_needed_file_that_cannot_be_written_keeps_the_others_back(capfd: pytest.CaptureFixture[str]) -> None:
    Path("shared/masks.py").chmod(0o444)
    before = _contents()
    assert main(["."]) == 3
    said = capfd.readouterr().err
    assert "shared/masks.py: AMP993 cannot be written: the file is read-only" in said
    assert "sharing_0.py: AMP993 was not written: shared/masks.py, which is converted with it, could not be" in said
    assert {path for path, data in _contents().items() if data != before[path]} == {f"alone_{n:02}.py" for n in range(MANY)}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_in_the_middle_is_undone(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    replace, before = os.replace, _contents()

    def failing(source: str, target: str) -> None:
        if target.endswith("sharing_2.py"):
            monkeypatch.setattr(os, "replace", replace)
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    assert main([path for path in _paths() if "shar" in path]) == (130 if isinstance(error, KeyboardInterrupt) else 3)
    assert _contents() == before


# interrupts and terminals ---------------------------------------------------------------------------------

SLOW = """\
import sys, time
from ampify import job
from ampify.cli import main
from ampify.report import progress
convert, progress.PATIENCE = job.convert, 0.0
def slow(*args):
    time.sleep({seconds})
    return convert(*args)
job.convert = slow
sys.exit(main(sys.argv[1:]))
"""


def _gone(group: int) -> bool:
    """Whether all processes of a group end soon."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)])
def test_no_process_outlives_the_command(tmp_path: Path, number: signal.Signals, to_all: bool) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + SLOW.format(seconds=0.3)
    before = _contents()
    command = [sys.executable, "-c", program, "--jobs=2", "."]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while len(_changed(before)) < 2 and time.monotonic() < deadline:  # the last one may yet be undone
            time.sleep(0.05)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in said
    assert (b"interrupted" in said) is (number == signal.SIGINT)
    assert _gone(process.pid)
    changed = _changed(before)
    assert 0 < len(changed) < MANY
    assert all(data == convert(before[path]).output for path, data in changed.items() if path.startswith("alone"))
    assert sorted(os.listdir(tmp_path)) == sorted({path.split("/")[0] for path in before})


def _on_a_terminal(tmp_path: Path, program: str, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=tmp_path, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while some := os.read(ours, 65536):
                said += some
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 3
    return said.decode()


def _as_seen(said: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines = []
    for line in said.replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_terminal_shows_how_far_it_is(tmp_path: Path, ampify: Ampify, jobs: str) -> None:
    plainly = ampify("--check", f"--jobs={jobs}", ".").stderr.decode()
    said = _on_a_terminal(tmp_path, SLOW.format(seconds=0.02), "--check", f"--jobs={jobs}", ".")
    total = len(_paths())
    counts = [int(count) for count in re.findall(rf"ampify: (\d+) of {total} files done", said)]
    assert len(counts) > 2
    assert counts == sorted(counts)
    assert _as_seen(said) == plainly.split("\n")


@pytest.mark.parametrize("arguments", [["-q"], ["--format=json"]])
def test_no_counts_where_they_are_not_wanted(tmp_path: Path, arguments: list[str]) -> None:
    assert "files done" not in _on_a_terminal(tmp_path, SLOW.format(seconds=0.02), "--check", *arguments, ".")


def test_no_counts_in_the_first_second(tmp_path: Path) -> None:
    program = SLOW.format(seconds=0).replace("0.0", "60.0")
    assert "files done" not in _on_a_terminal(tmp_path, program, "--check", ".")
