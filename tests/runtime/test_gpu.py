"""What only an accelerator can show: run with -m gpu."""

from __future__ import annotations

import pytest
import torch

from tests.runtime.training import Load, batches, make_model, one_parameter, overflow

pytestmark = pytest.mark.gpu


def test_auto_trains_in_fp16_on_the_accelerator(load: Load) -> None:
    rt = load()
    device = torch.accelerator.current_accelerator()
    assert rt._settings()[1:4] == (device.type, torch.float16, True)
    model = make_model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    losses = []
    for images, target in batches(5) * 10:
        with rt.autocast():
            output = model(images.to(device))
            loss = torch.nn.functional.cross_entropy(output, target.to(device))
        assert output.dtype == torch.float16
        optimizer.zero_grad()
        rt.scaler.scale(loss).backward()
        rt.scaler.step(optimizer)
        rt.scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert rt.scaler.taken[optimizer] > 40


def test_a_fused_step_waits_for_nothing(load: Load) -> None:
    rt = load("scale-only")
    parameter, _ = one_parameter()
    parameter = torch.nn.Parameter(parameter.detach().cuda())
    optimizer = torch.optim.SGD([parameter], lr=0.1, fused=True)
    for number in range(300):
        optimizer.zero_grad()
        rt.scaler.scale(parameter.sum()).backward()
        if number == 150:
            overflow(optimizer)
        try:
            torch.cuda.set_sync_debug_mode("error" if number else "default")
            rt.scaler.step(optimizer)
            rt.scaler.update()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert rt.scaler.taken == {optimizer: 299}
    assert rt.scaler.skipped == {optimizer: 1}


def test_lbfgs_and_a_gradient_penalty_on_the_accelerator(load: Load) -> None:
    rt = load(init_scale=2**24)  # too high for fp16: the first evaluations are repeated
    device = torch.accelerator.current_accelerator()
    model = make_model().to(device)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    images, target = (tensor.to(device) for tensor in batches(1)[0])
    images.requires_grad_(True)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        with rt.autocast():
            output = model(images)
            loss = torch.nn.functional.cross_entropy(output, target)
        (gradient,) = rt.scaler.grad(output.sum(), images, create_graph=True)
        assert gradient.device.type == device.type
        loss = loss + 0.1 * gradient.square().sum(1).mean()
        rt.scaler.scale(loss).backward()
        return loss

    losses = []
    for _ in range(4):
        losses.append(rt.scaler.step(optimizer, closure))
        rt.scaler.update()
    (steps,) = rt.scaler.report(as_dict=True)["steps"]
    assert (steps["taken"], steps["skipped"]) == (4, 0)
    assert steps["retried"] > 0
    assert losses[-1] < losses[0]
