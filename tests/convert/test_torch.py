"""--runtime torch: what is written, under which names, what needs the runtime instead, and what the proof does not let pass."""

import pytest

from ampify.convert import Options, convert
from ampify.proof import ProofError, prove
from tests.conftest import Ampify
from tests.fixtures_suite.cases import ROOT
from tests.fixtures_suite.eraser import erasure_problems

TORCH, BF16 = Options(runtime="torch"), Options("bf16", "torch")
HEAD = "import torch\nimport torch.nn as nn\nimport json\n"
LOOP = """
model = nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters())
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
for x, y in data:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # grads
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
"""
SETUP = 'use_amp = torch.cuda.is_available()\nscaler = torch.amp.GradScaler("cuda", enabled=use_amp)\n'
WRITTEN = (
    HEAD
    + "\n"
    + SETUP
    + """
model = nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters())
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", dtype=torch.float16, enabled=use_amp):
        loss = nn.functional.mse_loss(model(x), y)
    scaler.scale(loss).backward()  # grads
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
"""
)


def _converted(source: str, options: Options = TORCH) -> str:
    result = convert(source.encode(), options)
    assert result.status == "converted", result.diagnostics
    assert erasure_problems(source.encode(), result.output) == []
    assert convert(result.output, options).status == "already"
    return result.output.decode()


def test_what_is_written() -> None:
    assert _converted(HEAD + LOOP) == WRITTEN
    assert _converted(HEAD + LOOP, Options("fp16", "torch")) == WRITTEN
    edits = [(e.code, e.line) for e in convert((HEAD + LOOP).encode(), TORCH).edits]
    assert edits[0] == ("AMP109", 4)
    assert not {"AMP106", "AMP107"} & {code for code, _ in edits}


def test_bfloat16_leaves_the_scaler_off() -> None:
    expected = WRITTEN.replace("float16", "bfloat16").replace('("cuda", enabled=use_amp)', '("cuda", enabled=False)')
    assert _converted(HEAD + LOOP, BF16) == expected


@pytest.mark.parametrize(
    ("head", "setup"),
    [
        ("import torch as th\nfrom torch import nn\n", SETUP.replace("torch.", "th.")),
        ("import torch, json\nfrom torch import nn\n", SETUP),
        ("import torch.nn as nn\nimport torch.optim\n", SETUP),
        ("from torch import nn\nfrom torch.optim import Adam\n", "import torch\n\n" + SETUP),
        ('"""Doc."""\nfrom torch import nn\nimport torch\n', SETUP),
        ("from torch import nn\ntorch = None\n", SETUP.replace("torch.", "amp_torch.")),
        ("import torch\nfrom torch import nn\ndef f(torch): pass\n", SETUP.replace("torch.", "amp_torch.")),
        ("import torch\nfrom torch import nn\ndef f():\n    import torch\n", SETUP.replace("torch.", "amp_torch.")),
        ("import torch\nfrom torch import nn\nuse_amp = scaler = 1\n", None),
    ],
)
def test_names(head: str, setup: str | None) -> None:
    loop = LOOP.replace("torch.optim.Adam", "make_optimizer").replace("torch.optim.lr_scheduler.StepLR", "StepLR")
    for options in (TORCH, BF16):
        output = _converted(head + loop, options)
        if setup is None:
            assert 'grad_scaler = torch.amp.GradScaler("cuda", enabled=' in output
            assert "amp_enabled = torch.cuda.is_available()\n" in output
        else:
            off = setup.replace("enabled=use_amp", "enabled=False")
            assert "\n" + (setup if options is TORCH else off) in output


