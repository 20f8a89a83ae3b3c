"""The promise, checked on every conversion from the two byte strings alone, and nothing of the plan.

Erasure: undoing every form that ampify emits gives the original's syntax tree. Protocol: the scaler's state machine holds on all
paths. Stability: converting the output again plans nothing. It compiles, all comments are there, and the lines that no edit is in
are the original's.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from itertools import pairwise

from ampify.analysis.analyse import Reading
from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.library import Finder, Library
from ampify.analysis.names import Names, dotted, is_runtime
from ampify.analysis.together import elsewhere
from ampify.analysis.walk import walk
from ampify.erasure import Eraser, added_import, erase, first_difference, may_hold_edits
from ampify.lines import Written, changed_line
from ampify.plan.planner import left_over, make_plan
from ampify.plan.rules.search import Search, disabled, find
from ampify.program import Barrier, Kind, Program, Scope
from ampify.protocol import Overlay, check
from ampify.source import check_compiles, parse, with_pragmas


class ProofError(Exception):
    """The output does not keep the promise: a bug of ampify's, so nothing may be written."""


def prove(original: bytes, output: bytes, search: Search = Search(), path: str = "", finder: Finder | None = None) -> None:
    """Raises ProofError with the first promise that the output breaks; `search` says which rules looked, and at what. `path` and
    `finder` are those of ampify.convert.Surroundings.

    Raises SourceError where the original does not compile, though it parses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's code: not ours to print
            after = with_pragmas(ast.parse(output), output)
            compile(after, "<converted>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        check_compiles(original)
        raise ProofError(f"the output does not compile: {error}") from None
    same_comments(original, output)
    file = Library(finder).add(after, path)
    reading = file.reading
    if reading.program.skips is not None:
        from ampify.plan.skips import settled  # few files: start-up is measured

        reading = reading._replace(program=settled(reading.program))
    before = parse(original)
    names, known = reading.names, Names(before)
    had, written = _written(known), _written(names)
    _imports_first(after, names)
    _own_keys(known, names)
    _popped_alike(known, reading)
    _protocol(reading.program, names.plain is not None)
    plan, hazards = make_plan(reading.program), find(reading, (), search)
    refused = plan.refusals or hazards.refusals or (reading.program.refusals and not reading.program.stepless)
    if refused or plan.edits or hazards.edits or left_over(reading.program, names.plain is not None, lambda: elsewhere(file)):
        raise ProofError("converting the output again would change it")
    _disabled(reading, search)
    added = added_import(after, names)
    erased = erase(after, names)
    pairs: list[tuple[ast.stmt, ast.stmt]] = []
    if may_hold_edits(known):
        before = erase(ast.parse(original), known)
    difference = first_difference(before, erased, names, pairs, written.lines)
    if difference and added is not None:
        erased.body.remove(added)
        written.lines.add(added.lineno)
        pairs.clear()
        difference = first_difference(before, erased, names, pairs, written.lines)
    if difference:
        raise ProofError(f"erasing the edits does not give the original back: {difference}")
    if changed := changed_line(original, output, pairs, written, had):
        raise ProofError(f"something changes outside of the edits: {changed}")


def _written(names: Names) -> Written:
    """Where a file speaks of the runtime, or of torch.amp's scaler and regions."""
    eraser = Eraser(names)
    local = set(names.runtime.values())
    written = Written(set(), [], set())
    if names.plain is not None:
        local |= {names.plain.enabled, names.plain.scaler}
        written.apart.update(stmt.lineno for stmt in names.plain.statements)
    written.lines.update(node.lineno for node in names.nodes.of(ast.Name) if node.id in local)
    for stmt in names.nodes.imports:
        if is_runtime(stmt):
            written.lines.update(range(stmt.lineno, (stmt.end_lineno or stmt.lineno) + 1))
    for block in names.nodes.of(ast.With):
        if eraser.is_region(block):
            written.lines.update(range(block.lineno, block.body[0].lineno))
            written.regions.append((block.lineno, block.end_lineno or block.lineno))
    written.apart.update(expression.lineno for expression in names.nodes.of(ast.Expr) if eraser.pins(expression))
    return written


def _imports_first(tree: ast.Module, names: Names) -> None:
    """The runtime's names are bound by its import alone, before anything runs that uses them; so are the scaler of torch.amp
    and its switch by their statements, and torch's name by imports of torch."""
    local = set(names.runtime.values())
    own: list[ast.Name] = []
    if names.plain is not None:
        local |= {names.plain.enabled, names.plain.scaler, names.plain.torch}
        own = [node for stmt in names.plain.statements for node in getattr(stmt, "targets", ()) if isinstance(node, ast.Name)]
    bound = {n.id for n in names.nodes.of(ast.Name) if not isinstance(n.ctx, ast.Load) and n not in own} | names.arguments
    bound |= names.defined
    for stmt in names.nodes.imports:
        if not is_runtime(stmt):
            torch = _torch_bound(stmt) if names.plain is not None and stmt in tree.body else ()
            bound.update({a.asname or a.name.partition(".")[0] for a in stmt.names}.difference(torch))
    if twice := local & bound:
        raise ProofError(f"`{twice.pop()}` of the output means two things")
    needed = {name: {name} for name in local}  # by name, what of the runtime's it needs when it runs
    known: set[str] = set()
    for each in tree.body:
        if local <= known:
            break
        if isinstance(each, ast.ImportFrom) and is_runtime(each):
            known.update(a.asname or a.name for a in each.names)
            continue
        if names.plain is not None:
            known |= _torch_bound(each)
            known |= {target.id for target in own if target in getattr(each, "targets", ())}
        mentioned = {n.id for n in walk(each) if isinstance(n, ast.Name)}
        used = {name for mention in mentioned if mention in needed for name in needed[mention]}
        if isinstance(each, (*FUNCTIONS, ast.ClassDef)):
            needed[each.name] = used
        elif used - known:
            raise ProofError(f"line {each.lineno} of the output uses `{(used - known).pop()}` before its import")


