"""Generated modules that train nothing: they come out of a conversion byte for byte, and nothing is said of them."""

import ast
from typing import Any

import hypothesmith
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ampify.convert import convert

CI, LONG, SHARDS = 100, 200, 6
PROFILE: dict[str, Any] = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


def _passes_through(source: bytes) -> None:
    result = convert(source)
    assert result.output == source
    assert not result.bug
    assert result.status in ("unchanged", "already", "refused", "error"), result.status
    assert not result.edits
    if result.status == "error":
        with pytest.raises((SyntaxError, ValueError, RecursionError)):
            compile(source, "<module>", "exec", dont_inherit=True)


# `backward` in a comment lets the whole analysis look at the module, which a look at its bytes would have spared it.
modules = st.tuples(hypothesmith.from_node(), st.sampled_from(["", "# backward\n", "import torch  # backward\n"])).map(
    lambda pair: (pair[1] + pair[0]).encode("utf-8", "surrogatepass")
)


def test_generated_modules() -> None:
    met = 0

    @settings(max_examples=CI, derandomize=True, **PROFILE)
    @given(modules)
    def unchanged(source: bytes) -> None:
        nonlocal met
        met += 1
        _passes_through(source)

    unchanged()
    assert met >= CI


@pytest.mark.long
@pytest.mark.parametrize("number", range(SHARDS))
def test_many_generated_modules(number: int) -> None:
    @seed(number)
    @settings(max_examples=LONG, **PROFILE)
    @given(modules)
    def unchanged(source: bytes) -> None:
        _passes_through(source)

    unchanged()


def test_a_module_that_does_not_compile_is_told_apart() -> None:
    _passes_through(b"return 1  # backward\n")
    assert ast.parse(b"return 1")
