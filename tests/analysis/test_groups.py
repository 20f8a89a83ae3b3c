"""Loops over collections of optimizers: which are known for what they are, and what each stands for."""

import pytest

from tests.analysis.reading import HEAD, events, program

MODELS = HEAD + "a, b = nn.Linear(4, 1), nn.Linear(4, 1)\n"
LIST = MODELS + "opts = [optim.SGD(a.parameters(), lr=1), optim.SGD(b.parameters(), lr=1)]\n"
DICT = MODELS + "opts = {'a': optim.SGD(a.parameters(), lr=1), 'b': optim.SGD(b.parameters(), lr=1)}\n"
NAMES = MODELS + "x = optim.SGD(a.parameters(), lr=1)\ny = optim.SGD(b.parameters(), lr=1)\n"
APPENDED = MODELS + "opts = []\nfor m in (a, b):\n    opts.append(optim.SGD(m.parameters(), lr=1))\n"
TRAINED = "loss = a(z).sum()\nloss.backward()\n"

EACH = {
    "a list": (LIST, "for o in opts:\n    o.step()", ["step opts[*]"]),
    "a list by index": (LIST, "for i in range(len(opts)):\n    opts[i].step()", ["step opts[*]"]),
    "a numbered list": (LIST, "for i, o in enumerate(opts):\n    o.step()", ["step opts[*]"]),
    "a comprehension": (LIST, "[o.step() for o in opts]", ["step opts[*]"]),
    "a dict by key": (DICT, "for k in opts:\n    opts[k].step()", ["step opts[*]"]),
    "a dict's keys": (DICT, "for k in opts.keys():\n    opts[k].step()", ["step opts[*]"]),
    "a dict's values": (DICT, "for o in opts.values():\n    o.step()", ["step opts[*]"]),
    "a dict's items": (DICT, "for k, o in opts.items():\n    o.step()", ["step opts[*]"]),
    "one filled in a loop": (APPENDED, "for o in opts:\n    o.step()", ["step opts[*]"]),
    "names": (NAMES, "for o in (x, y):\n    o.step()", ["step x", "step y"]),
    "a list of names": (NAMES + "both = [x, y]\n", "for o in both:\n    o.step()", ["step x", "step y"]),
    "a condition that it is one": (LIST, "for o in opts:\n    if o is not None:\n        o.step()", ["step opts[*]"]),
    "clearing too": (LIST, "for o in opts:\n    o.step()\n    o.zero_grad()", ["step opts[*]", "zero_grad opts[*]"]),
    "the scaler": ("from ampify_runtime import scaler\n" + LIST, "for o in opts:\n    scaler.step(o)", ["step! opts[*]"]),
}
NOT_EACH = {
    "a part of it": "for o in opts[1:]:\n    o.step()",
    "those that a condition picks": "[o.step() for o in opts if o.defaults]",
    "pairs": "for o, s in zip(opts, others):\n    o.step()",
    "a break": "for o in opts:\n    o.step()\n    break",
    "a step after a backward of its own": "for o in opts:\n    loss.backward()\n    o.step()",
    "a call that may do anything": "for o in opts:\n    anything(o)\n    o.step()",
    "an else": "for o in opts:\n    o.step()\nelse:\n    pass",
    "another collection by the same name": "opts = opts[:1]\nfor o in opts:\n    o.step()",
    "a loop within": "for o in opts:\n    for _ in range(2):\n        o.step()",
    "an argument": "for o in opts:\n    o.step(closure)",
    "the loop's own name bound anew": "for o in opts:\n    o = opts[0]\n    o.step()",
    "gradients": "for o in opts:\n    print(o.param_groups[0]['params'][0].grad)\n    o.step()",
}
SHARED = {
    "the same model for each": "opts = [optim.SGD(a.parameters(), lr=lr) for lr in rates]",
    "the same model appended": "opts = []\nfor lr in rates:\n    opts.append(optim.SGD(a.parameters(), lr=lr))",
    "one of two models, and both": "opts = [optim.SGD(a.parameters(), lr=1), optim.SGD([*a.parameters(), *b.parameters()])]",
    "the same optimizer twice": "o1 = optim.SGD(a.parameters(), lr=1)\nopts = {'x': o1, 'y': o1}",
}


@pytest.mark.parametrize(("head", "snippet", "expected"), EACH.values(), ids=EACH.keys())
def test_each_of_a_collection(head: str, snippet: str, expected: list[str]) -> None:
    assert events(snippet, head) == expected
    assert not program(head + TRAINED + snippet).refusals


@pytest.mark.parametrize("snippet", NOT_EACH.values(), ids=NOT_EACH.keys())
def test_what_may_not_step_each_once(snippet: str) -> None:
    assert {r.code for r in program(LIST + TRAINED + snippet).refusals} & {"AMP913", "AMP921", "AMP912", "AMP901"}


@pytest.mark.parametrize("snippet", SHARED.values(), ids=SHARED.keys())
def test_collections_that_share_parameters(snippet: str) -> None:
    found = program(MODELS + snippet + "\n" + TRAINED + "for o in opts:\n    o.step()").refusals
    assert [r.code for r in found] == ["AMP907"]


@pytest.mark.parametrize("other", ["opts[0].step()", "first = opts[0]\nfirst.step()", "first.step()"])
def test_one_that_may_be_of_the_collection(other: str) -> None:
    found = program(LIST + TRAINED + "for o in opts:\n    o.step()\n" + other).refusals
    assert "AMP913" in {r.code for r in found}


def test_one_that_is_not_of_the_collection() -> None:
    source = LIST + "c = nn.Linear(4, 1)\nown = optim.SGD(c.parameters(), lr=1)\n" + TRAINED
    assert not program(source + "for o in opts:\n    o.step()\nown.step()").refusals


def test_whose_gradients_a_collection_owns() -> None:
    head = LIST + "for o in opts:\n    o.step()\n"
    assert events("nn.utils.clip_grad_norm_(a.parameters(), 1)", head) == ["read opts[*]"]
    assert events("a.zero_grad()\nb.zero_grad()", head) == ["zero_grad", "zero_grad opts[*]"]
    head = APPENDED + "for o in opts:\n    o.step()\n"  # of which models nobody knows: any gradient may be theirs
    assert events("nn.utils.clip_grad_norm_(a.parameters(), 1)", head) == ["read opts[*]"]
    assert events("a.zero_grad()", head) == ["zero_grad"]


def test_gradients_of_one_of_them_are_those_of_all() -> None:
    clip = "for o in opts:\n    nn.utils.clip_grad_norm_(o.param_groups[0]['params'], 1)\n    o.step()"
    assert events(clip, LIST) == ["read opts[*]", "step opts[*]"]
    clip = "for o in (x, y):\n    nn.utils.clip_grad_norm_(o.param_groups[0]['params'], 1)\n    o.step()"
    assert events(clip, NAMES) == ["read x y", "step x", "step y"]
