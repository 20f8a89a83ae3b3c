"""Findings of the objects: how the scaler is made, kept, saved and loaded, and what it is made for."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP309",
        "scaler-made-again",
        "warning",
        "{}: the scale starts over each time, and what it learned of overflows is lost",
        "make one scaler for the whole training, and hand it on",
        """Scaler made again: a new scaler in each epoch or batch

What it finds: a scaler made in the loop that steps an optimizer from outside of it, or in a function that trains one epoch or
batch of an optimizer that it is handed.

Why it matters: every new scaler begins at 65536. Steps are skipped again until it has come down to what the model bears, and
it never lives to grow: that takes 2000 steps.

Before:

    for epoch in range(10):
        scaler = torch.amp.GradScaler("cuda")
        for x, y in data:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for epoch in range(10):
        for x, y in data:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

Safety: shown. It moves a line, or adds a parameter.

Source: PyTorch's recipe of automatic mixed precision: "The same GradScaler instance should be used for the entire convergence
run."
""",
    ),
    Page(
        "AMP310",
        "scaler-not-saved",
        "warning",
        "{} is saved without the scaler's: a resumed run starts at the initial scale, and skips steps until that is down again",
        "save `scaler.state_dict()` beside it, and load it where the optimizer's is loaded",
        """Scaler not saved: a checkpoint that holds the optimizer's state and not the scaler's

What it finds: a state of an optimizer put into a checkpoint in a file that makes a scaler, and never takes that one's state.
Or in another file that is handed the optimizer, or hands it over, where no file in sight takes a scaler's state: then the line
is that of the scaler.

Why it matters: the scale belongs to the state of the training. A resumed run starts at 65536, skips steps until it has come
down to what the model bears, and does not go on as it would have.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")

Safety: safe where the dict is written out, the scaler is there for certain, and nobody goes through its keys. Else shown.

Source: PyTorch's recipe of automatic mixed precision, saving and resuming.
""",
        True,
    ),
    Page(
        "AMP311",
        "scaler-not-loaded",
        "warning",
        "{} is loaded, and the scaler's state, which is saved here, never is: a resumed run starts at the initial scale",
        "`scaler.load_state_dict(checkpoint['scaler'])`, if the checkpoint has it",
        """Scaler not loaded: a state that is saved and never loaded

What it finds: a file that saves a scaler's state, loads the optimizer's, and never loads a scaler's.

Why it matters: what was saved is of no use. The resumed run starts at 65536 and skips steps until it has come down again.

Before:

    scaler = torch.amp.GradScaler("cuda")
    checkpoint = torch.load("last.pt")
    optimizer.load_state_dict(checkpoint["optimizer"])
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")

After:

    scaler = torch.amp.GradScaler("cuda")
    checkpoint = torch.load("last.pt")
    optimizer.load_state_dict(checkpoint["optimizer"])
    scaler.load_state_dict(checkpoint["scaler"])
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")

Safety: shown. Whether older checkpoints have the key is the author's to know.

Source: PyTorch's recipe of automatic mixed precision, saving and resuming.
""",
    ),
    Page(
        "AMP312",
        "scaler-for-each-optimizer",
        "error",
        "{} divides gradients that another scaler multiplied: once the two scales part, every step is too large or too small",
        "one scaler for all optimizers whose gradients come from one loss",
        """A scaler for each optimizer: gradients scaled by one and unscaled by another

What it finds: a scaler that steps an optimizer and never scales a loss, while another one of the file does.

Why it matters: the gradients are true ones times the scale of the scaler that scaled the loss. The other divides by its own,
which is the same only until one of them meets an overflow, or grows, and the other does not.

Before:

    scaler_a = torch.amp.GradScaler("cuda")
    scaler_b = torch.amp.GradScaler("cuda")
    other = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler_a.scale(loss).backward()
        scaler_a.step(optimizer)
        scaler_a.update()
        scaler_b.step(other)
        scaler_b.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    other = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.step(other)
        scaler.update()

Safety: shown.

Source: PyTorch's notes, automatic mixed precision examples, several models, losses and optimizers.
""",
    ),
    Page(
        "AMP313",
        "scaler-with-bf16",
        "info",
        "{} scales losses of regions that are all in bfloat16, which has float32's range: it only costs a synchronization a step",
        "leave the scaler out, or `enabled=False`",
        """Scaler with bfloat16: loss scaling that nothing needs

What it finds: a scaler that is on, in a file all of whose regions say bfloat16.

Why it matters: bfloat16 has the exponents of float32, so gradients that float32 bears do not underflow. The scaler changes
nothing, but for a synchronization in each step, and steps skipped where the growing scale overflows at last.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    for x, y in data:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

Safety: shown, as information.

Source: PyTorch's notes on numerical accuracy; the reference of torch.amp, gradient scaling.
""",
    ),
    Page(
        "AMP314",
        "half-model-with-scaler",
        "error",
        "{} makes the parameters half: `unscale_` and `step` raise a ValueError, Attempting to unscale FP16 gradients",
        "keep the parameters in float32: autocast casts what gains from it",
        """Half model with a scaler: parameters in float16 under a scaler that wants float32 gradients

What it finds: `model.half()`, or `.to(torch.float16)`, of a model whose optimizer is stepped through the scaler.

Why it matters: gradients have the dtype of their parameters, and the scaler refuses to unscale float16 ones. Without it the
updates would be rounded to float16, where most of them are lost.

Before:

    model = nn.Linear(4, 2).cuda()
    model.half()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x.half()), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    model = nn.Linear(4, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. The forward pass needs a region then.

Source: torch/amp/grad_scaler.py, "Attempting to unscale FP16 gradients."
""",
    ),
    Page(
        "AMP315",
        "plain-scaler-with-fsdp",
        "error",
        "{} looks for overflows in one process's shards alone: some skip a step that others take, and their weights part",
        "`torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler`",
        """Plain scaler with FSDP: GradScaler where FullyShardedDataParallel splits the gradients

What it finds: a plain GradScaler in a file that wraps a model in FullyShardedDataParallel, and has no ShardedGradScaler.

Why it matters: each process has a part of the gradients, and the plain scaler asks only that one for inf and NaN. Where it is
in one shard alone, that process skips the step and lowers its scale, and the others do neither.

Before:

    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    model = FSDP(model)
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
    model = FSDP(model)
    scaler = ShardedGradScaler()
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. It brings an import. `fully_shard` (FSDP2) is right with the plain scaler.

Source: torch/distributed/fsdp/sharded_grad_scaler.py.
""",
    ),
)
