"""Findings of graphs: gradients that are differentiated again."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP332",
        "penalty-of-scaled-gradients",
        "error",
        "{} gives gradients times the loss scale, 65536 at first, and they are differentiated again with it in them",
        "divide them by `scaler.get_scale()` first, outside of autocast",
        """Penalty of scaled gradients: a loss made of gradients that have the loss scale in them

What it finds: `torch.autograd.grad(scaler.scale(loss), ..., create_graph=True)` whose gradients are measured as they are; and
`scaler.scale(loss).backward(create_graph=True)` whose `.grad` is differentiated again. Where the function asks for the scale,
nothing.

Why it matters: the penalty is of gradients 65536 times too large, and changes with the scale: it is all that is trained, where
it does not overflow. `unscale_` is of no help: it divides the values in place, and not the graph.

Before:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        grads = torch.autograd.grad(scaler.scale(loss), model.parameters(), create_graph=True)
        penalty = sum(g.pow(2).sum() for g in grads).sqrt()
        optimizer.zero_grad()
        scaler.scale(loss + penalty).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        grads = torch.autograd.grad(scaler.scale(loss), model.parameters(), create_graph=True)
        grads = [g / scaler.get_scale() for g in grads]
        penalty = sum(g.pow(2).sum() for g in grads).sqrt()
        optimizer.zero_grad()
        scaler.scale(loss + penalty).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown.

Source: PyTorch's notes, automatic mixed precision examples, gradient penalty.
""",
    ),
)
