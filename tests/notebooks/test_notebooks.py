"""Notebooks: converted cell by cell, with all that is no edit byte for byte, and training as the original's cells do."""

import ast
import json
import re
import subprocess
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ampify.convert import Options, Result, convert
from ampify.notebooks.convert import convert_notebook, python_of
from ampify.notebooks.document import read
from tests.conftest import TRAINING_SCRIPT, Ampify
from tests.fixtures_suite.cases import NOT_RUN, Case, all_cases
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fixtures_suite.forks import ForkServer

SETUP, LOOP = TRAINING_SCRIPT.split("for x")[0].rstrip("\n"), "for x" + TRAINING_SCRIPT.split("for x")[1].rstrip("\n")
CONVERTED = [case for case in all_cases() if case.is_converted and case.family not in NOT_RUN]
OUTPUT = {"data": {"image/png": "iVBORw0KGgo=", "text/plain": ["é\u2028", 1e400, 1.10]}, "output_type": "display_data"}


def _cell(source: object, **more: object) -> dict[str, object]:
    return {
        "cell_type": "code",
        "execution_count": 3,
        "metadata": {"b": 1, "a": 2},
        "outputs": [OUTPUT],
        "source": source,
        **more,
    }


def _notebook(*sources: object, **metadata: object) -> dict[str, Any]:
    return {"nbformat": 4, "cells": [_cell(source) for source in sources], "metadata": metadata, "nbformat_minor": 5}


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _dumped(notebook: dict[str, Any], **style: Any) -> bytes:
    return (json.dumps(notebook, **{"indent": 1, "ensure_ascii": False, **style}) + "\n").encode()


def _converted(data: bytes) -> Result:
    result = convert_notebook(data, Options())
    assert result.status == "converted", result.diagnostics
    again = convert_notebook(result.output, Options())
    assert (again.status, again.output) == ("already", result.output)
    return result


