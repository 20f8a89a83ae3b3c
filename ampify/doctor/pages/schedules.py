"""Findings of schedules: whether they move on where a step was skipped."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP316",
        "schedule-gated-wrongly",
        "warning",
        "{} asks for the wrong thing: the schedule {}",
        "step it unless the scale fell: `if scaler.get_scale() >= scale: scheduler.step()`, `scale` being from before `update()`",
        """Schedule gated wrongly: a condition on the scale that holds for the wrong steps

What it finds: a schedule stepped under a comparison of the scale before and after `update()` that holds where the step was
skipped, or that asks whether both are equal.

Why it matters: the scale falls where a step was skipped, and grows after 2000 good ones. The wrong way round the schedule
moves only when nothing was learned; with `==` it also stands still when the scale grows.

Before:

    scaler = torch.amp.GradScaler("cuda")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        if scaler.get_scale() < scale:
            scheduler.step()

After:

    scaler = torch.amp.GradScaler("cuda")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        if scaler.get_scale() >= scale:
            scheduler.step()

Safety: shown.

Source: torch/amp/grad_scaler.py, update.
""",
    ),
    Page(
        "AMP317",
        "schedule-not-gated",
        "info",
        "{} moves on also in batches whose step was skipped for an overflow: a schedule runs ahead of the optimizer",
        "`if scaler.get_scale() >= scale: scheduler.step()`, with `scale` from before `update()`, if it matters",
        """Schedule not gated: a schedule that is stepped in every batch, whether the optimizer was or not

What it finds: a schedule's step beside `scaler.step` in the loop over batches, in a function that never asks for the scale.

Why it matters: little. The first steps are skipped until the scale has come down, and the schedule counts them. PyTorch warns of
a schedule stepped before the optimizer where the very first one is; its own notes do not gate.

Before:

    scaler = torch.amp.GradScaler("cuda")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()

After:

    scaler = torch.amp.GradScaler("cuda")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        if scaler.get_scale() >= scale:
            scheduler.step()

Safety: shown, as information.

Source: torch/optim/lr_scheduler.py, the warning of a step before the optimizer's.
""",
    ),
)
