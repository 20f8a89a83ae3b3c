"""What training loops are made of: spellings of torch, models, optimizers, schedules and data, as a script defines them."""

from typing import NamedTuple

from tests.fuzz.layout import Choices, Tree

BUILDERS = {
    "SGD": ("lr=0.1", "lr=0.05, momentum=0.9", "lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True"),
    "Adam": ("lr=1e-2", "lr=0.01, betas=(0.5, 0.9)"),
    "AdamW": ("lr=1e-2", "lr=0.01, weight_decay=0.1"),
    "RMSprop": ("lr=1e-3", "lr=0.01, momentum=0.5"),
    "Adagrad": ("lr=0.05",),
}
SCHEDULES = (
    "StepLR({}, 2, gamma=0.5)",
    "LambdaLR({}, lambda e: 0.9 ** e)",
    "ExponentialLR({}, gamma=0.9)",
    "CosineAnnealingLR({}, T_max=5)",
    "LinearLR({}, total_iters=3)",
)
BODIES = (
    "nn.Linear(4, 4)",
    "nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))",
    "nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))",
    "nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(0.2), nn.Linear(6, 4))",
    "Net()",
    "Net(width=5)",
)


class Spelling(NamedTuple):
    """How a script writes torch's names."""

    imports: tuple[str, ...]
    nn: str
    functional: str
    optim: str  # with its dot
    clip: str  # the same
    grad: str


def spelling(c: Choices) -> Spelling:
    line, nn = c.one(("import torch.nn as nn", "nn"), ("from torch import nn", "nn"), ("import torch.nn", "torch.nn"))
    imports = [line]
    line, functional = c.one(
        ("import torch.nn.functional as F", "F"),
        ("from torch.nn import functional as F", "F"),
        ("", f"{nn}.functional"),
        ("import torch.nn.functional as func", "func"),
    )
    imports.append(line)
    line, optim = c.one(
        ("import torch.optim as optim", "optim."),
        ("from torch import optim", "optim."),
        ("", "torch.optim."),
        (f"from torch.optim import {', '.join(BUILDERS)}, lr_scheduler", ""),
        ("import torch.optim as O", "O."),
    )
    imports.append(line)
    line, clip = c.one(
        ("", f"{nn}.utils."),
        ("from torch.nn.utils import clip_grad_norm_, clip_grad_value_", ""),
        ("from torch.nn import utils", "utils."),
        ("import torch.nn.utils as U", "U."),
    )
    imports.append(line)
    line, grad = c.one(
        ("", "torch.autograd.grad"), ("from torch import autograd", "autograd.grad"), ("from torch.autograd import grad", "grad")
    )
    imports.append(line)
    imports = [each for each in imports if each]
    return Spelling(("import torch", *(c.order(imports) if c.chance(2) else imports)), nn, functional, optim, clip, grad)


class Optimizer(NamedTuple):
    """An optimizer by the expression that steps it, with the models that it owns all parameters of."""

    name: str
    models: tuple[str, ...]


class Parts(NamedTuple):
    """The objects of one training: what the loop calls them, and how they are made."""

    models: tuple[str, ...]
    optimizers: tuple[Optimizer, ...]
    group: str  # what a loop over all optimizers goes through, or empty
    schedules: tuple[tuple[str, str], ...]  # each with its optimizer
    criterion: str  # a module, or empty
    classes: bool  # whether the targets are numbers of classes
    setup: tuple[str, ...]


def parts(c: Choices, spell: Spelling, owner: str) -> Parts:
    """`owner` is `self.` where they are attributes."""
    names = c.one(("model",), ("net",), ("encoder", "decoder"), ("first", "second"), ("gen", "disc"))
    models = tuple(owner + name for name in names)
    setup = [f"{m} = {c.one(*BODIES).replace('nn.', spell.nn + '.')}" for m in models]
    optimizers, group = _optimizers(c, spell, owner, models, setup)
    schedules = []
    for number, optimizer in enumerate(optimizers):
        if c.chance(3):
            name = f"{owner}{c.one('scheduler', 'sched', 'lr_schedule')}{number or ''}"
            made = c.one(*SCHEDULES).format(optimizer.name)
            setup.append(f"{name} = {spell.optim}lr_scheduler.{made}")
            schedules.append((name, optimizer.name))
    classes = c.chance(3)
    criterion = f"{owner}criterion" if c.chance(2) else ""
    if criterion:
        setup.append(
            f"{criterion} = {spell.nn}.{'CrossEntropyLoss' if classes else c.one('MSELoss', 'L1Loss', 'SmoothL1Loss')}()"
        )
    return Parts(models, tuple(optimizers), group, tuple(schedules), criterion, classes, tuple(setup))


