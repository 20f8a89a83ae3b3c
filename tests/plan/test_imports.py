"""The import: where it stands, what it brings, and under which names."""

import ast

import pytest

from ampify.analysis.analyse import analyse
from ampify.convert import Options, convert
from ampify.plan.planner import make_plan

LOOP = """\
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    optimizer.zero_grad()
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
IMPORT = "from ampify_runtime import autocast, scaler"

# Heads of files, with `>` where the import goes.
PLACES = {
    "after torch": "import torch\n>import json\n",
    "after the last of torch's": "import torch\nimport json\nimport torch.optim as optim\n>import os\n",
    "after torchvision": "import torch\nfrom torchvision import models\n>import os\n",
    "not after a relative torch": "import torch\n>from .torch import x\n",
    "after __future__": "from __future__ import annotations\nimport torch\n>",
    "after a docstring": '"""Doc."""\nimport torch\n>',
    "not in a try": "import torch\n>try:\n    import torchvision\nexcept ImportError:\n    pass\n",
    "not in a function": "import torch\n>def f():\n    import torch.nn\n",
    "not in a main guard": "import torch\n>if x:\n    import torch.optim\n",
    "after one of several on a line": "import torch; import os\n>",
    "after a wrapped import": "import torch\nfrom torch.nn import (\n    Linear,  # a\n    ReLU,\n)\n>",
    "after torch behind code": "import os\nos.environ['A'] = '1'\nimport torch\n>import sys\n",
}


@pytest.mark.parametrize("name", PLACES)
def test_place(name: str) -> None:
    head = PLACES[name]
    result = convert((head.replace(">", "") + LOOP).encode())
    assert result.status == "converted"
    assert result.output.decode().startswith(head.replace(">", IMPORT + "\n"))


def test_place_without_torch() -> None:
    head = "import os\nfrom mine import torch, model, optimizer\n"
    loop = LOOP.split("\n", 2)[2]
    output = convert((head + "x = 1\n" + loop).encode()).output.decode()
    assert output.startswith(head + IMPORT + "\nx = 1\n")


@pytest.mark.parametrize("docstring", ["", '"""Doc."""\n', "# a comment\n"])
def test_place_without_imports(docstring: str) -> None:
    loop = LOOP.replace("torch.nn.Linear(4, 1)", "make()").replace("torch.optim.SGD(model.parameters(), lr=0.1)", "build(model)")
    output = convert((docstring + loop).encode()).output.decode()
    assert ast.get_docstring(ast.parse(output)) == ("Doc." if '"""' in docstring else None)
    assert IMPORT in output.splitlines()[:2]


NAMES = {
    "": {"autocast": "autocast", "scaler": "scaler"},
    "scaler = 1\n": {"autocast": "autocast", "scaler": "grad_scaler"},
    "import scaler\n": {"autocast": "autocast", "scaler": "grad_scaler"},
    "def f(scaler): pass\n": {"autocast": "autocast", "scaler": "grad_scaler"},
    "scaler = grad_scaler = 1\n": {"autocast": "autocast", "scaler": "amp_scaler"},
    "scaler = grad_scaler = amp_scaler = 1\n": {"autocast": "autocast", "scaler": "amp_scaler2"},
    "def autocast(): pass\n": {"autocast": "amp_autocast", "scaler": "scaler"},
    "x.scaler = 1\n": {"autocast": "autocast", "scaler": "scaler"},
    "from ampify_runtime import scaler\n": {"autocast": "autocast", "scaler": "scaler"},
    "from ampify_runtime import scaler as s\n": {"autocast": "autocast", "scaler": "s"},
}


@pytest.mark.parametrize("head", NAMES)
def test_names(head: str) -> None:
    plan = make_plan(analyse(ast.parse("import torch\n" + head + LOOP)))
    assert dict(plan.names) == NAMES[head]
    imported = "ampify_runtime" in head
    assert plan.imports is not None
    assert [n for n, _ in plan.imports.names] == (["autocast"] if imported else ["autocast", "scaler"])


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_pinned_dtype(dtype: str) -> None:
    result = convert(b"import torch\n" + LOOP.encode(), Options(dtype=dtype))  # type: ignore[arg-type]
    head = f'import torch\nfrom ampify_runtime import autocast, configure, scaler\nconfigure(mode="{dtype}")\n'
    assert result.output.decode().startswith(head)
    assert convert(result.output, Options(dtype=dtype)).output == result.output  # type: ignore[arg-type]


def test_no_training_no_import() -> None:
    for text in ("import torch\n", "import torch\nmodel = 1\n# backward\n", "def backward(): pass\n"):
        plan = make_plan(analyse(ast.parse(text)))
        assert (plan.edits, plan.imports, plan.refusals) == ((), None, ())


def test_a_plan_has_edits_or_refusals() -> None:
    right, wrong = ("import torch\n" + LOOP), ("import torch\n" + LOOP.replace("optimizer.step()", "optimizer.step(closure)"))
    plan, refused = make_plan(analyse(ast.parse(right))), make_plan(analyse(ast.parse(wrong)))
    assert plan.edits
    assert not plan.refusals
    assert refused.refusals
    assert not refused.edits
