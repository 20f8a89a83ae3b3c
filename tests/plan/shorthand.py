"""Training loops in shorthand, one word a statement, so that a table shows where each of them stands.

    for x, y in data:            for x, y in data:
        ZERO                         optimizer.zero_grad()
        LOSS                         loss = F.mse_loss(model(x), y)
        BACK                         loss.backward()
        CLIP                         nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        STEP                         optimizer.step()

A `2` at the end of a word means the second model, loss and optimizer. In converted code BACK and STEP go through the scaler, and
there are UNSCALE, UPDATE and REGION (`with autocast():`) too.
"""

import re

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
{imports}
model = nn.Linear(4, 1)
model2 = nn.Linear(4, 1)
optimizer = optim.SGD(model.parameters(), lr=0.1)
optimizer2 = optim.SGD(model2.parameters(), lr=0.1)
"""
IMPORT = "from ampify_runtime import autocast, scaler"

WORDS = {
    "ZERO": "optimizer#.zero_grad()",
    "LOSS": "loss# = F.mse_loss(model#(x), y)",
    "OUT": "out# = model#(x)",
    "CRIT": "loss# = F.mse_loss(out#, y)",
    "CLIP": "nn.utils.clip_grad_norm_(model#.parameters(), 1.0)",
    "NORM": "norm = nn.utils.clip_grad_norm_(model#.parameters(), 1.0)",
    "BOTH": "nn.utils.clip_grad_norm_([*model.parameters(), *model2.parameters()], 1.0)",
    "CLAMP": "for p in model#.parameters(): p.data.clamp_(-1, 1)",
    "LOG": "print(loss#.item())",
    "JOINT": "loss = F.mse_loss(model(x), y) + F.mse_loss(model2(x), y)",
}
PLAIN = {"BACK": "loss#.backward()", "STEP": "optimizer#.step()"}
SCALED = {
    "BACK": "scaler.scale(loss#).backward()",
    "STEP": "scaler.step(optimizer#)",
    "UNSCALE": "scaler.unscale_(optimizer#)",
    "UPDATE": "scaler.update()",
    "REGION": "with autocast():",
}
WORD = re.compile(r"\b([A-Z]{3,})(2?)\b")


def _expanded(text: str, words: dict[str, str]) -> str:
    return WORD.sub(lambda m: words[m.group(1)].replace("#", m.group(2)) if m.group(1) in words else m.group(0), text)


def plain(text: str, head: str = HEAD) -> str:
    """The fp32 script that a text in shorthand stands for."""
    return head.replace("{imports}\n", "") + _expanded(text, WORDS | PLAIN)


def scaled(text: str, head: str = HEAD) -> str:
    """The converted script."""
    return head.replace("{imports}", IMPORT) + _expanded(text, WORDS | SCALED)


def body(script: str) -> str:
    """A script's text after the shared head."""
    return script[script.index("model = nn.Linear(4, 1)\n") :]


def dedent(text: str) -> str:
    """The text of a table's entry: without its first line break, and with four spaces of indentation less."""
    lines = text.strip("\n").rstrip(" ").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines).rstrip("\n") + "\n"
