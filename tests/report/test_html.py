"""report.html: what the page holds, read from its elements; how it behaves is in test_browser.py."""

import re
from pathlib import Path

import pytest

from ampify.convert import AppliedEdit, Result, convert
from ampify.diagnostics import Diagnostic
from ampify.job import Outcome
from ampify.report import html
from ampify.report.html.highlight import highlight
from ampify.report.html.sides import differences, hunks, rows
from tests.conftest import TRAINING_SCRIPT, Ampify
from tests.report.pages import Node, read

ROOT = Path(__file__).parents[2]
README = ROOT / "fixtures/readme/train.in.py"


def _page(*outcomes: Outcome, done: bool = False) -> Node:
    return read(b"".join(html.render(outcomes, done=done)))


def _outcome(source: bytes, path: str = "train.py") -> Outcome:
    return Outcome(path, source, convert(source))


def _edited(old: str, new: str, *edits: tuple[int, int], path: str = "x.py") -> Outcome:
    applied = tuple(AppliedEdit("AMP102", first, last, "does something") for first, last in edits)
    return Outcome(path, old.encode(), Result("converted", new.encode(), applied))


def _sides(page: Node) -> list[tuple[str, str]]:
    """What stands in the rows of code, by their line numbers."""
    found = []
    for row in page.one("table", "code").all("tr"):
        cells = [child for child in row.children if isinstance(child, Node) and child.tag == "td"]
        if len(cells) == 4:
            found.append((cells[1].text, cells[3].text))
    return found


def test_the_readme_s_example() -> None:
    source = README.read_bytes()
    page = _page(_outcome(source, "src/train.py"))
    assert page.one("h1").text == "1 of 1 file would be converted"
    assert page.one("section", "file").one("h2").text == "src/train.py"
    result = convert(source)
    said = [(p.one("a").text, p.one(kind="where").text) for p in page.all("p", "say")]
    assert said == [(e.code, f"line {e.line}" if e.line == e.end_line else f"lines {e.line}–{e.end_line}") for e in result.edits]  # noqa: RUF001
    sides = _sides(page)
    assert ("        loss.backward()", "        scaler.scale(loss).backward()") in sides
    assert ("", "        scaler.unscale_(optimizer)") in sides
    before, after = ([row[n] for row in sides] for n in (0, 1))
    for line in (line for line in result.output.decode().split("\n") if "scaler" in line):
        assert line in after
    assert all(line in source.decode().split("\n") for line in before)
    codes = {edit.code for edit in result.edits}
    assert {article.attributes["id"] for article in page.all("article")} == codes
    assert {row.one("a", "id").text for row in page.one("table", "codes").one("tbody").all("tr")} == codes


def test_what_is_only_indented_is_no_change_of_its_own() -> None:
    old = "x = 1\n\ny = 2\nz = 3\n"
    page = _page(_edited(old, "with autocast():\n    x = 1\n\n    y = 2\nzz = 3\n", (1, 3), (4, 4)))
    cells = [cell for row in page.one("table", "code").one("tbody").all("tr") for cell in row.all("td")]
    assert [cell.text for cell in cells if "ins" in cell.classes] == ["with autocast():", "zz = 3"]
    assert [cell.text for cell in cells if "del" in cell.classes] == ["z = 3"]
    assert [(cell.text, cell.one("mark").text) for cell in cells if "shift" in cell.classes] == [
        ("    x = 1", "    "),
        ("    y = 2", "    "),
    ]


def test_reasons_stand_above_the_lines_that_they_are_for() -> None:
    old = "".join(f"line {n}\n" for n in range(1, 30))
    page = _page(_edited(old, old.replace("line 7\n", "7\n").replace("line 20\n", "line 20\nmore\n"), (7, 7), (21, 21)))
    told = []
    for row in page.one("table", "code").one("tbody").all("tr"):
        told.append(
            "gap" if "gap" in row.classes else "said" if "said" in row.classes else row.text if "changed" in row.classes else ""
        )
    assert [t for t in told if t] == ["gap", "said", "line 77", "gap", "said", "more", "gap"]


def test_a_refusal_is_below_its_line() -> None:
    source = (ROOT / "fixtures/refused/backward_create_graph.in.py").read_bytes()
    (diagnostic,) = convert(source).diagnostics
    page = _page(_outcome(source))
    table = page.one("table", "code")
    assert "one" in table.classes
    body = list(table.one("tbody").all("tr"))
    at = next(n for n, row in enumerate(body) if "said" in row.classes)
    assert body[at - 1].one("td", "ln").attributes["data-n"] == str(diagnostic.line)
    assert "create_graph=True" in body[at].text
    assert "torch.autograd.grad" in body[at].one(kind="help").text


