"""Placement of unscale_() and update(): what is written around the statements of a loop, in shorthand."""

import pytest

from ampify.convert import convert
from tests.plan.shorthand import body, dedent, plain, scaled

# Where the protocol leaves no place: (script, code), and nothing is written. Any code will do where none is named.
REFUSED = {
    "no zero_grad": ("for x, y in data:\n    LOSS\n    BACK\n    STEP\n", "AMP916"),
    "clipped in every micro-batch": (
        "for i, (x, y) in enumerate(data):\n    LOSS\n    BACK\n    CLIP\n    if i % 4 == 3:\n        STEP\n        ZERO\n",
        "AMP909",
    ),
    "two optimizers of one model": (
        "other = optim.Adam(model.parameters())\nfor x, y in data:\n    ZERO\n    LOSS\n    BACK\n    STEP\n    other.step()\n",
        "AMP907",
    ),
    "two optimizers of one model, from a factory": (
        "def make(m): return optim.Adam(m.parameters())\n"
        "one = make(model)\nother = make(model)\n"
        "for x, y in data:\n    one.zero_grad()\n    other.zero_grad()\n    LOSS\n    BACK\n    one.step()\n    other.step()\n",
        "AMP907",
    ),
    "a short-circuited step after a clip": (
        "for i, (x, y) in enumerate(data):\n    LOSS\n    BACK\n    CLIP\n"
        "    last = i % 4 == 3\n    last and optimizer.step()\n    last and optimizer.zero_grad()\n",
        "",
    ),
    "backward in a helper that calls itself": (
        "def go(l):\n    l.backward()\n    go(l)\nfor x, y in data:\n    ZERO\n    LOSS\n    go(loss)\n    STEP\n",
        "AMP904",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, code = REFUSED[name]
    result = convert(plain(text).encode())
    assert result.status == "refused"
    assert code in {d.code for d in result.diagnostics} or not code


# A part of the training step that no statement shows: what is converted must not leave it in fp32 terms behind.
HIDDEN = {
    "a step in a lambda": (
        "go = lambda: optimizer2.step()\nfor x, y in data:\n    ZERO\n    ZERO2\n    JOINT\n    BACK\n    STEP\n    go()\n"
    ),
    "a backward in a lambda": (
        "go = lambda l: l.backward()\nfor x, y in data:\n    ZERO\n    LOSS\n    go(loss)\n    LOSS\n    BACK\n    STEP\n"
    ),
    "a bound step": ("go = optimizer2.step\nfor x, y in data:\n    ZERO\n    ZERO2\n    JOINT\n    BACK\n    STEP\n    go()\n"),
    "a partial step": (
        "go = partial(optimizer2.step)\nfor x, y in data:\n    ZERO\n    ZERO2\n    JOINT\n    BACK\n    STEP\n    go()\n"
    ),
    "a mapped step": (
        "for x, y in data:\n    ZERO\n    ZERO2\n    JOINT\n    BACK\n    STEP\n    list(map(lambda o: o.step(), [optimizer2]))\n"
    ),
    "a step that may not run, after a clip": (
        "for i, (x, y) in enumerate(data):\n    LOSS\n    BACK\n    CLIP\n"
        "    optimizer.step() if i % 4 == 3 else None\n    optimizer.zero_grad() if i % 4 == 3 else None\n"
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_parts_are_refused(name: str) -> None:
    assert convert(plain(HIDDEN[name]).encode()).status == "refused"


def test_a_schedule_or_an_environment_is_not_stepped_as_an_optimizer() -> None:
    head = "scheduler = optim.lr_scheduler.StepLR(optimizer, 3)\n"
    loop = "for x, y in data:\n    ZERO\n    s = env.step(x)\n    LOSS\n    BACK\n    STEP\nscheduler.step()\n"
    output = convert(plain(head + loop).encode()).output.decode()
    assert "s = env.step(x)\n" in output
    assert "scaler.step_scheduler(scheduler)\n" in output
    assert output.count("scaler.step(") == 1


PLACED = {
    "a plain loop": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            STEP
            UPDATE
    """,
    "zero_grad last": """
        for x, y in data:
            LOSS
            BACK
            STEP
            ZERO
        ---
        for x, y in data:
            REGION
                LOSS
            BACK
            STEP
            UPDATE
            ZERO
    """,
    "a condition with the step": """
        for i, (x, y) in enumerate(data):
            LOSS
            BACK
            if i % 4 == 3:
                STEP
                ZERO
        ---
        for i, (x, y) in enumerate(data):
            REGION
                LOSS
            BACK
            if i % 4 == 3:
                STEP
                UPDATE
                ZERO
    """,
    "a clip in the condition": """
        for i, (x, y) in enumerate(data):
            LOSS
            BACK
            if i % 4 == 3:
                CLIP
                STEP
                ZERO
        ---
        for i, (x, y) in enumerate(data):
            REGION
                LOSS
            BACK
            if i % 4 == 3:
                UNSCALE
                CLIP
                STEP
                UPDATE
                ZERO
    """,
    "continue until full": """
        for i, (x, y) in enumerate(data):
            LOSS
            BACK
            if i % 4 != 3:
                continue
            CLIP
            STEP
            ZERO
        ---
        for i, (x, y) in enumerate(data):
            REGION
                LOSS
            BACK
            if i % 4 != 3:
                continue
            UNSCALE
            CLIP
            STEP
            UPDATE
            ZERO
    """,
    "two optimizers, one loss": """
        for x, y in data:
            ZERO
            ZERO2
            JOINT
            BACK
            STEP
            STEP2
        ---
        for x, y in data:
            ZERO
            ZERO2
            REGION
                JOINT
            BACK
            STEP
            STEP2
            UPDATE
    """,
    "two optimizers, two losses": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            STEP
            ZERO2
            LOSS2
            BACK2
            STEP2
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            STEP
            ZERO2
            REGION
                LOSS2
            BACK2
            STEP2
            UPDATE
    """,
    "an inner loop of critics": """
        for x, y in data:
            for _ in range(5):
                ZERO
                LOSS
                BACK
                STEP
            ZERO2
            LOSS2
            BACK2
            STEP2
        ---
        for x, y in data:
            for _ in range(5):
                ZERO
                REGION
                    LOSS
                BACK
                STEP
                UPDATE
            ZERO2
            REGION
                LOSS2
            BACK2
            STEP2
            UPDATE
    """,
    "a step in both branches": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            if warm:
                STEP
            else:
                CLIP
                STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            if warm:
                STEP
            else:
                UNSCALE
                CLIP
                STEP
            UPDATE
    """,
    "a step in one branch each": """
        for x, y in data:
            if warm:
                ZERO
                LOSS
                BACK
                STEP
            else:
                ZERO2
                LOSS2
                BACK2
                STEP2
        ---
        for x, y in data:
            if warm:
                ZERO
                REGION
                    LOSS
                BACK
                STEP
            else:
                ZERO2
                REGION
                    LOSS2
                BACK2
                STEP2
            UPDATE
    """,
    "a one-line if": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            if clip: CLIP
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            if clip: CLIP
            STEP
            UPDATE
    """,
    "a loop over parameters": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            for p in model.parameters():
                p.grad.mul_(0.5)
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            for p in model.parameters():
                p.grad.mul_(0.5)
            STEP
            UPDATE
    """,
    "unscaled once for two readings": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            NORM
            CLIP
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            NORM
            CLIP
            STEP
            UPDATE
    """,
    "each optimizer that owns what is clipped": """
        for x, y in data:
            ZERO
            ZERO2
            JOINT
            BACK
            BOTH
            STEP
            STEP2
        ---
        for x, y in data:
            ZERO
            ZERO2
            REGION
                JOINT
            BACK
            UNSCALE
            UNSCALE2
            BOTH
            STEP
            STEP2
            UPDATE
    """,
    "only the optimizer that owns what is clipped": """
        for x, y in data:
            ZERO
            ZERO2
            JOINT
            BACK
            CLIP2
            STEP
            STEP2
        ---
        for x, y in data:
            ZERO
            ZERO2
            REGION
                JOINT
            BACK
            UNSCALE2
            CLIP2
            STEP
            STEP2
            UPDATE
    """,
    "a path that unscales and does not step": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            NORM
            if not norm.isfinite():
                continue
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            NORM
            if not norm.isfinite():
                UPDATE
                continue
            STEP
            UPDATE
    """,
    "a function": """
        def train_step(x, y):
            ZERO
            LOSS
            BACK
            CLIP
            STEP
            return loss.item()
        ---
        def train_step(x, y):
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            CLIP
            STEP
            UPDATE
            return loss.item()
    """,
    "a leftover after the loop": """
        for i, (x, y) in enumerate(data):
            LOSS
            BACK
            if i % 4 == 3:
                STEP
                ZERO
        if i % 4 != 3:
            STEP
            ZERO
        ---
        for i, (x, y) in enumerate(data):
            REGION
                LOSS
            BACK
            if i % 4 == 3:
                STEP
                UPDATE
                ZERO
        if i % 4 != 3:
            STEP
            UPDATE
            ZERO
    """,
    "micro-batches in an inner loop": """
        for batch in data:
            ZERO
            for x, y in batch:
                LOSS
                BACK
            CLIP
            STEP
        ---
        for batch in data:
            ZERO
            for x, y in batch:
                REGION
                    LOSS
                BACK
            UNSCALE
            CLIP
            STEP
            UPDATE
    """,
    "correlated conditions": """
        for i, (x, y) in enumerate(data):
            LOSS
            BACK
            if last:
                CLIP
            LOG
            if last:
                STEP
                ZERO
        ---
        for i, (x, y) in enumerate(data):
            REGION
                LOSS
            BACK
            if last:
                UNSCALE
                CLIP
            LOG
            if last:
                STEP
                UPDATE
                ZERO
    """,
    "a gradient by getattr": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            for p in model.parameters():
                getattr(p, 'grad').clamp_(-1, 1)
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            for p in model.parameters():
                getattr(p, 'grad').clamp_(-1, 1)
            STEP
            UPDATE
    """,
    "exceptions suppressed before the step": """
        for x, y in data:
            with contextlib.suppress(RuntimeError):
                ZERO
                LOSS
                BACK
                CLIP
                log(x)
                STEP
        ---
        for x, y in data:
            with contextlib.suppress(RuntimeError):
                ZERO
                REGION
                    LOSS
                BACK
                UNSCALE
                CLIP
                log(x)
                STEP
            UPDATE
    """,
    "an unknown helper that gets the model": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            normalize_gradients(model)
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            normalize_gradients(model)
            STEP
            UPDATE
    """,
    "an unknown helper that returns a value": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            norm = gradient_norm(model)
            STEP
            print(norm)
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            norm = gradient_norm(model)
            STEP
            UPDATE
            print(norm)
    """,
    "an unknown helper that gets the parameters": """
        for x, y in data:
            ZERO
            LOSS
            BACK
            normalize_gradients(model.parameters())
            STEP
        ---
        for x, y in data:
            ZERO
            REGION
                LOSS
            BACK
            UNSCALE
            normalize_gradients(model.parameters())
            STEP
            UPDATE
    """,
    "a try that goes on": """
        for x, y in data:
            ZERO
            try:
                LOSS
                BACK
            except RuntimeError:
                continue
            STEP
        ---
        for x, y in data:
            ZERO
            try:
                REGION
                    LOSS
                BACK
            except RuntimeError:
                continue
            STEP
            UPDATE
    """,
}


def sides(table: dict[str, str], name: str) -> tuple[str, str]:
    before, _, after = dedent(table[name]).partition("---\n")
    return plain(before), scaled(after)


@pytest.mark.parametrize("name", PLACED)
def test_placed(name: str) -> None:
    before, after = sides(PLACED, name)
    result = convert(before.encode())
    assert [d.message for d in result.diagnostics] == []
    assert body(result.output.decode()) == body(after)
