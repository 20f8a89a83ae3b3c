"""Roles: who is a model, an optimizer, a schedule or a loss, from evidence first and by name last."""

import pytest

from tests.analysis.reading import HEAD, TRAINED, Reading, events, owned

NO_OPTIMIZER = {
    "a scheduler of torch's": ("x = optim.lr_scheduler.StepLR(o, 3)", "x", "scheduler"),
    "a scheduler, by a wrong name": ("optimizer = optim.lr_scheduler.StepLR(o, 3)", "optimizer", "scheduler"),
    "a model, by a wrong name": ("optimizer = nn.Linear(4, 1)", "optimizer", "model"),
    "a loss, by a wrong name": ("model = nn.CrossEntropyLoss()", "model", "loss"),
    "a number, by a wrong name": ("optimizer = 3", "optimizer", "other"),
    "a text, by a wrong name": ("optimizer = 'adam'", "optimizer", "other"),
    "a parameter": ("model = nn.Parameter(torch.zeros(3))", "model", "other"),
    "a tensor": ("net = torch.zeros(3)", "net", "other"),
    "a function of nn.utils": ("net = nn.utils.parameters_to_vector(p)", "net", "other"),
    "an environment": ("env = gym.make('CartPole')", "env", "unknown"),
    "nothing known": ("", "thing", "unknown"),
    "shadowed by a later class": ("class Adam:\n    pass\nx = Adam()", "x", "other"),
    "a builder of schedulers": (
        "def build(): return optim.lr_scheduler.StepLR(o, 1)\noptimizer = build()",
        "optimizer",
        "scheduler",
    ),
}

