"""Checkpoints: where an optimizer's state is saved and loaded, and how the scaler's can go with it."""

import pytest

from tests.analysis.reading import TRAINED, program

LOOP = "loss = model(x).sum()\nloss.backward()\n"
SPLAT = "def save(path, **state):\n    torch.save(state, path)\n"
WRAPPER = (
    "class Warm:\n    def __init__(self, o): self.o = o\n    def step(self): self.o.step()\n    def state_dict(self): return {}\n"
    "w = Warm(optimizer)\n"
)


def states(snippet: str) -> list[str]:
    """The states that are saved and loaded, as `save entry`; `lost` where the scaler's has no place."""
    found = [e for scope in program(TRAINED + snippet).scopes for s in scope.statements() for e in s.events]
    return [f"{e.kind.value} {e.form or 'lost'}" for e in found if e.kind.value in ("save", "load") and not e.done]


FORMS = {
    "torch.save({'o': optimizer.state_dict()}, f)": ["save entry"],
    "torch.save(obj={'o': optimizer.state_dict()}, f=f)": ["save entry"],
    "torch.save(dict(o=optimizer.state_dict()), f)": ["save entry"],
    "from collections import OrderedDict\nstate = OrderedDict(o=optimizer.state_dict())": ["save entry"],
    "state = {**more, 'o': optimizer.state_dict()}": ["save entry"],
    "state |= {'o': optimizer.state_dict()}": ["save entry"],
    "state.update({'o': optimizer.state_dict()})": ["save entry"],
    "state = {}\nstate.update(o=optimizer.state_dict())": ["save entry"],
    "state = make()\nstate.update(o=optimizer.state_dict())": ["save lost"],
    "state = {'o': optimizer.state_dict() if full else None}": ["save entry"],
    "import copy\nstate = {'o': copy.deepcopy(optimizer.state_dict())}": ["save entry"],
    "state = {'o': to_cpu(optimizer.state_dict())}": ["save lost"],
    "state = {'o': {'p': optimizer.state_dict()}}": ["save entry"],
    "state = {'o': [optimizer.state_dict()]}": ["save lost"],
    "state = {key: optimizer.state_dict()}": ["save lost"],
    "state = {'o': optimizer.state_dict(), 'p': optimizer.state_dict()}": ["save entry"],
    "state['o'] = optimizer.state_dict()": ["save statement"],
    "state[key] = optimizer.state_dict()": ["save lost"],
    "state['o'], n = optimizer.state_dict(), 3": ["save lost"],
    "if save({'o': optimizer.state_dict()}): pass": ["save lost"],
    "def helper(optimizer):\n    torch.save({'o': optimizer.state_dict()}, 'f')\nhelper(optimizer)": ["save entry"],
    SPLAT + "save(path, o=optimizer.state_dict())": ["save entry"],
    SPLAT + "    print(len(state))\nsave(path, o=optimizer.state_dict())": ["save lost"],
    "@wrapped\n" + SPLAT + "save(path, o=optimizer.state_dict())": ["save lost"],
    SPLAT + "save = other\nsave(path, o=optimizer.state_dict())": ["save lost"],
    "save(path, o=optimizer.state_dict())": ["save lost"],
    "state = State(optimizer.state_dict())": ["save lost"],
    "state = State(o=optimizer.state_dict())": ["save lost"],
    "torch.save(optimizer.state_dict(), f)": ["save lost"],
    "torch.save([model.state_dict(), optimizer.state_dict()], f)": ["save lost"],
    "best = optimizer.state_dict()\ntorch.save(best, f)": ["save lost"],
    "best = optimizer.state_dict()\nstate = {'o': best}": ["save lost"],
    "best = optimizer.state_dict()\noptimizer.load_state_dict(best)": [],
    "other.load_state_dict(optimizer.state_dict())": [],
    "print(optimizer.state_dict())": [],
    "for key in optimizer.state_dict(): pass": [],
    "lr = optimizer.state_dict()['param_groups'][0]['lr']": [],
    "torch.save({'m': model.state_dict()}, f)": [],
    "optimizer.load_state_dict(c['o'])": ["load statement"],
    "optimizer.load_state_dict(c['s']['o'])": ["load statement"],
    "optimizer.load_state_dict(c.get('o'))": ["load statement"],
    "optimizer.load_state_dict(c.pop('o'))": ["load popped"],
    "optimizer.load_state_dict(c[key])": ["load lost"],
    "optimizer.load_state_dict(c.optimizer)": ["load lost"],
    "optimizer.load_state_dict(torch.load(f))": ["load lost"],
    "optimizer.load_state_dict(torch.load(f)['o'])": ["load lost"],
    "done = optimizer.load_state_dict(c['o'])": ["load lost"],
    "model.load_state_dict(c['m'])": [],
    WRAPPER + "torch.save({'w': w.state_dict()}, f)": ["save entry"],
    WRAPPER + "torch.save(w.state_dict(), f)": [],
}


