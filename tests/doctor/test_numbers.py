"""What a mend trains: with a power of two as the scale and no autocast, bit by bit what the float32 script trains."""

import pytest
import torch

from ampify.convert import convert

SCRIPT = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
criterion = nn.MSELoss()
data = [(torch.randn(4, 4), torch.randn(4, 2)) for _ in range(12)]
{made}
for i, (x, y) in enumerate(data):
    loss = criterion(model(x), y)
{step}
"""
MADE = 'scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)'
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)"

# What the mistake is, the steps that have it, and those of the float32 script.
STEPS = {
    "AMP301": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", CLIP, "scaler.step(optimizer)", "scaler.update()"],
        ["optimizer.zero_grad()", "loss.backward()", CLIP, "optimizer.step()"],
    ),
    "AMP301 in two lines": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", CLIP, CLIP, "scaler.step(optimizer)", "scaler.update()"],
        ["optimizer.zero_grad()", "loss.backward()", CLIP, CLIP, "optimizer.step()"],
    ),
    "AMP301 in a loop": (
        [
            "optimizer.zero_grad()",
            "scaler.scale(loss).backward()",
            "for p in model.parameters():",
            "    p.grad.clamp_(-0.01, 0.01)",
            "scaler.step(optimizer)",
            "scaler.update()",
        ],
        [
            "optimizer.zero_grad()",
            "loss.backward()",
            "for p in model.parameters():",
            "    p.grad.clamp_(-0.01, 0.01)",
            "optimizer.step()",
        ],
    ),
    "AMP301 in an accumulation": (
        [
            "scaler.scale(loss).backward()",
            "if (i + 1) % 3 == 0:",
            "    " + CLIP,
            "    scaler.step(optimizer)",
            "    scaler.update()",
            "    optimizer.zero_grad()",
        ],
        ["loss.backward()", "if (i + 1) % 3 == 0:", "    " + CLIP, "    optimizer.step()", "    optimizer.zero_grad()"],
    ),
    "AMP303": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", "scaler.step(optimizer)"],
        ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()"],
    ),
    "AMP305": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", "optimizer.step()"],
        ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()"],
    ),
    "AMP305 with an update": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", "optimizer.step()", "scaler.update()"],
        ["optimizer.zero_grad()", "loss.backward()", "optimizer.step()"],
    ),
    "AMP305 on unscaled gradients": (
        ["optimizer.zero_grad()", "scaler.scale(loss).backward()", "scaler.unscale_(optimizer)", CLIP, "optimizer.step()"],
        ["optimizer.zero_grad()", "loss.backward()", CLIP, "optimizer.step()"],
    ),
    "AMP306": (
        [
            "optimizer.zero_grad()",
            "loss.backward()",
            "scaler.unscale_(optimizer)",
            CLIP,
            "scaler.step(optimizer)",
            "scaler.update()",
        ],
        ["optimizer.zero_grad()", "loss.backward()", CLIP, "optimizer.step()"],
    ),
}
RAISING = {
    "AMP305 on unscaled gradients": "already been called",
    "AMP303": "already been called",
    "AMP305 with an update": "No inf checks",
    "AMP306": "_scale is None",
}


def script(made: str, steps: list[str]) -> str:
    return SCRIPT.format(made=made, step="\n".join(f"    {line}" for line in steps))


def trained(text: str) -> list[torch.Tensor]:
    names: dict[str, object] = {}
    exec(compile(text, "<script>", "exec"), names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", STEPS)
def test_a_mended_script_trains_as_the_float32_one(name: str) -> None:
    wrong, plain = STEPS[name]
    result = convert(script(MADE, wrong).encode())
    assert result.status == "converted"
    assert {e.code for e in result.edits} == {name.partition(" ")[0]}
    expected = trained(script("", plain))
    assert all(map(torch.equal, trained(result.output.decode()), expected))


@pytest.mark.parametrize("name", [name for name in STEPS if name not in RAISING])
def test_without_the_mend_it_does_not(name: str) -> None:
    wrong, plain = STEPS[name]
    assert not all(map(torch.equal, trained(script(MADE, wrong)), trained(script("", plain))))


@pytest.mark.parametrize(("name", "message"), RAISING.items())
def test_without_the_mend_it_raises(name: str, message: str) -> None:
    with pytest.raises((RuntimeError, AssertionError), match=message):
        trained(script(MADE, STEPS[name][0]))


def test_a_saved_state_is_loaded_again(tmp_path: object) -> None:
    text = script(
        f'{MADE}\nimport os\nif os.path.exists("{tmp_path}/last.pt"):\n    state = torch.load("{tmp_path}/last.pt")\n'
        '    model.load_state_dict(state["model"])\n    optimizer.load_state_dict(state["optimizer"])\n',
        [
            "optimizer.zero_grad()",
            "scaler.scale(loss).backward()",
            "scaler.step(optimizer)",
            "scaler.update(512.0)",
            f'torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, "{tmp_path}/last.pt")',
        ],
    )
    result = convert(text.encode())
    assert {e.code for e in result.edits} == {"AMP310"}
    assert scale_at_the_start(text) == 1024.0  # of a first run
    trained(text)  # a checkpoint from before the mend
    assert scale_at_the_start(result.output.decode()) == 1024.0
    trained(result.output.decode())
    assert scale_at_the_start(text) == 1024.0
    assert scale_at_the_start(result.output.decode()) == 512.0


def scale_at_the_start(text: str) -> float:
    names: dict[str, object] = {}
    exec(compile(text.partition("for i, ")[0], "<script>", "exec"), names)
    scaler = names["scaler"]
    assert isinstance(scaler, torch.amp.GradScaler)
    return scaler.get_scale()
