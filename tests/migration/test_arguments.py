"""The arguments of old and new calls, as torch itself binds them: both end in the same constructor, with the same values."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ampify.convert import convert

VALUES = {
    "enabled": ("True", "False", "on", "x > 0", "(on)", "not on", "f(on, x)[0]", "'yes' if on else ''", "lambda: (1, 2)"),
    "dtype": ("torch.float16", "torch.bfloat16", "half"),
    "cache_enabled": ("True", "False", "on and x"),
    "init_scale": ("2.0**10", "1024.", "x", "[x, 2.0][0]"),
    "growth_factor": ("2.0", "x + 1"),
    "backoff_factor": ("0.5", "f(x, 0)[1]"),
    "growth_interval": ("2000", "{'n': 7}['n']"),
}
SCOPE = {"torch": torch, "on": True, "x": 3.0, "half": torch.half, "f": lambda *a: a}
GAPS = ("", " ", "\n    ", "  # why\n    ")


@contextmanager
def recorded(cls: type) -> Iterator[list[dict[str, Any]]]:
    """What the constructor of a class is called with, its defaults included."""
    constructor, calls = cls.__init__, []
    signature = inspect.signature(constructor)

    def record(self: object, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        calls.append({k: v for k, v in bound.arguments.items() if k != "self"})

    cls.__init__ = record  # type: ignore[misc]
    try:
        yield calls
    finally:
        cls.__init__ = constructor  # type: ignore[misc]


def bound(cls: type, text: str) -> dict[str, Any]:
    with warnings.catch_warnings(), recorded(cls) as calls:
        warnings.simplefilter("error" if ".cuda." not in text and ".cpu." not in text else "ignore")
        eval(text, dict(SCOPE))
    (call,) = calls
    return {k: v.__code__.co_code if callable(v) and hasattr(v, "__code__") else v for k, v in call.items()}


@st.composite
def calls(draw: Callable[..., Any], parameters: tuple[str, ...]) -> str:
    """The arguments of a call, by position and by keyword, laid out in some way."""
    positional = draw(st.integers(0, len(parameters)))
    by_name = draw(st.lists(st.sampled_from(parameters), unique=True))
    given = [draw(st.sampled_from(VALUES[p])) for p in parameters[:positional]]
    named = [f"{p}={draw(st.sampled_from(VALUES[p]))}" for p in by_name if p not in parameters[:positional]]
    if named and draw(st.booleans()):
        name, _, value = named.pop().partition("=")
        named.append(f"**{{{name!r}: {value}}}")
    arguments = [*given, *named]
    gap = draw(st.sampled_from(GAPS))
    comma = "," if arguments and draw(st.booleans()) else ""
    return gap + f",{gap or ' '}".join(arguments) + comma + (gap if "#" not in gap or arguments else "")


def new_text(old: str) -> str:
    result = convert(f"import torch\ny = {old}\n".encode())
    assert result.status == "converted", result.diagnostics
    return result.output.decode().removeprefix("import torch\ny = ")


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@settings(max_examples=150, deadline=None)
@given(arguments=calls(("enabled", "dtype", "cache_enabled")))
def test_regions(device: str, arguments: str) -> None:
    old = f"torch.{device}.amp.autocast({arguments})"
    before, after = bound(torch.amp.autocast, f"({old})"), bound(torch.amp.autocast, f"({new_text(old)})")
    if after["dtype"] is None:  # not asked for: what a device has until somebody sets another
        after["dtype"] = torch.get_autocast_dtype(device)
    if after["cache_enabled"] is None:
        after["cache_enabled"] = torch.is_autocast_cache_enabled()
    assert after == before
    assert after["device_type"] == device


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@settings(max_examples=150, deadline=None)
@given(arguments=calls(("init_scale", "growth_factor", "backoff_factor", "growth_interval", "enabled")))
def test_scalers(device: str, arguments: str) -> None:
    old = f"torch.{device}.amp.GradScaler({arguments})"
    before, after = bound(torch.amp.GradScaler, f"({old})"), bound(torch.amp.GradScaler, f"({new_text(old)})")
    assert after == before
    assert after["device"] == device


@pytest.mark.parametrize(
    "text", ["custom_fwd(f)", "custom_fwd(cast_inputs=half)(f)", "custom_fwd(f, cast_inputs=half)", "custom_bwd(f)"]
)
def test_custom_functions(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old decorators call the new ones, with the device type by keyword."""
    seen: list[dict[str, Any]] = []
    for name in ("custom_fwd", "custom_bwd"):
        real = getattr(torch.amp, name)

        def record(*args: Any, _real: Callable[..., Any] = real, **kwargs: Any) -> Any:
            bound = inspect.signature(_real).bind(*args, **kwargs)
            bound.apply_defaults()
            seen.append(dict(bound.arguments))
            return _real(*args, **kwargs)

        monkeypatch.setattr(torch.amp, name, record)
    old = f"torch.cuda.amp.{text}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eval(old, dict(SCOPE))
        before, seen[:] = [dict(call) for call in seen], []
        warnings.simplefilter("error")
        eval(new_text(old), dict(SCOPE))
    assert seen == before
    assert before[0]["device_type"] == "cuda"


def test_what_the_old_names_take_is_what_the_table_says() -> None:
    """Should torch change the old signatures, the table is wrong."""
    from ampify.migration.legacy import AUTOCAST, DTYPES

    for device in ("cuda", "cpu"):
        package = getattr(torch, device).amp
        parameters = inspect.signature(package.autocast.__init__).parameters
        assert tuple(parameters)[1:] == AUTOCAST
        assert parameters["dtype"].default is getattr(torch, DTYPES[device])
        old = tuple(inspect.signature(package.GradScaler.__init__).parameters)
        new = tuple(inspect.signature(torch.amp.GradScaler.__init__).parameters)
        assert new == (old[0], "device", *old[1:])
        assert torch.get_autocast_dtype(device) is getattr(torch, DTYPES[device])
