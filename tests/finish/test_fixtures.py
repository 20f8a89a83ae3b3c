"""The fixtures of `finished`: what is finished trains as the float32 script, with all of mixed precision taken out by hand."""

import ast
import contextlib

import pytest
import torch

from tests.doctor.test_misuse import WithoutScaler
from tests.fixtures_suite.cases import Case, all_cases

FINISHED = [case for case in all_cases() if case.family == "finished" and case.is_converted]
Scaler = torch.amp.GradScaler


def trained(tree: ast.Module) -> dict[str, torch.Tensor]:
    """The parameters of all models after a script, with the scaler at 1024 and no autocast."""
    names: dict[str, object] = {}
    exec(compile(ast.fix_missing_locations(tree), "<script>", "exec"), names)
    models = {name: value for name, value in names.items() if isinstance(value, torch.nn.Module)}
    return {f"{name}.{key}": p.detach().clone() for name, model in models.items() for key, p in model.named_parameters()}


def untrained(tree: ast.Module) -> dict[str, torch.Tensor]:
    """The same before any step."""
    with pytest.MonkeyPatch.context() as patch:
        for optimizer in (torch.optim.SGD, torch.optim.Adam):
            patch.setattr(optimizer, "step", lambda self, closure=None: None)
        return trained(tree)


@pytest.fixture(autouse=True)
def scale_only(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Scalers that scale on a CPU, by 1024, and regions without autocast; the losses that are scaled."""
    scaled: list[torch.Tensor] = []

    class Watched(Scaler):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__("cpu", init_scale=1024.0)

        def scale(self, outputs: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            scaled.append(outputs)
            return super().scale(outputs)  # type: ignore[return-value]

    for module in (torch.amp, torch.cuda.amp):
        monkeypatch.setattr(module, "GradScaler", Watched)
    for module, name in ((torch, "autocast"), (torch.amp, "autocast"), (torch.cuda.amp, "autocast")):
        monkeypatch.setattr(module, name, lambda *_, **__: contextlib.nullcontext())
    return scaled


def test_there_are_some() -> None:
    assert len(FINISHED) >= 4


@pytest.mark.parametrize("case", FINISHED, ids=lambda case: case.name)
def test_the_finished_script_trains_as_the_float32_one(case: Case, scale_only: list[torch.Tensor]) -> None:
    source = ast.parse(case.source)
    expected = trained(WithoutScaler().visit(source))
    assert not scale_only
    found = trained(ast.parse(case.output_path.read_bytes()))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    before = untrained(ast.parse(case.source))
    assert not all(torch.equal(before[name], expected[name]) for name in expected)


@pytest.mark.parametrize("case", FINISHED, ids=lambda case: case.name)
def test_all_its_losses_are_scaled(case: Case, scale_only: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    backward = torch.Tensor.backward

    def counted(self: torch.Tensor, *args: object, **kwargs: object) -> None:
        passes.append(self)
        backward(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    trained(ast.parse(case.output_path.read_bytes()))
    assert len(passes) == len(scale_only) > 0
