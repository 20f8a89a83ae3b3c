"""emit(): a statement's index means the same place in libcst's tree as in that of `ast`, in every kind of block."""

import ast

import libcst as cst
import pytest

from ampify.analysis.flow import number
from ampify.plan.edits import Import, Insert, Plan, Rewrite, Wrap
from ampify.render.emit import RenderError, count, emit
from tests.analysis.test_flow import COMPOUND

NAMES = {"autocast": "AC", "scaler": "S"}
NO_IMPORT = Import((), -1)
SOURCES = {name: text for name, text in COMPOUND.items() if text.strip() and not text.startswith("#")}


def _plan(*edits: Insert | Rewrite | Wrap, imports: Import = NO_IMPORT) -> Plan:
    return Plan(edits, imports, NAMES)


def _in_order(tree: ast.Module) -> list[ast.stmt]:
    return sorted(number(tree), key=lambda s: number(tree)[s])


class _Unmarked(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if ast.unparse(node) == "MARK" else node


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", SOURCES)
def test_inserts_where_the_index_says(name: str, after: bool) -> None:
    source = SOURCES[name]
    statements = _in_order(ast.parse(source))
    for index, stmt in enumerate(statements):
        inline = _is_elif(source, stmt) or _in_compound_suite(source, stmt)
        if inline:
            continue
        tree = ast.parse(emit(source.encode(), _plan(Insert(index, after, "MARK", "AMP105"))))
        marks = [i for i, s in enumerate(_in_order(tree)) if ast.unparse(s) == "MARK"]
        size = number(ast.parse(source))
        span = next(end - i for i, end in size.values() if i == index)
        assert marks == [index + span if after else index]
        assert ast.dump(_Unmarked().visit(tree)) == ast.dump(ast.parse(source))


def _is_elif(source: str, stmt: ast.stmt) -> bool:
    return source.splitlines()[stmt.lineno - 1][stmt.col_offset :].startswith("elif")


def _in_compound_suite(source: str, stmt: ast.stmt) -> bool:
    """A compound statement cannot stand in a one-line suite, and nothing is inserted round a definition's parts."""
    return stmt.col_offset > 0 and source.splitlines()[stmt.lineno - 1][: stmt.col_offset].strip().startswith("@")


@pytest.mark.parametrize("name", SOURCES)
def test_wraps_where_the_index_says(name: str) -> None:
    source = SOURCES[name]
    for index, stmt in enumerate(_in_order(ast.parse(source))):
        if _is_elif(source, stmt):
            continue
        tree = ast.parse(emit(source.encode(), _plan(Wrap(index, index, "AMP101"))))
        region = _in_order(tree)[index]
        assert isinstance(region, ast.With)
        assert [ast.dump(s) for s in region.body] == [ast.dump(stmt)]


def test_no_edit_no_change() -> None:
    for source in SOURCES.values():
        assert emit(source.encode(), _plan()) == source.encode()


def test_rewrites_the_call_that_is_counted() -> None:
    source = b"f(a.step(), b.step(c.step()), lambda: d.step(), e.step)\n"
    forms = {0: "S.step(a)", 1: "S.step(b, c.step())", 2: "S.step(c)"}
    for call, expected in forms.items():
        output = emit(source, _plan(Rewrite(0, "step", call, "step", "AMP104"))).decode()
        assert expected in output
        assert output.count("S.") == 1
    both = emit(source, _plan(*(Rewrite(0, "step", i, "step", "AMP104") for i in range(3)))).decode()
    assert both == "f(S.step(a), S.step(b, S.step(c)), lambda: d.step(), e.step)\n"


@pytest.mark.parametrize(
    ("source", "form", "expected"),
    [
        ("a.backward()", "scale", "S.scale(a).backward()"),
        ("(a).backward()", "scale", "S.scale(a).backward()"),
        ("(a, b).backward()", "scale", "S.scale((a, b)).backward()"),
        ("(x := a).backward()", "scale", "S.scale((x := a)).backward()"),
        ("(yield).backward()", "scale", "S.scale((yield)).backward()"),
        ("(a for a in b).backward()", "scale", "S.scale((a for a in b)).backward()"),
        ("((a)).backward()", "scale", "S.scale(((a))).backward()"),
        ("(await a).backward()", "scale", "S.scale(await a).backward()"),
        ("(lambda: a).backward()", "scale", "S.scale(lambda: a).backward()"),
        ("(a if b else c).backward()", "scale", "S.scale(a if b else c).backward()"),
        ("t.backward(a)", "scale_tensors", "t.backward(S.scale(a))"),
        ("t.backward([a, b], c)", "scale_tensors", "t.backward(S.scale([a, b]), c)"),
        ("t.backward(c=1, tensors=a)", "scale_tensors", "t.backward(c=1, tensors=S.scale(a))"),
        ("t.backward((a, b))", "scale_tensors", "t.backward(S.scale((a, b)))"),
        ("a.step()", "step", "S.step(a)"),
        ("a.b['c'].step()", "step", "S.step(a.b['c'])"),
        ("a.step(metric, epoch=3)", "step_scheduler", "S.step_scheduler(a, metric, epoch=3)"),
        ("a.step(*b)", "step_scheduler", "S.step_scheduler(a, *b)"),
    ],
)
def test_forms(source: str, form: str, expected: str) -> None:
    method = "backward" if form.startswith("scale") else "step"
    prefix, depth = ("async def f():\n    ", 1) if "yield" in source or "await" in source else ("", 0)
    output = emit(f"{prefix}{source}\n".encode(), _plan(Rewrite(depth, method, 0, form, "AMP102")))
    assert output.decode() == f"{prefix}{expected}\n"
    ast.parse(output)


def test_a_plan_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(RenderError):
        emit(b"a.step()\n", _plan(Rewrite(0, "step", 1, "step", "AMP104")))
    with pytest.raises(RenderError):
        emit(b"if a:\n    b\nc\n", _plan(Wrap(1, 2, "AMP101")))
    with pytest.raises(RenderError):
        emit(b"if a.step():\n    b\n", _plan(Rewrite(0, "step", 0, "step", "AMP104")))


def test_count_is_that_of_ast() -> None:
    for source in COMPOUND.values():
        assert sum(count(row) for row in cst.parse_module(source).body) == len(number(ast.parse(source)))
