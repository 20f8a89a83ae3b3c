"""Sites: what one statement does to gradients, optimizers and the scaler, and what only looks like it."""

import pytest

from tests.analysis.reading import HEAD, TRAINED, codes, events, program

NOTHING = """
print(loss)
print("loss.backward()", "optimizer.step()")
history.append(loss.item())
later = lambda: loss.backward()
p.grad = None
model.weight.grad = None
del p.grad
p.grad.zero_()
p.grad.data.zero_()
p.grad.detach_()
has = p.grad is None
has = p.grad is not None
assert p.grad is not None
print(p.grad.shape, p.grad.device, p.grad.dtype)
x.requires_grad_()
x.requires_grad = True
torch.set_grad_enabled(False)
state, reward, done, info = env.step(action)
env.step(0)
self.env.step(action)
prof.step()
profiler.step()
self.profiler.step()
timer.step()
pbar.step(3)
sim.step()
torch.cuda.synchronize()
args.backward = True
step()
backward(loss)
optimizer.state_dict()
lr = optimizer.param_groups[0]['lr']
scaler.update()
scaler.fit_transform(x)
counter.update(x)
""".strip().splitlines()


@pytest.mark.parametrize("statement", NOTHING)
def test_is_no_event(statement: str) -> None:
    assert [e for e in events(statement + "\n") if not e.startswith("read?")] == []
    assert codes(statement + "\n") == set()


NO_READING = [
    "if p.grad is None: pass",
    "if p.grad is not None and flag: pass",
    "if not p.grad: pass",
    "while p.grad is None: pass",
    "def closure():\n    pass",
    "class Trainer:\n    def later(self, loss): pass",
]


@pytest.mark.parametrize("statement", NO_READING)
def test_is_no_reading(statement: str) -> None:
    assert events(statement + "\n") == []


def test_a_function_is_no_event_of_its_surroundings() -> None:
    scopes = program(TRAINED + "def closure():\n    loss.backward()\n").scopes
    assert [e.kind.value for s in scopes[0].statements() for e in s.events][-1] == "step"


