"""Flow: statements are numbered in source order, as an independent walk and libcst number them too."""

import ast
import random
import sysconfig
from functools import cache
from pathlib import Path

import libcst as cst
import pytest

from ampify.analysis.analyse import analyse
from ampify.analysis.flow import number
from ampify.render.emit import count
from tests.fixtures_suite.cases import all_cases

COMPOUND = {
    "if": "if a:\n    b\n",
    "if else": "if a:\n    b\nelse:\n    c\n",
    "elif": "if a:\n    b\nelif c:\n    d\nelif e:\n    f\nelse:\n    g\nh\n",
    "if in else": "if a:\n    b\nelse:\n    if c:\n        d\n    e\n",
    "for else": "for a in b:\n    c\nelse:\n    d\n",
    "while else": "while a:\n    b\nelse:\n    c\n",
    "with": "with a as b, c:\n    d\n    e\n",
    "try": "try:\n    a\nexcept B:\n    c\nexcept D as d:\n    e\n    f\nelse:\n    g\nfinally:\n    h\ni\n",
    "try finally": "try:\n    a\nfinally:\n    b\n",
    "try in parts": (
        "try:\n    try:\n        a\n    finally:\n        b\nexcept C:\n    if d:\n        e\nelse:\n    for f in g:\n        h\n"
    ),
    "except*": "try:\n    a\nexcept* B:\n    c\nexcept* D:\n    e\nelse:\n    f\nfinally:\n    g\n",
    "match": "match a:\n    case 1:\n        b\n    case [c, *d] if e:\n        f\n        g\n    case _:\n        h\ni\n",
    "def": "@deco\n@other(1)\ndef f(a, b=1):\n    'doc'\n    def g():\n        return 1\n    return g\n",
    "class": "@deco\nclass A(B):\n    x = 1\n    class C:\n        def m(self): pass\n    y: int\n",
    "async": (
        "async def f():\n    async with a as b:\n        c\n    async for d in e:\n        g\n    else:\n        h\n    await i\n"
    ),
    "semicolons": "a; b; c\nif d: e; f\nelse: g; h;\nfor i in j: k; l\n",
    "one-line suites": "class A: pass\ndef f(): return 1\nwhile a: b\nwith c: d\ntry: e\nfinally: f\n",
    "lambdas and comprehensions": "f = lambda: [a for a in b if c]\n(d := e)\n",
    "empty": "",
    "comment only": "# nothing\n",
}


def independent(tree: ast.Module) -> dict[ast.stmt, tuple[int, int]]:
    """The numbering from positions alone: statements sorted by where they start, and how many each holds."""
    statements = [n for n in ast.walk(tree) if isinstance(n, ast.stmt)]
    statements.sort(key=lambda n: (n.lineno, n.col_offset))
    return {s: (i, i + sum(isinstance(n, ast.stmt) for n in ast.walk(s))) for i, s in enumerate(statements)}


def check_numbers(source: bytes | str) -> None:
    tree = ast.parse(source)
    assert number(tree) == independent(tree)


def check_libcst(source: bytes) -> None:
    """Each row of the module stands for as many statements as `ast` has between the same two rows."""
    numbers = number(tree := ast.parse(source))
    starts = {numbers[stmt][0] for stmt in tree.body}
    position = 0
    for row in cst.parse_module(source).body:
        assert position in starts
        position += count(row)
    assert position == len(numbers)


@pytest.mark.parametrize("name", COMPOUND)
def test_numbers_are_those_of_an_independent_walk(name: str) -> None:
    check_numbers(COMPOUND[name])
    check_numbers("def outer():\n" + "".join(f"    {line}\n" for line in ("pass\n" + COMPOUND[name]).splitlines()))


@pytest.mark.parametrize("name", COMPOUND)
def test_libcst_counts_alike(name: str) -> None:
    check_libcst(COMPOUND[name].encode())


@cache
def _library() -> tuple[bytes, ...]:
    """200 small files of the standard library, always the same of one version of Python."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [p for p in sorted(root.rglob("*.py")) if "site-packages" not in p.parts and 200 < p.stat().st_size < 6000]
    sample = []
    for path in random.Random(0).sample(paths, 260):
        source = path.read_bytes()
        try:
            ast.parse(source)
            cst.parse_module(source.decode())
        except (SyntaxError, ValueError, cst.ParserSyntaxError):
            continue  # a test file that is broken on purpose, or that libcst does not read: it is refused
        sample.append(source)
    return tuple(sample[:200])


def test_fixtures_are_numbered_alike() -> None:
    for case in all_cases():
        check_numbers(case.source)
        check_libcst(case.source)


@pytest.mark.filterwarnings("ignore")
def test_library_files_are_numbered_alike() -> None:
    assert len(_library()) == 200
    for source in _library():
        check_numbers(source)
        check_libcst(source)


def test_statements_of_a_scope_are_in_source_order() -> None:
    """The blocks of a `try` are kept in another order (body, else, finally, handlers), but with the numbers of the source."""
    source = "loss.backward()\n" + COMPOUND["try"]
    (scope,) = analyse(ast.parse(source)).scopes
    names = {s.number: ast.unparse(n) for s in scope.statements() for n in ast.walk(ast.parse(source)) if _starts(n, s.line)}
    numbers = number(tree := ast.parse(source))
    assert names == {i: ast.unparse(n) for n, (i, _) in numbers.items()}
    attempt = next(s for s in scope.body if s.kind == "try")
    assert [[s.line for s in block] for block in attempt.blocks] == [[3], [10], [12], [5], [7, 8]]
    assert sorted(s.number for s in scope.statements()) == list(range(len(number(tree))))


def _starts(node: ast.AST, line: int) -> bool:
    return isinstance(node, ast.stmt) and node.lineno == line
