"""The formats on the command line: streams that break, names and contents of all kinds, many files, one huge line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PLAIN_SCRIPT, TRAINING_SCRIPT, Ampify
from tests.report import logs
from tests.report.pages import read

FORMATS = ["json", "github", "sarif", "html"]
ROOT = Path(__file__).parents[2]
SCHEMAS = {"json": ROOT / "ampify/report/json.schema.json", "sarif": logs.SCHEMAS / "sarif-2.1.0-rtm.5.json"}


def _shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "AMPIFY": str(Path(sys.executable).with_name("ampify"))}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=cwd, env=env, capture_output=True, timeout=120, check=False
    )


def _checked(form: str, report: bytes) -> None:
    """Holds a report to what reads it."""
    if form in SCHEMAS:
        logs.check(json.loads(report), SCHEMAS[form])
    elif form == "html":
        read(report)
    else:
        *commands, summary = report.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
        assert summary.startswith("ampify: ")
        assert all(line.startswith(("::notice ", "::warning ", "::error ")) for line in commands)


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_who_has_seen_enough(tmp_path: Path, form: str) -> None:
    for n in range(30):
        (tmp_path / f"x{n}.py").write_text(TRAINING_SCRIPT.replace("import torch\n", f"# {'long' * 1000}\nimport torch\n", 1))
    done = _shell(f"$AMPIFY --check --format {form} . | true", tmp_path)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_is_full_and_a_stream_that_is_closed(tmp_path: Path, form: str) -> None:
    (tmp_path / "x.py").write_text(TRAINING_SCRIPT)
    for target, words in ((">/dev/full", b"No space left on device"), (">&-", b"standard output is closed")):
        done = _shell(f"$AMPIFY --check --format {form} . {target}", tmp_path)
        assert done.returncode == 3
        assert words in done.stderr
        assert b"Traceback" not in done.stderr


ESCAPES = "\x1b[2J\x07\x9b31m\x7f\u202e\u2066\u200b"
CONTENTS = {
    "plain.py": PLAIN_SCRIPT.encode(),
    "train.py": TRAINING_SCRIPT.encode(),
    "crlf.py": TRAINING_SCRIPT.replace("\n", "\r\n").encode(),
    "bom.py": b"\xef\xbb\xbf" + TRAINING_SCRIPT.encode(),
    "latin.py": b"# coding: latin-1\n"
    + TRAINING_SCRIPT.replace("loss.backward()", "loss.backward()  # \xe9\x9b").encode("latin-1"),
    "cyrillic.py": b"# coding: cp1251\n"
    + TRAINING_SCRIPT.replace("loss.backward()", "loss.backward()  # \u0416").encode("cp1251"),
    "escapes.py": TRAINING_SCRIPT.replace("loss.backward()", f"loss.backward()  # {ESCAPES}").encode(),
    "refused.py": TRAINING_SCRIPT.replace("optimizer.step()", f"optimizer.step('{ESCAPES}<b>')").encode(),
    "broken.py": f"x = {ESCAPES}\n<script>\n{TRAINING_SCRIPT}".encode(),
    "bytes.py": b"# \xff\xfe\n" + TRAINING_SCRIPT.encode(),
    "nul.py": b"x = '\x00'\n" + TRAINING_SCRIPT.encode(),
    "utf16.py": TRAINING_SCRIPT.encode("utf-16"),
    "coding.py": b"# coding: no-such-thing\n" + TRAINING_SCRIPT.encode(),
    "empty.py": b"",
    "no_end.py": TRAINING_SCRIPT.rstrip().encode(),
    "one_line.py": TRAINING_SCRIPT.replace("loss.backward()", f"loss.backward(); text = '{'é<' * 200_000}'").encode(),
    "deep.py": (TRAINING_SCRIPT + "x = " + "(" * 3000 + ")" * 3000 + "\n").encode(),
    f"n{ESCAPES}\n%25:,'\"<&>.py": TRAINING_SCRIPT.encode(),
    "\udcff\udcfe.py": TRAINING_SCRIPT.encode(),
    "a b/\u00fc#?.py": TRAINING_SCRIPT.encode(),
}


@pytest.mark.parametrize("form", FORMATS)
def test_names_and_contents_of_all_kinds(ampify: Ampify, tmp_path: Path, form: str) -> None:
    for name, data in CONTENTS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    done = ampify("--check", "--format", form, ".", "missing.py", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (3, b"")
    _checked(form, done.stdout)
    assert not set(done.stdout) & (set(range(32)) - {9, 10}), "nothing that moves a cursor"
    assert {name: (tmp_path / name).read_bytes() for name in CONTENTS} == CONTENTS
    if form == "sarif":
        logs.apply(json.loads(done.stdout), tmp_path)
        fixed = {name: (tmp_path / name).read_bytes() for name in CONTENTS}
        for name, data in CONTENTS.items():
            (tmp_path / name).write_bytes(data)
        written = ampify("--format", form, ".", "missing.py")
        assert written.returncode == 3
        assert {name: (tmp_path / name).read_bytes() for name in CONTENTS} == fixed != CONTENTS


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_given_to_report(ampify: Ampify, tmp_path: Path, form: str) -> None:
    (tmp_path / "empty").mkdir()
    done = ampify("--format", form, "empty")
    assert (done.returncode, done.stderr) == (0, b"")
    _checked(form, done.stdout)


@pytest.mark.parametrize("form", FORMATS)
def test_a_thousand_files(ampify: Ampify, tmp_path: Path, form: str) -> None:
    """Most of them hold no training; the reports are in the order of the paths whoever does the work."""
    for n in range(1000):
        (tmp_path / f"x{n:03}.py").write_text(TRAINING_SCRIPT if n % 40 == 0 else PLAIN_SCRIPT)
    reports = {jobs: ampify("--check", "--format", form, "--jobs", jobs, ".") for jobs in ("1", "2")}
    assert {done.returncode for done in reports.values()} == {1}
    assert reports["1"].stdout == reports["2"].stdout
    _checked(form, reports["1"].stdout)
    assert len(reports["1"].stdout) < 2_000_000


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_imported_alone(tmp_path: Path, form: str) -> None:
    """And for one file with lines for people, none of them is."""
    (tmp_path / "x.py").write_text(TRAINING_SCRIPT)
    program = "import sys\nfrom ampify.cli import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    for arguments, there in ((["--check", "--format", form, "x.py"], {form}), (["--check", "x.py"], set())):
        done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, check=True)
        imported = set(done.stderr.decode().splitlines()[-1].split())
        assert {name for name in FORMATS if f"ampify.report.{name}" in imported} == there
        if not there:
            assert not {"ampify.report.diff", "ampify.report.colour", "ampify.report.rules", "ampify.manual"} & imported