REFUSED = {
    "no batch, no gradients": (
        "    loss.backward()  # grads\n",
        "    for part in loss: part.backward()\n",
        "`optimizer` may step without gradients",
    ),
    "a wrapper": (
        "optimizer = torch.optim.Adam(model.parameters())",
        "optimizer = LookaheadOptimizer(torch.optim.Adam(model.parameters()))",
        "wraps",
    ),
    "FSDP1": (
        "model = nn.Linear(4, 1)",
        "from torch.distributed.fsdp import FullyShardedDataParallel\nmodel = FullyShardedDataParallel(nn.Linear(4, 1))",
        "would disagree",
    ),
    "devices chosen later": ("model =", "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '1'\nmodel =", ""),
    "devices in a function": (
        "model =",
        "def main():\n    os.environ.update(CUDA_VISIBLE_DEVICES='1')\nmodel =",
        "comes too late",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_runtime_is_refused(name: str) -> None:
    old, new, word = REFUSED[name]
    source = (HEAD + LOOP).replace(old, new, 1).encode()
    assert convert(source).status == "converted"
    result = convert(source, TORCH)
    if not word:  # the import of os is the last one: what is in front of it comes first
        assert [d.line for d in result.diagnostics] == [6]
    assert (result.status, result.output) == ("refused", source)
    (diagnostic,) = result.diagnostics
    assert diagnostic.code == "AMP923"
    assert diagnostic.message.startswith("needs the runtime, as plain torch.amp cannot do it: ")
    assert word in diagnostic.message


CLOSURE = """
model = nn.Linear(4, 1)
optimizer = torch.optim.LBFGS(model.parameters())
for x, y in data:
    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss
    optimizer.step(closure)
"""


@pytest.mark.parametrize("optimizer", ["LBFGS", "SGD"])
def test_a_closure_never_reaches_torchs_scaler(optimizer: str) -> None:
    """Whatever becomes of closures for the runtime: torch's scaler runs a positional one on scaled gradients."""
    assert convert((HEAD + CLOSURE.replace("LBFGS", optimizer)).encode(), TORCH).status == "refused"


def test_ranks_that_never_skip_cannot_disagree() -> None:
    old, new, _ = REFUSED["FSDP1"]
    source = (HEAD + LOOP).replace(old, new, 1).encode()
    assert convert(source, TORCH._replace(dtype="bf16")).status == "converted"
    assert convert(source, TORCH._replace(dtype="fp16")).status == "refused"


def test_devices_chosen_in_time() -> None:
    _converted("import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'\n" + HEAD + LOOP)


def test_a_file_that_has_the_runtime_keeps_it() -> None:
    converted = convert((HEAD + LOOP).encode()).output
    assert convert(converted, TORCH).status == "already"
    more = LOOP.replace("model", "model2").replace("optimizer", "optimizer2")
    output = convert(converted + more.encode(), TORCH).output
    assert b"use_amp" not in output
    assert output.count(b"scaler.scale(") == 2


MUTANTS = {
    "no update": ("    scaler.update()\n", ""),
    "no unscaling": ("    scaler.unscale_(optimizer)\n", ""),
    "unscaled twice": ("    scaler.step(", "    scaler.unscale_(optimizer)\n    scaler.step("),
    "a plain step": ("scaler.step(optimizer)", "optimizer.step()"),
    "a plain backward": ("scaler.scale(loss).backward()", "loss.backward()"),
    "another dtype": ("float16", "bfloat16"),
    "no scaling in fp16": ('"cuda", enabled=use_amp)', '"cuda", enabled=False)'),
    "another device": ('.autocast("cuda"', '.autocast("cpu"'),
    "always on": ("enabled=use_amp):", "enabled=True):"),
    "the scaler comes late": (SETUP, ""),
    "another scale": ('GradScaler("cuda",', 'GradScaler("cuda", 1.0,'),
    "rebound": ("model = nn", "scaler = None\nmodel = nn"),
    "the switch rebound": ("model = nn", "use_amp = True\nmodel = nn"),
    "torch rebound": ("model = nn", "torch = None\nmodel = nn"),
    "torch lost": ("import torch\n", ""),
    "another import": ("import json\n", "import json\nimport torch\n"),
    "an import gone": ("import json\n", ""),
    "a schedule through the scaler": ("scheduler.step()", "scaler.step_scheduler(scheduler)"),
    "wider": ("    scaler.scale(loss)", "        scaler.scale(loss)"),
    "a comment gone": ("  # grads", ""),
}


def test_the_undamaged_is_proved() -> None:
    prove((HEAD + LOOP).encode(), WRITTEN.encode())


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_die(name: str) -> None:
    old, new = MUTANTS[name]
    assert old in WRITTEN
    with pytest.raises(ProofError):
        prove((HEAD + LOOP).encode(), WRITTEN.replace(old, new, 1).encode())


def test_the_command_line(ampify: Ampify) -> None:
    done = ampify("--runtime", "torch", "-", stdin=(HEAD + LOOP).encode())
    assert (done.returncode, done.stdout.decode()) == (0, WRITTEN)


def test_an_optimizer_of_a_helpers_own_is_named_as_it_is_there() -> None:
    source = (ROOT / "fixtures/calls/helper_with_an_optimizer_of_its_own.in.py").read_bytes()
    (told,) = convert(source, Options(runtime="torch")).diagnostics
    assert "`optimizer` may step without gradients" in told.message
