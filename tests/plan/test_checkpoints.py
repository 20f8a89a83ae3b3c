"""Checkpoints: what is written beside an optimizer's state, and what is said where nothing can be."""

import pytest

from ampify.convert import Options, Result, convert
from tests.plan.shorthand import plain

LOOP = "for x, y in data:\n    ZERO\n    LOSS\n    BACK\n    STEP\n"
SAVE = "torch.save({'optimizer': optimizer.state_dict()}, f)\n"
ALONE = "torch.save(optimizer.state_dict(), f)\n"


def converted(snippet: str, options: Options = Options()) -> Result:
    result = convert(plain(LOOP + snippet).encode(), options)
    assert result.status == "converted"
    return result


def tail(snippet: str) -> str:
    """What becomes of a snippet behind the loop."""
    return converted(snippet).output.decode().split("    scaler.update()\n")[1]


def noted(snippet: str, options: Options = Options()) -> list[int]:
    """The lines of the snippet, from 1, that have a note."""
    notes = converted(snippet, options).diagnostics
    assert {(d.code, d.severity) for d in notes} <= {("AMP194", "info")}
    assert all("a resumed run starts at the initial loss scale" in d.message and "scaler.state_dict()" in d.help for d in notes)
    return [d.line - plain(LOOP).count("\n") for d in notes]


WRITTEN = {
    "state = {'o': optimizer.state_dict()}\n": "state = {'o': optimizer.state_dict(), 'scaler': scaler.state_dict()}\n",
    "state = {'o': optimizer.state_dict(),}\n": "state = {'o': optimizer.state_dict(), 'scaler': scaler.state_dict(),}\n",
    "state = {}\nstate.update(o=optimizer.state_dict())\n": (
        "state = {}\nstate.update(o=optimizer.state_dict(), scaler=scaler.state_dict())\n"
    ),
    "state = {\n    'o': optimizer.state_dict()  # all of it\n}\n": (
        "state = {\n    'o': optimizer.state_dict(),  # all of it\n    'scaler': scaler.state_dict()\n}\n"
    ),
    "state = dict(\n    o=optimizer.state_dict()  # all of it\n)\n": (
        "state = dict(\n    o=optimizer.state_dict(),  # all of it\n    scaler=scaler.state_dict()\n)\n"
    ),
    "state['o'] = optimizer.state_dict()\nstate['p'] = optimizer2.state_dict()\n": (
        "state['o'] = optimizer.state_dict()\nstate['p'] = optimizer2.state_dict()\nstate['scaler'] = scaler.state_dict()\n"
    ),
    "optimizer.load_state_dict(c.pop('o'))\n": (
        "optimizer.load_state_dict(c.pop('o'))\nscaler.load_state_dict(c.pop('scaler', {}))\n"
    ),
}


@pytest.mark.parametrize("snippet", WRITTEN)
def test_written(snippet: str) -> None:
    assert tail(snippet) == WRITTEN[snippet]
    assert noted(snippet) == []


@pytest.mark.parametrize("other", ["'scaler'", "dict(scaler=1)", "{'scaler': 1}"])
def test_the_key_is_no_others(other: str) -> None:
    assert "'grad_scaler': scaler.state_dict()" in tail(f"print({other})\n{SAVE}")
    assert "'amp_scaler': scaler.state_dict()" in tail(f"print({other}, 'grad_scaler')\n{SAVE}")


def test_the_key_is_the_one_that_is_there_already() -> None:
    once = converted(f"print('scaler')\n{SAVE}").output.decode()
    again = convert((once + plain(LOOP, "") + SAVE).encode())
    assert again.status == "converted"
    assert again.output.count(b"'grad_scaler': scaler.state_dict()") == 2
    assert b"'scaler': scaler" not in again.output


NOTED = {
    ALONE: [1],
    "a, b = optimizer.state_dict(), optimizer2.state_dict()\ntorch.save((a, b), f)\n": [1],
    "torch.save((optimizer.state_dict(), optimizer2.state_dict()), f)\n": [1],
    "torch.save((1,\n            optimizer.state_dict()), f)\n": [2],
    "optimizer.load_state_dict(torch.load(f))\n": [1],
    SAVE + ALONE: [2],
    SAVE + "state = {'o': [optimizer.state_dict()], 'p': optimizer.state_dict()}\n": [],
    "c['o'] = optimizer.state_dict()\nc[i] = optimizer2.state_dict()\n": [],
    "optimizer.load_state_dict(c['o'])\noptimizer2.load_state_dict(c['p'][0])\n": [],
    "optimizer.load_state_dict(c['o'])\noptimizer2.load_state_dict(c2['p'][0])\n": [2],
    SAVE + "for k, v in torch.load(f).items(): both[k].load_state_dict(v)\n": [1],
}


@pytest.mark.parametrize("snippet", NOTED)
def test_noted(snippet: str) -> None:
    assert noted(snippet) == NOTED[snippet]


def test_nothing_is_noted_where_no_loss_is_scaled() -> None:
    assert noted(ALONE, Options(dtype="bf16")) == []
    assert convert(f"{plain('')}{ALONE}".encode()).diagnostics == ()
    again = convert(converted(ALONE).output)
    assert (again.status, again.diagnostics) == ("already", ())


def test_torchs_own_scaler_is_noted_everywhere() -> None:
    both = SAVE + "optimizer.load_state_dict(c['o'])\n"
    assert noted(both, Options(runtime="torch")) == [1, 2]
    assert b"scaler.state_dict()" not in converted(both, Options(runtime="torch")).output
