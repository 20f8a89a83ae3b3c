"""Refusals of a file as a whole: its formatting, its depth, the runtime that was asked for, and other files."""

from ampify.refusals.page import REFERENCE, Page

PAGES = {
    "AMP920": Page(
        "All lines that are not edited have to come out byte for byte. Where a file's line ends are mixed, or its white "
        "space is lost by the parser that writes it, they would not.",
        "ampify's own promise: nothing but the edits changes",
        instead="no change of the code does; saving the file with one kind of line end does, and without white space at its end",
    ),
    "AMP922": Page(
        "Python's own parser reads the file, but going through expressions or blocks within one another takes more depth "
        "than there is.",
        "Python's limit of recursion",
        instead="an expression of hundreds of operators in a row, taken apart into a few statements, is read",
    ),
    "AMP923": Page(
        "Plain torch.amp has no closures, no schedules that hold still, no gradients that are part of a loss, and raises "
        "where an optimizer steps without gradients. What needs that is not written with `--runtime torch`.",
        f"{REFERENCE}: GradScaler",
        instead="no change of the code is needed: `--runtime import` converts the file as it is, and `--runtime vendor` does too",
    ),
    "AMP925": Page(
        "A region holds for all code that is called in it, also in other files. If code there fails in half precision it "
        "has to be rewritten together with the script, and only files that were given are written to.",
        f"{REFERENCE}: autocast op reference",
        instead="no change of the code is needed: give the other file too, `ampify script.py model.py`, or the directory of both",
    ),
    "AMP926": Page(
        "What scales the loss, steps through the scaler and updates it has to be written in all files of a training step or in "
        "none: half of it would train wrongly. Only files that were given are written to.",
        "ampify's own promise: all edits of a training step, or none",
        instead="no change of the code is needed: give the other file too, `ampify script.py engine.py`, or the directory",
    ),
    "AMP927": Page(
        "Two megabytes of Python are data, and to look through them would take minutes and gigabytes of memory. A file without "
        "a word of training in it is not even parsed, and left unchanged.",
        "ampify's own promise: it costs next to nothing",
        instead="data in a file of its own, JSON or a module that the script imports, leaves a script that is read",
    ),
    "AMP928": Page(
        "A pragma leaves a training step alone: its gradients are not scaled. Where they meet gradients that are, by an "
        "optimizer or a function that both steps have, no rewriting of the rest trains as the original does.",
        "ampify's own promise: all edits of a training step, or none",
        before="""\
for inputs, target in data:
    loss = criterion(model(inputs), target)
    loss.backward()  # ampify: skip
    optimizer.step()
for inputs, target in data:
    loss = criterion(model(inputs), target)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
        after="""\
for inputs, target in data:
    loss = criterion(model(inputs), target)
    loss.backward()  # ampify: skip
    optimizer.step()
    optimizer.zero_grad()
for inputs, target in data:
    loss = criterion(model(inputs), target)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    ),
}
