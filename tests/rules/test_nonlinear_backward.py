"""AMP231: the loss scale is taken off round a custom backward that is not linear in the gradient."""

import os
from pathlib import Path

import pytest

import ampify
from ampify.cli import main
from ampify.proof import ProofError, prove

HEAD = """\
import some_ext
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

bias = nn.Parameter(torch.zeros(4))


class Op(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        {body}
"""
TRAINING = """
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = Op.apply(model(x), y).sum()
    loss.backward()
    optimizer.step()
"""
WRITTEN = ["@full_precision_fwd", "@unscaled_bwd"]


def script(body: str, more: str = "") -> str:
    return HEAD.replace("{body}", body.replace("\n", "\n        ")) + more + TRAINING


def written(output: bytes) -> list[str]:
    marks = ("@full_precision_fwd", "@unscaled_bwd", "@custom_")
    return [line.strip() for line in output.decode().splitlines() if line.strip().startswith(marks)]


LINEAR = """
return grad
return grad, None
return -grad, 2 * grad
return grad.clone()
return grad * y
return grad / ctx.n
return grad @ y.t(), x.t() @ grad
return grad.mm(y), grad.sum(0)
return torch.matmul(grad, y)
return grad * (x > 0)
return grad * (x.abs() <= 1).float()
return grad * x.pow(2)
return grad * x ** 2
return grad * torch.exp(x)
return torch.where(x > 0, grad, torch.zeros_like(grad))
return grad.masked_fill(x < 0, 0)
return grad.view(x.shape).permute(1, 0).contiguous()
return F.conv2d(grad, y)
return grad + grad.t()
return grad.to(x.dtype)
g = grad.clone(); g[x < 0] = 0; return g
g = grad * y if ctx.needs_input_grad[0] else None; return g
return None if grad is None else grad
""".strip().splitlines()

NONLINEAR = """
return grad.clamp(-1, 1)
return grad.clamp_(min=-1)
return torch.clamp(grad, -1, 1)
return torch.clamp(input=grad, min=0)
return grad.sign()
return torch.sign(grad)
return grad.abs()
return grad ** 2
return 2 ** grad
return grad.pow(2)
return grad % 2
return grad // 2
return grad * (grad > 0)
return torch.where(grad > 0, grad, 0 * grad)
return grad / grad.norm()
return F.normalize(grad)
return grad.relu()
return torch.tanh(grad)
return grad.round()
return grad.exp()
return grad if grad.max() < 3 else 0 * grad
return clip(grad)
return torch.maximum(grad, y)
g = grad.clone(); g[g > 1] = 1; return g
g = grad * y; h = g.t(); return h.clamp(-1, 1)
g: torch.Tensor = grad * y; return g.clamp(-1, 1)
(g := grad * y); return g.clamp(-1, 1)
g = grad; g **= 2; return g
g = 0; g += grad; return g.clamp(-1, 1)
return grad * grad
return grad.mul(grad)
return grad + 1
return grad + 0.1 * x
return grad.add(1)
return x
return torch.ones_like(x)
return ctx.gradient, None
y.mul_(grad); return grad * y
""".strip().splitlines()


@pytest.mark.parametrize("body", LINEAR)
def test_linear(body: str) -> None:
    result = ampify.convert(script(body).encode())
    assert result.status == "converted", result.diagnostics
    assert set(written(result.output)) <= {"@custom_fwd", "@custom_bwd"}


@pytest.mark.parametrize("body", NONLINEAR)
def test_nonlinear(body: str) -> None:
    result = ampify.convert(script(body).encode())
    assert result.status == "converted", result.diagnostics
    assert written(result.output) == WRITTEN
    assert ampify.convert(result.output).status == "already"