def test_what_has_no_line_is_told_apart() -> None:
    failed = Diagnostic("AMP990", "error", 1, 1, "cannot be read: a directory")
    late = Diagnostic("AMP991", "error", 99, 1, "is encoded as UTF-16")
    page = _page(*(Outcome(f"{d.code}.py", b"", Result("error", b"", (), (d,))) for d in (failed, late)))
    assert [div.one("p", "say").one("a").text for div in page.all("div", "apart")] == ["AMP990", "AMP991"]
    assert not list(page.all("table", "code"))


def test_files_with_nothing_to_show_are_a_list() -> None:
    page = _page(*(Outcome(f"{n}.py", b"", Result("unchanged", b"")) for n in range(3)))
    assert page.one("h1").text == "0 of 3 files would be converted"
    assert [li.one(kind="name").text for li in page.one("section", "silent").all("li")] == ["0.py", "1.py", "2.py"]
    assert not list(page.all("section", "file"))
    assert _page().one("h1").text == "0 of 0 files would be converted"


@pytest.mark.parametrize(("count", "words"), [(1, "1 of 1 file was converted"), (2, "2 of 2 files were converted")])
def test_what_is_done_is_told_as_done(count: int, words: str) -> None:
    page = _page(*(_edited("a\n", "b\n", (1, 1), path=f"{n}.py") for n in range(count)), done=True)
    assert page.one("h1").text == words
    assert [badge.text for badge in page.all("span", "badge")] == ["converted"] * count


HOSTILE = [
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "<!-- --!><plaintext>",
    "&lt;b&gt;&#x3c;",
    "\u202e\u2066\x1b[31m\x00\x7f\ufeff",
    "javascript:alert(1)",
    "]]>&",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_names_contents_and_messages_are_text(text: str) -> None:
    before = f"a = 1\n# {text}\nb = '''{text}'''\n"
    told = (Diagnostic("AMP905", "error", 2, 1, text, f"`{text}`"),)
    outcomes = [
        Outcome(
            f"{text}.py",
            before.encode(),
            Result("converted", (before + text).encode(), (AppliedEdit("AMP101", 2, 2, text),), told),
        ),
        Outcome(f"{text}.py", before.encode(), Result("refused", before.encode(), (), told)),
        Outcome(text, b"", Result("unchanged", b"")),
    ]
    data = b"".join(html.render(outcomes, done=False))
    page = read(data)
    assert not [*page.all("img"), *page.all("plaintext")]
    assert len(list(page.all("script"))) == len(list(page.all("style"))) == 1
    shown = data.decode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]", shown)
    if text.isprintable():
        assert page.one("section", "silent").one("li").one(kind="name").text == text
        assert sum(f"# {text}" in row for sides in _tables(page) for row in sides) == 3


def _tables(page: Node) -> list[list[str]]:
    return [[cell.text for cell in table.all("td")] for table in page.all("table", "code")]


def test_names_that_are_no_text_and_other_encodings() -> None:
    source = b"# -*- coding: latin-1 -*-\nx = '\xe9'\n"
    page = _page(
        Outcome("\udcff.py", source, Result("refused", source, (), (Diagnostic("AMP905", "error", 2, 1, "x"),))),
        Outcome("b.py", b"\xff\xfe", Result("error", b"", (), (Diagnostic("AMP991", "error", 1, 1, "x"),))),
    )
    assert [h2.text for h2 in page.all("h2")][:2] == ["\\udcff.py", "b.py"]
    assert "x = 'é'" in _tables(page)[0]
    assert "\\xff\\xfe" in "".join(_tables(page)[1])


