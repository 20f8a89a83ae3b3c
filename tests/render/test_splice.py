"""splice(): text put round stretches of the source."""

import ast
import codecs

import pytest

from ampify.plan.edits import Splice
from ampify.render.splice import splice


def around(source: str, text: str, before: str, after: str) -> Splice:
    """A splice round the expression that `text` is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.expr) and ast.get_source_segment(source, node) == text:
            end = (node.end_lineno or 0, node.end_col_offset or 0)
            return Splice(0, (node.lineno, node.col_offset), end, before, after, "AMP200")
    raise AssertionError(text)


def test_nothing_to_do_gives_the_same_bytes() -> None:
    source = b"x = 1\r\n"
    assert splice(source, [], {}) is source


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_columns_are_right_in_every_encoding(encoding: str, newline: str) -> None:
    name = encoding.removesuffix("-sig")
    text = f"# -*- coding: {name} -*-{newline}s = 'é'; y = f(x, 'ü', z)  # ö{newline}"
    made = splice(text.encode(encoding), [around(text, "z", "", ".float()")], {})
    assert made == text.replace("z)", "z.float())").encode(encoding)
    assert made.startswith(codecs.BOM_UTF8) is (encoding == "utf-8-sig")


def test_the_texts_of_nested_and_neighbouring_stretches() -> None:
    source = "y = f(a + b)(c)\n"
    splices = [
        around(source, "a + b", "(", ").float()"),
        around(source, "a", "", ".to(b.dtype)"),
        around(source, "b", "g(", ")"),
        around(source, "f(a + b)", "h(", ")"),
    ]
    wanted = b"y = h(f((a.to(b.dtype) + g(b)).float()))(c)\n"
    assert splice(source.encode(), splices, {}) == wanted
    assert splice(source.encode(), splices[::-1], {}) == wanted


def test_a_splice_given_twice_is_made_once() -> None:
    source = "y = x\n"
    assert splice(source.encode(), [around(source, "x", "", ".float()")] * 2, {}) == b"y = x.float()\n"


def test_local_names() -> None:
    source = "y = -1e9\n"
    one = around(source, "-1e9", "max(", ", {torch}.finfo(d[{{0}}].dtype).min)")
    assert splice(source.encode(), [one], {"torch": "th"}) == b"y = max(-1e9, th.finfo(d[{0}].dtype).min)\n"


def test_stretches_of_several_lines_and_continued_lines() -> None:
    source = "y = f(\n    a,\n    [\n        b\n    ],\n) \\\n    + c\n"
    splices = [around(source, "[\n        b\n    ]", "g(", ")"), around(source, "c", "", ".float()")]
    wanted = "y = f(\n    a,\n    g([\n        b\n    ]),\n) \\\n    + c.float()\n"
    assert splice(source.encode(), splices, {}) == wanted.encode()
