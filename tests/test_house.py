"""The rules of the house, read from the sources: who may import what, touch the disk, or change a tree (CONTRIBUTING.md)."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "ampify").rglob("*.py"))}
TREES = {name: ast.parse(path.read_bytes()) for name, path in SOURCES.items()}

LONGEST = 380  # lines: the aim is 350

# What is imported is what counts here, wherever the statement stands: at the top, in a function, under TYPE_CHECKING.
# Each exception is one name, with its reason.
ALLOWED = {
    ("ampify/report/streams.py", "os.open"): "of the null device, in place of a stream that is gone",
    ("ampify/report/streams.py", "os.dup2"): "the same",
    ("ampify/report/streams.py", "os.close"): "the same",
    ("ampify/report/streams.py", "os._exit"): "leaves the process",
    ("ampify/report/colour.py", "os.environ.get"): "NO_COLOR and TERM",
    ("ampify/crew.py", "os.sched_getaffinity"): "how many processes there may be",
    ("ampify/crew.py", "os.cpu_count"): "the same",
}

# Of os, what only computes. realpath is not here: it reads links.
OS_THAT_COMPUTES = re.compile(
    r"os\.(sep|altsep|curdir|pardir|devnull|linesep|fsencode|fsdecode|O_WRONLY|path"
    r"|path\.(join|dirname|basename|relpath|abspath|normpath|split|splitext|splitdrive|commonpath|isabs))"
)
DISK = frozenset({"glob", "fileinput", "pathlib", "shutil", "tempfile", "mmap"})

MUTATING = frozenset({"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update"})
TREE_FIELDS = frozenset(field for kind in vars(ast).values() if isinstance(kind, type) for field in getattr(kind, "_fields", ()))


def _imported(tree: ast.AST) -> Iterator[str]:
    """Qualified names of all imports: `libcst`, or `libcst.Name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package(name: str) -> str:
    return name.partition(".")[0]


def _at_the_top(tree: ast.Module) -> Iterator[str]:
    """Qualified names of the imports that run when a file is imported."""
    yield from _imported(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))


def _file(name: str) -> str:
    """The file of ampify's that a qualified name is, or is in."""
    module = name.replace(".", "/")
    found = (f"{path}{end}" for path in (module, module.rpartition("/")[0]) for end in (".py", "/__init__.py"))
    return next((file for file in found if file in SOURCES), "")


def _importers(package: str) -> set[str]:
    return {
        file
        for file, tree in TREES.items()
        for name in _imported(tree)
        if _package(name) == package and (file, name) not in ALLOWED
    }


def _attributes(tree: ast.AST) -> set[str]:
    """Every dotted name in full: `os.path.join`, not the `os.path` in it."""
    dotted = {node: ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    dotted = {node: name for node, name in dotted.items() if re.fullmatch(r"[\w.]+", name)}
    return {name for node, name in dotted.items() if node not in {longer.value for longer in dotted}}


def test_the_sources_were_found() -> None:
    assert {"ampify/cli.py", "ampify/render/emit.py", "ampify/plan/planner.py"} <= SOURCES.keys()


def test_no_file_is_long() -> None:
    lines = {file: len(path.read_text().splitlines()) for file, path in SOURCES.items()}
    assert {file: count for file, count in lines.items() if count > LONGEST} == {}, "cut it along what it is about"


def test_no_imports_go_round() -> None:
    """Of those at the top: a file can be read, and imported, after those that it imports."""
    waiting = {file: {_file(name) for name in _at_the_top(tree)} & SOURCES.keys() for file, tree in TREES.items()}
    while ready := [file for file, needed in waiting.items() if not needed & waiting.keys()]:
        for file in ready:
            del waiting[file]
    assert waiting.keys() == set()


def test_nothing_in_ampify_imports_torch_or_the_runtime() -> None:
    assert _importers("torch") == set()
    assert _importers("ampify_runtime") == set()


def test_only_render_imports_libcst() -> None:
    assert {file for file in _importers("libcst") if not file.startswith("ampify/render/")} == set()


def test_only_the_command_line_imports_click() -> None:
    assert _importers("click") == {"ampify/cli.py"}


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}
    imported = {_package(name) for tree in TREES.values() for name in _imported(tree)}
    assert imported - sys.stdlib_module_names - {"ampify"} == declared


@pytest.mark.parametrize("file", SOURCES)
def test_only_files_py_touches_disk(file: str) -> None:
    if file == "ampify/files.py":
        return
    imported = set(_imported(TREES[file]))
    assert {name for name in imported if _package(name) in DISK} == set()
    assert {name for name in imported if _package(name) == "os"} <= {"os"}, "write os.path.join in full"
    used = {name for name in _attributes(TREES[file]) if name.startswith("os.") and not OS_THAT_COMPUTES.fullmatch(name)}
    assert {name for name in used if (file, name) not in ALLOWED} == set()
    called = {ast.unparse(node.func) for node in ast.walk(TREES[file]) if isinstance(node, ast.Call)}
    assert called & {"open", "io.open", "io.FileIO", "input"} == set()


@pytest.mark.parametrize("file", [f for f in SOURCES if f.startswith(("ampify/analysis/", "ampify/plan/"))])
def test_analysis_and_plan_change_no_tree(file: str) -> None:
    for node in ast.walk(TREES[file]):
        where = f"{file}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            assert ast.unparse(node.value) in ("self", "cls"), f"{where} sets an attribute of something else"
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            assert not _is_of_a_tree(node.value), f"{where} sets an element of a tree"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            assert not _is_of_a_tree(node.func.value), f"{where} changes a list of a tree"
    used = {name.rpartition(".")[2] for name in (*_attributes(TREES[file]), *_imported(TREES[file]))}
    used |= {node.id for node in ast.walk(TREES[file]) if isinstance(node, ast.Name)}
    changers = {"NodeTransformer", "fix_missing_locations", "copy_location", "increment_lineno", "setattr", "delattr"}
    assert used & changers == set()


def _is_of_a_tree(node: ast.expr) -> bool:
    """Whether an expression is, by its name, a list of some syntax node's: `stmt.body`, but not `self.body`."""
    return isinstance(node, ast.Attribute) and node.attr in TREE_FIELDS and ast.unparse(node.value) != "self"


@pytest.mark.parametrize(
    "file",
    [f for f in SOURCES if f.startswith("ampify/plan/") and not f.startswith("ampify/plan/rules/")]
    + ["ampify/program.py", "ampify/protocol.py", "ampify/scaler.py"],
)
def test_the_model_and_what_works_on_it_know_no_syntax_trees(file: str) -> None:
    assert {name for name in _imported(TREES[file]) if _package(name) in ("ast", "libcst")} == set()


def test_the_proof_knows_nothing_of_the_rendering() -> None:
    for file in ("ampify/erasure.py", "ampify/proof.py"):
        assert {name for name in _imported(TREES[file]) if name.startswith("ampify.render")} == set()


def test_the_runtime_needs_torch_and_the_standard_library_only() -> None:
    tree = ast.parse((ROOT / "runtime/ampify_runtime.py").read_bytes())
    assert {_package(name) for name in _imported(tree)} - sys.stdlib_module_names == {"torch"}


def test_the_second_eraser_is_independent() -> None:
    tree = ast.parse((ROOT / "tests/fixtures_suite/eraser.py").read_bytes())
    assert {_package(name) for name in _imported(tree)} <= sys.stdlib_module_names


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    for file, tree in TREES.items():
        if not file.startswith("ampify/render/"):
            assert {name for name in _at_the_top(tree) if _package(name) in ("libcst", "pathspec")} == set(), file


def test_no_exception_is_left_over() -> None:
    for file, name in ALLOWED:
        assert name in {*_imported(TREES[file]), *_attributes(TREES[file])}, (file, name)