@pytest.mark.parametrize("snippet", FORMS)
def test_forms(snippet: str) -> None:
    assert states(snippet + "\n") == FORMS[snippet]


SAVE = "state = {'o': optimizer.state_dict()}\n"
LOAD = "c = torch.load(f)\noptimizer.load_state_dict(c['o'])\n"
GONE_THROUGH = {
    SAVE + "for key in state: pass",
    SAVE + "for key, value in state.items(): pass",
    SAVE + "kept = [v for v in state.values()]",
    SAVE + "assert set(state) == names",
    SAVE + "assert state == other",
    SAVE + "assert len(state) == 1",
    SAVE + "save(**state)",
    SAVE + "alias = state\nprint(sorted(alias))",
    SAVE + "everything = {'epoch': 3, **state}\nfor key in everything: pass",
    SAVE + "def show(given):\n    for key in given: pass\nshow(state)",
    SAVE + "def show(n, given):\n    for key in given: pass\nshow(1, given=state)",
    "def make():\n    return {'o': optimizer.state_dict()}\nfor key in make(): pass",
    "def fill(s):\n    s['o'] = optimizer.state_dict()\nstate = {}\nfill(state)\nfor key in state: pass",
    "state = {}\nstate.update({'o': optimizer.state_dict()})\nfor key in state: pass",
    "state = {}\nstate.update(o=optimizer.state_dict())\nfor key in state: pass",
    "sizes = [len(v) for v in {'o': optimizer.state_dict()}.values()]",
    "state = {'epoch': 3, 'states': {'o': optimizer.state_dict()}}\nfor key in state['states']: pass",
    SAVE + "for name, value in torch.load(f).items(): things[name].load_state_dict(value)",
    SAVE + "for name in found: things[name].load_state_dict(found[name])",
    LOAD + "for key in c: pass",
    LOAD + "missing = names - set(c)",
    "class T:\n    def a(self):\n        self.s = {'o': optimizer.state_dict()}\n    def b(self):\n        return list(self.s)",
}
LOOKED_UP = {
    SAVE + "torch.save(state, f)",
    SAVE + "print(state.keys())",
    SAVE + "if 'o' in state and state is not None: pass",
    SAVE + "state['epoch'] = state['o']",
    SAVE + "def show(given):\n    print(given['o'])\nshow(state)",
    SAVE + "def other(state):\n    for key in state: pass",
    SAVE + "for name, thing in things.items(): thing.load_state_dict(c[name])",
    LOAD + "weights = {k: v for k, v in c['model'].items()}",
}


@pytest.mark.parametrize("snippet", sorted(GONE_THROUGH))
def test_a_checkpoint_that_is_gone_through(snippet: str) -> None:
    assert program(TRAINED + LOOP + snippet + "\n").keyed


@pytest.mark.parametrize("snippet", sorted(LOOKED_UP))
def test_a_checkpoint_that_is_looked_up(snippet: str) -> None:
    assert not program(TRAINED + LOOP + snippet + "\n").keyed
