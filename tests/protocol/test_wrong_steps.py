"""Wrong programs: plain backwards, and steps, unscalings and exchanges out of turn."""

import pytest

from tests.protocol.cases import cases, problems

WRONG = cases("""
# STEPPED_TWICE: each optimizer of a list, twice
opts = [optim.SGD(model.parameters(), lr=1), optim.SGD(model2.parameters(), lr=1)]
for x, y in data:
    for o in opts:
        o.zero_grad()
    BACK
    for o in opts:
        scaler.step(o)
    [scaler.step(o) for o in opts]
    UPDATE
# STEPPED_TWICE: one of two by name once more
for x, y in data:
    ZERO
    ZERO2
    BACK
    for o in (optimizer, optimizer2):
        scaler.step(o)
    STEP2
    UPDATE
# NOT_SCALED: plain backward
for x, y in data:
    ZERO
    loss.backward()
    STEP
    UPDATE
# NOT_SCALED: one of two plain
for x, y in data:
    ZERO
    BACK
    loss.backward()
    STEP
    UPDATE
# NOT_SCALED: plain in one branch
for x, y in data:
    ZERO
    if flag:
        loss.backward()
    else:
        BACK
    STEP
    UPDATE
# EXCHANGED: after the overflows are looked for
for x, y in data:
    ZERO
    BACK
    UNSCALE
    for p in model.parameters():
        torch.distributed.all_reduce(p.grad)
    STEP
    UPDATE
# STEPPED_TWICE: no update
for x, y in data:
    ZERO
    BACK
    STEP
# STEPPED_TWICE: stepped twice
for x, y in data:
    ZERO
    BACK
    STEP
    STEP
    UPDATE
# STEPPED_TWICE: an update in one branch only
for x, y in data:
    ZERO
    BACK
    STEP
    if flag:
        UPDATE
# STEPPED_TWICE: an update after the epoch only
for epoch in range(3):
    for x, y in data:
        ZERO
        BACK
        STEP
    UPDATE
# STEPPED_TWICE: continue before the update
for x, y in data:
    ZERO
    BACK
    STEP
    if flag:
        continue
    UPDATE
# STEPPED_TWICE: return before the update
def train_step(x, y):
    ZERO
    BACK
    STEP
    if flag:
        return loss
    UPDATE
# STEPPED_TWICE: while True, update behind a break
while True:
    for x, y in data:
        ZERO
        BACK
        STEP
        if flag:
            break
        UPDATE
# STEPPED_TWICE: the second optimizer's update missing
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
    ZERO2
    BACK2
    STEP2
    BACK2
    STEP2
# STEPPED_TWICE: match without an update in one arm
for x, y in data:
    ZERO
    BACK
    match mode:
        case 1:
            STEP
            UPDATE
        case _:
            STEP
# STEPPED_TWICE: update in else of the loop
for epoch in range(3):
    for x, y in data:
        ZERO
        BACK
        STEP
    else:
        UPDATE
# STEPPED_TWICE: an exception between step and update
for x, y in data:
    try:
        ZERO
        BACK
        STEP
        log(x)
        UPDATE
    except RuntimeError:
        continue
# UNSCALED_TWICE: twice
for x, y in data:
    ZERO
    BACK
    UNSCALE
    CLIP
    UNSCALE
    STEP
    UPDATE
# UNSCALED_TWICE: in every micro-batch
for i, (x, y) in enumerate(data):
    BACK
    UNSCALE
    CLIP
    if i % 4 == 3:
        STEP
        UPDATE
        ZERO
# UNSCALED_TWICE: in a loop over parameters
for x, y in data:
    ZERO
    BACK
    for p in model.parameters():
        UNSCALE
        p.grad.mul_(2)
    STEP
    UPDATE
# UNSCALED_TWICE: after the step
for x, y in data:
    ZERO
    BACK
    STEP
    UNSCALE
    CLIP
    UPDATE
# UNSCALED_TWICE: continue without an update
for x, y in data:
    ZERO
    BACK
    UNSCALE
    NORM
    if not norm.isfinite():
        continue
    STEP
    UPDATE
# UNSCALED_TWICE: an exception after unscaling
for x, y in data:
    ZERO
    try:
        BACK
        UNSCALE
        CLIP
    except RuntimeError:
        continue
    STEP
    UPDATE
# STEPPED_TWICE: an exception suppressed between step and update
for x, y in data:
    with contextlib.suppress(RuntimeError):
        ZERO
        BACK
        STEP
        log(x)
        UPDATE
# UNSCALED_TWICE: uncorrelated tests
for x, y in data:
    BACK
    if clip:
        UNSCALE
        CLIP
    if log:
        UNSCALE
        CLIP
    STEP
    UPDATE
    ZERO
""")


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    assert name.partition(":")[0] in problems(WRONG[name])
