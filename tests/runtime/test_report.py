"""What the scaler counted, as text, as a dict and at exit."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.runtime.training import Load, one_parameter, overflow


@pytest.fixture
def rt(load: Load) -> ModuleType:
    return load("scale-only", init_scale=1024)


def iteration(rt: ModuleType, pair: Any, bad: bool = False) -> None:
    parameter, optimizer = pair
    optimizer.zero_grad()
    rt.scaler.scale(parameter.sum()).backward()
    if bad:
        overflow(optimizer)
    rt.scaler.step(optimizer)
    rt.scaler.update()


def test_before_anything_happened(rt: ModuleType) -> None:
    assert rt.scaler.report(as_dict=True) == {
        "mode": "scale-only",
        "precision": "float32",
        "device": "cpu",
        "scaling": True,
        "scale": 1024.0,
        "updates": 0,
        "steps": [],
        "history": [(0, 1024.0)],
    }


@pytest.mark.parametrize("fused", [False, True])
def test_steps_and_scales(rt: ModuleType, fused: bool) -> None:
    pair, other = one_parameter(fused=fused), one_parameter()
    for bad in (False, True, False, True, True):
        iteration(rt, pair, bad)
    iteration(rt, other)
    report = rt.scaler.report(as_dict=True)
    assert report["steps"] == [
        {"optimizer": "SGD", "taken": 2, "skipped": 3, "retried": 0},
        {"optimizer": "SGD", "taken": 1, "skipped": 0, "retried": 0},
    ]
    seen = [(6, 128.0)] if fused else [(2, 512.0), (4, 256.0), (5, 128.0)]
    assert report["history"] == [(0, 1024.0), *seen]
    assert (report["scale"], report["updates"]) == (128.0, 6)
    assert json.loads(json.dumps(report))["scale"] == 128.0
    assert rt.scaler.report(as_dict=True) == report  # asking changes nothing
    text = rt.scaler.report().splitlines()
    assert text[0] == "ampify: mode scale-only, float32 on cpu, loss scale 128 after 6 updates"
    assert text[1:3] == [
        "  SGD: 2 steps taken, 3 skipped, 0 evaluations repeated",
        "  SGD: 1 steps taken, 0 skipped, 0 evaluations repeated",
    ]
    assert text[3:] == ["  scale after update " + ", ".join(f"{n}: {s:g}" for n, s in report["history"])]


def test_growth_shows_when_the_scale_is_next_read(rt: ModuleType) -> None:
    rt.scaler.set_growth_interval(2)
    pair = one_parameter()
    for bad in (False, False, False, True):
        iteration(rt, pair, bad)
    assert rt.scaler.report(as_dict=True)["history"] == [(0, 1024.0), (4, 1024.0)]
    iteration(rt, pair)
    iteration(rt, pair)
    assert rt.scaler.report(as_dict=True)["history"] == [(0, 1024.0), (4, 1024.0), (6, 2048.0)]


def test_optimizers_that_are_gone_are_still_reported_but_not_without_end(rt: ModuleType) -> None:
    for _ in range(100):
        iteration(rt, one_parameter())
    assert len(rt.scaler.report(as_dict=True)["steps"]) == 64
    pair = one_parameter()
    for _ in range(300):
        iteration(rt, pair, bad=True)
        rt.scaler.update(1024.0)
    assert len(rt.scaler.report(as_dict=True)["history"]) <= 256


@pytest.mark.parametrize(("mode", "first"), [("off", "mode off, float32 on cpu"), ("bf16", "mode bf16, bfloat16 on cpu")])
def test_without_scaling(load: Load, mode: str, first: str) -> None:
    rt = load(mode)
    iteration(rt, one_parameter())
    assert rt.scaler.report() == f"ampify: {first}, losses are not scaled"
    assert rt.scaler.report(as_dict=True)["scaling"] is False


PROGRAM = """
import torch, ampify_runtime as rt
def main():
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    for factor in (1.0, float("inf")):
        with rt.autocast():
            loss = (p * factor).sum()
        rt.scaler.scale(loss).backward()
        rt.scaler.step(optimizer)
        rt.scaler.update()
main()
print("done")
"""


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(path for path in sys.path if path)
    env = {**os.environ, "PYTHONPATH": path, "AMPIFY_MODE": "scale-only", "AMPIFY_INIT_SCALE": "1024", **variables}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60)


def test_at_exit_to_stderr() -> None:
    done = run(AMPIFY_REPORT="1")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == (
        "ampify: mode scale-only, float32 on cpu, loss scale 512 after 2 updates\n"
        "  SGD: 1 steps taken, 1 skipped, 0 evaluations repeated\n"
        "  scale after update 0: 1024, 2: 512\n"
    )


@pytest.mark.parametrize("value", [None, "0"])
def test_silent_at_exit(load: Load, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    registered: list[Any] = []
    monkeypatch.setattr("atexit.register", registered.append)
    if value is not None:
        monkeypatch.setenv("AMPIFY_REPORT", value)
    load("off").autocast()
    assert registered == []
    monkeypatch.setenv("AMPIFY_REPORT", "1")
    rt = load("off")
    for _ in range(2):
        rt.autocast()
    assert registered == [rt._print_report]


@pytest.mark.parametrize("value", ["2", "yes", "", "true", "01"])
def test_a_wrong_value_is_one_line(load: Load, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AMPIFY_REPORT", value)
    monkeypatch.setattr("atexit.register", lambda *_: pytest.fail("registered"))
    with pytest.raises(ValueError, match=f"^AMPIFY_REPORT={value!r}: it must be 0, or 1 to print") as caught:
        load("scale-only").autocast()
    assert "\n" not in str(caught.value)


def test_counting_is_not_copied(rt: ModuleType) -> None:
    pair = one_parameter()
    iteration(rt, pair, bad=True)
    pickled = pickle.dumps(rt.scaler)
    assert b"_Steps" not in pickled
    twin = pickle.loads(pickled)
    assert twin.report(as_dict=True)["steps"] == []
    assert twin.report(as_dict=True)["history"] == [(0, 512.0)]
    assert torch.equal(pair[0], torch.tensor([1.0, 2.0]))