FOUND = {
    "an optimizer": ("x = optim.Adam(p)", "x", "optimizer"),
    "by its own import": ("from torch.optim import Adam as A\nx = A(p)", "x", "optimizer"),
    "through an alias": ("o = torch.optim\nx = o.SGD(p, 0.1)", "x", "optimizer"),
    "through a second name": ("x = optim.SGD(p, 0.1)\ny = x", "y", "optimizer"),
    "getattr(optim, name)": ("x = getattr(optim, args.optim)(p)", "x", "optimizer"),
    "optim.__dict__[name]": ("x = optim.__dict__[name](p)", "x", "optimizer"),
    "models.__dict__[name]": ("import torchvision.models as models\nx = models.__dict__[arch]()", "x", "model"),
    "torchvision": ("from torchvision import models\nx = models.resnet18()", "x", "model"),
    "a condition": ("x = optim.SGD(p) if sgd else optim.Adam(p)", "x", "optimizer"),
    "two branches": ("if sgd:\n    x = optim.SGD(p)\nelse:\n    x = optim.Adam(p)", "x", "optimizer"),
    "a tuple": ("m, x = nn.Linear(1, 1), optim.SGD(p)", "x", "optimizer"),
    "the other of the tuple": ("m, x = nn.Linear(1, 1), optim.SGD(p)", "m", "model"),
    "a walrus": ("print(x := optim.SGD(p))", "x", "optimizer"),
    "an annotation": ("x: optim.Optimizer = optim.SGD(p)", "x", "optimizer"),
    "an item of a dict": ("x['gen'] = optim.SGD(p)", "x['gen']", "optimizer"),
    "an attribute": ("self.x = optim.SGD(p)", "self.x", "optimizer"),
    "a factory": ("def make(p):\n    return optim.SGD(p)\nx = make(p)", "x", "optimizer"),
    "a factory of a factory": ("def a(p): return optim.SGD(p)\ndef b(p): return a(p)\nx = b(p)", "x", "optimizer"),
    "a factory of a pair": ("def make(p):\n    return nn.Linear(1, 1), optim.SGD(p)\nm, x = make(p)", "x", "optimizer"),
    "a factory of a pair: the other": ("def make(p):\n    return nn.Linear(1, 1), optim.SGD(p)\nx, o = make(p)", "x", "model"),
    "a factory through a name": ("def make(p):\n    o = optim.SGD(p)\n    return o\nx = make(p)", "x", "optimizer"),
    "an own optimizer": ("class Mine(optim.Optimizer):\n    pass\nx = Mine(p)", "x", "optimizer"),
    "an own subclass": ("class Mine(optim.Adam):\n    pass\nx = Mine(p)", "x", "optimizer"),
    "a subclass of a subclass": ("class A(optim.Adam): pass\nclass B(A): pass\nx = B(p)", "x", "optimizer"),
    "another package's": ("from timm.optim import Lamb\nx = Lamb(p)", "x", "optimizer"),
    "by use": ("x = build()\nx.zero_grad()\nx.step()", "x", "optimizer"),
    "by name": ("optimizer = build()", "optimizer", "optimizer"),
    "by name, in an attribute": ("", "trainer.optimizer", "optimizer"),
    "a module": ("x = nn.Linear(1, 1)", "x", "model"),
    "an own module": ("class M(nn.Module): pass\nx = M()", "x", "model"),
    "an own module of a base elsewhere": ("class M(Base):\n    def forward(self, x): pass\nx = M()", "x", "model"),
    "moved": ("x = nn.Linear(1, 1).to(device)", "x", "model"),
    "moved twice": ("class M(nn.Module): pass\nx = M().cuda().train()", "x", "model"),
    "moved in place": ("x = nn.Linear(1, 1)\nx = x.to(device)", "x", "model"),
    "DataParallel": ("x = nn.DataParallel(m)", "x", "model"),
    "DDP": ("from torch.nn.parallel import DistributedDataParallel as DDP\nx = DDP(m)", "x", "model"),
    "compiled": ("x = torch.compile(m)", "x", "model"),
    "scripted": ("x = torch.jit.script(m)", "x", "model"),
    "averaged": ("x = optim.swa_utils.AveragedModel(m)", "x", "model"),
    "from_pretrained": ("x = AutoModel.from_pretrained('bert')", "x", "model"),
    "by use as a model": ("x = build()\no = optim.SGD(x.parameters())", "x", "model"),
    "by name as a model": ("model = build()", "model", "model"),
    "a loss": ("x = nn.MSELoss()", "x", "loss"),
    "an own loss": ("class FocalLoss(nn.Module): pass\nx = FocalLoss()", "x", "loss"),
    "a loss by name": ("criterion = build()", "criterion", "loss"),
    "SWALR": ("x = optim.swa_utils.SWALR(o)", "x", "scheduler"),
    "an own scheduler": ("class S(optim.lr_scheduler.LRScheduler): pass\nx = S(o)", "x", "scheduler"),
    "another's scheduler": ("from warm import GradualWarmupScheduler\nx = GradualWarmupScheduler(o)", "x", "scheduler"),
    "a scheduler by name": ("lr_scheduler = build()", "lr_scheduler", "scheduler"),
    "a wrapper of an optimizer": (
        "class Noam:\n    def __init__(self, o): self.o = o\n    def step(self): self.o.step()\nx = Noam(optim.Adam(p))",
        "x",
        "wrapper",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_OPTIMIZER)
def test_is_something_else(name: str) -> None:
    source, text, role = NO_OPTIMIZER[name]
    assert Reading(HEAD + source).role(text) == role


@pytest.mark.parametrize("name", FOUND)
def test_role(name: str) -> None:
    source, text, role = FOUND[name]
    assert Reading(HEAD + source).role(text) == role


INSIDE = {
    "a parameter": (
        "def train(a, b):\n    pass\ntrain(nn.Linear(1, 1), optim.SGD(p))",
        "train",
        {"a": "model", "b": "optimizer"},
    ),
    "a keyword": ("def train(*, a):\n    pass\ntrain(a=optim.SGD(p))", "train", {"a": "optimizer"}),
    "through two calls": (
        "def inner(a): pass\ndef outer(b):\n    inner(b)\nouter(optim.SGD(p))",
        "inner",
        {"a": "optimizer"},
    ),
    "of the caller's name": ("def train(thing):\n    pass\nx = optim.SGD(p)\ntrain(x)", "train", {"thing": "optimizer"}),
    "a method": (
        "class T:\n    def fit(self, a): pass\nT().fit(optim.SGD(p))",
        "fit",
        {"a": "optimizer"},
    ),
    "an attribute": (
        "class T:\n    def __init__(self):\n        self.a = optim.SGD(p)\n        self.b = nn.Linear(1, 1)\n"
        "    def fit(self): pass",
        "fit",
        {"self.a": "optimizer", "self.b": "model"},
    ),
    "an attribute from a parameter": (
        "class T:\n    def __init__(self, a):\n        self.x = a\n    def fit(self): pass\nT(optim.SGD(p))",
        "fit",
        {"self.x": "optimizer"},
    ),
    "an attribute of a base": (
        "class A:\n    def __init__(self): self.x = optim.SGD(p)\nclass B(A):\n    def fit(self): pass",
        "fit",
        {"self.x": "optimizer"},
    ),
    "another name for self": (
        "class T:\n    def __init__(me): me.x = optim.SGD(p)\n    def fit(this): pass",
        "fit",
        {"this.x": "optimizer"},
    ),
    "a local shadows": ("x = optim.SGD(p)\ndef f():\n    x = nn.Linear(1, 1)", "f", {"x": "model"}),
    "a parameter shadows": ("x = optim.SGD(p)\ndef f(x): pass\nf(nn.Linear(1, 1))", "f", {"x": "model"}),
    "a global": ("x = optim.SGD(p)\ndef f(): pass", "f", {"x": "optimizer"}),
    "a closure": ("def outer():\n    x = optim.SGD(p)\n    def f(): pass", "f", {"x": "optimizer"}),
    "of an instance": (
        "class T:\n    def __init__(self): self.o = optim.SGD(p)\ndef main():\n    t = T()",
        "main",
        {"t.o": "optimizer"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_role_in_a_function(name: str) -> None:
    source, frame, roles = INSIDE[name]
    reading = Reading(HEAD + source)
    assert {text: reading.role(text, frame) for text in roles} == roles


# What an optimizer owns. `a`, `b`: models.
MODELS = HEAD + "import itertools\nfrom itertools import chain\na, b = nn.Linear(4, 1), nn.Linear(4, 1)\n"
OWNED = {
    "a.parameters()": {"a"},
    "params=a.parameters()": {"a"},
    "list(a.parameters())": {"a"},
    "(p for p in a.parameters() if p.requires_grad)": {"a"},
    "[p for n, p in a.named_parameters() if 'bias' not in n]": {"a"},
    "filter(lambda p: p.requires_grad, a.parameters())": {"a"},
    "chain(a.parameters(), b.parameters())": {"a", "b"},
    "itertools.chain(a.parameters(), b.parameters())": {"a", "b"},
    "itertools.chain.from_iterable([a.parameters(), b.parameters()])": {"a", "b"},
    "list(a.parameters()) + list(b.parameters())": {"a", "b"},
    "[*a.parameters(), *b.parameters()]": {"a", "b"},
    "[{'params': a.parameters()}, {'params': b.parameters(), 'lr': rate}]": {"a", "b"},
    "[p for m in (a, b) for p in m.parameters()]": {"a", "b"},
    "[a.weight, b.bias]": {"a.weight", "b.bias"},
    "a.fc.parameters()": {"a.fc"},
    "x": {"x"},
    "[x]": {"x"},
}


@pytest.mark.parametrize("given", OWNED)
def test_what_an_optimizer_owns(given: str) -> None:
    roots = owned(f"{MODELS}o = optim.Adam({given}, lr=rate)\no.step()\n")["o"]
    assert roots - {"m"} == OWNED[given]  # the loop's own name does no harm


def test_what_an_optimizer_owns_through_names() -> None:
    source = MODELS + "groups = [{'params': a.parameters()}]\ngroups += [1]\nps = list(b.parameters())\n"
    assert owned(source + "o = optim.Adam(groups)\no.step()\n") == {"o": {"a"}}
    assert owned(source + "o = optim.Adam(ps)\no.step()\n") == {"o": {"b"}}


# Other names of one model: a clip of `x`'s parameters reads the gradients of the optimizer built on `a`.
SAME = {
    "another name": "x = a",
    "DDP": "from torch.nn.parallel import DistributedDataParallel as DDP\nx = DDP(a)",
    "DDP with arguments": "from torch.nn.parallel import DistributedDataParallel\nx = DistributedDataParallel(a, device_ids=[0])",
    "DataParallel on a device": "x = nn.DataParallel(a).to(device)",
    "compiled": "x = torch.compile(a)",
    "compiled DDP": "x = torch.compile(nn.DataParallel(a))",
    "moved": "x = a.to(device)",
    "a part": "x = a.fc",
    "the last child": "x = list(a.children())[-1]",
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_same_model(name: str) -> None:
    optimizers = "oa = optim.SGD(a.parameters())\nob = optim.SGD(b.parameters())\noa.step()\nob.step()\n"
    head = MODELS + SAME[name] + "\n" + optimizers
    assert events("nn.utils.clip_grad_norm_(x.parameters(), 1.0)\n", head) == ["read oa"]


OTHER = {
    "the other model": ("nn.utils.clip_grad_norm_(b.parameters(), 1.0)", ["read ob"]),
    "both": ("nn.utils.clip_grad_norm_([*a.parameters(), *b.parameters()], 1.0)", ["read oa ob"]),
    "a chain of both": ("nn.utils.clip_grad_norm_(chain(a.parameters(), b.parameters()), 1.0)", ["read oa ob"]),
    "a part of one": ("nn.utils.clip_grad_norm_(a.fc.parameters(), 1.0)", ["read oa"]),
    "one tensor": ("print(b.weight.grad)", ["read ob"]),
    "a loop's": ("for p in b.parameters():\n    p.grad.mul_(2)", ["read ob"]),
    "the groups of an optimizer": ("nn.utils.clip_grad_norm_(oa.param_groups[0]['params'], 1.0)", ["read oa"]),
}


@pytest.mark.parametrize("name", OTHER)
def test_whose_gradients_are_read(name: str) -> None:
    snippet, expected = OTHER[name]
    optimizers = "oa = optim.SGD(a.parameters())\nob = optim.SGD(b.parameters())\noa.step()\nob.step()\n"
    assert events(snippet + "\n", MODELS + optimizers) == expected


def test_parameters_in_no_order_of_definition() -> None:
    """A function that is called before anything is known of what it gets does not end up in a loop."""
    source = HEAD + "def f(x):\n    y = g(x)\n    return f(y)\ndef g(z):\n    return f(z)\nw = f(w)\n"
    assert Reading(source).role("w") == "unknown"
    assert Reading(TRAINED + "model = model\noptimizer = optimizer\n").role("optimizer") == "optimizer"
