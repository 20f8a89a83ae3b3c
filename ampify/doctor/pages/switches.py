"""Findings of what mixed precision depends on: options, versions, and checkpoints of runs without it."""

from ampify.doctor.base import Page

PAGES = (
    Page(
        "AMP327",
        "option-always-true",
        "warning",
        "{} is true whatever is given for it: with `False` too there is mixed precision",
        '`action="store_true"`, or `action=argparse.BooleanOptionalAction`',
        """Option always true: mixed precision that the command line cannot switch off

What it finds: an option of argparse with `type=bool`, or with a bool for its default and neither a type nor an action, whose
value decides whether there is a scaler or a region.

Why it matters: what is given on a command line is a text, and `bool("False")` is true, as any text is that is not empty.
`--amp False` trains in mixed precision, and nobody is told.

Before:

    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--amp", default=False, type=bool)
    args = parser.parse_args([])
    scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16, enabled=args.amp):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--amp", action="store_true")
    args = parser.parse_args([])
    scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16, enabled=args.amp):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown. It changes what is typed on the command line.

Source: the reference of argparse, type: "The bool() function is not recommended as a type converter."
""",
    ),
    Page(
        "AMP328",
        "scaler-state-missing",
        "warning",
        "{} raises a KeyError for a checkpoint of a run without mixed precision, which is saved without {}",
        'load it only if the checkpoint has it: `if "scaler" in checkpoint:`',
        """Scaler's state missing: a load that no checkpoint of a float32 run bears

What it finds: `scaler.load_state_dict(checkpoint["scaler"])` where the key is saved under a condition only, and nobody asks
whether the checkpoint has it, or catches the error.

Why it matters: the condition is about this run, and the checkpoint is of another. One that was written without mixed
precision has no such key, and the run that is to go on with it raises.

Before:

    args = type("Args", (), {"amp": True, "resume": "last.pt"})
    scaler = torch.amp.GradScaler("cuda") if args.amp else None
    if args.resume:
        checkpoint = torch.load(args.resume)
        optimizer.load_state_dict(checkpoint["optimizer"])
        if args.amp:
            scaler.load_state_dict(checkpoint["scaler"])
    state = {"optimizer": optimizer.state_dict()}
    if args.amp:
        state["scaler"] = scaler.state_dict()
    torch.save(state, "last.pt")

After:

    args = type("Args", (), {"amp": True, "resume": "last.pt"})
    scaler = torch.amp.GradScaler("cuda") if args.amp else None
    if args.resume:
        checkpoint = torch.load(args.resume)
        optimizer.load_state_dict(checkpoint["optimizer"])
        if args.amp and "scaler" in checkpoint:
            scaler.load_state_dict(checkpoint["scaler"])
    state = {"optimizer": optimizer.state_dict()}
    if args.amp:
        state["scaler"] = scaler.state_dict()
    torch.save(state, "last.pt")

Safety: shown.

Source: PyTorch's recipe of automatic mixed precision: "If created from a run without Amp, and you want to resume training with
Amp, ... the checkpoint won't contain a saved scaler state, so use a fresh instance of GradScaler."
""",
    ),
    Page(
        "AMP329",
        "scaler-state-empty",
        "info",
        "{} raises for a checkpoint of before, or of a run with the scaler off: its state is empty",
        'load it only if there is one: `if checkpoint.get("scaler"):`',
        """Scaler's state empty: a load that no checkpoint of a run with the scaler off bears

What it finds: a scaler that an argument switches off, whose state is saved in all runs, and loaded with no look at it.

Why it matters: a scaler that is off saves an empty state, and one that is on raises a RuntimeError when it is to load that. So
a run without mixed precision cannot be resumed with it; nor can one of before the scaler was saved, for want of the key.

Before:

    class Trainer:
        def __init__(self, amp):
            self.scaler = torch.amp.GradScaler("cuda", enabled=amp)

        def save(self):
            torch.save({"optimizer": optimizer.state_dict(), "scaler": self.scaler.state_dict()}, "last.pt")

        def load(self):
            state = torch.load("last.pt")
            optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])

After:

    class Trainer:
        def __init__(self, amp):
            self.scaler = torch.amp.GradScaler("cuda", enabled=amp)

        def save(self):
            torch.save({"optimizer": optimizer.state_dict(), "scaler": self.scaler.state_dict()}, "last.pt")

        def load(self):
            state = torch.load("last.pt")
            optimizer.load_state_dict(state["optimizer"])
            if state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])

Safety: shown, as information: nothing is wrong until a run changes its precision.

Source: torch/amp/grad_scaler.py, "The source state dict is empty, possibly because it was saved from a disabled instance of
GradScaler."
""",
    ),
    Page(
        "AMP330",
        "scaler-not-there",
        "warning",
        "{} is used where there may be no scaler: {}",
        "`GradScaler(enabled=...)` in all runs, in a line above all uses; it does nothing where it is off",
        """Scaler not there: uses before it is made, or in runs that make none

What it finds: a scaler that is used above the line that makes it; or that is made under a condition about mixed precision, and
used outside of any: unbound, or None, where that does not hold.

Why it matters: the run raises: with mixed precision off, as nobody tried it any more, or where it resumes.

Before:

    args = type("Args", (), {"amp": True})
    if args.amp:
        scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16, enabled=args.amp):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    args = type("Args", (), {"amp": True})
    scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
    for x, y in data:
        with torch.autocast("cuda", dtype=torch.float16, enabled=args.amp):
            loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown.

Source: the reference of torch.amp.GradScaler, `enabled`: "If False, disables gradient scaling."
""",
    ),
    Page(
        "AMP331",
        "version-as-text",
        "warning",
        "{} compares torch's version as a text, which is wrong for {}",
        "compare `torch.__version__` itself, which is no plain text from 1.10 on, or `tuple(map(int, ...))`",
        """Version as text: a comparison that takes a new torch for an old one

What it finds: a text of torch's version that is compared with another, where the answer is wrong for a release from 1.6 on,
and decides whether there is mixed precision, or raises; also in a script that imports the file.

Why it matters: texts are compared letter by letter, and "1.10" stands before "1.6". `torch.__version__` itself compares as a
version does, but a part of it, or `torch.version.__version__`, is a plain text.

Before:

    if torch.__version__[:5] < "1.6.0":
        raise EnvironmentError("torch 1.6.0 or above is needed")
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    if torch.__version__ < "1.6.0":
        raise EnvironmentError("torch 1.6.0 or above is needed")
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown.

Source: torch/torch_version.py, TorchVersion.
""",
    ),
    Page(
        "AMP333",
        "scaler-made-after-load",
        "warning",
        "{} is made again: the state that it got in line {} is lost, and the resumed run starts at the initial scale",
        "load the state into the scaler that trains, below the line that makes it",
        """Scaler made after the load: a state that is loaded into a scaler which nobody uses

What it finds: a scaler that is made, loaded, and made again in one function before anything is scaled.

Why it matters: the scale and its growth are in the object that is thrown away. The resumed run starts at 65536, and skips steps
until that has come down again.

Before:

    scaler = torch.amp.GradScaler("cuda")
    scaler.load_state_dict(torch.load("scaler.pt"))
    scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

After:

    scaler = torch.amp.GradScaler("cuda")
    scaler.load_state_dict(torch.load("scaler.pt"))
    for x, y in data:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Safety: shown.

Source: PyTorch's recipe of automatic mixed precision, saving and resuming.
""",
    ),
)
