"""Right idioms with one line wrong: what is found, and where."""

import ast

import pytest

from ampify.doctor.examine import examine
from tests.doctor.idioms import PRELUDE, RIGHT

UNSCALE = "scaler.unscale_(optimizer)\n"

# The idiom, what stands in it, what takes its place, and the findings: code and a part of the line.
WRONG = [
    ("clipping", "    " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("clipping", "    " + UNSCALE, "    scaler.unscale_(optimizer)\n    scaler.unscale_(optimizer)\n", [("AMP302", "unscale_")]),
    ("clipping", "    scaler.update()\n", "", [("AMP303", "scaler.step")]),
    ("clipping", "    scaler.update()\n", "    scaler.update()\n    scaler.update()\n", [("AMP304", "update")]),
    ("typical", "scaler.step(optimizer)\n    scaler.update()", "optimizer.step()", [("AMP305", "optimizer.step()")]),
    ("typical", "scaler.step(optimizer)\n", "optimizer.step()\n", [("AMP305", "optimizer.step()")]),
    ("clipping", "scaler.step(optimizer)", "optimizer.step()", [("AMP305", "optimizer.step()")]),
    ("clipping", "scaler.step(optimizer)", "assert torch.isfinite(loss)\n    optimizer.step()", []),
    ("typical", "scaler.scale(loss).backward()", "loss.backward()", [("AMP306", "loss.backward()")]),
    ("typical", "    scaler.scale", "    print([p.grad.norm() for p in model.parameters()])\n    scaler.scale", []),
    (
        "typical",
        "    scaler.step",
        "    print([p.grad.norm() for p in model.parameters()])\n    scaler.step",
        [("AMP301", "p.grad.norm()")],
    ),
    (
        "typical",
        "    scaler.step",
        "    for p in model.parameters():\n        p.grad.clamp_(-1, 1)\n    scaler.step",
        [("AMP301", "clamp_")],
    ),
    ("accumulation", "        " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("accumulation", "        scaler.update()\n        optimizer.zero_grad()\n", "        optimizer.zero_grad()\n    scaler.update()\n", [("AMP304", "update")]),  # noqa: E501
    ("accumulation that skips", "    " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("two branches", "            " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("branches apart", "        if scaler is not None:\n            " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("correlated by hand", "        " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("switched off by enabled", "    " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("context in a variable, and micro-steps", "        " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("an object that does it all", "                self._scaler.unscale_(optimizer)\n                norm = torch.nn", "                norm = torch.nn", [("AMP301", "clip_grad_norm_(")]),  # noqa: E501
    ("a class, saved and loaded", "        self.scaler.unscale_(self.optimizer)\n", "", [("AMP301", "clip_grad_norm_(")]),
    ("a class, saved and loaded", '        if self.use_amp:\n            state["scaler"] = self.scaler.state_dict()\n', "", []),
    ("steps in several functions", "    " + UNSCALE, "", [("AMP301", "clip_grad_norm_(")]),
    ("a warm-up without mixed precision", "        " + UNSCALE, "", [("AMP301", "clip_grad_norm_(model.parameters(), 1.0)")]),
    ("adversarial", "    scaler.scale(loss2).backward()\n", "    loss2.backward()\n", [("AMP306", "loss2.backward()")]),
    (
        "several models and losses",
        "    scaler.step(optimizer)\n    scaler.step(optimizer2)\n",
        "    scaler.step(optimizer)\n    scaler.update()\n    scaler.step(optimizer2)\n",
        [("AMP304", "scaler.step(optimizer2)")],
    ),
    ("bfloat16 without a scaler", "torch.bfloat16", "torch.float16", [("AMP321", "loss.backward()")]),
    ("bfloat16 without a scaler", '"cuda", dtype=torch.bfloat16', '"cuda:1"', [("AMP325", "cuda:1"), ("AMP321", "loss.backward()")]),  # noqa: E501
    ("bfloat16 without a scaler", '"cuda", dtype=torch.bfloat16', "device_type=device.type", [("AMP321", "loss.backward()")]),
    ("on the CPU", "    loss.backward()", "        loss.backward()", [("AMP322", "loss.backward()")]),
    ("a loss scaled and never looked at", "    del loss\n", "    print(loss.item())\n", [("AMP308", "loss.item()")]),
    ("a scaler for each fold", "    for epoch in range(3):\n", "    for epoch in range(3):\n        scaler = torch.amp.GradScaler('cuda')\n", [("AMP309", "GradScaler('cuda')")]),  # noqa: E501
    ("schedule held back", "if scale <= scaler", "if scale > scaler", [("AMP316", "if scale >")]),
    ("schedule held back", "if scale <= scaler", "if scale == scaler", [("AMP316", "if scale ==")]),
    ("FSDP with its own scaler", "ShardedGradScaler() if args.fp16 else ", "", []),  # imported, perhaps for elsewhere
    ("half for inference", "exported = nn", "model.half()\nexported = nn", [("AMP314", "model.half()")]),
    ("typical", "criterion(model(x), y)", "nn.BCELoss()(torch.sigmoid(model(x)), y)", [("AMP201", "BCELoss")]),
    ("on the CPU", "criterion(model(x), y)", "nn.BCELoss()(torch.sigmoid(model(x)), y)", []),
    ("typical", "criterion(model(x), y)", "(x @ x.t()).masked_fill(y > 0, -1e9).sum()", [("AMP210", "masked_fill")]),
    ("typical", "criterion(model(x), y)", "(x @ x.t()).float().masked_fill(y > 0, -1e9).sum()", []),
    ("bfloat16 without a scaler", "criterion(model(x), y)", "(x @ x.t()).masked_fill(y > 0, -1e9).sum()", []),
    ("custom functions", '@torch.amp.custom_bwd(device_type="cuda")', "@torch.amp.custom_bwd", [("AMP326", "custom_bwd")]),
    ("float32 inside a region", "            loss = criterion(out.float(), y)\n    scaler", "            loss = criterion(out.float(), y)\n        scaler", [("AMP322", "backward")]),  # noqa: E501
    ("options that can be switched off", 'action="store_true", default=False', "type=bool", [("AMP327", '"--amp"')]),
    ("options that can be switched off", 'action="store_true", default=False', "default=True, type=bool, nargs='?', const=True", [("AMP327", '"--amp"')]),  # noqa: E501
    ("options that can be switched off", 'action="store_true", default=False', "default=False", [("AMP327", '"--amp"')]),
    ("options that can be switched off", '"--mixed", default=False, type=int', '"--use-mixed", dest="mixed", default=False', [("AMP327", '"--use-mixed"')]),  # noqa: E501
    ("options that can be switched off", "args.fp16 = args.fp16 in (True, 'True')\n".replace("'", '"'), "", [("AMP327", '"--fp16"')]),  # noqa: E501
    ("states that are asked for", 'args.amp and "scaler" in checkpoint', "args.amp", [("AMP328", "scaler.load_state_dict(")]),
    ("states that may be missed", "except (KeyError, RuntimeError):\n    print", "finally:\n    print", [("AMP329", "scaler.load_state_dict(")]),  # noqa: E501
    ("states that may be missed", 'try:\n    scaler.load_state_dict(checkpoint["scaler"])\nexcept (KeyError, RuntimeError):\n', 'if "scaler" in checkpoint:\n    scaler.load_state_dict(checkpoint["scaler"])\nelse:\n', [("AMP329", "scaler.load_state_dict(")]),  # noqa: E501
    ("states that are looked at", 'if checkpoint["scaler"]:', "if args.amp:", [("AMP329", "scaler.load_state_dict(")]),
    ("states that are there", 'GradScaler("cuda")', 'GradScaler("cuda", enabled=args.amp)', [("AMP329", "scaler.load_state_dict(")]),  # noqa: E501
    ("versions", '[:3] < "2.0"', '[:3] < "1.8"', [("AMP331", "[:3] <")]),
    ("versions", '[:3] < "2.0"', '[:3] < "2.4"', [("AMP331", "[:3] <")]),
    ("versions", '[:3] < "2.0"', '[:3] <= "2"', []),
    ("versions", '> "2"', '> "2.4"', [("AMP331", "split")]),
    ("versions", 'enabled=torch.__version__ >= "2.4"', 'enabled="1.6" <= torch.version.__version__', [("AMP331", "enabled=")]),
    ("versions", 'enabled = torch.__version__ >= "1.10"', 'enabled = str(torch.__version__) >= "1.10"', []),
    ("versions", "enabled=enabled and", "enabled=str(torch.__version__) >= '2.12' and", [("AMP331", "2.12")]),
    ("scalers where there is mixed precision", "        if amp:\n            scaler.scale(loss).backward()\n            scaler.step(optimizer)\n            scaler.update()", "        scaler.scale(loss).backward()\n        scaler.step(optimizer)\n        scaler.update()", [("AMP330", "scaler.scale(loss)")]),  # noqa: E501
    ("scalers where there is mixed precision", "maybe.get_scale() if maybe else 1.0", "maybe.get_scale()", [("AMP330", "print(maybe")]),  # noqa: E501
    ("scalers where there is mixed precision", "    maybe = ", "    if resume:\n        maybe.load_state_dict(resume)\n    maybe = ", [("AMP330", "maybe.load")]),  # noqa: E501
    ("a scaler behind a way out", "        return\n", "        print()\n", [("AMP330", "scaler.scale(")]),
    ("a scaler, or another round", "            continue\n", "            print()\n", [("AMP330", "scaler.scale(")]),
    ("penalty", "    inverse = 1.0 / scaler.get_scale()\n    grads = [p * inverse for p in scaled]\n", "    grads = scaled\n", [("AMP332", "create_graph=True")]),  # noqa: E501
    ("penalty", "    inverse = 1.0 / scaler.get_scale()\n    grads = [p * inverse for p in scaled]\n", "    grads = [p / 65536.0 for p in scaled]\n", []),  # noqa: E501
    ("gradients with a graph", "torch.autograd.grad(loss, x,", "torch.autograd.grad(scaler.scale(loss), x,", [("AMP332", "slope =")]),  # noqa: E501
    ("gradients with a graph", "    slope = torch.autograd.grad(loss, x,", "    scaled = scaler.scale(loss)\n    slope = torch.autograd.grad(scaled, x,", [("AMP332", "slope =")]),  # noqa: E501
    ("a scaler for each training", "if args.fp16:\n    scaler.load_state_dict(torch.load(\"c.pt\"))\nelse:\n    scaler", "scaler.load_state_dict(torch.load(\"c.pt\"))\nif True:\n    pass\nscaler", [("AMP333", "init_scale")]),  # noqa: E501
    ("evaluation as the training", "    with ctx:\n        predict", "    predict", []),
    ("evaluation, and none that is cast", "    with ctx:\n        predict", "    predict", [("AMP334", "return model(x)")]),
    ("evaluation, and none that is cast", "    with cast():\n", "    if model:\n", [("AMP334", "return model(data")]),
    ("evaluation as the training", "        print(loss.item(), picked)", "            print(loss.item(), picked)", [("AMP335", "print(")]),  # noqa: E501
    ("evaluation as the training", "        print(loss.item(), picked)", "            torch.distributed.all_reduce(picked)", [("AMP335", "all_reduce")]),  # noqa: E501
    ("evaluation as the training", "        with torch.no_grad():\n            weights", "        if x is y:\n            weights", []),  # noqa: E501
    ("typical", "criterion(model(x), y)", "torch.linalg.det(model(x).t() @ model(x))", [("AMP214", "det")]),
    ("typical", "criterion(model(x), y)", "torch.linalg.det((model(x).t() @ model(x)).float())", []),
    ("typical", "criterion(model(x), y)", "torch.linalg.det(torch.ones(2, 2))", []),
    ("on the CPU", "criterion(model(x), y)", "torch.linalg.det(model(x).t() @ model(x))", []),
    ("typical", "loss = criterion(model(x), y)", "out = model(x)\n        kept = torch.zeros(2, 2)\n        kept[out > 0] = out[out > 0]\n        loss = kept.sum()", [("AMP212", "kept[out > 0]")]),  # noqa: E501
    ("typical", "loss = criterion(model(x), y)", "out = model(x)\n        kept = torch.zeros_like(out)\n        kept[out > 0] = out[out > 0]\n        loss = kept.sum()", []),  # noqa: E501
    ("typical", "loss = criterion(model(x), y)", "out = model(x)\n        kept = torch.zeros(2, 2)\n        kept[0] = out[0]\n        loss = kept.sum()", []),  # noqa: E501
    ("typical", "loss = criterion(model(x), y)", "out = model(x)\n        kept = torch.zeros(2, 2)\n        kept.index_add_(0, y, out)\n        loss = kept.sum()", [("AMP212", "index_add_")]),  # noqa: E501
    ("bfloat16 without a scaler", "    loss.backward()", "        shown = model(x).detach().cpu().numpy()\n    loss.backward()", [("AMP216", "numpy()")]),  # noqa: E501
    ("bfloat16 without a scaler", "    loss.backward()", "        shown = model(x).detach().float().cpu().numpy()\n    loss.backward()", []),  # noqa: E501
    ("typical", "    scaler.scale", "        shown = model(x).detach().cpu().numpy()\n    scaler.scale", []),
    ("contexts by partial", "dtype=torch.bfloat16)", "dtype=torch.float16)", [("AMP321", "loss.backward()")]),
    ("contexts by partial", 'partial(torch.autocast, "cuda", dtype=torch.bfloat16)', '(lambda: torch.autocast("cuda"))', [("AMP321", "loss.backward()")]),  # noqa: E501
    ("contexts by partial", "else torch.bfloat16", "else torch.half", [("AMP321", "loss.backward()")]),
    ("contexts by partial", 'name = "bfloat16"', 'name = "float16"', [("AMP321", "loss.backward()")]),
    ("contexts by partial", 'table[name])', 'table["float16"])', [("AMP321", "loss.backward()")]),
]  # fmt: skip


@pytest.mark.parametrize(("idiom", "old", "new", "expected"), WRONG)
def test_a_wrong_line_is_found(idiom: str, old: str, new: str, expected: list[tuple[str, str]]) -> None:
    assert RIGHT[idiom].count(old) >= 1
    text = PRELUDE + RIGHT[idiom].replace(old, new, 1)
    lines = text.splitlines()
    found = [(f.code, lines[f.line - 1]) for f in examine(ast.parse(text))]
    assert [code for code, _ in found] == [code for code, _ in expected], found
    assert all(part in line for (_, line), (_, part) in zip(found, expected, strict=True)), found
