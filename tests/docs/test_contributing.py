"""CONTRIBUTING.md: its picture of the house is what is there."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def _tree() -> str:
    """The code block under "Where things are"."""
    found = re.search(r"^## Where things are\n+```\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def _listed() -> Iterator[str]:
    """The paths that the tree names: two spaces a level, folders with a final slash."""
    folders: list[str] = []
    for line in _tree().splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        folders = folders[: len(indent) // 2]
        yield "".join(folders) + name
        if name.endswith("/"):
            folders.append(name)


def test_the_tree_lists_what_is_there() -> None:
    sources = {p.relative_to(ROOT).as_posix() for top in ("ampify", "runtime") for p in (ROOT / top).rglob("*.py")}
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in (ROOT / p for p in sources)}
    tests = {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").glob("*.py")}
    suites = {f"tests/{p.parent.relative_to(ROOT / 'tests').as_posix()}/" for p in (ROOT / "tests").glob("*/*.py")}
    rest = {"pyproject.toml", ".ci/run", "fixtures/", "tests/"}
    listed, there = set(_listed()), sources | folders | tests | suites | rest
    assert (sorted(there - listed), sorted(listed - there)) == ([], []), "(to add to the tree, to take out of it)"


def test_every_line_of_the_tree_says_what_a_file_is_for() -> None:
    for line in _tree().splitlines():
        name, *described = line.split(maxsplit=1)
        assert described or name == "__init__.py" or name.endswith("/"), line


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"`((?:ampify|runtime|tests|fixtures|analysis|plan)/[\w./]*)`", TEXT):
        assert (ROOT / path).exists() or (ROOT / "ampify" / path).exists(), path


def test_it_sets_up_as_the_readme_does() -> None:
    block = re.search(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert block
    assert block[0] in (ROOT / "README.md").read_text()
