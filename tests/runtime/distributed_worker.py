"""One rank of a two-process training, started by test_distributed: prints what it ended with as one line of JSON."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

import ampify_runtime as rt

STEPS, BAD_STEP, BAD_RANK = 5, 2, 1


def fsdp1(**kwargs: Any) -> Callable[[torch.nn.Module], torch.nn.Module]:
    return lambda model: FullyShardedDataParallel(model, device_id=torch.device("cpu"), **kwargs)


WRAP: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "ddp": torch.nn.parallel.DistributedDataParallel,
    "fsdp1": fsdp1(),
    "fsdp1 orig params": fsdp1(use_orig_params=True),
    "fsdp1 empty rank": fsdp1(use_orig_params=True),
    "fsdp2": lambda model: fully_shard(model) and model,
}


def optimizers_for(kind: str) -> list[str]:
    """torch's LBFGS decides by the gradients of its own rank, which only DDP makes equal."""
    return ["sgd", "fused", "closure"] + ["lbfgs"] * (kind == "ddp")


def make_model(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    if kind == "fsdp1 empty rank":  # rank 1 gets padding only
        return torch.nn.Linear(1, 1, bias=False)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def train(kind: str, optimizer_kind: str, scaler: Any) -> dict[str, Any]:
    """The loss of one step overflows on one rank only; nobody is told."""
    model = WRAP[kind](make_model(kind))
    optimizer: Any
    if optimizer_kind == "lbfgs":
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    elif optimizer_kind == "fused":
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rank, taken, evaluations = dist.get_rank(), [], 0
    for step in range(STEPS):
        x = torch.randn(4, 1 if "empty" in kind else 8, generator=torch.Generator().manual_seed(10 * step + rank))

        def evaluate(step: int = step, x: torch.Tensor = x) -> torch.Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            bad = (
                rank == (0 if "empty" in kind else BAD_RANK)
                and step == BAD_STEP
                and evaluations in (BAD_STEP + 1, 2 * BAD_STEP + 1)
            )
            loss = model(x).square().mean() * (float("inf") if bad and kind == "ddp" else 1.0)
            scaler.scale(loss).backward()
            if bad and kind != "ddp":  # of this rank's piece, as an overflow in its own reduction would be
                gradient = next(p.grad for p in model.parameters() if p.grad is not None and p.grad.numel())
                getattr(gradient, "_local_tensor", gradient).view(-1)[0] = float("inf")
            return loss

        if optimizer_kind in ("lbfgs", "closure"):
            scaler.step(optimizer, evaluate)
        else:
            evaluate()
            scaler.step(optimizer)
        scaler.update()
        taken.append(getattr(scaler, "was_taken", lambda _: None)(optimizer))
    values = [p.detach() for p in model.parameters()]
    if kind.startswith("fsdp1"):
        with FullyShardedDataParallel.summon_full_params(model):
            values = [p.detach().clone() for p in model.parameters()]
    values = [getattr(value, "full_tensor", lambda value=value: value)() for value in values]
    total = [value.double().flatten().tolist() for value in values]
    return {"scale": scaler.get_scale(), "taken": taken, "evaluations": evaluations, "values": total}


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = {}
    for kind in WRAP:
        for optimizer_kind in optimizers_for(kind):
            results[f"{kind}, {optimizer_kind}"] = train(kind, optimizer_kind, rt.GradScaler())
    results["fsdp1, torch"] = train("fsdp1", "sgd", torch.amp.GradScaler("cpu", init_scale=1024.0))
    print("RESULT " + json.dumps(results), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
