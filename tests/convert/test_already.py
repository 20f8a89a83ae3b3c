"""Files with mixed precision of their author's: the spelling and the mistakes, in one go."""

from ampify import Options, convert

OLD = b"""\
import torch
from torch import nn
from torch.cuda.amp import GradScaler, autocast

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = GradScaler()
for x in torch.randn(3, 8, 4):
    optimizer.zero_grad()
    with autocast():
        loss = model(x).square().mean()
    scaler.scale(loss).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
"""
NEW = (
    OLD.replace(b"torch.cuda.amp", b"torch.amp")
    .replace(b"GradScaler()", b'GradScaler("cuda")')
    .replace(b"autocast()", b'autocast("cuda")')
    .replace(b"    nn.utils", b"    scaler.unscale_(optimizer)\n    nn.utils")
)


def test_both_are_put_right_and_told_by_the_lines_of_the_original() -> None:
    result = convert(OLD)
    assert (result.status, result.output) == ("converted", NEW)
    assert [(e.code, e.line) for e in result.edits] == [("AMP353", 3), ("AMP351", 7), ("AMP350", 10), ("AMP301", 13)]
    assert [(d.code, d.line, d.help) for d in result.diagnostics] == [("AMP301", 13, "mended")]


def test_once() -> None:
    result = convert(NEW)
    assert (result.status, result.output, result.edits, result.diagnostics) == ("already", NEW, (), ())


def test_a_framework_has_the_say() -> None:
    source = OLD.replace(b"import torch\n", b"import torch\nfrom accelerate import Accelerator\n", 1)
    result = convert(source)
    assert (result.status, result.output, result.edits, result.diagnostics) == ("already", source, (), ())


def test_a_code_that_is_left_out_is_not_mended() -> None:
    output = convert(OLD, Options(skip=frozenset({"AMP301"}))).output
    assert output == NEW.replace(b"    scaler.unscale_(optimizer)\n", b"")


def test_a_spelling_that_is_left_out_stays() -> None:
    output = convert(OLD, Options(skip=frozenset({"AMP350"}))).output
    assert output == OLD.replace(b"    nn.utils", b"    scaler.unscale_(optimizer)\n    nn.utils")