EVENTS = {
    "loss.backward()": ["backward"],
    "loss.backward(retain_graph=True)": ["backward"],
    "loss.backward(torch.ones_like(loss))": ["backward"],
    "loss.backward(create_graph=False)": ["backward"],
    "loss.mean().backward()": ["backward"],
    "g = torch.autograd.grad(loss, x, create_graph=True)": ["differentiate"],
    "from torch.autograd import grad\ng = grad(loss, x, create_graph=flag)": ["differentiate"],
    "from torch import autograd\ng = autograd.grad(loss, x, None, True, True)[0]": ["differentiate"],
    "g = torch.autograd.grad(loss, x)": [],
    "state = {'opt': optimizer.state_dict()}": ["save"],
    "state['opt'] = optimizer.state_dict()": ["save"],
    "state = dict(opt=optimizer.state_dict(), epoch=3)": ["save"],
    "best = optimizer.state_dict()": [],
    "optimizer.load_state_dict(ckpt['opt'])": ["load"],
    "optimizer.load_state_dict(state)": ["load"],
    "(a + b).backward()": ["backward"],
    "losses['gen'].backward()": ["backward"],
    "self.loss.backward()": ["backward"],
    "sum(losses).backward()": ["backward"],
    "torch.autograd.backward(loss)": ["backward"],
    "torch.autograd.backward([a, b])": ["backward"],
    "torch.autograd.backward(tensors=[a, b], retain_graph=True)": ["backward"],
    "a.backward(); b.backward()": ["backward", "backward"],
    "if flag: loss.backward()": ["backward"],
    "with timer: loss.backward()": ["backward"],
    "optimizer.step()": ["step optimizer"],
    "value = optimizer.step()": ["step optimizer"],
    "loss.backward(), optimizer.step()": ["backward", "step optimizer"],
    "other = optimizer\nother.step()": ["step optimizer"],
    "optimizer.zero_grad()": ["zero_grad optimizer"],
    "optimizer.zero_grad(set_to_none=True)": ["zero_grad optimizer"],
    "model.zero_grad()": ["zero_grad optimizer"],
    "for p in model.parameters():\n    p.grad = None": ["zero_grad optimizer"],
    "for p in model.parameters():\n    if p.grad is not None:\n        p.grad.zero_()": ["zero_grad optimizer"],
    "for o in (optimizer, optimizer): o.zero_grad()": ["zero_grad optimizer", "zero_grad optimizer", "zero_grad"],
    "nn.utils.clip_grad_norm_(model.parameters(), 1.0)": ["read optimizer"],
    "torch.nn.utils.clip_grad_norm(model.parameters(), 1.0)": ["read optimizer"],
    "nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)": ["read optimizer"],
    "model.clip_grad_norm_(1.0)": ["read optimizer"],
    "norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])": ["read optimizer", "read optimizer"],
    "total = sum(p.grad.norm() for p in model.parameters())": ["read optimizer"],
    "grads = [p.grad for p in model.parameters()]": ["read optimizer"],
    "print(model.weight.grad)": ["read optimizer"],
    "print(model.weight.grad.shape, model.weight.grad.norm())": ["read optimizer"],
    "model.weight.grad *= 2": ["replace optimizer"],
    "model.weight.grad.mul_(2)": ["read optimizer"],
    "model.weight.grad[0] = 0": ["read optimizer"],
    "model.weight.grad = model.weight.grad * 2": ["read optimizer", "replace optimizer"],
    "model.weight.grad = noise": ["replace optimizer"],
    "if model.weight.grad.isnan().any(): pass": ["read optimizer"],
    "if model.weight.grad > 3: pass": ["read optimizer"],
    "for p in model.parameters():\n    p.grad.div_(2)": ["read optimizer"],
    "report(model)": ["read? optimizer"],
    "report(optimizer)": ["handed optimizer", "read? optimizer"],
    "report(model.parameters())": ["read? optimizer"],
    "sched = optim.lr_scheduler.StepLR(optimizer, 3)\nsched.step()": ["schedule sched"],
    "sched = optim.lr_scheduler.ReduceLROnPlateau(optimizer)\nsched.step(loss)": ["schedule sched"],
    "optimizer = optim.SGD(model.parameters())": ["create optimizer"],
    "optimizer = getattr(optim, name)(groups)": ["create optimizer"],
}


@pytest.mark.parametrize("snippet", EVENTS)
def test_events(snippet: str) -> None:
    assert events(snippet + "\n") == EVENTS[snippet]


CONVERTED = {
    "scaler.scale(loss).backward()": ["backward!"],
    "scaler.scale(loss).backward(retain_graph=True)": ["backward!"],
    "torch.autograd.backward(scaler.scale([a, b]))": ["backward!"],
    "scaler.unscale_(optimizer)": ["unscale_! optimizer"],
    "scaler.step(optimizer)": ["step! optimizer"],
    "scaler.update()": ["update!"],
    "scaler.step_scheduler(scheduler)": [],
    "loss.backward()": ["backward"],
    "optimizer.step()": ["step optimizer"],
    "other.update()": [],
}


@pytest.mark.parametrize("alias", ["scaler", "grad_scaler"])
@pytest.mark.parametrize("snippet", CONVERTED)
def test_events_through_the_scaler(snippet: str, alias: str) -> None:
    head = f"from ampify_runtime import scaler{' as grad_scaler' if alias != 'scaler' else ''}\n" + TRAINED
    assert events(snippet.replace("scaler.s", f"{alias}.s").replace("scaler.u", f"{alias}.u") + "\n", head) == CONVERTED[snippet]


def test_anothers_scaler_is_none_of_ours() -> None:
    head = "from sklearn.preprocessing import scaler\n" + TRAINED
    assert events("scaler.update()\n", head) == []


