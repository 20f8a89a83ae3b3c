"""Hazards: a custom backward may only do what commutes with a scaled gradient."""

import pytest

from tests.analysis.reading import HEAD, codes

FUNCTION = """\
class Op(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x

    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
{body}

model = nn.Linear(4, 1)
optimizer = optim.SGD(model.parameters(), lr=0.1)
loss = Op.apply(model(x), y).sum()
loss.backward()
optimizer.step()
"""

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
""".strip().splitlines()


def _codes(body: str) -> set[str]:
    return codes(FUNCTION.format(body=f"        {body}"), HEAD)


@pytest.mark.parametrize("body", LINEAR)
def test_linear(body: str) -> None:
    assert _codes(body) == set()


@pytest.mark.parametrize("body", NONLINEAR)
def test_nonlinear(body: str) -> None:
    assert _codes(body) == {"AMP908"}


def test_nonlinear_in_a_loop() -> None:
    assert _codes("out = []\n        for g in (grad, grad):\n            out.append(g.clamp(-1, 1))\n        return out") == {
        "AMP908"
    }


def test_several_gradients() -> None:
    source = FUNCTION.replace("backward(ctx, grad)", "backward(ctx, *grads)")
    assert codes(source.format(body="        return grads[0] * y"), HEAD) == set()
    assert codes(source.format(body="        return grads[0].clamp(-1, 1)"), HEAD) == {"AMP908"}


def test_a_backward_of_another_class_may_be_anything() -> None:
    source = FUNCTION.replace("torch.autograd.Function", "Layer")
    assert codes(source.format(body="        return grad.clamp(-1, 1)"), HEAD) == set()


def test_no_training_no_hazard() -> None:
    source = FUNCTION.replace("loss.backward()", "")
    assert codes(source.format(body="        return grad.clamp(-1, 1)"), HEAD) == set()
