"""Right programs: jumps, exceptions, branches and functions."""

import pytest

from tests.protocol.cases import cases, problems

RIGHT = cases("""
# break after the step
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
    if done:
        break
# break before the backward
for x, y in data:
    ZERO
    if done:
        break
    BACK
    STEP
    UPDATE
# continue before the backward
while True:
    ZERO
    if skip:
        continue
    BACK
    STEP
    UPDATE
# continue after unscaling, with an update
for x, y in data:
    ZERO
    BACK
    UNSCALE
    NORM
    if not norm.isfinite():
        UPDATE
        continue
    STEP
    UPDATE
# an exception ends the training
try:
    for x, y in data:
        ZERO
        BACK
        UNSCALE
        CLIP
        STEP
        UPDATE
except KeyboardInterrupt:
    print("stopped")
# an exception before anything is scaled
for x, y in data:
    try:
        x = load(x)
    except IOError:
        continue
    ZERO
    BACK
    STEP
    UPDATE
# an exception in the backward, zeroed next
for x, y in data:
    ZERO
    try:
        BACK
    except RuntimeError:
        continue
    STEP
    UPDATE
# an exception passed on
for x, y in data:
    ZERO
    try:
        BACK
        UNSCALE
        CLIP
    except RuntimeError:
        print(x)
        raise
    STEP
    UPDATE
# finally
for x, y in data:
    try:
        ZERO
        BACK
        STEP
    finally:
        print(x)
    UPDATE
# an update in finally
for x, y in data:
    try:
        ZERO
        BACK
        STEP
        if flag:
            continue
    finally:
        UPDATE
# exceptions suppressed
for x, y in data:
    ZERO
    with contextlib.suppress(RuntimeError):
        BACK
        UNSCALE
        CLIP
    STEP
    UPDATE
# try else
for x, y in data:
    try:
        ZERO
        BACK
    except RuntimeError:
        print(x)
    else:
        STEP
        UPDATE
# a function
def train(data):
    for x, y in data:
        ZERO
        BACK
        STEP
        UPDATE
# a step function
def train_step(x, y):
    ZERO
    BACK
    UNSCALE
    CLIP
    STEP
    UPDATE
    return loss
# an early return
def train_step(x, y):
    ZERO
    if x is None:
        return None
    BACK
    STEP
    UPDATE
# nested functions
def outer():
    def inner(x, y):
        ZERO
        BACK
        STEP
        UPDATE
    for x, y in data:
        inner(x, y)
# match
for x, y in data:
    ZERO
    BACK
    match mode:
        case "clip":
            UNSCALE
            CLIP
            STEP
        case _:
            STEP
    UPDATE
# with
for x, y in data:
    with timer:
        ZERO
        BACK
    with timer:
        STEP
        UPDATE
# for else
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
else:
    CLIP
# leftover after the loop
for i, (x, y) in enumerate(data):
    BACK
    if i % 4 == 3:
        STEP
        UPDATE
        ZERO
if i % 4 != 3:
    STEP
    UPDATE
    ZERO
# while True with break
ZERO
while True:
    BACK
    STEP
    UPDATE
    ZERO
    if done:
        break
# a new optimizer
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
optimizer = optim.Adam(model.parameters())
for x, y in data:
    ZERO
    BACK
    STEP
    UPDATE
# a step without a backward
STEP
# critic loop
for x, y in data:
    for _ in range(5):
        ZERO
        BACK
        STEP
        UPDATE
    ZERO2
    BACK2
    STEP2
    UPDATE
# delayed second optimizer
for i, (x, y) in enumerate(data):
    ZERO
    BACK
    STEP
    UPDATE
    if i % 2:
        ZERO2
        BACK2
        STEP2
        UPDATE
""")


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert problems(RIGHT[name]) == set()