REFUSED = {
    "optimizer.step(closure)": "AMP901",
    "optimizer.step(lambda: 1)": "AMP901",
    "o = optim.LBFGS(model.parameters())\no.step()": "AMP901",
    "h = torch.autograd.functional.hessian(f, x)": "AMP902",
    "loss.backward(create_graph=True)": "AMP902",
    "loss.backward(create_graph=args.second)": "AMP902",
    "model.weight.data -= 0.1 * model.weight.grad": "AMP903",
    "model.weight.sub_(0.1 * model.weight.grad)": "AMP903",
    "for p in model.parameters():\n    p.data.add_(p.grad, alpha=-0.1)": "AMP903",
    "for p in model.parameters():\n    g = p.grad\n    p.data.sub_(g)": "AMP903",
    "dist_autograd.backward(context, [loss])": "AMP904",
    "x = loss.backward": "AMP904",
    "run(loss.mean().backward)": "AMP904",
    "run(losses[i].backward)\nloss.backward()": "AMP904",
    "run(optimizer.step)\nloss.backward()": "AMP904",
    "engine = make()\nmodel.backward(loss)": "AMP904",
    "x.register_hook(f)\nloss.backward()": "AMP906",
    "x.register_post_accumulate_grad_hook(f)\nloss.backward()": "AMP906",
    "optimizer.step(3)": "AMP912",
    "for o in optimizers: o.step()\nloss.backward()": "AMP913",
    "thing.step()\nloss.backward()": "AMP913",
    "F.mse_loss(model(x), y).backward()": "AMP914",
    "(a @ b).backward()": "AMP914",
    "other = nn.Linear(1, 1)\nprint(other.weight.grad)\nloss.backward()": "AMP915",
    "torch.distributed.all_reduce(p.grad)": "AMP917",
    "for p in model.parameters():\n    torch.distributed.all_reduce(p.grad.sign())": "AMP917",
    "model.half()\nloss.backward()": "AMP918",
    "model.to(torch.bfloat16)\nloss.backward()": "AMP918",
    "model.to(dtype=torch.float16)\nloss.backward()": "AMP918",
    "torch.set_default_dtype(torch.bfloat16)\nloss.backward()": "AMP918",
}  # fmt: skip


@pytest.mark.parametrize("snippet", REFUSED)
def test_refused(snippet: str) -> None:
    assert REFUSED[snippet] in codes(snippet + "\n")


NOT_REFUSED = {
    "no training here": (HEAD, "x.register_hook(f)\nmodel.half()\nF.binary_cross_entropy(a, b)\nthing.step()"),
    "BCE with logits": (TRAINED, "x = F.binary_cross_entropy_with_logits(a, b)\nloss.backward()"),
    "a tensor in half": (TRAINED, "x = x.half()\ny = y.to(torch.float16)\nloss.backward()"),
    "a model in double": (TRAINED, "model.double()\ntorch.set_default_dtype(torch.float64)\nloss.backward()"),
    "a hook on the forward": (TRAINED, "model.register_forward_hook(f)\nloss.backward()"),
    "all_reduce of a loss": (TRAINED, "torch.distributed.all_reduce(loss)\nloss.backward()"),
    "a clipped weight": (TRAINED, "for p in model.parameters():\n    p.data.clamp_(-1, 1)\nloss.backward()"),
    "a backward of a function": (TRAINED, "class F(A):\n    pass\nx = F.backward\ny = torch.Tensor.backward\nloss.backward()"),
    "a backward of an engine": (TRAINED, "x = model.backward\nloss.backward()"),
    "a backward of a base": (
        TRAINED,
        "class F(A):\n    def f(self):\n        return super().backward, self.backward\nloss.backward()",
    ),
    "a step where nothing goes backward": (TRAINED, "x = optimizer.step"),
    "a turtle": ("from turtle import *\n", "backward(10)\nt = Turtle()\nt.backward(10)"),
    "a class of turtles": ("import turtle\n", "class T(turtle.Turtle):\n    def f(self): self.backward(10)\nx = T()\nx.f()"),
    "a step that takes an action": (TRAINED, "thing.step(action)\nloss.backward()"),
}


@pytest.mark.parametrize("name", NOT_REFUSED)
def test_not_refused(name: str) -> None:
    head, snippet = NOT_REFUSED[name]
    assert codes(snippet + "\n", head) == set()
