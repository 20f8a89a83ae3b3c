"""Source: the gate every file passes first; its bytes as a syntax tree, or the reason why there is none."""

from __future__ import annotations

import ast
import re
import warnings
from functools import lru_cache

from ampify.analysis.walk import children
from ampify.diagnostics import Diagnostic

CANDIDATE = (
    rb"backward|\bzero_grad\b|GradScaler|"
    rb"\b(?:cuda|cpu)[\s\\]*\.\s*amp\b|\btorch\.(?:cuda|cpu)\s+import\b|\bapex\s*(?:\.|import\b)"
)
COOKIE = rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)"
LARGEST = 2_000_000  # bytes: what is larger is data, and its syntax tree would take gigabytes
DEEPEST = 1_000  # levels of expressions and blocks, which is Python's own limit; libcst's parser dies of some thousands
NOTEBOOK = ".ipynb"
PRAGMA = b"ampify:"  # without which there is none in a file
LONE_CR = rb"\r(?!\n)"


class SourceError(Exception):
    """The file cannot be read as Python; carries the diagnostic."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@lru_cache(maxsize=1)  # a file is looked at, converted and proved one after the other
def parse(source: bytes) -> ast.Module:
    """The syntax tree of a file's bytes, for reading only: who asks again gets the same one. Raises SourceError where Python
    itself would not run the file."""
    if source.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(_error("AMP991", 1, 1, "is encoded as UTF-16, which Python does not read", "save it as UTF-8"))
    if b"\0" in source:
        line = source[: source.index(b"\0")].count(b"\n") + 1
        raise SourceError(_error("AMP991", line, 1, "contains a NUL byte", "remove it: Python does not read such a file"))
    _decode(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes: not ours to print
            return with_pragmas(ast.parse(source), source)
    except SyntaxError as error:
        if "encod" in str(error) or "codec" in str(error) or "utf-8" in str(error):
            raise SourceError(
                _error(
                    "AMP991",
                    error.lineno or 1,
                    1,
                    f"cannot be decoded: {error.msg}",
                    "fix its encoding or its coding line",
                )
            ) from None
        where = _error("AMP992", error.lineno or 1, error.offset or 1, f"cannot be parsed: {error.msg}", "fix the syntax error")
        raise SourceError(where) from None
    except UnicodeDecodeError as error:
        raise SourceError(
            _error("AMP991", 1, 1, f"cannot be decoded: {error.reason}", "fix its encoding or its coding line")
        ) from None
    except (RecursionError, MemoryError):
        raise SourceError(
            _error("AMP992", 1, 1, "cannot be parsed: it is nested too deeply", "flatten its deepest expression")
        ) from None
    except ValueError as error:
        raise SourceError(_error("AMP992", 1, 1, f"cannot be parsed: {error}", "fix the syntax error")) from None


def python(path: str, data: bytes) -> bytes:
    """The Python of a file: its bytes, or the program that a notebook's cells are. Raises SourceError for a broken notebook."""
    if not path.endswith(NOTEBOOK):
        return data
    from ampify.notebooks.convert import python_of  # few files: start-up is measured

    return python_of(data)


def with_pragmas(tree: ast.Module, source: bytes) -> ast.Module:
    """A syntax tree with what comments say of it, which are not in it."""
    if PRAGMA in source:
        from ampify.pragmas import read  # few files: start-up is measured

        vars(tree)["pragmas"] = pragmas = read(source, tree)
        vars(tree)["skipped"] = frozenset().union(*(pragma.lines for pragma in pragmas))
    return tree


def skipped(tree: ast.Module) -> frozenset[int]:
    """The lines of a file that pragmas leave alone."""
    found: frozenset[int] = vars(tree).get("skipped", frozenset())
    return found


def check_compiles(source: bytes) -> None:
    """Raises SourceError for a file that parses and that Python does not run all the same: `return` outside of a function."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<source>", "exec", dont_inherit=True)
    except SyntaxError as error:
        message = f"cannot be compiled: {error.msg}"
        raise SourceError(_error("AMP992", error.lineno or 1, error.offset or 1, message, "fix the syntax error")) from None


def _decode(source: bytes) -> None:
    """Decodes the file as PEP 263 says: Python's parser does not look at all bytes of comments, later tools do."""
    match = None
    head = source.split(b"\n", 2)[:2]
    for line in head if any(b"coding" in line for line in head) else ():
        match = match or re.match(COOKIE, line)
        if not re.match(rb"[ \t\f]*(#|\r?$)", line):
            break
    encoding = match.group(1).decode("ascii") if match else "utf-8"
    try:
        source.decode(encoding)
    except UnicodeDecodeError as error:
        line_number = source[: error.start].count(b"\n") + 1
        remedy = "save it as UTF-8, or name its encoding in a coding line"
        raise SourceError(_error("AMP991", line_number, 1, f"cannot be decoded as {encoding}", remedy)) from None
    except LookupError:
        raise SourceError(_error("AMP991", 1, 1, f"names an unknown encoding: {encoding}", "correct its coding line")) from None


def is_candidate(source: bytes) -> bool:
    """Whether a file can hold a training step at all, or an old spelling of mixed precision: a look at its bytes that costs next
    to nothing."""
    return b"backward" in source or re.search(CANDIDATE, source) is not None


def is_deep(tree: ast.Module) -> bool:
    """Whether a file is nested too deeply for a parser that follows it by recursion. A chain of `and` is flat to `ast` alone."""
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in children(node)]
        if any(isinstance(node, ast.BoolOp) and len(node.values) > DEEPEST for node in level):
            return True
        if not level:
            return False
    return True


def not_rewritable(source: bytes) -> str:
    """Why the file's bytes cannot be rewritten without changing more than is asked, or an empty string."""
    if b"\r" in source and re.search(LONE_CR, source):
        return "it has lines that end in a carriage return alone"
    return ""


def _error(code: str, line: int, column: int, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(code, "error", max(line, 1), max(column, 1), message, remedy)
