"""Refusals of how optimizers step: closures, spread steps, several optimizers, arguments, threads."""

from ampify.refusals.page import EXAMPLES, REFERENCE, Page

PAGES = {
    "AMP901": Page(
        "The optimizer evaluates the closure, perhaps several times in one step. The backward inside it has to be scaled, "
        "and its gradients unscaled before the optimizer reads them, so its code has to be in sight where the step is.",
        f"{REFERENCE}: GradScaler.step does not support closures; the runtime's does, for closures that go backward once",
        """\
def evaluate(x, y):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    return loss

for x, y in data:
    optimizer.step(lambda: evaluate(x, y))
""",
        """\
for x, y in data:
    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
""",
    ),
    "AMP904": Page(
        "Forward, backward, step and update belong together: the scale that a loss is multiplied by has to be divided out "
        "before its gradients are used, and may change once per step only. Where a part is out of sight nobody can tell "
        "whether it is.",
        f"{EXAMPLES}: typical mixed precision training",
        """\
def backward(loss):
    loss.backward()

for x, y in data:
    optimizer.zero_grad()
    backward(criterion(model(x), y))
    optimizer.step()
""",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP907": Page(
        "Each optimizer's gradients are unscaled in place, once. Of two that own the same parameter the second would "
        "divide its gradient by the scale again, and step with almost nothing.",
        f"{EXAMPLES}: unscale_ is called once per optimizer and step",
        """\
head = nn.Linear(4, 2)
both = optim.SGD([*model.parameters(), *head.parameters()], lr=0.01)
for x, y in data:
    optimizer.zero_grad()
    both.zero_grad()
    loss = criterion(model(x) + head(x), y)
    loss.backward()
    optimizer.step()
    both.step()
""",
        """\
head = nn.Linear(4, 2)
own = optim.SGD(head.parameters(), lr=0.01)
for x, y in data:
    optimizer.zero_grad()
    own.zero_grad()
    loss = criterion(model(x) + head(x), y)
    loss.backward()
    optimizer.step()
    own.step()
""",
    ),
    "AMP911": Page(
        "Whether autocast is on belongs to a thread, and the scaler of the process is not made for several at once. A "
        "training step in another thread would run in float32, while its steps and updates mix with those of the main "
        "thread.",
        f"{EXAMPLES}: autocast state is thread-local",
        """\
import threading

def train():
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

threading.Thread(target=train).start()
""",
        """\
def train():
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

train()
""",
    ),
    "AMP912": Page(
        "What a step takes besides a closure changes what it does in a way that only its optimizer knows: the scaler may "
        "skip the step, or unscale what the argument was computed from.",
        f"{REFERENCE}: GradScaler.step hands its arguments on, and is written for optimizers of torch.optim",
        """\
for i, (x, y) in enumerate(data):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step(i)
""",
        """\
for i, (x, y) in enumerate(data):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP913": Page(
        "Each optimizer that steps needs its own unscaling before its gradients are looked at, and all of one iteration "
        "share one update. That takes knowing which optimizers there are. A loop that steps every one of a list or dict, "
        "once, is known; a part of them, or gradients that are clipped before such a loop, is not.",
        f"{EXAMPLES}: working with multiple models, losses, and optimizers",
        """\
a, b = nn.Linear(4, 2), nn.Linear(4, 2)
optimizers = [optim.SGD(a.parameters(), lr=0.1), optim.SGD(b.parameters(), lr=0.1)]
for x, y in data:
    for each in optimizers:
        each.zero_grad()
    loss = criterion(a(x) + b(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(a.parameters(), 1.0)
    for each in optimizers:
        each.step()
""",
        """\
a, b = nn.Linear(4, 2), nn.Linear(4, 2)
first, second = optim.SGD(a.parameters(), lr=0.1), optim.SGD(b.parameters(), lr=0.1)
for x, y in data:
    for each in (first, second):
        each.zero_grad()
    loss = criterion(a(x) + b(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(a.parameters(), 1.0)
    for each in (first, second):
        each.step()
""",
    ),
    "AMP916": Page(
        "The scale may change after every step. Gradients that were left from one step, and those of the next backward, "
        "would be multiplied by different scales, and their sum can no longer be unscaled.",
        f"{EXAMPLES}: gradient accumulation, where the scale has to stay the same within an effective batch",
        """\
for x, y in data:
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP921": Page(
        "On every path each optimizer is unscaled at most once, before its gradients are looked at, steps at most once, "
        "and one update follows before the next unscaling. Here each place for them breaks that on some path.",
        f"{REFERENCE}: GradScaler.unscale_ and GradScaler.step, once per update",
        """\
for i, (x, y) in enumerate(data):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    i % 3 and optimizer.step()
    if i % 2:
        optimizer.step()
""",
        """\
for i, (x, y) in enumerate(data):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    if i % 2 or i % 3:
        optimizer.step()
""",
    ),
}
