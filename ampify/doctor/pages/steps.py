"""Findings of the step: what is done to gradients between a backward pass and the optimizer."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP301",
        "read-before-unscale",
        "error",
        "{} sees gradients times the loss scale, 65536 at first: clipped so, they leave the optimizer a tiny part of its step",
        "unscale them before: `scaler.unscale_(optimizer)`, once a step, for each optimizer that owns them",
        """Gradients read before unscale_: clipped, measured or changed while they are scaled

What it finds: a clip, a norm or another look at gradients that a scaled backward made, before `unscale_`, on every path.

Why it matters: they are the true gradients times the loss scale. A norm of 2 is then one of 131072, so a clip at 1.0 divides
by 131072, and the step divides by the scale once more: the optimizer gets steps thousands of times too small, and nothing
raises.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

Safety: safe. With a power of two as the scale the mended script trains as the float32 one, bit by bit. Only shown where it is
not sure whose the gradients are, that there is a scaler, or that they are looked at once a step.

Source: PyTorch's notes, automatic mixed precision examples, gradient clipping.
""",
        True,
    ),
    Page(
        "AMP302",
        "unscaled-twice",
        "error",
        "gradients of {} are unscaled again before the next update, which raises a RuntimeError",
        "call `unscale_` once for each optimizer and step",
        """Unscaled twice: unscale_ again before the next update

What it finds: `scaler.unscale_(optimizer)` behind another one, or behind the step, with no `update()` between.

Why it matters: the scaler keeps in mind whose gradients it has unscaled, and raises: `unscale_() has already been called on
this optimizer since the last update()`.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

Safety: shown. Which of the two is meant is the author's to say.

Source: torch/amp/grad_scaler.py.
""",
    ),
    Page(
        "AMP303",
        "no-update",
        "error",
        "{} is never updated: its second step raises a RuntimeError, and the scale could not fall after an overflow",
        "call `scaler.update()` after the last `scaler.step(...)` of each step",
        """No update: a scaler that is stepped through and never updated

What it finds: a scaler that the file makes and steps an optimizer through, and that nothing updates; not one that is handed
on.

Why it matters: `update()` resets what the scaler knows of the step, and moves the scale. Without it the next step raises:
`step() has already been called since the last update()`.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: safe where the file has one step through the scaler, in a line of its own. Else shown.

Source: torch/amp/grad_scaler.py.
""",
        True,
    ),
    Page(
        "AMP304",
        "update-misplaced",
        "error",
        "the scale is updated in the wrong place: {}",
        "call `scaler.update()` once, after the last `scaler.step(...)` of a step, under the same condition",
        """Update misplaced: an update without a step, a step without one, or one between two steps of the same gradients

What it finds: `update()` with nothing stepped since the last one, as outside of the `if` that steps; a second step before it;
an update between the steps of two optimizers that share a backward.

Why it matters: with nothing stepped it raises `No inf checks were recorded prior to update`; a second step raises too.
Between two steps it changes the scale, and the second optimizer's gradients are divided by another scale than their loss was
multiplied by: they come out halved or doubled.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for i, (x, y) in enumerate(data):
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        if (i + 1) % 4 == 0:
            scaler.step(optimizer)
            optimizer.zero_grad()
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for i, (x, y) in enumerate(data):
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        if (i + 1) % 4 == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

Safety: shown. It moves a line of the author's.

Source: PyTorch's notes, automatic mixed precision examples, gradient accumulation, and several models, losses and optimizers.
""",
    ),
    Page(
        "AMP305",
        "step-without-scaler",
        "error",
        "{} steps {}",
        "`scaler.step(optimizer)`, and `scaler.update()` after it",
        """Step without the scaler: an optimizer's own step on scaled gradients

What it finds: `optimizer.step()` after a backward pass of a scaled loss, on every path: with no `unscale_` between, or with one
and no look for inf and NaN.

Why it matters: it takes the gradients as they are. SGD diverges at once. Adam divides by their size and hides it, until
weight decay, eps or a clip matter. Unscaled or not, no step is left out on an overflow, and one such step ruins the weights.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        optimizer.step()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: safe: with a power of two as the scale bit by bit. Only shown where it is one of several steps, or the scaler
another's.

Source: PyTorch's notes, automatic mixed precision examples, typical mixed precision training.
""",
        True,
    ),
    Page(
        "AMP306",
        "backward-not-scaled",
        "error",
        "{} goes backward from an unscaled loss: {}",
        "`scaler.scale(loss).backward()`",
        """Backward not scaled: gradients that the scaler divides, and that nobody multiplied

What it finds: `scaler.step` or `scaler.unscale_` on gradients of a backward pass that was not scaled, or one of several that
was not.

Why it matters: the scaler divides whatever it finds in `.grad`, and raises if it never scaled anything. The optimizer gets
1/65536 of these gradients at first; of two losses only the scaled one counts.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: safe where it is the only backward of the step: with a power of two as the scale bit by bit. Else shown.

Source: PyTorch's notes, automatic mixed precision examples, typical mixed precision training.
""",
        True,
    ),
    Page(
        "AMP307",
        "closure-through-scaler",
        "error",
        "{} evaluates a closure, whose gradients the scaler neither unscales nor looks at: the optimizer gets them scaled",
        "step without a closure, or keep such an optimizer in float32",
        """Closure through the scaler: scaler.step(optimizer, closure)

What it finds: a scaler of torch's whose `step` is handed a closure.

Why it matters: by keyword it raises. By position it goes through unseen: the scaler unscales the gradients that are there and
looks for overflows, and then the optimizer evaluates the closure, which makes new ones that nobody unscales or looks at.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        def closure():
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            return loss
        scaler.step(optimizer, closure)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. LBFGS and its like need the closure.

Source: torch/amp/grad_scaler.py, which says that closures are not supported.
""",
    ),
    Page(
        "AMP308",
        "scaled-loss-used",
        "warning",
        "{} takes the loss after it was scaled: what is logged or added up is 65536 times too large at first",
        "give the scaled loss a name of its own, or `scaler.scale(loss).backward()`",
        """Scaled loss used: a loss that is logged after it was given its scaled value

What it finds: `loss = scaler.scale(loss)`, and a use of `loss` behind it that is no backward pass.

Why it matters: the name now means the scaled value. Logs, meters, early stopping and the best checkpoint go by a number that
is 65536 times too large and jumps whenever the scale moves.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss = scaler.scale(loss)
        loss.backward()
        scaler.step(optimizer)
        scaler.update()
        print(loss.item())

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        print(loss.item())

Safety: shown. It changes what is logged.

Source: torch/amp/grad_scaler.py, scale.
""",
    ),
)