# The backward calls `slope(x, grad)`, a function of the file.
HELPERS = {
    "a product": ("def slope(x, g):\n    s = torch.sigmoid(x)\n    return g * (s * (1 + x))\n", True),
    "scripted": ("@torch.jit.script\ndef slope(x, g):\n    return g.mul(x)\n", True),
    "through another": ("def twice(g):\n    return 2 * g\n\n\ndef slope(x, g):\n    return twice(g) * x\n", True),
    "by an option": ("def slope(x, g, plain=False):\n    if plain:\n        return g\n    return g * x\n", True),
    "called like torch's": ("def slope(x, g):\n    return flip(g)\n\n\ndef flip(g):\n    return g.sign()\n", False),
    "a clamp": ("def slope(x, g):\n    return (g * x).clamp(-1, 1)\n", False),
    "a clamp in place": ("def slope(x, g):\n    g.clamp_(-1, 1)\n    return g\n", False),
    "a clamp further on": ("def low(g):\n    return g.clamp(-1, 1)\n\n\ndef slope(x, g):\n    return low(g) * x\n", False),
    "changes what it is given": ("def slope(x, g):\n    x.mul_(g)\n    return g\n", False),
    "by the size": ("def slope(x, g):\n    if g.sum() > 1:\n        return g\n    return 0 * g\n", False),
    "returns nothing": ("def slope(x, g):\n    g * x\n", False),
    "another decorator": ("@some_ext.clipped\ndef slope(x, g):\n    return g * x\n", False),
    "calls itself": ("def slope(x, g):\n    return slope(x, g) * x\n", False),
    "any arguments": ("def slope(*given):\n    return given[1] * given[0]\n", False),
    "two of the name": ("def slope(x, g):\n    return g\n\n\ndef slope(x, g):\n    return g.sign()\n", False),
}


@pytest.mark.parametrize("name", HELPERS)
def test_functions_that_the_backward_calls(name: str) -> None:
    helper, linear = HELPERS[name]
    source = script("return slope(x, grad), None").replace("\n\nclass Op", f"\n\n{helper}\n\nclass Op")
    result = ampify.convert(source.encode())
    assert result.status == "converted", result.diagnostics
    assert written(result.output) == (["@custom_fwd", "@custom_bwd"] if linear else WRITTEN)


def test_a_parameter_of_the_name_of_a_function() -> None:
    helper = "def slope(x, g):\n    return g * x\n"
    source = script("slope = x.numpy\nreturn slope(x, grad), None").replace("\n\nclass Op", f"\n\n{helper}\n\nclass Op")
    assert written(ampify.convert(source.encode()).output) == WRITTEN


