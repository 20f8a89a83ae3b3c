"""Refusals of who uses gradients besides an optimizer: by hand, in hooks, through a graph, between processes."""

from ampify.refusals.page import EXAMPLES, Page

UNSCALED = f"{EXAMPLES}: working with unscaled gradients"

PAGES = {
    "AMP902": Page(
        "`backward(create_graph=True)` leaves scaled gradients in `.grad` with a graph behind them; what is computed from "
        "them, and differentiated again, is off by the scale or by its square. `torch.autograd.grad` returns the "
        "gradients instead, so that they can be unscaled before they are part of a loss. torch.func has no place for a "
        "scale at all.",
        f"{EXAMPLES}: gradient penalty",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward(create_graph=True)
    penalty = sum(p.grad.square().sum() for p in model.parameters())
    penalty.backward()
    optimizer.step()
""",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    grads = torch.autograd.grad(loss, model.parameters(), create_graph=True)
    penalty = sum(g.square().sum() for g in grads)
    (loss + penalty).backward()
    optimizer.step()
""",
    ),
    "AMP903": Page(
        "The scaler unscales the gradients of optimizers. A parameter that is moved by hand would move by the scale times "
        "too much, 65536 times at the start, and nothing would skip the move where gradients overflow.",
        UNSCALED,
        """\
for x, y in data:
    model.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
""",
        """\
plain = optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    model.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    plain.step()
""",
    ),
    "AMP906": Page(
        "A hook runs in the middle of the backward pass, where gradients are scaled and often in half precision. A clamp, "
        "a noise or a log in it works on numbers that are 65536 times too large.",
        UNSCALED,
        """\
model.weight.register_hook(lambda grad: grad.clamp(-1, 1))
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    model.weight.grad.clamp_(-1, 1)
    optimizer.step()
""",
    ),
    "AMP908": Page(
        "Unscaling divides what comes out of the backward pass by what went in, which is right only if every backward is "
        "linear in the gradient that it receives. Round one that is not, a clamp or a sign, the scale is taken off "
        "(AMP231); but not where it asks for an overflow, which the scaler has to see, or changes what it was given.",
        UNSCALED,
        """\
class Tame(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return torch.nan_to_num(grad).clamp(-1, 1)

for x, y in data:
    optimizer.zero_grad()
    loss = criterion(Tame.apply(model(x)), y)
    loss.backward()
    optimizer.step()
""",
        """\
class Tame(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-1, 1)

for x, y in data:
    optimizer.zero_grad()
    loss = criterion(Tame.apply(model(x)), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP909": Page(
        "Gradients that accumulate are unscaled once, when all micro-batches have added theirs: after that a scaled "
        "gradient may not be added to them before the step. So they can be looked at right before the step only.",
        f"{EXAMPLES}: gradient accumulation",
        """\
for i, (x, y) in enumerate(data):
    loss = criterion(model(x), y) / 4
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if (i + 1) % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
""",
        """\
for i, (x, y) in enumerate(data):
    loss = criterion(model(x), y) / 4
    loss.backward()
    if (i + 1) % 4 == 0:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
""",
    ),
    "AMP915": Page(
        "Gradients are unscaled through the optimizer that owns them. One of an input, or of a parameter without an "
        "optimizer, stays scaled. `torch.autograd.grad` returns it without touching `.grad`, and is left unscaled.",
        UNSCALED,
        """\
for x, y in data:
    x.requires_grad_()
    loss = criterion(model(x), y)
    loss.backward()
    attacked = x + 0.1 * x.grad.sign()
    optimizer.zero_grad()
    loss = criterion(model(attacked.detach()), y)
    loss.backward()
    optimizer.step()
""",
        """\
for x, y in data:
    x.requires_grad_()
    loss = criterion(model(x), y)
    gradient = torch.autograd.grad(loss, x)[0]
    attacked = x + 0.1 * gradient.sign()
    optimizer.zero_grad()
    loss = criterion(model(attacked.detach()), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP917": Page(
        "Each process sees its own overflow. If it does not reach the others, some ranks step and some skip, and their "
        "parameters drift apart. A sum or a mean of all gradients carries it, and is converted; what else is exchanged may "
        "not. DistributedDataParallel exchanges them during the backward, before anyone looks.",
        f"{EXAMPLES}: DistributedDataParallel, one GPU per process",
        """\
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    for p in model.parameters():
        torch.distributed.all_reduce(p.grad, op=torch.distributed.ReduceOp.MAX)
    optimizer.step()
""",
        """\
parallel = nn.parallel.DistributedDataParallel(model)
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(parallel(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
}
