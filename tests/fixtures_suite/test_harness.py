"""The harness itself: each kind of wrong conversion is seen by it, so that a passing fixture means something."""

import pytest

from tests.fixtures_suite.cases import TOLERANCE
from tests.fixtures_suite.compare import close_problems, exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fixtures_suite.forks import ForkServer

HEAD = """
import torch
import torch.nn as nn
import torch.optim as optim
{imports}
torch.manual_seed(0)
body, head = nn.Linear(6, 8), nn.Linear(8, 3)
model = nn.Sequential(body, nn.Tanh(), head)
opt_body = optim.SGD(body.parameters(), lr=0.5)
opt_head = optim.Adam(head.parameters(), lr=0.1)
data = [(torch.randn(5, 6), torch.randint(0, 3, (5,))) for _ in range(4)]
"""
IMPORT = "from ampify_runtime import autocast, scaler"
PLAIN_LOOP = """
for x, y in data:
    out = model(x)  # forward
    loss = nn.functional.cross_entropy(out, y)
    opt_body.zero_grad()
    opt_head.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(body.parameters(), 0.05)
    opt_body.step()
    opt_head.step()
    print(loss.item())
"""
LOOP = """
for x, y in data:
    with autocast():
        out = model(x)  # forward
        loss = nn.functional.cross_entropy(out, y)
    opt_body.zero_grad()
    opt_head.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(opt_body)
    nn.utils.clip_grad_norm_(body.parameters(), 0.05)
    scaler.step(opt_body)
    scaler.step(opt_head)
    scaler.update()
    print(loss.item())
"""
ORIGINAL = (HEAD.format(imports="") + PLAIN_LOOP).encode()
RIGHT = (HEAD.format(imports=IMPORT) + LOOP).encode()


def all_problems(server: ForkServer, original: bytes, output: bytes) -> dict[str, list[str]]:
    """Every mode's problems, by mode; a mode without problems is left out."""
    reference = server.run(original, "original")
    problems = {m: exact_problems(reference, server.run(output, m)) for m in ("off", "scale-only", "growing")}
    for mode in ("fp16", "bf16", "cuda-fp16"):
        problems[mode] = close_problems(reference, server.run(output, mode), TOLERANCE[mode])
    return {mode: found for mode, found in problems.items() if found}


def test_the_right_conversion_has_no_problems(server: ForkServer) -> None:
    assert all_problems(server, ORIGINAL, RIGHT) == {}
    assert erasure_problems(ORIGINAL, RIGHT) == []


