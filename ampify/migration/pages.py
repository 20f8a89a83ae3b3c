"""The manual pages of migrations, by code: what is found, why it matters, before and after, how safe it is, and the source."""

WARNING = (
    "torch 2.4 and later warn of it with a FutureWarning, at every region that is opened, and name the new spelling; the old one "
    "may go. The order of arguments has changed, so that the name alone cannot be exchanged"
)
NESTED = (
    "The old constructor asks for float16 (bfloat16 on the CPU) and a cache without being told to; torch.amp's takes both from "
    "the region around it, if there is one. Where regions of the file ask for something else, what was granted is written out: "
    "`dtype=torch.float16`, `cache_enabled=True`. A region of another file is not seen"
)
VERSIONS = "It needs torch 2.3 for GradScaler, and 2.4 for custom_fwd and custom_bwd; torch.amp.autocast is there since 1.10"
SOURCE = "the deprecation notes of torch.amp, and torch/cuda/amp/*.py and torch/cpu/amp/*.py of torch 2.13"


def _page(what: str, why: str, before: str, after: str, safety: str, source: str = SOURCE) -> str:
    parts = [f"What it finds: {what}.", f"Why it matters: {why}."]
    if after:
        parts += [f"Before:\n\n{_indented(before)}", f"After:\n\n{_indented(after)}"]
    else:
        parts.append(f"Before and after: nothing is written.\n\n{_indented(before)}")
    return "\n\n".join([*parts, f"Safety: {safety}.", f"Source: {source}."])


def _indented(snippet: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in snippet.rstrip().splitlines())


