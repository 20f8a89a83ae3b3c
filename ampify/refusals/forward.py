"""Refusals of what would run under autocast: losses, precision, generators, sharded models, custom functions."""

from ampify.refusals.page import EXAMPLES, REFERENCE, Page

PAGES = {
    "AMP905": Page(
        "A sigmoid in half precision rounds to 0 and 1, where the logarithm of the loss is infinite: torch forbids binary "
        "cross entropy under autocast. Where the sigmoid and the loss are both in sight they are kept in float32; here "
        "one is not.",
        f"{REFERENCE}: prefer binary_cross_entropy_with_logits over binary_cross_entropy",
        """\
from models import Discriminator

judge, bce = Discriminator(), nn.BCELoss()
optimizer = optim.SGD(judge.parameters(), lr=0.1)
for x, y in data:
    optimizer.zero_grad()
    loss = bce(judge(x), y)
    loss.backward()
    optimizer.step()
""",
        """\
from models import DiscriminatorOfLogits

judge, bce = DiscriminatorOfLogits(), nn.BCEWithLogitsLoss()
optimizer = optim.SGD(judge.parameters(), lr=0.1)
for x, y in data:
    optimizer.zero_grad()
    loss = bce(judge(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP910": Page(
        "Each rank of FullyShardedDataParallel holds a part of the gradients, so one may overflow where another does not. "
        "The scaler asks all ranks, which works for a model that is sharded over all of them, with its gradients on the "
        "device.",
        "torch.distributed.fsdp.sharded_grad_scaler, ShardedGradScaler",
        """\
from torch.distributed.fsdp import CPUOffload
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

sharded = FSDP(model, cpu_offload=CPUOffload(offload_params=True))
optimizer = optim.SGD(sharded.parameters(), lr=0.1)
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(sharded(x), y)
    loss.backward()
    optimizer.step()
""",
        """\
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

sharded = FSDP(model)
optimizer = optim.SGD(sharded.parameters(), lr=0.1)
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(sharded(x), y)
    loss.backward()
    optimizer.step()
""",
    ),
    "AMP914": Page(
        "Forward and loss run under autocast, the backward outside of it. Where one expression holds both there is no "
        "place for the region to end.",
        f"{REFERENCE}: backward passes under autocast are not recommended",
        """\
for x, y in data:
    optimizer.zero_grad()
    criterion(model(x), y).backward()
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
    "AMP918": Page(
        "Mixed precision keeps the parameters in float32 and casts per operation. Parameters that are in half precision "
        "lose small updates to rounding, and the scaler does not unscale half gradients.",
        f"{REFERENCE}: do not call half() or bfloat16() on a model that runs under autocast",
        """\
model.half()
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
    optimizer.step()
""",
    ),
    "AMP919": Page(
        "Autocast stays on while a generator or coroutine waits in the middle of a region, for whoever runs meanwhile: "
        "its optimizer steps and evaluations too.",
        "autocast is a context manager over the state of the thread (torch.amp)",
        """\
def train():
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model((yield x)), y)
        loss.backward()
        optimizer.step()
""",
        """\
def train():
    for x, y in data:
        optimizer.zero_grad()
        sent = yield x
        loss = criterion(model(sent), y)
        loss.backward()
        optimizer.step()
""",
    ),
    "AMP924": Page(
        "The backward of a custom autograd.Function runs without autocast, on what its forward saved. One with "
        "`setup_context` cannot be decorated with custom_fwd and custom_bwd, so its `apply` is kept in float32, which "
        "takes a simple statement.",
        f"{EXAMPLES}: functions with multiple inputs or autocastable ops",
        """\
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(x, weight):
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.T, x.T @ grad

for x, y in data:
    optimizer.zero_grad()
    hidden = model(x)
    if Scaled.apply(hidden, model.weight).sum() > 0:
        hidden = hidden * 2
    loss = criterion(hidden, y)
    loss.backward()
    optimizer.step()
""",
        """\
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(x, weight):
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight.T, x.T @ grad

for x, y in data:
    optimizer.zero_grad()
    hidden = model(x)
    product = Scaled.apply(hidden, model.weight)
    if product.sum() > 0:
        hidden = hidden * 2
    loss = criterion(hidden, y)
    loss.backward()
    optimizer.step()
""",
    ),
}
