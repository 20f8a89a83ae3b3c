"""Wrong programs: gradients that are read while they are scaled, or mixed with those of another scale."""

import pytest

from tests.protocol.cases import cases, problems

WRONG = cases("""
# MIXED: each optimizer of a list, not zeroed
opts = [optim.SGD(model.parameters(), lr=1), optim.SGD(model2.parameters(), lr=1)]
for x, y in data:
    BACK
    for o in opts:
        scaler.step(o)
    UPDATE
# READ_SCALED: clipped before each is unscaled
opts = [optim.SGD(model.parameters(), lr=1), optim.SGD(model2.parameters(), lr=1)]
for x, y in data:
    for o in opts:
        o.zero_grad()
    BACK
    CLIP
    for o in opts:
        scaler.step(o)
    UPDATE
# MIXED: a short-circuited zero_grad
for x, y in data:
    flag and optimizer.zero_grad()
    BACK
    STEP
    UPDATE
# MIXED: a conditional expression's zero_grad
for x, y in data:
    optimizer.zero_grad() if flag else None
    BACK
    STEP
    UPDATE
# READ_SCALED: in finally, on the path of a continue
for x, y in data:
    ZERO
    try:
        BACK
        if flag:
            continue
        UNSCALE
    finally:
        CLIP
    STEP
    UPDATE
# READ_SCALED: in finally, on the path of an exception
for x, y in data:
    ZERO
    try:
        try:
            BACK
            log(x)
            UNSCALE
        finally:
            CLIP
    except RuntimeError:
        UPDATE
        continue
    STEP
    UPDATE
# READ_SCALED: in the second handler's path
for x, y in data:
    ZERO
    try:
        BACK
        log(x)
        UNSCALE
    except ValueError:
        UNSCALE
    except RuntimeError:
        pass
    CLIP
    STEP
    UPDATE
# READ_SCALED: clip without unscaling
for x, y in data:
    ZERO
    BACK
    CLIP
    STEP
    UPDATE
# READ_SCALED: clip before unscaling
for x, y in data:
    ZERO
    BACK
    CLIP
    UNSCALE
    STEP
    UPDATE
# READ_SCALED: the other optimizer unscaled
for x, y in data:
    ZERO
    ZERO2
    BACK
    UNSCALE2
    CLIP
    STEP
    STEP2
    UPDATE
# READ_SCALED: one of two unscaled
for x, y in data:
    ZERO
    ZERO2
    BACK
    UNSCALE
    BOTH
    STEP
    STEP2
    UPDATE
# READ_SCALED: unscaled in one branch
for x, y in data:
    ZERO
    BACK
    if flag:
        UNSCALE
    CLIP
    STEP
    UPDATE
# READ_SCALED: update before the clip, no step
for x, y in data:
    BACK
    if flag:
        STEP
        UPDATE
        ZERO
    CLIP
# READ_SCALED: a helper that clips
def tidy(m):
    nn.utils.clip_grad_norm_(m.parameters(), 1.0)
for x, y in data:
    ZERO
    BACK
    tidy(model)
    STEP
    UPDATE
# READ_SCALED: in a match arm
for x, y in data:
    ZERO
    BACK
    match mode:
        case "clip":
            CLIP
    STEP
    UPDATE
# READ_SCALED: in the else of the loop
for x, y in data:
    ZERO
    BACK
else:
    CLIP
STEP
UPDATE
# MIXED: backward after unscaling
for x, y in data:
    ZERO
    BACK
    UNSCALE
    CLIP
    BACK
    STEP
    UPDATE
# MIXED: no zero_grad
for x, y in data:
    BACK
    STEP
    UPDATE
# MIXED: no zero_grad, unscaled
for x, y in data:
    BACK
    UNSCALE
    CLIP
    STEP
    UPDATE
# MIXED: zero_grad of the other
for x, y in data:
    ZERO2
    BACK
    STEP
    UPDATE
# MIXED: zero_grad on some path only
for x, y in data:
    if flag:
        ZERO
    BACK
    STEP
    UPDATE
# MIXED: zero_grad once, before the loop
ZERO
for x, y in data:
    BACK
    STEP
    UPDATE
# MIXED: zero_grad only at the end of an epoch
for epoch in range(3):
    for x, y in data:
        BACK
        STEP
        UPDATE
    ZERO
# MIXED: update before the step
for x, y in data:
    ZERO
    BACK
    UPDATE
    STEP
# MIXED: an update in every micro-batch
for i, (x, y) in enumerate(data):
    BACK
    if i % 4 == 3:
        STEP
        ZERO
    UPDATE
# MIXED: an update between two optimizers
for x, y in data:
    ZERO
    ZERO2
    BACK
    STEP
    UPDATE
    STEP2
    UPDATE
# MIXED: an update in the condition of the first of two
for x, y in data:
    ZERO
    ZERO2
    BACK
    if flag:
        STEP
        UPDATE
    STEP2
    UPDATE
# MIXED: unscaled too early
for x, y in data:
    ZERO
    UNSCALE
    BACK
    STEP
    UPDATE
# MIXED: a continue that keeps the gradients
for x, y in data:
    ZERO2
    BACK
    STEP
    UPDATE
    if flag:
        continue
    ZERO
# MIXED: shared parameters
both = optim.SGD([*model.parameters(), *model2.parameters()], lr=0.1)
for x, y in data:
    both.zero_grad()
    BACK
    scaler.step(both)
    STEP
    UPDATE
# MIXED: two optimizers of one model
other = optim.Adam(model.parameters())
for x, y in data:
    ZERO
    BACK
    STEP
    scaler.step(other)
    UPDATE
# MIXED: only a part of the models zeroed
both = optim.SGD([*model.parameters(), *model2.parameters()], lr=0.1)
for x, y in data:
    model.zero_grad()
    BACK
    scaler.step(both)
    UPDATE
# MIXED: a helper that zeroes on some path
def clear():
    if flag:
        ZERO
for x, y in data:
    clear()
    BACK
    STEP
    UPDATE
# MIXED: an exception after the step, not zeroed
for x, y in data:
    try:
        BACK
        STEP
        UPDATE
        log(x)
        ZERO
    except RuntimeError:
        continue
""")


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    assert name.partition(":")[0] in problems(WRONG[name])