def test_the_page_allows_itself_and_nothing_else(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING_SCRIPT)
    done = ampify("--check", "--format", "html", "train.py")
    assert (done.returncode, done.stderr) == (1, b"")
    page = read(done.stdout)
    policy = next(
        m.attributes["content"] for m in page.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert (tmp_path / "train.py").read_text() == TRAINING_SCRIPT
    assert ampify("--format", "html", "train.py").returncode == 0
    assert "autocast" in (tmp_path / "train.py").read_text()
    page = read(ampify("--check", "--format", "html", "-", stdin=TRAINING_SCRIPT.encode()).stdout)
    assert page.one("section", "file").one("h2").text == "<stdin>"


def test_long_lines_are_cut_and_say_so() -> None:
    old = "data = '" + "x" * 100_000 + "'\nb = 1\n"
    data = b"".join(html.render([_edited(old, old.replace("b = 1", "b = 2"), (2, 2))], done=False))
    assert len(data) < 80_000
    assert "98,009 characters more" in read(data).text


def test_long_gaps_are_counted_only() -> None:
    for lines, there in ((1_500, True), (2_500, False)):
        old = "x = 1\n" * lines + "b = 1\n"
        gap = _page(_edited(old, old.replace("b = 1", "b = 2"), (lines + 1, lines + 1))).one("tr", "gap")
        assert gap.text == f"{lines - 3:,} lines"
        assert ("data-lines" in gap.attributes) == there


def test_many_files_are_quick_and_no_larger_than_what_changes() -> None:
    source = README.read_bytes()
    result = convert(source)
    one = len(b"".join(html.render([Outcome("0.py", source, result)], done=False)))
    many = len(b"".join(html.render([Outcome(f"{n}.py", source, result) for n in range(200)], done=False)))
    assert many < 200 * one


# side by side ---------------------------------------------------------------------------------------------


def _beside(before: str, after: str) -> list[str]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found = rows(old, new)
    assert [row.old for row in found if row.old is not None] == list(range(len(old)))
    assert [row.new for row in found if row.new is not None] == list(range(len(new)))
    sides = [tuple("" if n is None else side[n].strip() for n, side in ((row.old, old), (row.new, new))) for row in found]
    return [("!" if row.changed else "") + "|".join(both) for row, both in zip(found, sides, strict=True)]


def test_lines_stand_beside_those_that_they_became() -> None:
    assert _beside(
        "loss = f(x)\nloss.backward()\noptimizer.step()\n",
        "with autocast():\n    loss = f(x)\nscaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update()\n",
    ) == [
        *("!|with autocast():", "!loss = f(x)|loss = f(x)", "!loss.backward()|scaler.scale(loss).backward()"),
        *("!optimizer.step()|scaler.step(optimizer)", "!|scaler.update()"),
    ]
    assert _beside("a\nb\n", "a\nb\nc\n") == ["a|a", "b|b", "!|c"]
    assert _beside("alpha\n", "beta\n") == ["!alpha|", "!|beta"]
    assert _beside("", "a\n") == ["!|a"]
    assert len(_beside("a\n" * 80, "b\n" * 90)) == 90


def test_hunks_have_what_is_changed_or_spoken_of_and_lines_around() -> None:
    old = [f"line {n}\n" for n in range(1, 51)]
    new = [*old[:40], "new\n", *old[40:]]
    found = hunks(rows(old, new), {3}, old)
    assert [(h.hidden, len(h.rows)) for h in found] == [(0, 6), (31, 7), (7, 0)]
    assert hunks(rows(old, old), set(), old) == []
    assert [(h.hidden, len(h.rows)) for h in hunks(rows(old, old), {5, 13, 46}, old)] == [(0, 16), (26, 8)], "no gap is one line"


@pytest.mark.parametrize(
    ("above", "scope"),
    [
        ("class A:\n    def f(self):\n        for x in y:\n            pass\n", "def f(self):"),
        ("class A:\n    def f(self):\n        pass\n\n    def g(self):\n        pass\n        if x:\n", "def g(self):"),
        ("class A:\n\tdef f(self):\n\t\tpass\n\n\tasync def g(self):\n\t\tif x:\n", "async def g(self):"),
        ("def f(self):\n    pass\n\nfor x in y:\n    with z:\n", ""),
        ("x = 1\n" * 4, ""),
    ],
)
def test_a_gap_names_the_function_that_goes_on_behind_it(above: str, scope: str) -> None:
    old = [*above.splitlines(keepends=True), *["            pass\n"] * 9, "            x = 1\n"]
    found = hunks(rows(old, [*old[:-1], "            x = 2\n"]), set(), old)
    assert [h.scope for h in found] == [scope]


@pytest.mark.parametrize(
    ("old", "new", "gone", "come"),
    [
        ("loss.backward()", "scaler.scale(loss).backward()", [], ["scaler.scale(", ")"]),
        ("    x = 1", "        x = 1", [], ["    "]),
        ("a.step()", "a.step()", [], []),
    ],
)
def test_what_differs_within_a_line(old: str, new: str, gone: list[str], come: list[str]) -> None:
    first, second = differences(old, new)
    assert ([old[a:b] for a, b in first], [new[a:b] for a, b in second]) == (gone, come)


# colours --------------------------------------------------------------------------------------------------


def test_colours() -> None:
    source = "@torch.no_grad()\ndef f(x):  # why\n    return 'a' if x is None else 1.5\n"
    lines = source.splitlines(keepends=True)
    found = [
        [(line[s.start : s.end], s.kind) for s in stretches] for line, stretches in zip(lines, highlight(lines), strict=True)
    ]
    assert found == [
        [("@", "a"), ("torch", "a")],
        [("def", "k"), ("f", "d"), ("# why", "c")],
        [("return", "k"), ("'a'", "s"), ("if", "k"), ("is", "k"), ("None", "n"), ("else", "k"), ("1.5", "n")],
    ]


@pytest.mark.parametrize("source", ["def (", "x = '''open\nmore\n", "\tif x:\n  y\n", "\x00", "€ $ ?\n", "x = 1\\", "", "\r\r\n"])
def test_colours_of_what_is_no_python(source: str) -> None:
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", source)
    for line, stretches in zip(lines, highlight(lines), strict=True):
        assert all(0 <= s.start < s.end <= len(line) for s in stretches)


def test_strings_over_several_lines_are_coloured_in_each() -> None:
    assert [len(found) for found in highlight(["x = '''a\n", "b\n", "c'''\n"])] == [1, 1, 1]
