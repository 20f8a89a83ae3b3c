"""Mutants of programs in several files: what is damaged in one of them dies in its proof, or in the proof of another."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ampify import files
from ampify.cli import main
from ampify.local import Local
from ampify.proof import ProofError, prove
from tests.cli import test_engines, test_program_checkpoints, test_programs

Texts = dict[str, str]  # by the files' names
Operator = Callable[[str, str], Iterator[str]]  # of a converted file and its original the ways in which it can be spoilt

OPERATORS: dict[str, Operator] = {}

# What the proof cannot see, as it sees one file's bytes and, of the others, what is on the disk: when a helper is proved, the
# script that it is converted for is still as it was. `job` writes files that need each other all or none.
TOGETHER = {
    ("left as it was", "a wrapper of the optimizer", "train"),
    ("left as it was", "a helper that goes backward and clips", "train"),
    ("left as it was", "a loop that gets its model", "model"),
}
# What is no mistake: a program that has the scaler's state in some of its checkpoints, or under two keys, resumes with another
# scale than it ended with, as it does from a checkpoint of before; and where nothing is scaled, the scaler's state is empty.
HARMLESS = {
    ("left as it was", "a loop that gets its model", "engine"),
    *(("left as it was", name, part) for name, parts in test_program_checkpoints.PROGRAMS.items() for part in parts),
    ("another key than the other files", "one file that saves, and another that loads", "saving"),
    ("another key than the other files", "one file that saves, and another that loads", "loading"),
    ("not saved", "one file that saves, and another that loads", "saving"),
    ("not loaded", "one file that saves, and another that loads", "loading"),
}
# A region that is dropped is no damage either: its forward runs in full precision.


def operator(function: Operator) -> Operator:
    OPERATORS[function.__name__.replace("_", " ")] = function
    return function


def _each(pattern: str, instead: str, text: str) -> Iterator[str]:
    """The texts in which one of the matches is replaced."""
    for match in re.finditer(pattern, text, re.MULTILINE):
        yield text[: match.start()] + match.expand(instead) + text[match.end() :]


@operator
def left_as_it_was(text: str, original: str) -> Iterator[str]:
    """One file is converted, and another that it needs is not."""
    yield original


@operator
def a_backward_without_a_scale(text: str, original: str) -> Iterator[str]:
    yield from _each(r"scaler\.scale\((\w+)\)", r"\1", text)


@operator
def a_plain_step(text: str, original: str) -> Iterator[str]:
    yield from _each(r"scaler\.step\(([\w.]+)\)", r"\1.step()", text)


@operator
def no_unscale(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^ *scaler\.unscale_\(.*\n", "", text)


@operator
def no_update(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^ *scaler\.update\(\)\n", "", text)


@operator
def no_import(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^from ampify_runtime import .*\n", "", text)


@operator
def scaled_before_it_is_handed_over(text: str, original: str) -> Iterator[str]:
    yield from _each(r"\bgo_backward\(loss,", "go_backward(scaler.scale(loss),", text)


@operator
def unscaled_by_both(text: str, original: str) -> Iterator[str]:
    if "go_backward(loss" in text and "def go_backward" not in text:
        yield from _each(r"^( *)(scaler\.step\((\w+)\)\n)", r"\1scaler.unscale_(\3)\n\1\2", text)


@operator
def updated_before_the_step_of_the_other(text: str, original: str) -> Iterator[str]:
    if "scaler.step" not in text:
        yield from _each(r"^( *)(scaler\.scale\(\w+\)\.backward\(\)\n)", r"\1\2\1scaler.update()\n", text)


@operator
def stepped_by_both(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^( *)(scaler\.step\(.*\)\n)", r"\1\2\1\2", text)


@operator
def a_region_over_the_others_backward(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^( *)(.*\bgo_backward\(loss.*\n)", r"\1with autocast():\n\1    \2", text)
    yield from _each(r"^( *)(epoch\(.*\n)", r"\1with autocast():\n\1    \2", text)


@operator
def another_key_than_the_other_files(text: str, original: str) -> Iterator[str]:
    changed = text.replace("'scaler'", "'grad_scaler'").replace('"scaler"', '"grad_scaler"').replace("scaler=s", "grad_scaler=s")
    if changed != text:
        yield changed


@operator
def not_saved(text: str, original: str) -> Iterator[str]:
    yield from _each(r"""(, )?["']?scaler["']?(: |=)scaler\.state_dict\(\)""", "", text)
    yield from _each(r"""^ *\S*\[["']scaler["']\] = scaler\.state_dict\(\)\n""", "", text)


@operator
def not_loaded(text: str, original: str) -> Iterator[str]:
    yield from _each(r"^ *scaler\.load_state_dict\(.*\n", "", text)


def _programs() -> dict[str, Texts]:
    found = {
        name: {f"parts/{part}": source, "train": script} for name, (part, source, script, _) in test_programs.PROGRAMS.items()
    }
    found.update({name: dict(sources) for name, sources in test_program_checkpoints.PROGRAMS.items()})
    found["a loop that gets its model"] = {
        "engine": test_engines.ENGINE,
        "model": test_engines.MODEL,
        "train": test_engines.TRAIN,
    }
    return found


PROGRAMS = _programs()
CONVERTED: dict[str, Texts] = {}


def put(texts: Texts) -> None:
    for name, text in texts.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(f"{name}.py").write_text(text)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    Path("parts/__init__.py").touch()


def converted(name: str) -> Texts:
    """The files of a program as ampify writes them, with those that it leaves alone."""
    if name not in CONVERTED:
        put(PROGRAMS[name])
        assert main(["-q", "."]) == 0
        CONVERTED[name] = {part: Path(f"{part}.py").read_text() for part in PROGRAMS[name]}
    return CONVERTED[name]


def unproved(name: str, texts: Texts) -> list[str]:
    """The files of a program that the proof rejects, of those that are not the original's."""
    put(texts)
    script = files.identity("train.py")
    importers = {files.identity(f"{part}.py"): (script,) for part in texts if part != "train"}
    found = []
    for part, original in PROGRAMS[name].items():
        if texts[part] != original:
            try:
                prove(original.encode(), texts[part].encode(), path=files.identity(f"{part}.py"), finder=Local(importers))
            except ProofError:
                found.append(part)
    return found


def mutants(name: str, damage: str) -> Iterator[tuple[str, Texts]]:
    """The damaged programs, and which file the damage is in."""
    whole = converted(name)
    for part, text in whole.items():
        if damage.startswith("another key") and not any(
            "state_dict" in t and "scaler" in t for p, t in whole.items() if p != part
        ):
            continue  # it keeps to itself
        original = PROGRAMS[name][part]
        for mutant in OPERATORS[damage](text, original) if text != original else ():
            if mutant != text and {**whole, part: mutant} != PROGRAMS[name]:
                yield part, {**whole, part: mutant}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_undamaged_is_proved(name: str) -> None:
    assert unproved(name, converted(name)) == []


@pytest.mark.parametrize("damage", OPERATORS)
def test_all_die(damage: str) -> None:
    found = [(name, part, unproved(name, texts)) for name in PROGRAMS for part, texts in mutants(name, damage)]
    assert found, "nothing to damage"
    survivors = {(damage, name, part) for name, part, rejected in found if not rejected}
    assert survivors - TOGETHER - HARMLESS == set()
    assert {known for known in TOGETHER if known[0] == damage} <= survivors  # or it is seen by now


@pytest.mark.parametrize(("name", "part"), sorted((name, part) for _, name, part in TOGETHER))
def test_job_writes_all_or_none(name: str, part: str) -> None:
    put(PROGRAMS[name])
    Path(f"{part}.py").write_bytes(PROGRAMS[name][part].encode() + b"\r# a lone carriage return\n")  # it cannot be rewritten
    before = {path: path.read_bytes() for path in Path().rglob("*.py")}
    assert main(["-q", "."]) == 3
    assert {path: path.read_bytes() for path in Path().rglob("*.py")} == before


LONG = [pytest.param(damage, marks=pytest.mark.long) for damage in ("left as it was", "not saved", "not loaded")]


@pytest.mark.parametrize("damage", ["another key than the other files", *LONG])
def test_what_is_harmless_trains_the_same(damage: str) -> None:
    name = "one file that saves, and another that loads"
    put(PROGRAMS[name])
    before = test_program_checkpoints.run()
    for texts in [texts for part, texts in mutants(name, damage) if (damage, name, part) in HARMLESS][:1]:
        put(texts)
        assert test_program_checkpoints.run("scale-only") == before


def report() -> str:
    """The kills by operator, as a table; in the last column those by another file than the damaged one."""
    rows = []
    for damage in OPERATORS:
        found = [(part, unproved(name, texts)) for name in PROGRAMS for part, texts in mutants(name, damage)]
        dead, seen = sum(bool(by) for _, by in found), sum(bool({*by} - {part}) for part, by in found)
        rows.append(f"{damage:<45} {dead:>3} of {len(found):>3}, {seen:>2}")
    return "\n".join(rows)


def test_there_are_many_mutants() -> None:
    assert sum(len(list(mutants(name, damage))) for name in PROGRAMS for damage in OPERATORS) >= 100
