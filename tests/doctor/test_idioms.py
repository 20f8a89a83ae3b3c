"""Right code is silent."""

import ast

import pytest

from ampify.convert import Options, convert
from ampify.doctor.examine import examine
from ampify.migration.results import SPELLINGS
from tests.doctor.idioms import PRELUDE, RIGHT

each_idiom = pytest.mark.parametrize("name", RIGHT)


@each_idiom
def test_nothing_is_found(name: str) -> None:
    assert examine(ast.parse(PRELUDE + RIGHT[name])) == []


@each_idiom
def test_nothing_is_written(name: str) -> None:
    result = convert((PRELUDE + RIGHT[name]).encode(), Options(skip=SPELLINGS | {"AMP363"}))  # right, and half in float32
    assert (result.output, result.edits, result.diagnostics) == ((PRELUDE + RIGHT[name]).encode(), (), ())


@pytest.mark.parametrize("framework", ["accelerate", "lightning", "deepspeed", "pytorch_lightning", "composer"])
def test_frameworks_are_left_alone(framework: str) -> None:
    wrong = RIGHT["clipping"].replace("    scaler.unscale_(optimizer)\n", "")
    assert examine(ast.parse(PRELUDE + wrong)) != []
    assert examine(ast.parse(f"import {framework}\n{PRELUDE}{wrong}")) == []
