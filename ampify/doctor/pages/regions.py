"""Findings of the regions: what runs under autocast and should not, and what autocast is asked for."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP321",
        "no-scaler",
        "warning",
        "{} goes backward from a float16 loss that is not scaled: gradients below 6e-8 are 0, and the optimizer never sees them",
        "scale the loss: `scaler.scale(loss).backward()`, `scaler.step(optimizer)`, `scaler.update()`; or use bfloat16",
        """No scaler: float16 without loss scaling

What it finds: a loss computed under autocast to float16 on CUDA, a plain backward and a plain step, in a file that scales no
loss.

Why it matters: the gradients of activations are float16 where the forward was. What is smaller than 6e-8 becomes 0, what is
below 6e-5 loses digits: layers far from the loss learn slowly or not at all, and nothing raises.

Before:

    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. It changes what is trained.

Source: the reference of torch.amp, gradient scaling.
""",
    ),
    Page(
        "AMP322",
        "training-in-region",
        "warning",
        "{} runs under autocast: what it computes besides, in hooks, custom functions and the optimizer, is cast too",
        "end the region after the loss",
        """Training in a region: a backward pass or a step under autocast

What it finds: a backward pass, or an optimizer's step, inside a `with autocast(...)` or a function that is decorated with it.

Why it matters: backward runs the operators in the dtypes that forward chose, so a region is of no use to it, and PyTorch
advises against one. What else runs there is cast too: custom functions, hooks, an optimizer's own products.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. It moves a line.

Source: the reference of torch.autocast: "Backward passes under autocast are not recommended."
""",
    ),
    Page(
        "AMP323",
        "stale-weights",
        "error",
        "{} in a region that goes on to the next forward pass, which reads the copies of the old weights: training stands still",
        "open a region for each forward pass, and end it before the step",
        """Stale weights: steps of the optimizer inside one region

What it finds: a loop with forward pass and optimizer's step, all of it inside one autocast region.

Why it matters: autocast keeps the half copies of the weights until the outermost region ends. The step changes the weights,
and the next forward pass uses the copies of the old ones: the loss of the same batch never changes, and nothing raises.

Before:

    with torch.autocast("cuda", dtype=torch.bfloat16):
        for x, y in data:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

After:

    for x, y in data:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

Safety: shown. It moves the region.

Source: torch/amp/autocast_mode.py, cache_enabled.
""",
    ),
    Page(
        "AMP324",
        "region-entered-again",
        "error",
        "{} is entered again inside itself, and autocast stays on after it, for all that follows",
        "make a context for each region: `with torch.autocast(...)`",
        """Region entered again: one context object inside itself

What it finds: `with ctx:` inside another `with ctx:` of the same object.

Why it matters: the object keeps in mind what was before it once. The inner `with` overwrites that, so the outer one restores
autocast to on: all that follows in this thread runs under it.

Before:

    ctx = torch.autocast("cuda", dtype=torch.bfloat16)
    with ctx:
        with ctx:
            loss = model(torch.ones(2, 4)).sum()

After:

    ctx = torch.autocast("cuda", dtype=torch.bfloat16)
    with ctx:
        loss = model(torch.ones(2, 4)).sum()

Safety: shown.

Source: torch/amp/autocast_mode.py, __enter__ and __exit__.
""",
    ),
    Page(
        "AMP325",
        "device-with-index",
        "warning",
        "{} is a device and no device type: torch does not look whether it is there, and mixed precision stays on without it",
        'the type alone: "cuda"; autocast holds for all devices of it',
        """Device with an index: "cuda:0" where a device type is wanted

What it finds: a device with an index as the device type of `torch.autocast` or `torch.amp.GradScaler`.

Why it matters: only "cuda" itself is looked at. On a machine without CUDA the region and the scaler stay on instead of
warning and switching off. The index has no effect.

Before:

    with torch.autocast("cuda:0", dtype=torch.float16):
        output = model(torch.ones(2, 4))

After:

    with torch.autocast("cuda", dtype=torch.float16):
        output = model(torch.ones(2, 4))

Safety: shown.

Source: torch/amp/autocast_mode.py and grad_scaler.py.
""",
    ),
    Page(
        "AMP326",
        "custom-fwd-without-device",
        "error",
        "{} of torch.amp without `device_type` raises a TypeError as soon as the class is made",
        '`@torch.amp.custom_fwd(device_type="cuda")`',
        """custom_fwd without device_type

What it finds: `torch.amp.custom_fwd` or `custom_bwd` as a bare decorator, or called without `device_type`.

Why it matters: those of torch.cuda.amp need no argument; those of torch.amp do, and raise without one.

Before:

    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd
        def forward(ctx, x):
            return x * 2

After:

    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda")
        def forward(ctx, x):
            return x * 2

Safety: shown. The device type is the author's to choose.

Source: torch/amp/autocast_mode.py.
""",
    ),
    Page(
        "AMP334",
        "evaluation-in-float32",
        "info",
        "{} runs in float32, and the training in mixed precision: it is slower and takes more memory than it has to",
        "a region round the forward pass",
        """Evaluation in float32: a model that is trained under autocast and evaluated without

What it finds: a model that is called without gradients and outside of all regions, in a file that calls one under autocast to
train it.

Why it matters: it is right, and half as fast. What the evaluation measures is another arithmetic than what was trained; mostly
that is of no account.

Before:

    def validate():
        with torch.no_grad():
            return sum(criterion(model(x), y).item() for x, y in data)

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    validate()

After:

    def validate():
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.float16):
            return sum(criterion(model(x), y).item() for x, y in data)

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    validate()

Safety: shown, as information. It changes what the evaluation computes.

Source: PyTorch's recipe of automatic mixed precision, inference and evaluation.
""",
    ),
    Page(
        "AMP335",
        "work-in-region",
        "info",
        "{} runs under autocast, and is no part of the forward pass or the loss: what it multiplies is cast to half",
        "end the region after the loss",
        """Work in a region: metrics, logging or communication under autocast

What it finds: below the call of a model in a region of a training step: a block without gradients, communication between
processes, something that prints or logs.

Why it matters: mostly it is of no account. But a metric that multiplies matrices has half's digits, and a reader takes what
stands there for a part of the loss.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
            print(loss.item())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = criterion(model(x), y)
        print(loss.item())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown, as information.

Source: the reference of torch.autocast: it "should wrap only the forward pass(es) of your network, including the loss
computation(s)."
""",
    ),
)