SEVERAL = "def backward(ctx, *grads):"
FORMS = {
    "loop": (script("out = []\nfor g in (grad, grad):\n    out.append(g.clamp(-1, 1))\nreturn out[0], None"), WRITTEN),
    "several gradients": (script("return grads[0].clamp(-1, 1)").replace("def backward(ctx, grad):", SEVERAL), WRITTEN),
    "several linear ones": (script("return grads[0] * y, None").replace("def backward(ctx, grad):", SEVERAL), []),
    "products": (script("return grad.clamp(-1, 1) @ y, None"), WRITTEN),
    "an extension's": (script("return some_ext.backward(grad, x), None"), WRITTEN),
    "a function's own gradient": (script("return torch.autograd.grad(x * y, x, grad.clamp(-1, 1))[0], None"), WRITTEN),
    "vjp": (script("return grad.sign(), None").replace("def backward(", "def vjp("), WRITTEN),
    "decorated": (
        script("return grad.sign(), None").replace("    def backward", "    @once_differentiable\n    def backward"),
        WRITTEN,
    ),
    "setup_context": (
        script("return grad.sign(), None", "\n    @staticmethod\n    def setup_context(ctx, inputs, output):\n"
               "        ctx.save_for_backward(*inputs)\n").replace("forward(ctx, x, y):\n        ctx.save_for_backward(x, y)",
                                                                  "forward(x, y):"),
        ["@full_precision_fwd", "@unscaled_bwd", "@full_precision_fwd"],
    ),
    "not applied": (script("return grad.sign(), None").replace("Op.apply(model(x), y)", "model(x)"), WRITTEN),
    "of another class": (script("return grad.sign(), None").replace("torch.autograd.Function", "Layer"), []),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_written(case: str) -> None:
    source, expected = FORMS[case]
    result = ampify.convert(source.encode())
    assert result.status == "converted", result.diagnostics
    assert written(result.output) == expected
    assert ampify.convert(result.output).status == "already"


def test_the_decorator_is_the_innermost() -> None:
    """once_differentiable and staticmethod get what it makes of the function."""
    output = ampify.convert(FORMS["decorated"][0].encode()).output
    assert b"    @staticmethod\n    @once_differentiable\n    @unscaled_bwd\n    def backward(" in output


def test_two_classes_of_one_name() -> None:
    one = (
        script("return grad, None")
        .partition("class Op")[2]
        .partition("\n\nmodel")[0]
        .replace("return grad", "return grad.sign()")
    )
    source = script("return grad, None", "\ndef make():\n    class Op" + one.replace("\n", "\n    ") + "\n    return Op\n")
    result = ampify.convert(source.encode())
    assert written(result.output) == WRITTEN, result.diagnostics


@pytest.mark.parametrize("lost", WRITTEN)
def test_a_lost_decorator_breaks_the_promise(lost: str) -> None:
    source = script("return grad.sign(), None").encode()
    output = ampify.convert(source).output
    prove(source, output)
    with pytest.raises(ProofError):
        prove(source, output.replace(f"    {lost}\n".encode(), b""))


OPERATOR = "\ndef derive(ctx, grad):\n    return {}\n\n{}\n"
REFUSED = {
    "sets a gradient": script("bias.grad = grad.sum(0)\nreturn grad.sign(), None"),
    "looks at a gradient": script("return grad.sign() * (x.grad is None), None"),
    "goes backward": script("loss = (x * grad).sum()\nloss.backward()\nreturn grad.sign(), None"),
    "goes backward by torch": script("torch.autograd.backward(x, grad)\nreturn grad.sign(), None"),
    "asks for overflows": script("return grad if torch.isfinite(grad).all() else 0 * grad, None"),
    "hides overflows": script("return torch.nan_to_num(grad), None"),
    "hides NaN": script("grad[grad != grad] = 0\nreturn grad, None"),
    "in a helper": script("return clean(grad), None", "\ndef clean(g):\n    return g.nan_to_num(0)\n"),
    "in place": script("return grad.sign(), None").replace("return x\n", "ctx.mark_dirty(x)\n        return x.neg_()\n"),
    "no forward": script("return grad.sign(), None").replace("def forward", "def forwards"),
    "assigned": script("return grad.sign(), None", "\n    backward = staticmethod(lambda ctx, g: (g.sign(), None))\n"),
    "operator": script("return grad, None", OPERATOR.format("grad.sign()", 'torch.library.register_autograd("a::b", derive)')),
    "operator's method": script("return grad, None", OPERATOR.format("grad.sign()", "op.register_autograd(derive)")),
    "operator, by keyword": script("return grad, None", OPERATOR.format("grad ** 2", "op.register_autograd(backward=derive)")),
    "operator, unknown": script("return grad, None", "\nop.register_autograd(some_ext.derive)\n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    result = ampify.convert(REFUSED[case].encode())
    assert result.status == "refused"
    assert "AMP908" in {d.code for d in result.diagnostics} or (case.startswith("goes") and result.diagnostics)


def test_a_linear_operator() -> None:
    source = script("return grad, None", OPERATOR.format("grad * 2", "op.register_autograd(derive)"))
    assert ampify.convert(source.encode()).status == "converted"


def test_no_training_no_hazard() -> None:
    source = script("return grad.sign(), None").replace("loss.backward()", "pass")
    assert ampify.convert(source.encode()).status == "unchanged"


def test_plain_torch_has_no_such_decorators() -> None:
    result = ampify.convert(script("return grad.sign(), None").encode(), ampify.Options(runtime="torch"))
    assert {d.code for d in result.diagnostics} == {"AMP923"}


def test_without_the_rule_the_file_is_refused() -> None:
    """In float32 too it would learn something else."""
    result = ampify.convert(script("return grad.sign(), None").encode(), ampify.Options(skip=frozenset({"AMP231"})))
    assert {d.code for d in result.diagnostics} == {"AMP908"}


# solvers of libraries ------------------------------------------------------------------------------

SOLVERS = {
    "torchdiffeq": "from torchdiffeq import odeint_adjoint as odeint",
    "either": "if args:\n    from torchdiffeq import odeint_adjoint as odeint\nelse:\n    from torchdiffeq import odeint",
    "by module": "import torchdiffeq\nodeint = torchdiffeq.odeint_adjoint",
    "torchsde": "from torchsde import sdeint_adjoint as odeint",
}


@pytest.mark.parametrize("case", SOLVERS)
def test_the_runtime_sees_to_solvers(case: str) -> None:
    source = script("return grad, None", "\n" + SOLVERS[case] + "\n").replace("Op.apply(model(x), y)", "odeint(model, x, y)")
    result = ampify.convert(source.encode())
    assert result.status == "converted", result.diagnostics
    assert written(result.output) == []
    result = ampify.convert(source.encode(), ampify.Options(runtime="torch"))
    assert {d.code for d in result.diagnostics} == {"AMP923"}


# imported files ------------------------------------------------------------------------------------


@pytest.fixture
def ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script whose function is in another file."""
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("import torch\nimport torch.nn as nn\nfrom ops import Op\n" + TRAINING)
    Path("ops.py").write_text(HEAD.replace("{body}", "return grad.sign(), None"))
    return Path("ops.py")


def test_a_function_in_another_file(ops: Path) -> None:
    assert main(["."]) == 0
    assert written(ops.read_bytes()) == WRITTEN
    assert "scaler.scale(loss)" in Path("train.py").read_text()
    assert main(["."]) == 0


def test_a_function_in_a_file_that_was_not_given(ops: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = ops.read_text()
    assert main(["train.py"]) == 3
    assert "AMP925" in capfd.readouterr().err
    assert ops.read_text() == before


def test_a_function_in_another_file_that_cannot_be_mended(ops: Path) -> None:
    ops.write_text(ops.read_text().replace("grad.sign()", "grad.nan_to_num()"))
    before = Path("train.py").read_text()
    assert main(["."]) == 3
    assert Path("train.py").read_text() == before


LIBRARY = HEAD.replace("{body}", "return grad.sign(), None").replace("Op", "OdeintAdjointMethod")


@pytest.mark.parametrize("inside", [False, True])
def test_a_library_beside_the_script(ops: Path, inside: bool) -> None:
    """Known by the name that it is imported by; as a part of another package it is not."""
    parent = "lib." if inside else ""
    folder = Path(parent.replace(".", os.sep), "torchdiffeq", "_impl")
    folder.mkdir(parents=True)
    Path(folder, "adjoint.py").write_text(LIBRARY)
    source = Path("train.py").read_text().replace("from ops import Op", f"from {parent}torchdiffeq._impl.adjoint import solve")
    Path("train.py").write_text(source.replace("Op.apply", "solve"))
    assert main(["train.py"]) == (3 if inside else 0)
    assert written(Path(folder, "adjoint.py").read_bytes()) == []


def test_plain_torch_and_a_solver_in_another_file(ops: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ops.write_text("import torch\nfrom torchdiffeq import odeint_adjoint\n\n\nclass Op:\n    apply = odeint_adjoint\n")
    assert main(["--runtime", "torch", "."]) == 3
    assert "AMP923" in capfd.readouterr().err
    assert main(["."]) == 0
