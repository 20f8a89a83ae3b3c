"""Names: what a dotted expression means, through imports and aliases, and never by its spelling."""

import ast

import pytest

from ampify.analysis.names import Names, dotted

# (the file, an expression, what it must not be taken for)
NOT_RESOLVED = [
    ("", "optim.Adam", "torch.optim.Adam"),
    ("from .torch import optim", "optim.Adam", "torch.optim.Adam"),
    ("from . import optim", "optim.Adam", "torch.optim.Adam"),
    ("from mine import optim", "optim.Adam", "torch.optim.Adam"),
    ("import torchsomething as torch", "torch.optim.Adam", "torch.optim.Adam"),
    ("import torch\noptim = make(torch.optim)", "optim.Adam", "torch.optim.Adam"),
    ("import torch\noptim = torch.optim\noptim = mine.optim", "optim.Adam", "torch.optim.Adam"),
    ("import torch\noptim = torch.optim if fast else mine", "optim.Adam", "torch.optim.Adam"),
    ("import mine\noptim = mine.optim", "optim.Adam", "torch.optim.Adam"),
    ("import torch", "torch.optim['Adam']", "torch.optim.Adam"),
    ("import torch", "torch().optim.Adam", "torch.optim.Adam"),
    ("from ampify_runtime.other import scaler", "scaler", "ampify_runtime.scaler"),
]

RESOLVED = [
    ("import torch", "torch.optim.Adam", "torch.optim.Adam"),
    ("import torch.optim", "torch.optim.Adam", "torch.optim.Adam"),
    ("import torch.optim", "torch.nn.Linear", "torch.nn.Linear"),
    ("import torch as th", "th.optim.Adam", "torch.optim.Adam"),
    ("import torch.optim as O", "O.Adam", "torch.optim.Adam"),
    ("from torch import optim", "optim.Adam", "torch.optim.Adam"),
    ("from torch import optim as o", "o.lr_scheduler.StepLR", "torch.optim.lr_scheduler.StepLR"),
    ("from torch.optim import Adam as A", "A", "torch.optim.Adam"),
    ("from torch.optim import (Adam,\n    SGD as S)", "S", "torch.optim.SGD"),
    ("import torch\noptim = torch.optim", "optim.Adam", "torch.optim.Adam"),
    ("import torch as t\nF = t.nn.functional", "F.relu", "torch.nn.functional.relu"),
    ("def f():\n    import torch.optim as O", "O.Adam", "torch.optim.Adam"),
    ("try:\n    import torch.optim as O\nexcept ImportError:\n    pass", "O.Adam", "torch.optim.Adam"),
    ("import torch.nn as nn, torch.optim as optim", "optim.Adam", "torch.optim.Adam"),
    ("from .torch import optim", "optim.Adam", ".torch.optim.Adam"),
    ("from .. import optim", "optim.Adam", "...optim.Adam"),
    ("", "model.fit", "model.fit"),
    ("import torch", "torch.optim['Adam']", ""),
    ("import torch", "make().optim", ""),
]


def _resolve(source: str, expression: str) -> str:
    return Names(ast.parse(source)).resolve(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(("source", "expression", "wrong"), NOT_RESOLVED)
def test_is_not_resolved(source: str, expression: str, wrong: str) -> None:
    assert _resolve(source, expression) != wrong


@pytest.mark.parametrize(("source", "expression", "name"), RESOLVED)
def test_resolves(source: str, expression: str, name: str) -> None:
    assert _resolve(source, expression) == name


@pytest.mark.parametrize(
    ("source", "runtime"),
    [
        ("from ampify import scaler", {}),
        ("from mine.ampify_runtime import scaler", {}),
        ("from .ampify_runtime import scaler", {"scaler": "scaler"}),
        ("import ampify_runtime", {}),
        ("from ampify_runtime import scaler", {"scaler": "scaler"}),
        ("from ampify_runtime import autocast, scaler as s", {"autocast": "autocast", "scaler": "s"}),
    ],
)
def test_names_of_the_runtime(source: str, runtime: dict[str, str]) -> None:
    assert Names(ast.parse(source)).runtime == runtime


@pytest.mark.parametrize(
    ("source", "free"),
    [
        ("# scaler", True),
        ("x = 'scaler'", True),
        ("x.scaler = 1", True),
        ("import scaler", False),
        ("from a import b as scaler", False),
        ("import scaler.inner", False),
        ("scaler = 1", False),
        ("def scaler(): pass", False),
        ("async def scaler(): pass", False),
        ("class scaler: pass", False),
        ("def f(scaler): pass", False),
        ("def f(*scaler): pass", False),
        ("def f(**scaler): pass", False),
        ("def f(*, scaler=1): pass", False),
        ("g = lambda scaler: 1", False),
        ("for scaler in x: pass", False),
        ("with x as scaler: pass", False),
        ("[scaler for scaler in x]", False),
        ("(scaler := 1)", False),
        ("print(scaler)", False),
        ("try:\n    pass\nexcept E as scaler:\n    pass", False),
        ("match x:\n    case scaler:\n        pass", False),
        ("match x:\n    case [1, *scaler]:\n        pass", False),
        ("match x:\n    case {'a': 1, **scaler}:\n        pass", False),
    ],
)
def test_taken_names(source: str, free: bool) -> None:
    assert ("scaler" not in Names(ast.parse(source)).taken) is free


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("a", "a"),
        ("a.b.c", "a.b.c"),
        ("a['k']", "a['k']"),
        ("a[0].b", "a[0].b"),
        ("a[i]", ""),
        ("a()", ""),
        ("a().b", ""),
        ("a + b", ""),
        ("1", ""),
    ],
)
def test_text_of_a_value(expression: str, text: str) -> None:
    assert dotted(ast.parse(expression, mode="eval").body) == text
