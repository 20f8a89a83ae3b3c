"""Optimizers' states that another file saves: found where no scaler's is saved in sight, and silent where one may be."""

from pathlib import Path

import pytest

from ampify.convert import Surroundings, convert
from ampify.local import Local

LOOP = """\
    for x, y in data:
        with torch.autocast("cuda", torch.float16):
            loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
MODEL = "model = torch.nn.Linear(4, 2)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
ENGINE = 'import torch\n\nscaler = torch.amp.GradScaler("cuda")\n\n\ndef train(model, data, optimizer):\n' + LOOP
MAIN = f"""\
import torch
from engine import train

{MODEL}for epoch in range(3):
    train(model, [], optimizer)
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, "last.pt")
"""
WITH_SCALER = MAIN.replace("import train", "import scaler, train").replace(
    "optimizer.state_dict()}", 'optimizer.state_dict(), "scaler": scaler.state_dict()}'
)
TRAINER = f"""\
import torch
from helpers import Saver, save

{MODEL}

def run(data):
    scaler = torch.amp.GradScaler("cuda")
    saver = Saver("runs")
{LOOP}
    save("last.pt", model, optimizer)


run([])
"""
HELPERS = """\
import torch


class Saver:
    def __init__(self, folder):
        self.folder = folder

    def save(self, model, optimizer):
        self._write({"model": model.state_dict(), "optimizer": optimizer.state_dict()})

    def _write(self, state):
        torch.save(state, self.folder)


def save(path, model, optimizer, scaler=None):
    state = {"model": model.state_dict()}
    state["optimizer"] = optimizer.state_dict()
    torch.save(state, path)
"""
WRITTEN = "    torch.save(state, path)\n"
SAVING = HELPERS.replace(WRITTEN, f"    if scaler is not None:\n        state['scaler'] = scaler.state_dict()\n{WRITTEN}")
LOOSE = HELPERS.replace("scaler=None", "*others").replace(
    WRITTEN, f"    state['others'] = [other.state_dict() for other in others]\n{WRITTEN}"
)
KEPT = """\
class LossScaler:
    def __init__(self):
        self.inner = torch.amp.GradScaler("cuda")

    def __call__(self, loss, optimizer):
        self.inner.scale(loss).backward()
        self.inner.step(optimizer)
        self.inner.update()


"""
WRAPPER = TRAINER.replace("\ndef run", f"\n{KEPT}def run").replace(
    '    scaler = torch.amp.GradScaler("cuda")', "    scaler = LossScaler()"
)
WRAPPER = WRAPPER.replace(LOOP, LOOP.partition("        scaler.scale")[0] + "        scaler(loss, optimizer)\n")
METHOD = TRAINER.replace("save(", "saver.save(").replace('"last.pt", ', "")
HANDED = TRAINER.replace("model, optimizer)", "model, optimizer, scaler)")


def found(folder: Path, name: str, **texts: str) -> list[tuple[int, str]]:
    """The lines and messages of AMP310 in one of several files, which import each other."""
    paths = {n: str(folder.resolve() / f"{n}.py") for n in texts}
    for n, text in texts.items():
        Path(paths[n]).write_text(text)
    importers = {paths[n]: tuple(p for m, p in paths.items() if m != n and f"from {n} " in texts[m]) for n in texts}
    result = convert(texts[name].encode(), around=Surroundings(paths[name], Local(importers)))
    assert not result.bug, result.diagnostics
    return [(d.line, d.message) for d in result.diagnostics if d.code == "AMP310"]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("engine", {"engine": ENGINE, "main": WITH_SCALER}),
        ("engine", {"engine": ENGINE, "main": MAIN.replace("optimizer.state_dict()}", "0}")}),
        ("engine", {"engine": ENGINE}),
        ("engine", {"engine": ENGINE, "main": MAIN.replace("(model, [], optimizer)", "(model, [], other)")}),
        ("engine", {"engine": ENGINE.replace('GradScaler("cuda")', 'GradScaler("cuda", enabled=False)'), "main": MAIN}),
        ("engine", {"engine": ENGINE, "main": MAIN.replace("torch.save", "remember")}),
        ("trainer", {"trainer": TRAINER.replace("save(", "save2("), "helpers": HELPERS}),
        ("trainer", {"trainer": HANDED, "helpers": SAVING}),
        ("trainer", {"trainer": HANDED, "helpers": LOOSE}),
        ("trainer", {"trainer": TRAINER, "helpers": SAVING}),
        ("trainer", {"trainer": TRAINER.replace("for x", "keep(scaler)\n    for x"), "helpers": HELPERS}),
        ("trainer", {"trainer": TRAINER.replace("for x", "kept = [scaler]\n    for x"), "helpers": HELPERS}),
        ("trainer", {"trainer": TRAINER}),
    ],
)
def test_it_is_silent_where_a_scaler_may_be_saved_or_no_optimizer_is(tmp_path: Path, name: str, texts: dict[str, str]) -> None:
    assert found(tmp_path, name, **texts) == []


@pytest.mark.parametrize(
    ("name", "texts", "line", "where"),
    [
        ("engine", {"engine": ENGINE, "main": MAIN}, "scaler = ", "main.py:8"),
        ("trainer", {"trainer": TRAINER, "helpers": HELPERS}, "scaler = ", "helpers.py:17"),
        ("trainer", {"trainer": METHOD, "helpers": HELPERS}, "scaler = ", "helpers.py:9"),
        ("trainer", {"trainer": WRAPPER, "helpers": HELPERS}, "self.inner = ", "helpers.py:17"),
        ("trainer", {"trainer": HANDED, "helpers": HELPERS}, "scaler = ", "helpers.py:17"),
    ],
)
def test_it_is_found_where_the_scaler_is_made(tmp_path: Path, name: str, texts: dict[str, str], line: str, where: str) -> None:
    (told,) = found(tmp_path, name, **texts)
    assert texts[name].splitlines()[told[0] - 1].strip().startswith(line)
    assert told[1].startswith(f"`optimizer.state_dict()` in {where} is saved without the scaler's")


def test_it_is_found_in_the_file_itself_by_the_line_that_saves(tmp_path: Path) -> None:
    text = ENGINE + MAIN.replace("import torch\nfrom engine import train\n", "")
    assert [text.splitlines()[line - 1].strip()[:10] for line, _ in found(tmp_path, "one", one=text)] == ["torch.save"]
