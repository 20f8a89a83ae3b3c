"""What runs the scripts of other tests: as a process of its own, and loudly where one fails."""

from pathlib import Path

import pytest

from tests.scripts import run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_is_printed_by_each_run() -> None:
    Path("beside.py").write_text("VALUE = 3\n")
    Path("train.py").write_text("import sys, beside, ampify_runtime as a\nprint(a.autocast, beside.VALUE, sys.argv, __name__)\n")
    assert run("train.py", times=2).count(" 3 ['train.py'] __main__\n") == 2


def test_nothing_is_left_of_a_run_for_the_next() -> None:
    Path("train.py").write_text(
        "import builtins, os\nprint(hasattr(builtins, 'seen'), os.environ['AMPIFY_MODE'])\nbuiltins.seen = 1\n"
    )
    assert (run("train.py"), run("train.py", "bf16")) == ("False off\n", "False bf16\n")


@pytest.mark.parametrize("source", ["1 / 0\n", "import sys\nsys.exit('division by zero')\n", "syntax error # division by zero\n"])
def test_one_that_fails(source: str) -> None:
    Path("train.py").write_text(source)
    with pytest.raises(AssertionError, match="division by zero"):
        run("train.py")