# name: what is replaced in the right conversion, by what, the mode that must see it, and a word of what it must say.
WRONG = {
    "no unscale_ before the clip": ("    scaler.unscale_(opt_body)\n", "", "scale-only", "saw other gradients"),
    "unscale_ after the clip": (
        "    scaler.unscale_(opt_body)\n    nn.utils.clip_grad_norm_(body.parameters(), 0.05)\n",
        "    nn.utils.clip_grad_norm_(body.parameters(), 0.05)\n    scaler.unscale_(opt_body)\n",
        "scale-only",
        "saw other gradients",
    ),
    "unscale_ twice": (
        "    scaler.step(opt_body)",
        "    scaler.unscale_(opt_body)\n    scaler.step(opt_body)",
        "fp16",
        "it fails",
    ),
    "no scale": ("scaler.scale(loss).backward()", "loss.backward()", "scale-only", "scaler.scale() did not return"),
    "scale after backward": (
        "scaler.scale(loss).backward()",
        "loss.backward(); scaler.scale(loss)",
        "fp16",
        "scaler.scale() did not return",
    ),
    "scaled twice": ("scaler.scale(loss)", "scaler.scale(scaler.scale(loss))", "scale-only", "saw other gradients"),
    "no update": ("    scaler.update()\n", "", "scale-only", "it fails"),
    "update only before the last step": (
        "    scaler.step(opt_body)\n    scaler.step(opt_head)\n    scaler.update()\n",
        "    scaler.update()\n    scaler.step(opt_body)\n    scaler.step(opt_head)\n",
        "scale-only",
        "",
    ),
    "update between two steps": (
        "    scaler.step(opt_head)",
        "    scaler.update(); scaler.step(opt_head)",
        "growing",
        "gradients",
    ),
    "plain step": ("scaler.step(opt_head)", "opt_head.step()", "scale-only", "saw other gradients"),
    "stepped twice": (
        "    scaler.update()",
        "    opt_head.step()\n    scaler.update()",
        "scale-only",
        "steps by optimizer",
    ),
    "no step": ("    scaler.step(opt_head)\n", "", "off", "steps by optimizer"),
    "steps swapped": (
        "    scaler.step(opt_body)\n    scaler.step(opt_head)\n",
        "    scaler.step(opt_head)\n    scaler.step(opt_body)\n",
        "off",
        "saw other gradients",
    ),
    "no region": ("    with autocast():\n", "    if True:\n", "bf16", "without autocast"),
    "forward outside the region": (
        "    with autocast():\n        out = model(x)  # forward\n",
        "    out = model(x)\n    with autocast():\n",
        "fp16",
        "forward of Linear in training without autocast",
    ),
    "region around backward": (
        "    opt_body.zero_grad()\n    opt_head.zero_grad()\n    scaler.scale(loss).backward()\n",
        "        opt_body.zero_grad()\n        opt_head.zero_grad()\n        scaler.scale(loss).backward()\n",
        "fp16",
        "backward under autocast",
    ),
    "region around a step": (
        "    scaler.step(opt_head)",
        "    with autocast(): scaler.step(opt_head)",
        "bf16",
        "optimizer step under",
    ),
    "autocast left on": ("    scaler.update()\n", "    scaler.update()\nautocast().__enter__()\n#", "bf16", "still on"),
    "BCE on probabilities in the region": (
        "loss = nn.functional.cross_entropy(out, y)",
        "loss = nn.functional.cross_entropy(out, y) + 0 * nn.functional.binary_cross_entropy(out.sigmoid(), out.sigmoid())",
        "cuda-fp16",
        "unsafe to autocast",
    ),
    "another number": ("0.05", "0.06", "off", "saw other gradients"),
    "another draw": ("    scaler.update()", "    scaler.update(); torch.rand(1)", "off", "random generators"),
    "other output": ("print(loss.item())", "print(loss.item() + 1)", "off", "it printed"),
    "a warning": (
        "    scaler.update()",
        "    scaler.update(); import warnings; warnings.warn('x')",
        "off",
        "new warnings",
    ),
    "zero_grad moved": (
        "    opt_head.zero_grad()\n    scaler.scale(loss).backward()\n",
        "    scaler.scale(loss).backward()\n    opt_head.zero_grad()\n",
        "off",
        "",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_conversion_is_seen(name: str, server: ForkServer) -> None:
    old, new, mode, word = WRONG[name]
    loop = LOOP.replace(old, new)
    assert loop != LOOP
    found = all_problems(server, ORIGINAL, (HEAD.format(imports=IMPORT) + loop).encode())
    assert any(word in problem for problem in found[mode]), found


def test_update_missing_after_the_last_step_is_seen(server: ForkServer) -> None:
    once = "\nfor x, y in data[:1]:"
    original = ORIGINAL.replace(b"\nfor x, y in data:", once.encode())
    output = RIGHT.replace(b"\nfor x, y in data:", once.encode()).replace(b"    scaler.update()\n", b"")
    found = all_problems(server, original, output)
    assert "an optimization step ended without update()" in found["scale-only"]


def test_a_stale_weight_cache_is_seen(server: ForkServer) -> None:
    original = HEAD.format(imports="") + (
        "for x, y in data[:2]:\n"
        "    opt_body.zero_grad()\n"
        "    nn.functional.cross_entropy(model(x), y).backward()\n"
        "    for p in model.parameters(): p.data.mul_(0.0)\n"
        "    opt_head.zero_grad()\n"
        "    loss = nn.functional.cross_entropy(model(x), y)\n"
        "    loss.backward()\n"
        "    opt_head.step()\n"
    )
    output = HEAD.format(imports=IMPORT) + (
        "for x, y in data[:2]:\n"
        "    opt_body.zero_grad()\n"
        "    with autocast():\n"
        "        first = nn.functional.cross_entropy(model(x), y)\n"
        "        scaler.scale(first).backward()\n"
        "        for p in model.parameters(): p.data.mul_(0.0)\n"
        "        opt_head.zero_grad()\n"
        "        loss = nn.functional.cross_entropy(model(x), y)\n"
        "    scaler.scale(loss).backward()\n"
        "    scaler.step(opt_head)\n"
        "    scaler.update()\n"
    )
    found = all_problems(server, original.encode(), output.encode())
    assert any("relative gradient error" in problem for problem in found["fp16"]), found


def test_a_run_that_dies_is_reported(server: ForkServer) -> None:
    with pytest.raises(RuntimeError, match="died with status 7"):
        server.run(b"import os; os._exit(7)", "original")
    assert "ZeroDivisionError" in server.run(b"1 / 0", "original")["error"]
    assert server.run(b"import sys; sys.exit(0)", "original")["error"] == ""


def test_runs_share_nothing(server: ForkServer) -> None:
    script = b"import torch, os\nprint(torch.rand(1).item(), hasattr(torch, 'mark'), 'MARK' in os.environ)\n"
    before = server.run(script, "original")["printed"]
    server.run(b"import torch, os\ntorch.mark = 1\nos.environ['MARK'] = '1'\n", "original")
    assert server.run(script, "original", again=True)["printed"] == before


# What the eraser must not let pass.
CHANGED = {
    "a changed argument": (b"model(x)", b"model(x + 0)"),
    "a lost statement": (b"    opt_head.zero_grad()\n", b""),
    "a moved statement": (
        b"    opt_body.zero_grad()\n    opt_head.zero_grad()\n",
        b"    opt_head.zero_grad()\n    opt_body.zero_grad()\n",
    ),
    "an added statement": (b"    scaler.update()\n", b"    scaler.update()\n    torch.manual_seed(0)\n"),
    "a lost comment": (b"  # forward", b""),
    "a changed comment": (b"# forward", b"# backward"),
    "scale with two arguments": (b"scaler.scale(loss)", b"scaler.scale(loss, 2)"),
    "a named region": (b"with autocast():", b"with autocast() as region:"),
    "a region with a dtype": (b"with autocast():", b"with autocast(dtype=torch.float16):"),
    "another step": (b"scaler.step(opt_head)", b"scaler.step(opt_body)"),
    "a second import": (b"torch.manual_seed(0)", b"from ampify_runtime import scaler\ntorch.manual_seed(0)"),
    "an import of more": (b"import autocast, scaler", b"import autocast, scaler, GradScaler"),
    "another module": (b"from ampify_runtime", b"from runtime"),
    "a step that became a bare expression": (b"    scaler.step(opt_head)\n", b"    opt_head\n"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_the_eraser_sees(name: str) -> None:
    old, new = CHANGED[name]
    output = RIGHT.replace(old, new, 1)
    assert output != RIGHT
    assert erasure_problems(ORIGINAL, output)


FORMS = {
    "loss.backward(retain_graph=True)": "S.scale(loss).backward(retain_graph=True)",
    "torch.autograd.backward([a, b])": "torch.autograd.backward(S.scale([a, b]))",
    "opt.step(closure)": "S.step(opt, closure)",
    "sched.step(metric, epoch=3)": "S.step_scheduler(sched, metric, epoch=3)",
    "g = torch.autograd.grad(out, x, create_graph=True)": "g = S.grad(out, x, create_graph=True)",
    "torch.save({'optimizer': opt.state_dict()}, f)": (
        "torch.save({'optimizer': opt.state_dict(), 'scaler': S.state_dict()}, f)"
    ),
    "save(optimizer=opt.state_dict())": "save(optimizer=opt.state_dict(), scaler=S.state_dict())",
    "s.update(optimizer=opt.state_dict())": "s.update(optimizer=opt.state_dict(), amp_scaler=S.state_dict())",
    "state['optimizer'] = opt.state_dict()": ("state['optimizer'] = opt.state_dict()\nstate['grad_scaler'] = S.state_dict()"),
    "opt.load_state_dict(c['optim'])": "opt.load_state_dict(c['optim'])\nS.load_state_dict(c.get('scaler', {}))",
    "y = x.masked_fill(m, -1e9)": "y = x.masked_fill(m, max(-1e9, torch.finfo(x.dtype).min))",
    "out[i] = h": "out[i] = h.to(out.dtype)",
    "y = bce(p, t)": "with autocast(enabled=False):\n    y = bce(p.float(), t)",
    "a = f()": "configure(mode='bf16')\na = f()",
    "def forward(ctx, x):\n    return x": "@custom_fwd\ndef forward(ctx, x):\n    return x",
    "@once\ndef backward(ctx, g):\n    return g": "@once\n@unscaled_bwd\ndef backward(ctx, g):\n    return g",
}


@pytest.mark.parametrize("original", FORMS)
def test_the_eraser_undoes(original: str) -> None:
    line = "from ampify_runtime import autocast, configure, custom_fwd, unscaled_bwd, scaler as S\n"
    output = f"import torch\n{line}{FORMS[original]}\n"
    assert erasure_problems(f"import torch\n{original}\n".encode(), output.encode()) == []
