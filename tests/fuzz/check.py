"""What is demanded of every generated script: the status of its conversion, and all that is wrong with it."""

from typing import NamedTuple

from ampify.convert import convert
from tests.fixtures_suite.compare import exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fuzz.training import run


class Verdict(NamedTuple):
    status: str
    codes: tuple[str, ...]
    problems: list[str]


def problems_of(source: bytes) -> Verdict:
    """A refusal must name a place in the file; a conversion must erase, be stable, and train bit for bit as the original does."""
    result = convert(source)
    codes = tuple(d.code for d in result.diagnostics if d.severity == "error")
    if result.status == "refused":
        lines = len(source.splitlines())
        placed = all(1 <= d.line <= lines and d.column >= 1 and d.message for d in result.diagnostics)
        kept = result.output == source and not result.edits
        problems = [] if codes and placed else ["refused without a place"]
        return Verdict("refused", codes, problems if kept else [*problems, "refused, and changed"])
    if result.status != "converted":
        return Verdict(result.status, codes, [f"{result.status}: {[d.message for d in result.diagnostics]}"])
    problems = erasure_problems(source, result.output)
    again = convert(result.output)
    if again.output != result.output or again.edits or again.status != "already":
        problems.append(f"converting it again gives {again.status} with {len(again.edits)} edits")
    original = run(source, "original")
    if original["error"] or not original["steps"]:
        return Verdict("broken", codes, [f"the original does not train: {original['error']}"])
    for mode in ("off", "scale-only", "growing"):
        trained = run(result.output, mode)
        problems += [f"{mode}: {problem}" for problem in exact_problems(original, trained)]
        if not trained["regions"]:
            problems.append(f"{mode}: no region was entered")
    return Verdict("converted", codes, problems)
