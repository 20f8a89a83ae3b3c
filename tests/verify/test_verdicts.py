"""What a verification makes of right conversions and of wrong ones."""

from pathlib import Path

import pytest

from ampify.convert import convert
from ampify.verify import judge
from ampify.verify.compare import MODES
from ampify.verify.pair import against
from tests.verify import programs
from tests.verify.observing import verified

WORDS = {"off": "identical", "scale-only": "identical", "fp16": "close", "bf16": "close"}


def _script(directory: Path, text: str, name: str = "train.py") -> Path:
    path = directory / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["PLAIN", "GAN", "BCE", "BATCH_NORM", "LBFGS"])
def test_an_honest_conversion_trains_the_same(name: str, tmp_path: Path) -> None:
    comparison = verified(_script(tmp_path, getattr(programs, name)), modes=MODES)
    told = {row.mode: (row.verdict.word, row.verdict.reasons, row.run.errors) for row in comparison.rows}
    assert told == {mode: (word, (), ()) for mode, word in WORDS.items()}
    assert [row.verdict.notes for row in comparison.rows if row.mode in ("off", "scale-only")] == [(), ()]
    assert comparison.good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"], "nothing is left beside it"


@pytest.mark.parametrize("name", programs.MISTAKES)
def test_a_mistake_is_caught(name: str, tmp_path: Path) -> None:
    mistake = programs.MISTAKES[name]
    right = convert(mistake.script.encode()).output.decode()
    assert right.count(mistake.before) == 1
    script = _script(tmp_path, mistake.script)
    wrong = _script(tmp_path, right.replace(mistake.before, mistake.after), "wrong.py")
    (row,) = verified(script, wrong, (mistake.mode,), mistake.cuda_policy).rows
    assert row.verdict.word == ("failed" if row.run.failure else "different")
    assert mistake.said in "\n".join((*row.verdict.reasons, *row.run.errors))


def test_a_conversion_that_does_not_run_is_not_verified(tmp_path: Path) -> None:
    script = _script(tmp_path, programs.PLAIN)
    comparison = verified(script, script, ("off", "scale-only", "bf16"))
    assert [row.verdict.word for row in comparison.rows] == ["identical", "different", "different"]
    assert comparison.rows[1].verdict.reasons == ("no loss was scaled: what was converted did not run",)
    assert comparison.rows[2].verdict.reasons == ("nothing ran under autocast: what was converted did not run",)


def test_in_float64_nothing_changes(tmp_path: Path) -> None:
    script = _script(
        tmp_path, programs.PLAIN.replace("import torch\n", "import torch\ntorch.set_default_dtype(torch.float64)\n", 1)
    )
    (row,) = verified(script, modes=("bf16",)).rows
    assert (row.verdict.word, row.verdict.distance) == ("identical", 0.0)
    assert "nothing of what they come from ran in half precision" in row.verdict.notes[0]


def test_where_it_differs_is_said(tmp_path: Path) -> None:
    right = convert(programs.GAN.encode()).output.decode()
    wrong = right.replace("scaler.scale(loss_G).backward()", "scaler.scale(loss_G * 0.5).backward()")
    (row,) = verified(_script(tmp_path, programs.GAN), _script(tmp_path, wrong, "wrong.py")).rows
    assert row.verdict.word == "different"
    assert row.verdict.reasons[0].startswith("step 1 of optimizer 2 (Adam): the gradient of 0.weight differs; its norm is ")


def test_a_script_that_differs_from_itself_is_not_blamed_on_the_conversion(tmp_path: Path) -> None:
    comparison = verified(_script(tmp_path, programs.CHANCE), modes=("off", "fp16"))
    assert [row.verdict.word for row in comparison.rows] == ["not repeatable", "not repeatable"]
    assert not comparison.good


def test_what_rounding_alone_does_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "UNITS", 0.01)  # so that what any conversion does is too far
    script = _script(tmp_path, programs.PLAIN)
    (row,) = verified(script, modes=("bf16",)).rows
    assert row.verdict.word == "close"
    assert "rounding alone moves the gradients of this script by" in row.verdict.notes[0]
    assert row.verdict.limit is not None
    assert row.verdict.limit < 0.02, "also where gradients are clipped"
    right = convert(programs.PLAIN.encode()).output.decode()
    wrong = _script(tmp_path, right.replace("loss)", "loss * 1.1)").replace("1.0)", "1.05)"), "wrong.py")
    (row,) = verified(script, wrong, ("bf16",)).rows
    assert row.verdict.word == "different"


def test_what_no_autocast_can_run_is_told_from_what_the_conversion_broke(tmp_path: Path) -> None:
    (row,) = verified(_script(tmp_path, programs.NO_AUTOCAST), modes=("bf16",)).rows
    assert row.verdict.word == "failed"
    assert row.verdict.notes == ("the original fails in the same way with autocast round its modules",)


def test_steps_that_overflow_at_first_are_normal(tmp_path: Path) -> None:
    script = _script(tmp_path, programs.PLAIN.replace("model(x), y)", "model(x), y) * 3000"))
    (row,) = verified(script, modes=("fp16",)).rows
    assert (row.verdict.word, row.skipped > 0, row.run.skipped) == ("close", True, 0)
    assert "left out, as gradients overflowed at a loss scale of 65536" in row.verdict.notes[-1]


def test_a_script_that_was_converted_is_compared_with_what_it_was(tmp_path: Path) -> None:
    script = _script(tmp_path, programs.PLAIN)
    converted = convert(script.read_bytes()).output
    script.write_bytes(converted)
    comparison = verified(script, modes=("scale-only",))
    assert comparison.good, comparison
    assert comparison.original.count("scale") == 0
    assert comparison.rows[0].run.count("scale") > 0
    assert script.read_bytes() == converted


def test_a_script_that_knows_no_modes_is_told(tmp_path: Path) -> None:
    script = _script(tmp_path, programs.PLAIN)
    converted = tmp_path / "converted.py"
    converted.write_bytes(convert(script.read_bytes()).output)
    assert len(against(str(script), str(converted)).told) == 1
    assert against(str(script), str(script)).told[1].endswith("does not import ampify_runtime: no mode changes what it does")
