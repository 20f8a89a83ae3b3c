"""Many files: which ones to convert, and the loop that reads, converts and writes them."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ampify import files, ignore
from ampify.convert import Options, Result, Surroundings, convert
from ampify.diagnostics import Diagnostic
from ampify.files import FileError, Snapshot
from ampify.local import Local
from ampify.source import is_candidate

if TYPE_CHECKING:
    from ampify.plan.edits import Need
    from ampify.vendor import Copy

BUG = "AMP999"

# Never walked into: version control, caches, environments and build results hold nobody's training script.
SKIPPED_DIRECTORIES = frozenset(
    {
        ".eggs",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        "__pycache__",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
    }
)


class Outcome(NamedTuple):
    """What became of one file. `before` is what was read of it: empty if it could not be. `copy` is the runtime put beside it."""

    path: str
    before: bytes
    result: Result
    copy: "Copy | None" = None


def run(paths: Iterable[str], options: Options, *, write: bool) -> Iterator[Outcome]:
    """Convert every file that the paths lead to, each once, one outcome a file, as it is done.

    With `write` the converted files are replaced on disk. Whatever is wrong with one file is in its outcome and never
    stops the others.
    """
    given = [(path, problem, files.identity(path)) for path, problem in discover(paths)]
    job = _Job(options, write, {identity: path for path, _, identity in given})
    seen: set[str] = set()
    later: list[tuple[str, str]] = []
    for path, problem, identity in given:
        if identity in seen:
            continue
        seen.add(identity)
        if problem:
            yield _failed(path, b"", problem)
        elif len(given) > 1 and job.is_module(path):
            later.append((path, identity))
        else:
            yield job.outcome(path, identity)
    for path, identity in later:
        yield job.outcome(path, identity)


class _Job:
    """The files of one call, each converted once; a file that another needs rewritten comes before that one."""

    def __init__(self, options: Options, write: bool, given: dict[str, str]) -> None:
        self.options, self.write, self.given = options, write, given
        self.local = Local(given)
        self.needed: dict[str, Outcome] = {}  # what became of the files that scripts needed, by identity
        self.converted: dict[str, set[str]] = {}  # by identity the codes of the edits
        self.supplied: set[str] = set()  # the directories that have the runtime, or would get it

    @staticmethod
    def is_module(path: str) -> bool:
        """Whether a file without a training step may be one that a script needs rewritten."""
        data = files.read_optional(path)
        return data is not None and b"torch" in data and not is_candidate(data)

    def outcome(self, path: str, identity: str, need: "Need | None" = None) -> Outcome:
        """Convert a file, or say what became of it when another needed it."""
        if identity in self.needed:
            return self.needed[identity]
        outcome = self._process(path, need)
        if outcome.result.status == "converted":
            self.converted[identity] = {edit.code for edit in outcome.result.edits}
        return outcome

    def _process(self, path: str, need: "Need | None") -> Outcome:
        try:
            snapshot = files.read(path)
        except FileError as problem:
            return _failed(path, b"", problem)
        outcome = convert_bytes(path, snapshot.data, self.options, Surroundings(snapshot.target, self.local, need))
        if outcome.result.status != "converted":
            return outcome
        missing = [n for n in outcome.result.needs if not self._rewritten(n)]
        if any(n.grave for n in missing):
            return outcome._replace(result=_without(snapshot, next(n for n in missing if n.grave)))
        diagnostics = (*outcome.result.diagnostics, *map(_left, missing))
        outcome = outcome._replace(result=outcome.result._replace(diagnostics=diagnostics))
        try:
            if self.options.runtime == "vendor" and need is None:
                outcome = _with_runtime(outcome, snapshot, self.supplied, write=self.write)
            if self.write:
                files.write(snapshot, outcome.result.output)
        except FileError as problem:
            return _failed(path, snapshot.data, problem)
        return outcome

    def _rewritten(self, need: "Need") -> bool:
        """Whether a file that a script needs rewritten was given, and is."""
        identity = files.identity(need.path)
        if identity not in self.given:
            return False
        if identity in self.converted:  # for itself or another script: what was written then is on disk, and was not enough
            return not self.write and need.code in self.converted[identity]
        if identity not in self.needed:
            self.needed[identity] = self.outcome(self.given[identity], identity, need)
        return identity in self.converted


def _left(need: "Need") -> Diagnostic:
    """What is said of a hazard that stays in a file that was not given."""
    message = f"in a file that was not given, or not converted: {os.path.relpath(need.path)}:{need.line}: {need.hazard}"
    return Diagnostic(need.code, "warning", 1, 1, message, "give that file too, or the directory, to have it rewritten")


def _without(script: Snapshot, need: "Need") -> Result:
    """The refusal of a script that needs another file rewritten."""
    from ampify.diagnostics import refusal

    detail = f"{os.path.relpath(need.path)}:{need.line}: {need.code} {need.hazard}"
    return Result("refused", script.data, diagnostics=(refusal("AMP925", 1, 1, detail),))


def convert_bytes(path: str, source: bytes, options: Options, around: Surroundings = Surroundings()) -> Outcome:
    """convert(), with an exception that escapes it turned into a result: it is our bug, and other files are waiting."""
    try:
        return Outcome(path, source, convert(source, options, around))
    except Exception as error:
        diagnostic = Diagnostic(BUG, "error", 1, 1, bug_report(error), "The file is left as it is.")
        return Outcome(path, source, Result("error", source, (), (diagnostic,), bug=True))


def bug_report(error: Exception) -> str:
    """One line about an exception that should not have been, with the place that a maintainer needs."""
    place = ""
    trace = error.__traceback__
    while trace:
        place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"ampify itself failed; please report this: {type(error).__name__}: {error} ({place})"


def exit_code(outcomes: Iterable[Outcome], *, check: bool, allow_refused: bool) -> int:
    """The first of 123, 3, 1 that applies to any file, else 0."""
    codes = {_code_of(outcome.result, check, allow_refused) for outcome in outcomes}
    return next((code for code in (123, 3, 1) if code in codes), 0)


def discover(paths: Iterable[str]) -> Iterator[tuple[str, FileError | None]]:
    """Every file to convert: a named file always, a named directory's `.py` files. With a problem if it is unusable."""
    for path in paths:
        if files.is_directory(path):
            yield from _walk(path)
        else:
            yield path, None


