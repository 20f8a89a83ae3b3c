"""What ampify says about a file: diagnostics with a code, a place, a reason and a remedy, and the table of all codes."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Diagnostic(NamedTuple):
    """One finding. `line` and `column` are 1-based and of the original file; `help` is the remedy, or empty."""

    code: str
    severity: Severity
    line: int
    column: int
    message: str
    help: str = ""


# Edits: what each does, as a reviewer reads it.
EDITS = {
    "AMP101": "runs the forward pass and the loss under autocast",
    "AMP102": "scales the loss before the backward pass",
    "AMP103": "unscales the gradients before they are looked at",
    "AMP104": "steps the optimizer through the scaler, which skips the step on overflow",
    "AMP105": "adjusts the scale once per optimization step",
    "AMP106": "lets the schedule hold still while steps are skipped",
    "AMP107": "imports the runtime",
    "AMP111": "saves the scaler's state beside the optimizer's",
    "AMP112": "loads the scaler's state, if the checkpoint has it",
    "AMP110": "takes gradients that are part of the loss through the scaler: scaled while computed, unscaled in the result",
    "AMP108": "runs the evaluation forward under autocast",
    "AMP109": "makes the loss scaler, which is on where CUDA is",
    "AMP350": "opens the region as torch.amp has it: the device type first, the other arguments by their names",
    "AMP351": "makes the loss scaler as torch.amp has it: the device first",
    "AMP352": "decorates as torch.amp has it: with the device type",
    "AMP353": "names torch.amp in place of torch.cuda.amp or torch.cpu.amp",
    "AMP354": "takes apex.amp out, in place of which come autocast and the scaler",
    "AMP356": "takes the scaling by hand out, in place of which comes the scaler",
    "AMP355": "keeps the script's own switch of mixed precision",
}

# What is to be known besides the edits, or of a script with nothing to convert. `{}` takes versions, or what was seen.
NOTES = {
    "AMP191": ("puts the runtime beside the script, as ampify_runtime.py, {}", ""),
    "AMP192": ("updates the runtime beside the script, ampify_runtime.py, {}", ""),
    "AMP193": (
        "the script lies in a package, and `python -m` does not look for ampify_runtime beside it",
        "run it by its path, `python package/script.py`, or import relatively, or install ampify where it trains",
    ),
    "AMP194": (
        "an optimizer's state is {}: a resumed run starts at the initial loss scale",
        "save scaler.state_dict() too, and load it by scaler.load_state_dict(...)",
    ),
    "AMP195": (
        "gradients are computed here, and nothing in this file steps on them: there is no training step to convert",
        "if another file steps on them, give it too: `ampify this_file.py that_file.py`",
    ),
    "AMP196": (
        "an optimizer's state is {}, a file that was not given, or not converted: a resumed run starts at the initial loss scale",
        "give that file too: `ampify script.py that_file.py`, or the directory",
    ),
}

NOTES["AMP360"] = (
    "an old spelling of mixed precision is left alone: {}",
    "write it as torch.amp has it, where you know what becomes of it",
)
NOTES["AMP361"] = (
    "apex.amp, which apex does not have any more, is left alone: {}",
    "take it out by hand, down to the script in float32, and convert that",
)
NOTES["AMP362"] = (
    "a part of apex, which has nothing to do with mixed precision, stays: {}",
    "torch has DistributedDataParallel and SyncBatchNorm.convert_sync_batchnorm itself: take those, by hand",
)

NOTES["AMP363"] = (
    "a training step in float32, beside others with mixed precision, is left as it is: {}",
    "write it by hand as the others are, or hand the scaler to the function",
)

# Of pragmas, as notes are; what they leave alone is told only to those who ask for it, by `-v`.
PRAGMAS = {
    "AMP197": ("left alone, as a pragma says: {}", "take the pragma out to have it converted"),
    "AMP198": (
        "a pragma does nothing: {}",
        "take it out, or put it where something is converted: `ampify rule AMP197` says how it is written",
    ),
}

# Refusals: (why the file is left alone, the smallest change by hand that would help). `{}` takes what was seen.
REFUSALS = {
    "AMP901": (
        "the optimizer steps with a closure that cannot be followed from here: {}",
        "define the closure, under a name of its own, in the function that calls `optimizer.step(closure)`",
    ),
    "AMP902": (
        "gradients of gradients are taken in a way that scaling would change (backward(create_graph=True) or torch.func): {}",
        "take them by torch.autograd.grad(..., create_graph=True), and add what they make to the loss",
    ),
    "AMP903": (
        "parameters are updated by hand from their gradients, which the scaler cannot unscale: {}",
        "use a torch.optim optimizer for these parameters",
    ),
    "AMP904": (
        "the training step is spread over several functions or files: {}",
        "put forward, backward and optimizer.step() into one function",
    ),
    "AMP905": (
        "binary cross entropy of probabilities has to run in float32, as the sigmoid before it: {}",
        "return logits from the model and use BCEWithLogitsLoss",
    ),
    "AMP906": (
        "the hook {} would see scaled gradients",
        "do what the hook does between backward() and step()",
    ),
    "AMP907": (
        "{} shares parameters with another optimizer, so their gradients would be unscaled twice",
        "give every parameter to one optimizer, or clear all gradients and go backward again between the steps",
    ),
    "AMP908": (
        "a custom backward is not plainly linear in the gradient it receives, and the loss scale cannot be taken off there: {}",
        "let an autograd.Function of this file only return gradients, and leave `.grad`, inf and NaN to the training step",
    ),
    "AMP909": (
        "gradients of {} are looked at in every micro-batch of an accumulation, where they can be unscaled only once per step",
        "clip or log under the condition of the step",
    ),
    "AMP910": (
        "FullyShardedDataParallel is used in a way that the scaler cannot follow: {}",
        "call `FSDP(model, ...)` itself, over all processes and without offloading to the CPU",
    ),
    "AMP911": (
        "{} trains in a thread, where autocast and the scaler of the main thread do not hold",
        "train in the main thread, or in processes",
    ),
    "AMP912": (
        "the optimizer's step takes {}, which is not a closure",
        "only a plain `optimizer.step()` of a torch.optim optimizer is converted",
    ),
    "AMP913": (
        "an optimizer cannot be told from other objects here: {}",
        "step each optimizer under a name of its own, `optimizer.step()`",
    ),
    "AMP914": (
        "the loss is computed inside the backward call, which must stay outside autocast: {}",
        "compute the loss in a statement of its own: `loss = ...`, then `loss.backward()`",
    ),
    "AMP915": (
        "a gradient is looked at that no optimizer here owns, so nothing unscales it: {}",
        "take it by torch.autograd.grad(loss, ...), or give its parameter to an optimizer that steps in this function",
    ),
    "AMP916": (
        "gradients of {} that were stepped already are still there when the next backward adds to them, on some path",
        "call zero_grad() between step() and the next backward()",
    ),
    "AMP917": (
        "gradients are exchanged between processes by hand; ranks would disagree on overflow: {}",
        "only sum and divide them, all of them, before anything else looks at them; or use DistributedDataParallel",
    ),
    "AMP918": (
        "the model is in half precision already: {}",
        "keep the parameters in float32; autocast casts what gains from it",
    ),
    "AMP919": (
        "the forward pass yields or awaits, and whoever runs meanwhile would do so under autocast",
        "compute forward and loss without a yield between them",
    ),
    "AMP920": (
        "its formatting cannot be kept: {}",
        "save the file with one kind of line end, and without white space at its end",
    ),
    "AMP921": (
        "no place for the scaler is right on every path: {}",
        "make every path either step the optimizer, once and after all else has looked at its gradients, or leave them alone",
    ),
    "AMP922": ("it is nested too deeply to be analysed", "flatten the deepest expression"),
    "AMP923": ("needs the runtime, as plain torch.amp cannot do it: {}", "use --runtime import or vendor"),
    "AMP924": (
        "a custom autograd.Function cannot be kept in float32: {}",
        "call its `apply` in a statement of its own, with the tensors by position",
    ),
    "AMP925": (
        "code that it runs under autocast breaks in half precision, in a file that was not given, or not converted: {}",
        "give that file too: `ampify script.py that_file.py`, or the directory",
    ),
    "AMP926": (
        "a part of the training step is in a file that was not given, or not converted: {}",
        "give that file too: `ampify script.py that_file.py`, or the directory",
    ),
    "AMP927": ("it is too large to be analysed: {}", "move its data into a file of its own"),
    "AMP928": (
        "what a pragma leaves alone cannot be told from the rest of the training: {}",
        "let it hold for the whole function, behind its `def`, or for the file: `# ampify: skip-file`",
    ),
}


def note(code: str, line: int, detail: str, column: int = 1) -> Diagnostic:
    """The diagnostic of a note."""
    message, remedy = NOTES[code]
    return Diagnostic(code, "info", line, column, message.format(detail), remedy)


def pragma(code: str, line: int, column: int, detail: str) -> Diagnostic:
    """The diagnostic of what a pragma does, or that it does nothing."""
    message, remedy = PRAGMAS[code]
    return Diagnostic(code, "info" if code == "AMP197" else "warning", line, column, message.format(detail), remedy)


def refusal(code: str, line: int, column: int, detail: str) -> Diagnostic:
    """The diagnostic of a refusal."""
    message, remedy = REFUSALS[code]
    if not detail:
        message = message.removesuffix(": {}")
    return Diagnostic(code, "error", line, column, message.format(detail or "this code"), remedy)
