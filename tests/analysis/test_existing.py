"""Existing mixed precision: what counts as using it, and what does not."""

import ast

import pytest

from ampify.analysis.existing import amp_in_use
from ampify.analysis.names import Names

NOT_AMP = [
    "",
    "x = 'torch.cuda.amp'  # torch.autocast",
    "from torch.cuda.amp import autocast",
    "from torch.cuda.amp import autocast, GradScaler",
    "import apex",
    "from apex import amp",
    "from accelerate import Accelerator",
    "import pytorch_lightning as pl",
    "import torch.cuda.amp",
    "try:\n    from apex import amp\nexcept ImportError:\n    amp = None",
    "from .apex import thing\nthing()",
    "from . import accelerate\naccelerate.go()",
    "import apexlike\napexlike.run()",
    "import lightning_utils\nlightning_utils.x()",
    "amp = 3\nprint(amp)",
    "import torch\ntorch.amplitude(x)",
    "import torch\ntorch.autocast_like(x)",
    "import torch\nx = torch.cuda.amplify",
    "from mine import autocast\nautocast()",
    "signal.amp.scale()",
]

AMP = [
    ("import torch\nwith torch.autocast('cuda'): pass", "torch.autocast"),
    ("import torch\nwith torch.cuda.amp.autocast(): pass", "torch.cuda.amp"),
    ("import torch\nscaler = torch.amp.GradScaler()", "torch.amp"),
    ("from torch import autocast\n@autocast('cuda')\ndef f(): pass", "torch.autocast"),
    ("from torch.cuda import amp\ns = amp.GradScaler()", "torch.cuda.amp"),
    ("from torch.cuda.amp import GradScaler as G\ns = G()", "torch.cuda.amp"),
    ("import torch.cuda.amp as amp\ns = amp.GradScaler()", "torch.cuda.amp"),
    ("import torch as th\nwith th.cpu.amp.autocast(): pass", "torch.cpu.amp"),
    ("from apex import amp\nm, o = amp.initialize(m, o)", "apex"),
    ("import apex\nm = apex.amp.initialize(m)", "apex"),
    ("from accelerate import Accelerator\na = Accelerator()", "accelerate"),
    ("import pytorch_lightning as pl\nclass M(pl.LightningModule): pass", "pytorch_lightning"),
    ("import lightning as L\nL.Fabric()", "lightning"),
    ("import deepspeed\ndeepspeed.initialize()", "deepspeed"),
    ("def f():\n    from torch.cuda.amp import autocast\n    with autocast(): pass", "torch.cuda.amp"),
    ("import torch\nac = torch.autocast\nwith ac('cuda'): pass", "torch.autocast"),
]


def _used(source: str) -> str:
    tree = ast.parse(source)
    return amp_in_use(Names(tree))


@pytest.mark.parametrize("source", NOT_AMP)
def test_is_not_in_use(source: str) -> None:
    assert _used(source) == ""


@pytest.mark.parametrize(("source", "name"), AMP)
def test_is_in_use(source: str, name: str) -> None:
    assert _used(source) == name