PAGES = {
    "AMP350": _page(
        "a call of `torch.cuda.amp.autocast` or `torch.cpu.amp.autocast`, by whatever name it is imported, as a context, as a "
        "decorator or in `functools.partial`",
        WARNING,
        "with torch.cuda.amp.autocast(use_amp, torch.bfloat16):\n    loss = criterion(model(images), target)",
        'with torch.amp.autocast("cuda", enabled=use_amp, dtype=torch.bfloat16):\n    loss = criterion(model(images), target)',
        f"rewritten; {NESTED[0].lower()}{NESTED[1:]}. {VERSIONS}",
    ),
    "AMP351": _page(
        "a call of `torch.cuda.amp.GradScaler` or `torch.cpu.amp.GradScaler`, of a class derived from it, or of its constructor",
        f"{WARNING}: `torch.amp.GradScaler(1024.)` takes 1024. for the device, without a word",
        "scaler = torch.cuda.amp.GradScaler(2.0**10, enabled=use_amp)",
        'scaler = torch.amp.GradScaler("cuda", 2.0**10, enabled=use_amp)',
        "rewritten, all of a file or none: it may be asked whether something is a scaler, and the old class is derived from the "
        f"new one. A library that asks for the old class is not seen. {VERSIONS}",
    ),
    "AMP352": _page(
        "`torch.cuda.amp.custom_fwd` and `custom_bwd`, as decorators with and without parentheses, or called",
        WARNING,
        "@staticmethod\n@torch.cuda.amp.custom_fwd\ndef forward(ctx, x): ...",
        '@staticmethod\n@torch.amp.custom_fwd(device_type="cuda")\ndef forward(ctx, x): ...',
        f"rewritten. {VERSIONS}",
    ),
    "AMP353": _page(
        "imports of `torch.cuda.amp` and `torch.cpu.amp`, and other mentions of what is in them: types, `isinstance`, classes "
        "that are derived from it, other names for it",
        "what is imported from there is called as torch.amp has it, so the import has to follow; and what it brings is otherwise "
        "another class than the one that is made",
        "from torch.cuda.amp import GradScaler, autocast",
        "from torch.amp import GradScaler, autocast",
        "rewritten, if all uses of the name are, and nobody takes it from the file. With an older torch the import fails, and "
        f"`except ImportError` takes over. {VERSIONS}",
    ),
    "AMP360": _page(
        "an old spelling that cannot be followed: a region that is handed to something else, a name that is bound to other "
        "things as well, arguments out of a list, what is asked for by a text (`getattr`, `importlib`), what other files take "
        "from this one",
        "what is called there gets other arguments than the new spelling wants, and it cannot be seen where",
        'cast = getattr(torch.cuda.amp, "autocast")',
        "",
        "reported. All that goes by the same name is left alone with it, and of GradScaler all that the file has",
    ),
    "AMP354": _page(
        "`apex.amp`: `initialize` with opt_level O1, `scale_loss`, `master_params`, `state_dict` and `load_state_dict`, and "
        "tests both of whose branches are the same without it",
        "apex.amp was removed from apex in May 2025, and torch.amp does the same: O1 is autocast with a dynamic loss scale. What "
        "is left without it is the script in float32, and that is converted as any other",
        'model, optimizer = amp.initialize(model, optimizer, opt_level="O1")\nfor batch in loader:\n    loss = model(batch)\n'
        "    with amp.scale_loss(loss, optimizer) as scaled_loss:\n        scaled_loss.backward()\n    optimizer.step()",
        "for batch in loader:\n    with autocast():\n        loss = model(batch)\n    scaler.scale(loss).backward()\n"
        "    scaler.step(optimizer)\n    scaler.update()",
        "rewritten, both steps proved. A checkpoint of apex.amp's state is not read any more: a resumed run starts at the "
        "initial loss scale. apex cast certain functions, torch.amp has its own list of them",
        "the README of apex.amp, its opt levels, and apex's own commit that removes it, of May 2025",
    ),
    "AMP355": _page(
        "a condition under which `amp.initialize` is called, or its `enabled`",
        "where it does not hold the script trains in float32, and goes on to do so",
        'if args.fp16:\n    model, optimizer = amp.initialize(model, optimizer, opt_level="O1")',
        'if not args.fp16:\n    configure(mode="off")',
        "rewritten. An environment variable AMPIFY_MODE that is set wins over it. With `--runtime torch` there is no place for "
        "it, and apex.amp is left alone",
        "ampify's own runtime",
    ),
    "AMP361": _page(
        "`apex.amp` where it cannot be taken out: opt_level O2 or O3, or one that is chosen when the script runs; a fixed loss "
        "scale; functions registered as half; what is handed on; other parts of apex beside it; a script that is refused "
        "without it",
        "O2 and O3 change the dtype of the model itself, autocast does not; and what cannot be followed may use what is taken "
        "out",
        'model, optimizer = amp.initialize(model, optimizer, opt_level="O2")',
        "",
        "reported",
        "the README of apex.amp",
    ),
    "AMP362": _page(
        "`apex.parallel`: DistributedDataParallel, convert_syncbn_model and their like, where nothing else of apex is taken out",
        "a script with a part of apex in it is taken for one that has mixed precision already, and is left alone. torch has both "
        "parts itself",
        "model = apex.parallel.convert_syncbn_model(model)",
        "",
        "reported. `torch.nn.SyncBatchNorm.convert_sync_batchnorm` and `torch.nn.parallel.DistributedDataParallel` take their "
        "place, by hand: their arguments differ",
        "the README of apex, and torch.nn.SyncBatchNorm",
    ),
    "AMP356": _page(
        "a loss that is multiplied by a constant where it goes backward, and the loop behind it that divides all gradients",
        "the scaler does the same with a scale that follows the gradients, and leaves out steps that overflow. With both, the "
        "first steps are left out until the scale has come down by the constant",
        "SCALE = 1024.0\nfor batch in loader:\n    optimizer.zero_grad()\n    loss = model(batch)\n"
        "    (loss * SCALE).backward()\n    for p in model.parameters():\n        p.grad /= SCALE\n    optimizer.step()",
        "for batch in loader:\n    optimizer.zero_grad()\n    with autocast():\n        loss = model(batch)\n"
        "    scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()",
        "rewritten where it is exact: the factor is a power of two that is given once at the top of the file and used for "
        "nothing else; one backward, one loop over all parameters that the one optimizer has, and its step, in one block that "
        "clears the gradients first. Anything else is left as it is, and converted as it is",
        "the chapter on loss scaling of NVIDIA's guide to training with mixed precision",
    ),
    "AMP363": _page(
        "a training step without mixed precision beside others that have it, in the same file; not one side of a choice, not one "
        "whose name says float32, not one for an optimizer that steps through the scaler elsewhere",
        "it trains at the speed and in the memory of float32. Where it can be written as the others are, it is: with the scaler "
        "and the regions of the file. Where it cannot, a note says what is missing",
        'scaler = torch.amp.GradScaler("cuda")\n\ndef warm_up(data):\n    for x, y in data:\n        head_optimizer.zero_grad()\n'
        "        loss = criterion(head(x), y)\n        loss.backward()\n        head_optimizer.step()",
        'scaler = torch.amp.GradScaler("cuda")\n\ndef warm_up(data):\n    for x, y in data:\n        head_optimizer.zero_grad()\n'
        '        with torch.autocast("cuda"):\n            loss = criterion(head(x), y)\n        scaler.scale(loss).backward()\n'
        "        scaler.step(head_optimizer)\n        scaler.update()",
        "written if the file makes one scaler, which the function has in reach, and all its regions of training steps have the "
        "same context, of names in reach too. Without the scaler's calls and the regions both files are the same program",
        "PyTorch's Automatic Mixed Precision examples, on several models, losses and optimizers",
    ),
}
