"""What the observer does by itself: sources in the place of files, sitecustomize, what it writes down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER = """\
import inspect, os, sys
from package.part import value, where
print(value, __name__, os.path.basename(__file__), sys.argv[1:], os.path.basename(sys.path[0]))
print(inspect.getsource(where).strip())
if __name__ == "__main__" and "spawn" in sys.argv:
    import multiprocessing
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=where)
    child.start()
    child.join()
    sys.stdout.flush()
"""
PART = "value = {}\n\n\ndef where():\n    print('{} in', __file__.rpartition(os.sep)[2])\n\n\nimport os\n"


def _program(directory: Path) -> tuple[Path, Path]:
    """A script with a module, and a list of what is to be read in their place."""
    (directory / "package").mkdir()
    (directory / "instead").mkdir()
    script, part = directory / "train.py", directory / "package/part.py"
    script.write_text("raise AssertionError('the file itself was run')\n")
    part.write_text(PART.format(1, "first"))
    (directory / "instead/0.py").write_text(OTHER)
    (directory / "instead/1.py").write_text(PART.format(2, "second"))
    sources = {str(script.resolve()): str(directory / "instead/0.py"), str(part.resolve()): str(directory / "instead/1.py")}
    (directory / "sources.json").write_text(json.dumps(sources))
    return script, directory / "sources.json"


def _observe(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (directory / "record").mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT / "runtime"), environment.pop("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-P", "-m", "ampify_observe", "record", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_other_sources_run_as_if_they_were_the_files(tmp_path: Path) -> None:
    _, sources = _program(tmp_path)
    done = _observe(tmp_path, "--sources", str(sources), "train.py", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"2 __main__ train.py ['--epochs', '1'] {tmp_path.name}"
    assert lines[1:] == ["def where():", "    print('second in', __file__.rpartition(os.sep)[2])"]
    assert not list(tmp_path.rglob("*.pyc")), "bytecode of the one would be taken for that of the other"


def test_so_do_processes_that_are_spawned(tmp_path: Path) -> None:
    _, sources = _program(tmp_path)
    done = _observe(tmp_path, "--sources", str(sources), "train.py", "spawn")
    assert done.returncode == 0, done.stderr
    assert "2 __mp_main__ train.py ['spawn']" in done.stdout
    assert "second in part.py\n" in done.stdout


def test_a_traceback_shows_what_ran(tmp_path: Path) -> None:
    script, sources = _program(tmp_path)
    (tmp_path / "instead/0.py").write_text("\n\n1 / 0  # here\n")
    done = _observe(tmp_path, "--sources", str(sources), "train.py")
    assert done.returncode == 1
    assert f'  File "{script}", line 3, in <module>\n    1 / 0  # here\n' in done.stderr


def test_nobody_elses_sitecustomize_is_lost(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import sys\nsys.customized = __name__\n")
    child = "import sys; print(getattr(sys, 'customized', None), 'torch' in sys.modules, 'ampify_observe' in sys.modules)"
    (tmp_path / "train.py").write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n")
    done = _observe(tmp_path, "train.py", PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout == "sitecustomize False True\n", done.stderr
    assert os.listdir(tmp_path / "record") == [], "nothing is written where nothing steps"


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "import os; os._exit(3)"])
def test_it_ends_as_the_script_does(tmp_path: Path, ending: str) -> None:
    (tmp_path / "train.py").write_text(ending)
    assert _observe(tmp_path, "train.py").returncode == 3


def test_a_script_that_catches_everything_is_stopped_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = torch.optim.SGD([weight], lr=0.1)\n"
        "for step in range(1000):\n"
        "    try:\n"
        "        weight.sum().backward()\n"
        "        optimizer.step()\n"
        "    except:\n"
        "        print('caught', step)\n"
        "print('end')\n"
    )
    done = _observe(tmp_path, "--steps", "2", "train.py")
    assert (done.returncode, done.stdout) == (0, "caught 2\ncaught 3\ncaught 4\n"), done.stderr
    (record,) = (tmp_path / "record").iterdir()
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(line["attempt"], line["taken"], line["losses"], line["names"][:1]) for line in lines[:1]] == [
        (0, True, [3.0], ["parameter 0"])
    ]
    assert [line["norms"] for line in lines] == [[pytest.approx(3**0.5)], [pytest.approx(2 * 3**0.5)]]
