"""What a verification says: the table, the plot, JSON and the page."""

import json
import math
import re
from html.parser import HTMLParser

import pytest

from ampify.verify import data, page, text
from ampify.verify.compare import Comparison, Row
from ampify.verify.judge import Verdict, near, percent
from ampify.verify.plot import HEIGHT, WIDTH, plot
from ampify.verify.records import Run, Step

COUNTS = {"scale": 0}


def _run(losses: list[float], failure: str = "") -> Run:
    steps = [
        Step("main", 0, "SGD", number, True, 0.01 * (number + 1), 3 << 20, "cpu", (loss,), (), None, COUNTS)
        for number, loss in enumerate(losses)
    ]
    return Run({"main": tuple(steps)} if steps else {}, failure, ("Traceback", "ValueError: <no> & \x1b[31m") if failure else ())


ORIGINAL = _run([4.0, 3.0, 2.0, 1.0])
ROWS = (
    Row("off", ORIGINAL, Verdict("identical", 4), 0),
    Row("fp16", _run([4.0, math.nan, 2.5, 1.0]), Verdict("different", 4, 0.3, 0.02, ("a <reason>",), ("a note",)), 2),
    Row("bf16", _run([], "it ended with exit code 1"), Verdict("failed", 0, reasons=("it ended with exit code 1",)), 0),
)
COMPARISON = Comparison(ORIGINAL, ROWS)


def test_the_table_has_the_modes_side_by_side() -> None:
    lines = list(text.lines(COMPARISON, 4))
    assert lines[:5] == [
        "mode      verdict    gradients              skipped  ms/step  peak MiB",
        "original                                          0     30.0         3",
        "off       identical  4 steps, bit by bit          0     30.0         3",
        "fp16      different  30 % off, 2 % allowed        2     30.0         3",
        "bf16      failed                                  0",
    ]
    assert lines[-1] == "The conversion does NOT train the same in fp16, and does NOT run in bf16: 4 steps on cpu."
    assert lines[6:9] == ["fp16: different", "  a <reason>", "  a note"]
    assert "  | ValueError: <no> & \\x1b[31m" in lines, "nothing that moves a terminal's cursor"


def test_fewer_steps_than_wanted_are_said() -> None:
    (line,) = text.summary(Comparison(ORIGINAL, ROWS[:1]), 20)
    assert line == "The conversion trains the same: 4 steps on cpu (the script makes no more than that, of 20)."


def test_a_plot_shows_where_curves_part() -> None:
    lines = plot({"original": [3.0, 2.0, 1.0], "fp16": [3.0, 2.0, 2.0]})
    canvas = [line.partition("|")[2].ljust(WIDTH) for line in lines[:HEIGHT]]
    third = WIDTH // 3
    assert canvas[0] == ("*" * third).ljust(WIDTH)
    assert canvas[-1] == " " * 2 * third + "." * third
    assert [line for line in canvas if "o" in line] == [next(line for line in canvas[1:] if "*" in line)]
    assert lines[-1].split() == [".", "original", "o", "fp16", "*", "several"]
    assert all(len(line) < 80 for line in lines)


@pytest.mark.parametrize("curve", [[], [1.0], [math.nan, math.inf, math.nan]])
def test_what_cannot_be_drawn_is_no_plot(curve: list[float]) -> None:
    assert plot({"original": curve}) == []


def test_a_curve_that_stays_as_it_is_can_be_drawn() -> None:
    assert len(plot({"original": [2.0] * 5})) == HEIGHT + 3


def test_shares_are_as_people_write_them() -> None:
    assert [percent(s) for s in (0.00059, 0.01953, 0.15625, 3000.0, math.inf)] == [
        "0.059 %",
        "2 %",
        "16 %",
        "300,000 %",
        "infinitely far",
    ]


def test_the_document_for_programs() -> None:
    document = json.loads(data.render(COMPARISON))
    assert (document["version"], document["same"], document["device"]) == (1, False, "cpu")
    assert [mode["verdict"] for mode in document["modes"]] == ["identical", "different", "failed"]
    assert document["modes"][1]["losses"] == [4.0, None, 2.5, 1.0]
    assert document["original"]["seconds_per_step"] == 0.03


def test_of_gradients_that_are_too_large_to_be_kept_the_norms_are_compared() -> None:
    counts = {**COUNTS, "autocast": 1}

    def run(*norms: float) -> Run:
        step = Step("main", 0, "SGD", 0, True, 0.1, 0, "cpu", (1.0,), (), None, counts, tuple(map(str, norms)), norms)
        return Run({"main": (step._replace(names=("a", "b")),)})

    assert near(run(3.0, 4.0), run(3.0, 4.05), "fp16")[:3] == ("close", 1, pytest.approx(0.01))
    assert near(run(3.0, 4.0), run(3.0, 5.0), "fp16").reasons == (
        "step 1 of SGD: the gradients are 20 % off, where rounding explains 2 %; mostly that of b, which is 25 % off",
    )


class _Page(HTMLParser):
    """The tags of a page, which have to close each other."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.met.append(tag)
        if tag not in ("meta", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "polyline"):
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else() -> None:
    shown = page.render(COMPARISON, "<train>.py", 4).decode()
    parser = _Page()
    parser.feed(shown)
    assert parser.open == []
    assert "script" not in parser.met
    assert "link" not in parser.met
    assert not re.search(r"https?:|src=|url\(", shown)
    assert "&lt;train&gt;.py" in shown
    assert "a &lt;reason&gt;" in shown
    assert shown.count("<polyline") == 4, "the original, off, and the two pieces of fp16"


def test_the_page_of_a_script_that_fails() -> None:
    shown = page.render(Comparison(_run([], "it ended with exit code 1")), "train.py", 4).decode()
    assert "the original fails, so there is nothing to compare with: it ended with exit code 1" in shown
    assert "<table>" not in shown
