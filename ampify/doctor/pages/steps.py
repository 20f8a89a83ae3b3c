"""Findings of the step: what is done to gradients between a backward pass and the optimizer."""

from ampify.doctor.base import Page

EXAMPLES = "the notes on automatic mixed precision examples of PyTorch"
CODE = "torch/amp/grad_scaler.py of PyTorch"

PAGES = (
    Page(
        "AMP301",
        "read-before-unscale",
        "error",
        "{} sees gradients times the loss scale, 65536 at first: a clip leaves the optimizer a tiny part of its step, a norm is wrong",
        "unscale them before: `scaler.unscale_(optimizer)`, once a step, for each optimizer that owns them",
        "gradients that a scaled backward made are clipped, measured or changed before `unscale_`.",
        "they are the true ones times the loss scale. A norm of 2 is one of 131072, so a clip at 1.0 cuts every step to 1/131072, and "
        "unscaling then divides once more: the optimizer gets steps that are thousands of times too small, without an error.",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    with torch.autocast('cuda', torch.float16):\n"
        "        loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    with torch.autocast('cuda', torch.float16):\n"
        "        loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.unscale_(optimizer)\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "safe. With a power of two as the scale the mended script trains as the float32 one, bit by bit. It is only shown where the "
        "optimizer that owns the gradients is not in sight, or they are looked at in each micro-batch of an accumulation.",
        EXAMPLES + ", on gradient clipping",
        mended=True,
    ),
    Page(
        "AMP302",
        "unscaled-twice",
        "error",
        "gradients of {} are unscaled twice between two updates, which raises a RuntimeError",
        "call `unscale_` once for each optimizer and step",
        "`scaler.unscale_(optimizer)` after another one, or after the step, with no `update()` between.",
        "the scaler keeps in mind whose gradients it has unscaled, and raises: unscale_() has already been called on this optimizer "
        "since the last update(). In an accumulation it does so in the second micro-batch.",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.unscale_(optimizer)\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    scaler.unscale_(optimizer)\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.unscale_(optimizer)\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "shown: which of the two is meant is the author's to say.",
        CODE,
    ),
    Page(
        "AMP303",
        "no-update",
        "error",
        "{} is stepped through and never updated: the second step raises, and the scale could never fall after an overflow",
        "call `scaler.update()` after the last `scaler.step(...)` of each step",
        "a scaler made in the file that steps an optimizer, and that nothing updates or hands on.",
        "`update()` resets what the scaler knows of the step, and moves the scale. Without it the next `step` raises: step() has "
        "already been called since the last update().",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(optimizer)\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "safe where one step of one optimizer is in sight; else shown.",
        CODE,
        mended=True,
    ),
    Page(
        "AMP304",
        "update-misplaced",
        "error",
        "the scale is updated in the wrong place: {}",
        "call `scaler.update()` once, after the last `scaler.step(...)` of a step and under the same condition",
        "`update()` with nothing stepped, a second step before it, or an update between the steps of two optimizers that share "
        "a backward.",
        "with no step since the last one `update()` raises: No inf checks were recorded prior to update. A second step before it raises too. "
        "Between two optimizers' steps it changes the scale, and the second one's gradients are divided by another scale than their "
        "loss was multiplied by: they are halved or doubled.",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for i, (x, y) in enumerate(data):\n"
        "    loss = criterion(model(x), y)\n"
        "    scaler.scale(loss).backward()\n"
        "    if (i + 1) % 4 == 0:\n"
        "        scaler.step(optimizer)\n"
        "        optimizer.zero_grad()\n"
        "    scaler.update()\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for i, (x, y) in enumerate(data):\n"
        "    loss = criterion(model(x), y)\n"
        "    scaler.scale(loss).backward()\n"
        "    if (i + 1) % 4 == 0:\n"
        "        scaler.step(optimizer)\n"
        "        scaler.update()\n"
        "        optimizer.zero_grad()\n",
        "shown: it moves a line of the author's.",
        EXAMPLES + ", on gradient accumulation and on several models, losses and optimizers",
    ),
    Page(
        "AMP305",
        "step-without-scaler",
        "error",
        "{} steps on gradients that are still scaled: each is 65536 times too large at first, and inf or NaN is stepped on",
        "`scaler.step(optimizer)`, and `scaler.update()` after it",
        "the optimizer's own `step()` after a backward pass of a scaled loss, with no `unscale_` between.",
        "it takes the gradients as they are, times the loss scale. SGD diverges at once; Adam hides it, as it divides by their size, until "
        "weight decay or eps matter; and no step is left out on an overflow.",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    optimizer.step()\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "safe, with a power of two as the scale bit by bit. It is only shown where the step is one of several.",
        EXAMPLES + ", on typical mixed precision training",
        mended=True,
    ),
    Page(
        "AMP306",
        "backward-not-scaled",
        "error",
        "{} goes backward from a loss that is not scaled, and the scaler divides these gradients by the loss scale all the same",
        "`scaler.scale(loss).backward()`",
        "`scaler.step` or `scaler.unscale_` on gradients of a backward pass that was not scaled, or one of several that was not.",
        "the scaler divides by the scale whatever it finds in `.grad`: the optimizer gets 1/65536 of those gradients at first, and of "
        "two losses only the scaled one counts.",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    loss.backward()\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "scaler = torch.amp.GradScaler('cuda')\n"
        "for x, y in data:\n"
        "    loss = criterion(model(x), y)\n"
        "    optimizer.zero_grad()\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(optimizer)\n"
        "    scaler.update()\n",
        "safe where one backward is in sight, with a power of two as the scale bit by bit; else shown.",
        EXAMPLES + ", on typical mixed precision training",
        mended=True,
    ),
)