def _sources(data: bytes) -> list[str]:
    cells = json.loads(data.decode("utf-8-sig"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _frame(data: bytes) -> list[str]:
    """The JSON text between the sources of the code cells."""
    document = read(data)
    edges = [0, *(edge for cell in document.cells for edge in (cell.start, cell.end)), len(document.text)]
    return [document.text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _cells_of(source: bytes) -> list[str]:
    """A script, a cell for each of its statements."""
    lines = source.decode("utf-8-sig").split("\n")
    tree = ast.parse(source)
    starts = sorted({min([s.lineno, *(d.lineno for d in getattr(s, "decorator_list", ()))]) for s in tree.body})
    cuts = [1, *starts[1:], len(lines) + 1]
    return ["\n".join(lines[a - 1 : b - 1]).rstrip("\r\n") for a, b in pairwise(cuts)]


# what is kept -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"indent": None},
        {"indent": None, "separators": (",", ":")},
        {"indent": "\t"},
        {"indent": 4, "sort_keys": True},
        {"ensure_ascii": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("listed", [True, False])
def test_all_but_the_sources_is_byte_for_byte(style: dict[str, Any], listed: bool) -> None:
    cells = [f"{SETUP}  # é", "'ü'\n", LOOP, "", "print(1)\n"]
    data = _dumped(_notebook(*(_lines(cell) if listed else cell for cell in cells)), **style)
    result = _converted(data)
    assert _frame(result.output) == _frame(data)
    assert [type(c["source"]) for c in json.loads(result.output)["cells"]] == [list if listed else str] * 5
    sources = _sources(result.output)
    assert sources[1::2] == cells[1::2]
    assert "with autocast():" in sources[2]
    assert "from ampify_runtime import autocast, scaler" in sources[0]
    changed = json.loads(result.output)
    for cell, source in zip(changed["cells"], cells, strict=True):
        cell["source"] = _lines(source) if listed else source
    assert _dumped(changed, **style) == data
    if listed and style.get("indent"):
        assert json.dumps(json.loads(result.output), **{"ensure_ascii": False, **style}).encode() == result.output.rstrip()


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\r\n  "])
def test_the_end_and_line_ends_of_the_file(end: bytes) -> None:
    data = _dumped(_notebook(_lines(SETUP), _lines(LOOP))).rstrip().replace(b"\n", b"\r\n") + end
    assert _frame(_converted(data).output) == _frame(data)


def test_a_byte_order_mark_and_unused_spellings_stay() -> None:
    data = b"\xef\xbb\xbf" + _dumped(_notebook(_lines(SETUP), _lines(LOOP))).replace(b"display_data", b"display\\u005fdata")
    assert _converted(data).output.startswith(b"\xef\xbb\xbf")
    assert b"\\u005f" in _converted(data).output


def test_lines_without_edits_are_spelled_as_they_were() -> None:
    data = _dumped(_notebook(_lines(SETUP + "\na = 'x/y'"), _lines(LOOP))).replace(b"x/y", b"x\\/y").replace(b"lr=", b"l\\u0072=")
    output = _converted(data).output
    assert b"x\\/y" in output
    assert b"l\\u0072=" in output


def test_line_ends_inside_of_cells() -> None:
    data = _dumped(_notebook(SETUP.replace("\n", "\r\n"), LOOP.replace("\n", "\r\n")))
    assert all(line.endswith("\r\n") for source in _sources(_converted(data).output) for line in _lines(source)[:-1])


def test_the_import_goes_behind_the_last_of_torch() -> None:
    sources = _sources(_converted(_dumped(_notebook("import os", "import torch\nx = 1", "import json", SETUP, LOOP))).output)
    assert [i for i, source in enumerate(sources) if "ampify_runtime" in source] == [3]
    assert sources[3].splitlines()[3] == "from ampify_runtime import autocast, scaler"


def test_no_region_goes_beyond_a_cell() -> None:
    cells = [SETUP, "x, y = data[0]\nout = model(x)", "loss = F.mse_loss(out, y)", "loss.backward()", "optimizer.step()"]
    sources = _sources(_converted(_dumped(_notebook(*cells))).output)
    assert sources[1:] == [
        "x, y = data[0]\nwith autocast():\n    out = model(x)",
        "with autocast():\n    loss = F.mse_loss(out, y)",
        "scaler.scale(loss).backward()",
        "scaler.step(optimizer)\nscaler.update()",
    ]


# magics -----------------------------------------------------------------------------------------------

MAGICS = [
    "%matplotlib inline",
    "!pip install torch",
    "?model",
    "model?",
    "model.weight??",
    "files = !ls -l",
    "where, = %pwd",
    "!echo a \\\n  b \\\n  c",
    "%load_ext x\n%autoreload 2",
    "text = '''\n%no magic\n!none\n'''\n%magic",
    "value = (7\n  % 4)\n!ls",
    "# what?\n!ls",
    "if True:\n    !ls\n    %cd ..",
    "def f():\n    !ls\n\nf()",
    "%%time\nvalue = 1",
    "%%capture out\nvalue = 1",
    "%%bash\nfor x in *; do loss.backward(); done",
    "%%writefile train.py\nloss.backward(",
    "\n%%html\n<b>",
    "from __future__ import annotations\nx: int = 1",
]


@pytest.mark.parametrize("magic", MAGICS)
def test_magics_survive(magic: str) -> None:
    cells = [SETUP, magic, LOOP]
    sources = _sources(_converted(_dumped(_notebook(*cells))).output)
    assert sources[1] == magic
    assert sources[0] != cells[0]
    assert sources[2] != cells[2]


@pytest.mark.parametrize("magic", [m for m in MAGICS if not m.lstrip().startswith("%%") and "__future__" not in m])
def test_magics_beside_edits_survive(magic: str) -> None:
    cells = [f"{magic}\n{SETUP}\n{magic}", f"{magic}\n{LOOP}\n{magic}\n"]
    sources = _sources(_converted(_dumped(_notebook(*cells))).output)
    assert all(source.startswith(f"{magic}\n") and source.rstrip("\n").endswith(f"\n{magic}") for source in sources)
    assert all("'ampify:" not in source for source in sources)


def test_magics_inside_a_step_survive() -> None:
    loop = LOOP.replace("    loss.b", "    !nvidia-smi \\\n  --all\n    loss.b").replace("    loss =", "    %time\n    loss =")
    sources = _sources(_converted(_dumped(_notebook(SETUP, f"%%time\n{loop}"))).output)
    plain = _sources(_converted(_dumped(_notebook(SETUP, LOOP))).output)
    assert sources[1].replace("%%time\n", "").replace("    !nvidia-smi \\\n  --all\n", "").replace("    %time\n", "") == plain[1]


# what it means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CONVERTED[::6], ids=lambda case: case.name)
def test_the_cells_train_as_the_original_ones(case: Case, server: ForkServer) -> None:
    data = _dumped(_notebook(*_cells_of(case.source)))
    result = convert_notebook(data, Options())
    assert result.status == "converted"
    before, after = python_of(data), python_of(result.output)
    assert erasure_problems(before, after) == []
    for mode in ("off", "scale-only"):
        assert exact_problems(server.run(before, "original"), server.run(after, mode)) == []


@pytest.mark.parametrize("case", all_cases()[::3], ids=lambda case: case.name)
def test_cells_come_to_what_the_script_does(case: Case) -> None:
    result = convert_notebook(_dumped(_notebook(*_cells_of(case.source))), Options())
    assert (result.status, result.bug) == (convert(case.source).status, False)


def test_messages_name_the_cell_and_the_line_of_the_file() -> None:
    data = _dumped(_notebook(_lines(SETUP), _lines("torch.save(optimizer.state_dict(), 'o.pt')\n" + LOOP)))
    result = _converted(data)
    text = data.decode().split("\n")
    (note,) = result.diagnostics
    assert note.message.startswith("cell 2, line 1: an optimizer's state is saved")
    assert "optimizer.state_dict()" in text[note.line - 1]
    for edit in result.edits:
        cell, line = map(int, re.match(r"cell (\d+), line (\d+): ", edit.message).groups())  # type: ignore[union-attr]
        assert json.loads(text[edit.line - 1].strip().rstrip(",")) == json.loads(data)["cells"][cell - 1]["source"][line - 1]


def test_pragmas_hold_in_notebooks() -> None:
    data = _dumped(_notebook(SETUP, LOOP.replace("step()", "step()  # ampify: skip"), "# ampify: of"))
    result = convert_notebook(data, Options())
    assert (result.status, [d.code for d in result.diagnostics]) == ("unchanged", ["AMP197", "AMP198"])
    assert result.diagnostics[0].message.startswith("cell 2, line 5: left alone")


# other notebooks --------------------------------------------------------------------------------------


def test_version_3() -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": ["x"]},
        *({"cell_type": "code", "input": _lines(s), "language": "python", "outputs": []} for s in (SETUP, LOOP)),
        {"cell_type": "code", "input": ["puts 1"], "language": "ruby", "outputs": []},
    ]
    data = _dumped({"metadata": {"name": ""}, "nbformat": 3, "worksheets": [{"cells": cells[:2]}, {"cells": cells[2:]}]})
    result = _converted(data)
    assert _frame(result.output) == _frame(data)


@pytest.mark.parametrize(
    "metadata", [{"kernelspec": {"language": "R"}}, {"language_info": {"name": "julia"}, "kernelspec": {"language": "python"}}]
)
def test_other_languages_are_unchanged(metadata: dict[str, Any]) -> None:
    data = _dumped(_notebook(SETUP, LOOP, "x <- 1", **metadata))
    assert convert_notebook(data, Options()) == Result("unchanged", data)


def test_cells_of_other_languages_and_kinds_are_left_alone() -> None:
    notebook = _notebook(SETUP, "let x = 1;", LOOP)
    notebook["cells"][1]["metadata"] = {"vscode": {"languageId": "javascript"}}
    notebook["cells"].insert(0, {"cell_type": "markdown", "metadata": {}, "source": "loss.backward("})
    notebook["cells"].append({"cell_type": "raw", "metadata": {}, "source": ["%"]})
    _converted(_dumped(notebook))


def _broken() -> Iterable[tuple[str, bytes, str, int, str]]:
    good = _dumped(_notebook(_lines(SETUP), _lines(LOOP)))
    cell = _dumped(_notebook(_lines(SETUP), ["x = 1\n", "def f(:\n", "    pass"]))
    yield (
        "json",
        good.replace(b'"nbformat": 4,', b'"nbformat": 4'),
        "AMP992",
        3,
        "is not a notebook's JSON: Expecting ',' delimiter",
    )
    yield "empty", b"", "AMP992", 1, "is not a notebook's JSON: Expecting value"
    yield "list", b"[]", "AMP992", 1, "is not a notebook: it has no cells"
    yield "nothing", b"{}", "AMP992", 1, "is not a notebook: it has no cells"
    yield "deep", b'{"cells": [' + b"[" * 100_000, "AMP992", 1, "is not a notebook's JSON"
    yield "encoding", good.replace("é".encode(), b"\xff"), "AMP991", 17, "cannot be decoded as utf-8"
    yield "cell", cell, "AMP992", 1 + cell.split(b"def f")[0].count(b"\n"), "cell 2, line 2: cannot be parsed: "
    yield "surrogate", _dumped(_notebook(SETUP, "'x'")).replace(b"'x'", b"'\\ud800'"), "AMP992", 49, "cell 2: cannot be parsed: "
    yield "conflict", b"<<<<<<< HEAD\n" + good, "AMP992", 1, "is not a notebook's JSON"


@pytest.mark.parametrize(("data", "code", "line", "message"), [b[1:] for b in _broken()], ids=[b[0] for b in _broken()])
def test_a_broken_notebook_is_an_error_with_its_place(data: bytes, code: str, line: int, message: str) -> None:
    result = convert_notebook(data, Options())
    (told,) = result.diagnostics
    assert (result.status, result.output, result.bug, told.code) == ("error", data, False, code)
    assert told.message.startswith(message)
    assert told.line == line or message.startswith("cell 2: ") or code == "AMP991"


@pytest.mark.parametrize("source", [None, 3, ["x", 4], {"a": 1}, [[]]], ids=str)
def test_a_source_that_is_none_is_left_alone(source: object) -> None:
    notebook = _notebook(SETUP, source, LOOP)
    data = _dumped(notebook)
    assert _frame(_converted(data).output) == _frame(data)
    del notebook["cells"][1]["source"]
    assert json.loads(_converted(_dumped(notebook)).output)["cells"][1] == notebook["cells"][1]


def test_keys_that_are_there_twice() -> None:
    data = _dumped(_notebook(SETUP, LOOP)).replace(b'"source": "for', b'"source": "loss.backward(",\n   "source": "for')
    assert b'"source": "loss.backward(",' in _converted(data).output


def test_huge_outputs() -> None:
    notebook = _notebook(SETUP, LOOP)
    notebook["cells"][0]["outputs"] = [{"data": "x" * 5_000_000, "text": ["loss.backward()\n"] * 1000}]
    data = _dumped(notebook)
    assert _frame(_converted(data).output) == _frame(data)


def test_lone_carriage_returns_are_refused() -> None:
    result = convert_notebook(_dumped(_notebook(SETUP, LOOP.replace("\n", "\r"))), Options())
    assert (result.status, [d.code for d in result.diagnostics]) == ("refused", ["AMP920"])


# the command ------------------------------------------------------------------------------------------


def test_directories_diffs_and_standard_input(ampify: Ampify, tmp_path: Path) -> None:
    data = _dumped(_notebook(_lines(SETUP), ["!ls\n"], _lines(LOOP)))
    for name in ("a/x.ipynb", "a/.ipynb_checkpoints/x-checkpoint.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a" / "other.py").write_text("print(1)\n")
    diff = ampify("--diff", "a")
    assert b"would be converted" in diff.stderr
    assert b'+    "with autocast():' not in diff.stdout
    assert b'+    "        loss = F.mse_loss' in diff.stdout or b'+    "    with autocast():' in diff.stdout
    echoed = ampify("-", "--stdin-filename", "x.ipynb", stdin=data)
    subprocess.run(["git", "apply"], input=diff.stdout, cwd=tmp_path, check=True)
    applied = (tmp_path / "a/x.ipynb").read_bytes()
    assert applied == echoed.stdout == _converted(data).output
    assert ampify("--check", "a").returncode == 0
    assert (tmp_path / "a/.ipynb_checkpoints/x-checkpoint.ipynb").read_bytes() == data


def test_a_notebook_and_the_files_that_it_imports(ampify: Ampify, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.l = torch.nn.Linear(4, 4)\n\n    def forward(self, x):\n        x = self.l(x)\n"
        "        return x.masked_fill(x > 0, -1e9)\n"
    )
    setup = SETUP.replace("torch.nn.Linear(4, 1)", "Net()").replace("nn\n", "nn\nfrom net import Net\n", 1)
    (tmp_path / "train.ipynb").write_bytes(_dumped(_notebook("%pip install x", _lines(setup), _lines(LOOP))))
    alone = ampify("train.ipynb")
    assert alone.returncode == 3
    assert b"AMP925" in alone.stderr
    both = ampify("--runtime", "vendor", ".")
    assert both.returncode == 0, both.stderr
    assert b"torch.finfo" in (tmp_path / "net.py").read_bytes()
    assert (tmp_path / "ampify_runtime.py").exists()
    assert ampify("--check", ".").returncode == 0


@pytest.mark.parametrize("name", ["broken.ipynb", "x.ipynb"])
def test_a_broken_notebook_does_not_stop_the_others(ampify: Ampify, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{")
    (tmp_path / "train.py").write_text(TRAINING_SCRIPT)
    done = ampify(".")
    assert done.returncode == 3
    assert f"{name}:1:2: AMP992 is not a notebook's JSON".encode() in done.stderr
    assert b"autocast" in (tmp_path / "train.py").read_bytes()
