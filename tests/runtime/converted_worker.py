"""One rank of a converted script's training, started by test_distributed: runs it in every mode, and saves the records.

Arguments: the original, the converted script, a folder. Each run is a forked child with a rendezvous of its own.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel

from tests.fixtures_suite.record import Record, run_script

RUNS = ("original", "off", "scale-only", "growing", "fp16", "scale-only, overflow", "fp16, overflow")
BAD_RANK, BAD_STEP = 1, 1


def overflow_at_last_backward(rank: int, accumulate: int) -> None:
    """One gradient of one rank's own piece becomes inf in the last backward of a step, as by an overflow; nobody is told."""
    models: list[torch.nn.Module] = []
    build: Callable[..., None] = FullyShardedDataParallel.__init__
    backward: Callable[..., None] = torch.Tensor.backward
    seen = 0

    def built(self: FullyShardedDataParallel, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        models.append(self)

    def overflowing(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        nonlocal seen
        backward(self, *args, **kwargs)
        seen += 1
        if rank == BAD_RANK and seen == (BAD_STEP + 1) * accumulate:
            trained = [o for o in gc.get_objects() if isinstance(o, torch.optim.Optimizer)] if not models else []
            parameters = [p for model in models for p in model.parameters()]
            parameters += [p for optimizer in trained for group in optimizer.param_groups for p in group["params"]]
            own = [p.grad for p in parameters if p.grad is not None and p.grad.numel()]
            own[0].view(-1)[0] = float("inf")

    FullyShardedDataParallel.__init__ = built  # type: ignore[method-assign]
    torch.Tensor.backward = overflowing  # type: ignore[method-assign]


def run(name: str, scripts: tuple[Path, Path], rank: int) -> Record:
    mode = name.partition(",")[0]
    script = scripts[mode != "original"]
    if "overflow" in name:
        overflow_at_last_backward(rank, accumulate=3 if "accumulation" in script.name else 1)
    record = run_script(script.read_bytes(), str(script), mode)
    if mode != "original":
        import ampify_runtime

        record["scale"] = ampify_runtime.scaler.get_scale()
        record["report"] = ampify_runtime.scaler.report(as_dict=True)["steps"]
    return record


def main(original: str, converted: str, folder: str) -> None:
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    for name in RUNS:
        child = os.fork()
        if child == 0:
            store = dist.FileStore(str(Path(folder) / f"{name}.store"), 2)  # torchrun's still holds the last run's addresses
            dist.init_process_group = functools.partial(dist.init_process_group, store=store, rank=rank, world_size=2)
            torch.save(run(name, (Path(original), Path(converted)), rank), Path(folder) / f"{name} {rank}.pt")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{name} ended with status {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
