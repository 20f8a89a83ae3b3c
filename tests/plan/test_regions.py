"""Regions: which statements run under autocast, and which stay outside."""

import pytest

from ampify.convert import convert
from tests.plan.shorthand import body, plain
from tests.plan.test_scaling import sides

REFUSED = {
    "a yield in the forward": (
        "def train():\n    for x, y in data:\n        ZERO\n        out = yield model(x)\n        CRIT\n"
        "        BACK\n        STEP\n",
        "AMP919",
    ),
    "an await in the forward": (
        "async def train():\n    for x, y in data:\n        ZERO\n        out = await run(model(x))\n        CRIT\n"
        "        BACK\n        STEP\n",
        "AMP919",
    ),
    "a loss from another function": (
        "def train(loss):\n    ZERO\n    BACK\n    STEP\n",
        "AMP904",
    ),
    "a loss inside the backward": ("for x, y in data:\n    ZERO\n    F.mse_loss(model(x), y).backward()\n    STEP\n", "AMP914"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, code = REFUSED[name]
    result = convert(plain(text).encode())
    assert result.status == "refused"
    assert code in {d.code for d in result.diagnostics}


PLACED = {
    "forward and loss, nothing else": """
        for x, y in data:
            x = x.to(device)
            y = y.to(device)
            ZERO
            OUT
            CRIT
            LOG
            BACK
            STEP
        ---
        for x, y in data:
            x = x.to(device)
            y = y.to(device)
            ZERO
            REGION
                OUT
                CRIT
            LOG
            BACK
            STEP
            UPDATE
    """,
    "what merely stands between is inside": """
        for x, y in data:
            OUT
            ZERO
            print(x.shape)
            CRIT
            BACK
            STEP
        ---
        for x, y in data:
            REGION
                OUT
                ZERO
                print(x.shape)
                CRIT
            BACK
            STEP
            UPDATE
    """,
    "data preparation is left out": """
        for x, y in data:
            x = (x - x.mean()) / x.std()
            mask = torch.rand(4) < 0.5
            ZERO
            LOSS
            BACK
            STEP
        ---
        for x, y in data:
            x = (x - x.mean()) / x.std()
            mask = torch.rand(4) < 0.5
            ZERO
            REGION
                LOSS
            BACK
            STEP
            UPDATE
    """,
    "split at a backward": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            LOSS2
            BACK2
            STEP
            STEP2
            ZERO2
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            REGION
                LOSS2
            BACK2
            STEP
            STEP2
            UPDATE
            ZERO2
    """,
    "split at a parameter update": """
        for x, y in data:
            ZERO
            OUT
            CLAMP2
            CRIT
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                OUT
            CLAMP2
            REGION
                CRIT
            BACK
            STEP
            UPDATE
    """,
    "lifted over a loop that sums": """
        for batch in data:
            ZERO
            loss = 0
            for x, y in batch:
                OUT
                loss = loss + F.mse_loss(out, y)
            BACK
            STEP
        ---
        for batch in data:
            ZERO
            loss = 0
            REGION
                for x, y in batch:
                    OUT
                    loss = loss + F.mse_loss(out, y)
            BACK
            STEP
            UPDATE
    """,
    "lifted over an if that picks": """
        for x, y in data:
            ZERO
            OUT
            if flag:
                loss = F.mse_loss(out, y)
            else:
                loss = F.l1_loss(out, y)
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                OUT
                if flag:
                    loss = F.mse_loss(out, y)
                else:
                    loss = F.l1_loss(out, y)
            BACK
            STEP
            UPDATE
    """,
    "what a loss was scaled by comes along": """
        for x, y in data:
            ZERO
            LOSS
            loss = loss / 4
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
                loss = loss / 4
            BACK
            STEP
            UPDATE
    """,
    "an early loss stays apart": """
        for x, y in data:
            ZERO
            with torch.no_grad():
                target = model2(x)
            LOSS
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            with torch.no_grad():
                REGION
                    target = model2(x)
            REGION
                LOSS
            BACK
            STEP
            UPDATE
    """,
    "evaluation": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            STEP
        def evaluate():
            with torch.no_grad():
                for x, y in data:
                    out = model(x)
                    total += (out.argmax(1) == y).sum()
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            STEP
            UPDATE
        def evaluate():
            with torch.no_grad():
                for x, y in data:
                    REGION
                        out = model(x)
                    total += (out.argmax(1) == y).sum()
    """,
    "hidden state carried round": """
        hidden = None
        for x, y in data:
            if hidden is not None:
                hidden = hidden.detach()
            ZERO
            out, hidden = model(x, hidden)
            CRIT
            BACK
            STEP
        ---
        hidden = None
        for x, y in data:
            if hidden is not None:
                hidden = hidden.detach()
            ZERO
            REGION
                out, hidden = model(x, hidden)
                CRIT
            BACK
            STEP
            UPDATE
    """,
    "in a with of another kind": """
        for x, y in data:
            ZERO
            with timer:
                LOSS
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            with timer:
                REGION
                    LOSS
            BACK
            STEP
            UPDATE
    """,
    "in a with that holds the backward": """
        for x, y in data:
            with timer:
                ZERO
                LOSS
                BACK
            STEP
        ---
        for x, y in data:
            with timer:
                ZERO
                REGION
                    LOSS
                BACK
            STEP
            UPDATE
    """,
    "a forward that is not in the loss": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            STEP
            LOG
            print(y.sum())
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            STEP
            UPDATE
            LOG
            print(y.sum())
    """,
    "a matmul by hand": """
        for x, y in data:
            ZERO
            out = x @ model.weight.t()
            loss = (out - y).pow(2).mean()
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                out = x @ model.weight.t()
                loss = (out - y).pow(2).mean()
            BACK
            STEP
            UPDATE
    """,
}


@pytest.mark.parametrize("name", PLACED)
def test_placed(name: str) -> None:
    before, after = sides(PLACED, name)
    result = convert(before.encode())
    assert [d.message for d in result.diagnostics] == []
    assert body(result.output.decode()) == body(after)
