"""Two gloo processes under torchrun, one of which overflows: all skip together, and end with equal scales and parameters."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures_suite.cases import FIXTURES, TOLERANCE
from tests.fixtures_suite.compare import Record, close_problems, exact_problems
from tests.runtime import converted_worker
from tests.runtime import distributed_worker as worker
from tests.runtime.training import Load, batches, make_model

KINDS = [(wrapper, optimizer) for wrapper in worker.WRAP for optimizer in worker.optimizers_for(wrapper)]


def torchrun(logs: Path, script: str, *arguments: str, **settings: str) -> list[tuple[str, str]]:
    """What two processes wrote to stdout and stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
    command += [f"--master-port={port}", "--redirects=3", f"--log-dir={logs}", script, *arguments]
    path = os.pathsep.join(str(Path(__file__).parents[2] / folder) for folder in ("runtime", "."))
    environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    written = {name: [file.read_text() for file in sorted(logs.rglob(name))] for name in ("stdout.log", "stderr.log")}
    assert done.returncode == 0, "\n".join([done.stderr, *written["stderr.log"]])
    return list(zip(written["stdout.log"], written["stderr.log"], strict=True))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes ended with, and what it wrote to stderr."""
    settings = {"AMPIFY_MODE": "scale-only", "AMPIFY_INIT_SCALE": "1024", "AMPIFY_REPORT": "1"}
    written = torchrun(tmp_path_factory.mktemp("torchrun"), worker.__file__, **settings)
    return [{**json.loads(out.partition("RESULT ")[2]), "stderr": err} for out, err in written]


@pytest.fixture(scope="module", params=["fsdp1", "fsdp1_accumulation", "averaged_gradients", "flattened_gradients"])
def converted_script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Record]]:
    """The records of a fixture's runs on two processes: for each run those of both."""
    folder = tmp_path_factory.mktemp("converted")
    scripts = [str(FIXTURES / "distributed" / f"{request.param}.{which}.py") for which in ("in", "out")]
    torchrun(folder / "logs", converted_worker.__file__, *scripts, str(folder))
    return {
        run: [torch.load(folder / f"{run} {rank}.pt", weights_only=False) for rank in (0, 1)] for run in converted_worker.RUNS
    }


@pytest.mark.parametrize("mode", ["off", "scale-only", "growing"])
def test_a_converted_script_trains_identically_on_every_rank(converted_script: dict[str, list[Record]], mode: str) -> None:
    for original, converted in zip(converted_script["original"], converted_script[mode], strict=True):
        assert exact_problems(original, converted) == []


def test_a_converted_script_is_close_in_half_precision(converted_script: dict[str, list[Record]]) -> None:
    for original, converted in zip(converted_script["original"], converted_script["fp16"], strict=True):
        assert close_problems(original, converted, TOLERANCE["fp16"]) == []


@pytest.mark.parametrize("mode", ["scale-only", "fp16"])
def test_a_converted_script_skips_on_all_ranks(converted_script: dict[str, list[Record]], mode: str) -> None:
    ranks = converted_script[f"{mode}, overflow"]
    attempted = len(converted_script["original"][0]["steps"])
    for rank in ranks:
        assert (rank["error"], rank["problems"], rank["scale"]) == ("", [], 512.0)
        assert [(steps["taken"], steps["skipped"]) for steps in rank["report"]] == [(attempted - 1, 1)]
        assert len(rank["steps"]) == attempted - 1
    first, second = (rank["state"] for rank in ranks)
    assert len(first) > 1
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], converted_script["original"][0]["state"][name]) for name in first)


@pytest.mark.parametrize(("wrapper", "optimizer"), KINDS)
def test_one_rank_overflows_and_all_agree(ranks: list[dict[str, Any]], wrapper: str, optimizer: str) -> None:
    first, second = (rank[f"{wrapper}, {optimizer}"] for rank in ranks)
    assert first == second
    assert first["scale"] == 512.0
    repeated = optimizer == "lbfgs"
    assert first["taken"] == [repeated or step != worker.BAD_STEP for step in range(worker.STEPS)]
    assert first["evaluations"] == (2 * worker.STEPS + 1 if repeated else worker.STEPS)


@pytest.mark.parametrize("optimizer", ["sgd", "closure", "fused"])
def test_every_wrapper_trains_to_the_same_parameters(ranks: list[dict[str, Any]], optimizer: str) -> None:
    def flat(wrapper: str) -> torch.Tensor:
        return torch.tensor([v for values in ranks[0][f"{wrapper}, {optimizer}"]["values"] for v in values])

    for wrapper in ("fsdp1", "fsdp1 orig params", "fsdp2"):
        torch.testing.assert_close(flat(wrapper), flat("ddp"))


def test_the_disagreement_this_avoids_is_real(ranks: list[dict[str, Any]]) -> None:
    assert [rank["fsdp1, torch"]["scale"] for rank in ranks] == [1024.0, 512.0]


def test_one_rank_reports_for_all(ranks: list[dict[str, Any]]) -> None:
    assert [rank["stderr"].count("ampify: mode scale-only") for rank in ranks] == [1, 0]


def test_no_group_no_fsdp(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters that only look like FSDP's: without a process group there is nobody to ask."""
    rt = load("scale-only")
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter._fsdp_flattened = True
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: pytest.fail("asked"))
    rt.scaler.scale(parameter.sum()).backward()
    rt.scaler.step(torch.optim.SGD([parameter], lr=1.0))
    assert float(parameter) == 0.0


def test_fsdp_may_keep_its_gradients_in_fp16(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ShardedGradScaler lets it; for others torch refuses fp16 gradients."""
    rt = load("scale-only", init_scale=1024)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    rt.scaler.scale(parameter.sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        rt.scaler.step(optimizer)
    parameter._fsdp_flattened = True
    rt.scaler.step(optimizer)
    assert parameter.tolist() == [0.5]


def test_data_parallel_on_the_cpu_is_its_module(load: Load) -> None:
    rt = load("scale-only", init_scale=1024)

    def train(wrap: Any) -> list[torch.Tensor]:
        model = make_model()
        outer, optimizer = wrap(model), torch.optim.SGD(model.parameters(), lr=0.1)
        for images, target in batches(3):
            with rt.autocast():
                loss = torch.nn.functional.cross_entropy(outer(images), target)
            optimizer.zero_grad()
            rt.scaler.scale(loss).backward()
            rt.scaler.step(optimizer)
            rt.scaler.update()
        return [parameter.detach() for parameter in model.parameters()]

    assert all(map(torch.equal, train(torch.nn.DataParallel), train(lambda model: model)))