def _torch_bound(stmt: ast.AST) -> set[str]:
    """The local names that a statement binds to torch itself."""
    if not isinstance(stmt, ast.Import):
        return set()
    full = {a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0] for a in stmt.names}
    return {local for local, module in full.items() if module == "torch"}


def _own_keys(before: Names, names: Names) -> None:
    """What is new beside optimizers' states, under a key of a dict or call, takes the place of nothing else, and is loaded by
    the key that it is saved under."""
    if before.scaler:
        return  # the keys are there already
    eraser = Eraser(names)
    keys: set[object] = set()
    for node in names.nodes.of(ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        keys.update(getattr(k, "value", None) for k, v in pairs if eraser.is_state(v))
    keys.update(keyword.arg for keyword in names.nodes.of(ast.keyword) if eraser.is_state(keyword.value))
    for assign in names.nodes.of(ast.Assign):
        if eraser.is_state(assign.value):
            keys.update(getattr(t.slice, "value", None) for t in assign.targets if isinstance(t, ast.Subscript))
    for call in names.nodes.of(ast.Call):
        if eraser.method(call) == "load_state_dict" and isinstance(call.args[0], ast.Call):
            keys.update(getattr(a, "value", None) for a in call.args[0].args[:1])
    if len(keys) > 1 or not all(re.fullmatch(r"(grad_|amp_)?scaler\d*", str(key)) for key in keys):
        raise ProofError("the scaler's state is not loaded by the key that it is saved under, or that is not a key of ampify's")
    if clash := keys & before.strings:
        raise ProofError(f"`{clash.pop()}`, the scaler's key in a checkpoint, is another's in the original")


def _popped_alike(before: Names, reading: Reading) -> None:
    """Where a state is popped out of a checkpoint the scaler's is too, as what is left is for somebody else; and only there."""
    eraser = Eraser(reading.names)
    if before.scaler or eraser.scaler == "":
        return
    for previous, stmt in pairwise(reading.numbers):
        call = stmt.value if isinstance(stmt, ast.Expr) else None
        if not isinstance(call, ast.Call) or eraser.method(call) != "load_state_dict" or not isinstance(call.args[0], ast.Call):
            continue
        mapping, _, method = dotted(call.args[0].func).rpartition(".")
        popped = any(isinstance(node, ast.Call) and dotted(node.func) == f"{mapping}.pop" for node in walk(previous))
        if popped is not (method == "pop"):
            raise ProofError(f"line {stmt.lineno} of the output: the scaler's state is not taken as the one before it")


# protocol --------------------------------------------------------------------------------------------


def _protocol(program: Program, plain: bool) -> None:
    for scope in program.whole():
        # Where nothing steps on gradients no backward has to be scaled: a file that is rewritten for the rules' sake alone.
        for violation in check(scope, Overlay(plain=plain), strict=not program.stepless).violations:
            raise ProofError(f"line {violation.line} of the output: {violation.problem.value}")
    for scope in program.own():
        for stmt in scope.statements():
            if any(e.kind is Kind.STEP and not e.done for e in stmt.events):
                raise ProofError(f"line {stmt.line} of the output: an optimizer steps without the scaler")
            if stmt.autocast:
                _region(scope, stmt.number, stmt.end)


def _region(scope: Scope, first: int, end: int) -> None:
    """No region may hold a backward, a step, a parameter update, a yield or another region."""
    for stmt in scope.statements():
        if first < stmt.number < end and stmt.barrier not in (None, Barrier.SKIPPED):
            raise ProofError(f"line {stmt.line} of the output: {stmt.barrier.value} inside an autocast region")


def _disabled(reading: Reading, search: Search) -> None:
    """Autocast is off only round single statements for which a rule asks for it."""
    withs = [stmt for stmt in reading.numbers if isinstance(stmt, ast.With)]
    off = [s for s in withs if any(reading.names.is_disabled(item.context_expr) for item in s.items)]
    asked = disabled(reading, search) if off else {}
    for stmt in off:
        if len(stmt.body) > 1 or not asked.get(reading.numbers[stmt.body[0]][0]):
            raise ProofError(f"line {stmt.lineno} of the output: autocast is off where nothing needs float32")


# what the proofs of other edits begin with, too ----------------------------------------------------


def both(original: bytes, output: bytes, what: str) -> tuple[ast.Module, ast.Module]:
    """The trees of a file and of `what` became of it. Raises ProofError where that does not compile, and SourceError where the
    original does not either, though it parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's code: not ours to print
            before, after = ast.parse(original), ast.parse(output)
            compile(after, "<output>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        check_compiles(original)
        raise ProofError(f"{what} does not compile: {error}") from None
    return before, after


# comments --------------------------------------------------------------------------------------------


def same_comments(original: bytes, output: bytes) -> None:
    """Compares the comments; tokenizes only where the lines with a `#` are not the same ones."""
    lines = [[part.strip() for part in text.splitlines() if b"#" in part] for text in (original, output)]
    if lines[0] != lines[1] and comments(original) != comments(output):
        raise ProofError("the comments are not the same")


def comments(source: bytes) -> list[str]:
    """The comments of a source, in order."""
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return [t.string for t in tokens if t.type == tokenize.COMMENT]