def _optimizers(
    c: Choices, spell: Spelling, owner: str, models: tuple[str, ...], setup: list[str]
) -> tuple[list[Optimizer], str]:
    def built(*of: str) -> str:
        kind = c.one(*BUILDERS)
        parameters = " + ".join(f"list({m}.parameters())" for m in of) if len(of) > 1 else f"{of[0]}.parameters()"
        if len(of) > 1 and c.chance(3):
            parameters = "[" + ", ".join(f'{{"params": {m}.parameters()}}' for m in of) + "]"
        return f"{spell.optim}{kind}({parameters}, {c.one(*BUILDERS[kind])})"

    form = c.one("one", "one", "each", "list", "appended", "dict") if len(models) > 1 else c.one("one", "one", "one", "list")
    if form == "one":
        name = owner + c.one("optimizer", "opt", "optim_all", "solver")
        setup.append(f"{name} = {built(*models)}")
        return [Optimizer(name, models)], ""
    if form == "each":
        found = [Optimizer(f"{owner}{c.one('opt', 'optimizer')}_{m.removeprefix(owner)}", (m,)) for m in models]
        setup += [f"{o.name} = {built(*o.models)}" for o in found]
        group = f"({', '.join(o.name for o in found)},)" if c.chance(2) else ""
        return found, group
    name = owner + c.one("optimizers", "opts")
    if form == "dict":
        keys = [m.removeprefix(owner) for m in models]
        setup.append(f"{name} = {{{', '.join(f'{key!r}: {built(m)}' for key, m in zip(keys, models, strict=True))}}}")
        return [Optimizer(f"{name}[{key!r}]", (m,)) for key, m in zip(keys, models, strict=True)], f"{name}.values()"
    if form == "appended":
        setup.append(f"{name} = []")
        setup += [f"{name}.append({built(m)})" for m in models]
    else:
        setup.append(f"{name} = [{', '.join(built(m) for m in models)}]")
    return [Optimizer(f"{name}[{i}]", (m,)) for i, m in enumerate(models)], name


def net(spell: Spelling) -> tuple[str, Tree]:
    """The class `Net`."""
    return (
        f"class Net({spell.nn}.Module):",
        [
            (
                "def __init__(self, width=6):",
                ["super().__init__()", f"self.hidden = {spell.nn}.Linear(4, width)", f"self.out = {spell.nn}.Linear(width, 4)"],
            ),
            ("def forward(self, x):", ["h = torch.tanh(self.hidden(x))", "return self.out(h)"]),
        ],
    )


class Data(NamedTuple):
    """A loop over batches `x`, `y`: statements before it, its header, and what stands first in it; `step` counts from 0."""

    before: Tree
    header: str
    first: Tree
    counted: bool


def data(c: Choices, classes: bool, name: str) -> Data:
    """`name` is a list of pairs."""
    target = "torch.randint(0, 4, (6,))" if classes else "torch.randn(6, 4)"
    return c.one(
        Data([], f"for x, y in {name}:", [], False),
        Data([], f"for step, (x, y) in enumerate({name}):", [], True),
        Data([], f"for step, batch in enumerate({name}):", ["x, y = batch"], True),
        Data([], f"for step in range(len({name})):", [f"x, y = {name}[step]"], True),
        Data([], "for step in range(4):", ["x = torch.randn(6, 4)", f"y = {target}"], True),
        Data(["step = -1"], f"for x, y in {name}:", ["step += 1"], True),
        Data(["step = -1"], "while step < 3:", ["step += 1", f"x, y = {name}[step]"], True),
        Data(["step = -1"], "while True:", ["step += 1", (f"if step >= len({name}):", ["break"]), f"x, y = {name}[step]"], True),
        Data(
            [f"batches = iter({name})"],
            "while True:",
            [("try:", ["x, y = next(batches)"]), ("except StopIteration:", ["break"])],
            False,
        ),
    )
