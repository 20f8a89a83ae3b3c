"""Which files compute gradients without a training step, and which may be a part of one."""

import pytest

from tests.analysis.reading import HEAD, program

MODEL = HEAD + "model = nn.Linear(4, 2)\n"
LOOP = MODEL + "for i in range(3):\n    loss = model(torch.randn(3, 4)).sum()\n    loss.backward()\n    "
METHOD = HEAD + "class Part:\n    def run(self, x):\n        loss = self.model(x).sum()\n        loss.backward()\n        "
ATTACK = (
    HEAD
    + "def attack(model, x, y):\n    x.requires_grad = True\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    "
)
HOOKED = """\
class Maps:
    def __init__(self, model, layer):
        self.model = model.{mode}()
        layer.register_full_backward_hook(lambda m, i, o: kept.append(o[0]))
    def __call__(self, x):
        loss = self.model(x).sum()
        loss.backward()
"""

NONE = {
    "the sign of an input's gradient": ATTACK + "return x + 0.1 * x.grad.data.sign()",
    "an input that is moved": ATTACK + "x.data = x.data + 0.1 * x.grad\n    return x",
    "an optimizer that only clears": ATTACK + "opt = optim.SGD([x], lr=1)\n    opt.zero_grad()\n    return x.grad",
    "at module level": MODEL + "x = torch.randn(3, 4, requires_grad=True)\nmodel(x).max().backward()\nprint(x.grad)",
    "a demonstration": MODEL + "if __name__ == '__main__':\n    loss = model(torch.randn(3, 4)).sum()\n    loss.backward()",
    "a main function": MODEL + "def main():\n    loss = model(torch.randn(3, 4)).sum()\n    loss.backward()\nmain()",
    "printed gradients": LOOP + "print([p.grad.norm() for p in model.parameters()])",
    "hooks that keep gradients": HEAD + HOOKED.format(mode="eval"),
}
SOME = {
    "a step": LOOP + "optimizer.step()",
    "a step by another name": LOOP + "engine.apply_gradients()",
    "an optimizer from elsewhere": HEAD + "def run(model, x, optimizer):\n    loss = model(x).sum()\n    loss.backward()",
    "the loss of a caller": HEAD + "def run(loss):\n    loss.backward()",
    "the loss of an instance": HEAD + "class Part:\n    def run(self):\n        self.loss.backward()",
    "a method's own loss": METHOD + "return loss.item()",
    "parameters' gradients handed on": METHOD + "return [p.grad for p in self.model.parameters()]",
    "a function's own loss": HEAD + "def run(model, x):\n    loss = model(x).sum()\n    loss.backward()",
    "an attack that looks at the parameters too": ATTACK + "return x.grad + model.weight.grad",
    "a gradient of what asked for none": HEAD + "def run(m, x):\n    loss = m(x).sum()\n    loss.backward()\n    return x.grad",
    "data moved by hand": LOOP + "for p in model.parameters():\n        p.data -= 0.1 * p.grad",
    "parameters moved by hand": LOOP + "with torch.no_grad():\n        for p in model.parameters():\n            p.add_(p.grad)",
    "moved by hand in two statements": LOOP + "for p in model.parameters():\n        g = p.grad\n        p.data = p.data - g",
    "moved at once": LOOP + "torch._foreach_add_(list(model.parameters()), 1.0)",
    "an optimizer that another file may step": MODEL + "opt = optim.SGD(model.parameters(), lr=1)\nmodel(x).sum().backward()",
    "the model handed on": LOOP + "other(model)",
    "the parameters handed on": LOOP + "other(list(model.parameters()))",
    "hooks of a model that trains": HEAD + HOOKED.format(mode="train"),
    "second-order gradients": MODEL + "loss = model(x).sum()\nloss.backward(create_graph=True)",
}


@pytest.mark.parametrize("source", NONE.values(), ids=NONE.keys())
def test_files_without_a_training_step(source: str) -> None:
    assert len(program(source).stepless) == 1


@pytest.mark.parametrize("source", SOME.values(), ids=SOME.keys())
def test_files_that_may_be_part_of_one(source: str) -> None:
    assert program(source).stepless == ()
