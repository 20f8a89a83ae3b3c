"""Right programs: losses, clips and steps, of one optimizer and of several."""

import pytest

from tests.protocol.cases import cases, problems

RIGHT = cases("""
# each optimizer of a list
opts = [optim.SGD(model.parameters(), lr=1), optim.SGD(model2.parameters(), lr=1)]
for x, y in data:
    for o in opts:
        o.zero_grad()
    BACK
    for o in opts:
        scaler.step(o)
    UPDATE
# each optimizer of a list, clipped on its own
opts = [optim.SGD(model.parameters(), lr=1), optim.SGD(model2.parameters(), lr=1)]
for x, y in data:
    BACK
    for o in opts:
        scaler.unscale_(o)
        nn.utils.clip_grad_norm_(o.param_groups[0]["params"], 1.0)
        scaler.step(o)
        o.zero_grad()
    UPDATE
# each of two by name
for x, y in data:
    for o in (optimizer, optimizer2):
        o.zero_grad()
    BACK
    UNSCALE
    CLIP
    for o in (optimizer, optimizer2):
        scaler.step(o)
    UPDATE
# no training
print(1)
# the plain loop
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
# clipped
for x, y in data:
    ZERO
    BACK
    UNSCALE
    CLIP
    STEP
    UPDATE
# exchanged, then clipped
for x, y in data:
    ZERO
    BACK
    for p in model.parameters():
        torch.distributed.all_reduce(p.grad)
    UNSCALE
    CLIP
    STEP
    UPDATE
# looked at after the step
for x, y in data:
    ZERO
    BACK
    UNSCALE
    STEP
    CLIP
    UPDATE
# looked at after the step, which unscales too
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
    CLIP
# looked at again in the next iteration
for x, y in data:
    CLIP
    ZERO
    BACK
    STEP
    UPDATE
# zeroed after the step
for x, y in data:
    BACK
    STEP
    UPDATE
    ZERO
# zeroed by the model
for x, y in data:
    model.zero_grad()
    BACK
    STEP
    UPDATE
# zeroed by hand
for x, y in data:
    BACK
    STEP
    UPDATE
    for p in model.parameters():
        p.grad = None
# zeroed by a helper
def clear():
    ZERO
for x, y in data:
    clear()
    BACK
    STEP
    UPDATE
# two backwards
for x, y in data:
    ZERO
    BACK
    BACK
    STEP
    UPDATE
# accumulation
for i, (x, y) in enumerate(data):
    BACK
    if i % 4 == 3:
        UNSCALE
        CLIP
        STEP
        UPDATE
        ZERO
# accumulation in an inner loop
while True:
    ZERO
    for x, y in chunk:
        BACK
    UNSCALE
    CLIP
    STEP
    UPDATE
# accumulation with continue
for x, y in data:
    BACK
    if not full:
        continue
    STEP
    UPDATE
    ZERO
# an update in each branch of a step
for x, y in data:
    ZERO
    BACK
    if flag:
        STEP
        UPDATE
    else:
        UNSCALE
        CLIP
        STEP
        UPDATE
# one update behind both branches
for x, y in data:
    ZERO
    BACK
    if flag:
        UNSCALE
        CLIP
        STEP
    else:
        STEP
    UPDATE
# correlated tests
for x, y in data:
    BACK
    if last:
        UNSCALE
        CLIP
    if last:
        STEP
        UPDATE
        ZERO
# correlated tests, one negated
for x, y in data:
    BACK
    if last:
        UNSCALE
        CLIP
    if not last:
        print(x)
    else:
        STEP
        UPDATE
        ZERO
# two optimizers, one backward
for x, y in data:
    ZERO
    ZERO2
    BACK
    STEP
    STEP2
    UPDATE
# two optimizers, two phases, an update each
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
    ZERO2
    BACK2
    STEP2
    UPDATE
# two optimizers, two phases, one update
for x, y in data:
    ZERO
    BACK
    STEP
    ZERO2
    BACK2
    STEP2
    UPDATE
# one optimizer clipped, two stepped
for x, y in data:
    ZERO
    ZERO2
    BACK
    UNSCALE
    CLIP
    STEP
    STEP2
    UPDATE
# both clipped together
for x, y in data:
    ZERO
    ZERO2
    BACK
    UNSCALE
    UNSCALE2
    BOTH
    STEP
    STEP2
    UPDATE
""")


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert problems(RIGHT[name]) == set()
