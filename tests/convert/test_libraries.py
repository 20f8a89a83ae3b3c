"""Libraries: files that train nothing come out as they went in."""

import importlib.util
import random
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ampify.convert import convert
from ampify.source import is_candidate

# Files with a training step, or something like one, that is left alone. Refused is fine; converted, or a bug, is not.
# What TESTS names does train, and may be converted.
REFUSED = {
    "torch/_dynamo/external_utils.py",
    "torch/_inductor/fx_passes/numeric_utils.py",
    "torch/distributed/tensor/debug/_op_coverage.py",
    "turtledemo/bytedesign.py",  # a turtle that goes backward
}
TESTS = "torch/testing/_internal/distributed/"  # holds training loops of its own


def _candidates(root: Path, most: int) -> Iterator[tuple[str, bytes]]:
    """Files that hold the word `backward`, no more than `most`, none of them long."""
    paths = [p for p in sorted(root.rglob("*.py")) if p.stat().st_size < 16_000]
    for path in paths:
        source = path.read_bytes()
        if is_candidate(source) and most:
            most -= 1
            yield path.relative_to(root.parent).as_posix(), source


@cache
def library_files() -> tuple[tuple[str, bytes], ...]:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch, standard = Path(spec.origin).parent, Path(sysconfig.get_path("stdlib"))
    found = list(_candidates(torch, 170))
    rest = [p for p in sorted(standard.rglob("*.py")) if "site-packages" not in p.parts and p.stat().st_size < 12_000]
    for path in random.Random(1).sample(rest, 200):
        found.append((path.relative_to(standard).as_posix(), path.read_bytes()))
    return tuple(found)


def test_library_files_are_left_alone() -> None:
    files = library_files()
    assert len(files) >= 300
    refused = set()
    for name, source in files:
        result = convert(source)
        assert not result.bug, (name, result.diagnostics)
        assert result.status != "converted" or name.startswith(TESTS), name
        assert result.output == source or name.startswith(TESTS)
        if result.status == "refused":
            refused.add(name)
    assert {name for name in refused if not name.startswith(TESTS)} <= REFUSED


@pytest.mark.long
def test_all_of_torch_is_left_alone() -> None:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        result = convert(path.read_bytes())
        assert not result.bug, (path.name, result.diagnostics)
        trains = "testing" in path.relative_to(root).parts  # torch.testing holds plain training loops: those may be converted
        assert trains or result.status != "converted", path.name