def _code_of(result: Result, check: bool, allow_refused: bool) -> int:
    if result.bug:
        return 123
    if result.status == "error" or (result.status == "refused" and not allow_refused):
        return 3
    mistakes = any(d.severity == "error" and d.code.startswith("AMP3") for d in result.diagnostics)
    return 1 if check and (result.status == "converted" or mistakes) else 0


def _with_runtime(outcome: Outcome, script: Snapshot, supplied: set[str], *, write: bool) -> Outcome:
    """The outcome with what it needs beside the script, once a directory. With `write` that is written, before the script is:
    at no moment there is a script without its runtime. Raises FileError."""
    from ampify import vendor

    line = next((e.line for e in outcome.result.edits if e.code == "AMP107"), 1)
    notes = [vendor.package_note(script, outcome.result.output, line)]
    directory = os.path.dirname(script.target)
    copy = vendor.beside(script) if directory not in supplied else None
    if copy is not None:
        notes.append(copy.diagnostic(line))
        if write:
            files.check_writable(script)
            copy.write()
    supplied.add(directory)
    diagnostics = (*outcome.result.diagnostics, *(n for n in notes if n is not None))
    return outcome._replace(result=outcome.result._replace(diagnostics=diagnostics), copy=copy)


def _failed(path: str, before: bytes, problem: FileError) -> Outcome:
    diagnostic = Diagnostic(problem.code, "error", 1, 1, problem.message)
    return Outcome(path, before, Result("error", before, (), (diagnostic,)))


class _Ignore(NamedTuple):
    """One .gitignore: its rules speak of paths below its directory."""

    directory: str
    rules: ignore.Rules


def _walk(root: str) -> Iterator[tuple[str, FileError | None]]:
    """The `.py` files below a directory, sorted, less what git ignores. Symbolic links are not followed."""
    absolute = files.identity(root)
    above = _ignores_above(absolute)
    if _ignored(absolute, True, above):
        above = ()  # named by hand: it is wanted, whatever the repository around it says
    # A stack rather than recursion: nesting is as deep as the user likes.
    stack: list[tuple[str, str, tuple[_Ignore, ...], bool]] = [(root, absolute, above, True)]
    while stack:
        shown, place, ignores, is_directory = stack.pop()
        if not is_directory:
            yield shown, None
            continue
        try:
            entries = files.entries(place)
        except FileError as problem:
            yield shown, problem
            continue
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names and place != absolute:
            continue
        if ".gitignore" in names:
            ignores = (*ignores, *_read_ignore(place))
        for entry in reversed(entries):
            child = os.path.join(place, entry.name)
            wanted = entry.name not in SKIPPED_DIRECTORIES if entry.is_directory else entry.name.endswith(".py")
            if wanted and (entry.is_directory or entry.is_file) and not _ignored(child, entry.is_directory, ignores):
                name = entry.name if shown == os.curdir else os.path.join(shown, entry.name)
                stack.append((name, child, ignores, entry.is_directory))


def _ignores_above(directory: str) -> tuple[_Ignore, ...]:
    """The .gitignore files of the directories above, from the root of the git repository down; none outside of one."""
    parents = []
    here = directory
    while not files.exists(os.path.join(here, ".git")):
        parent = os.path.dirname(here)
        if parent == here:
            return ()
        parents.append(parent)
        here = parent
    return tuple(found for parent in reversed(parents) for found in _read_ignore(parent))


def _read_ignore(directory: str) -> list[_Ignore]:
    data = files.read_optional(os.path.join(directory, ".gitignore"))
    return [_Ignore(directory, ignore.parse(data))] if data else []


def _ignored(path: str, is_directory: bool, ignores: tuple[_Ignore, ...]) -> bool:
    """The nearest .gitignore with an opinion decides. The directories above the path are known not to be ignored."""
    for directory, rules in reversed(ignores):
        relative = os.path.relpath(path, directory).replace(os.sep, "/")
        decision = ignore.decide(rules, relative, is_directory)
        if decision is not None:
            return decision
    return False
