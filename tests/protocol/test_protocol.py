"""The scaler's state machine on converted code: right programs without a violation, wrong ones with the one expected."""

import ast
import time

import pytest

from ampify.analysis.analyse import analyse
from ampify.protocol import Overlay, check
from ampify.scaler import Problem
from tests.plan.shorthand import dedent, scaled


def problems(text: str, strict: bool = True) -> set[str]:
    program = analyse(ast.parse(scaled(text)))
    return {v.problem.name for scope in program.scopes for v in check(scope, strict=strict).violations}


def cases(text: str) -> dict[str, str]:
    """The entries of a table: a `# name` in the first column begins one."""
    found: dict[str, list[str]] = {}
    for line in text.strip("\n").splitlines():
        if line.startswith("# "):
            found[line[2:]] = current = []
        else:
            current.append(line)
    return {name: dedent("\n".join(lines)) for name, lines in found.items()}


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


def test_every_problem_is_in_the_table() -> None:
    assert {name.partition(":")[0] for name in WRONG} == {p.name for p in Problem} - {"UNDECIDED", "NO_GRADIENTS"}


# What the runtime bears and torch's own scaler raises at, and what is close and fine.
WITHOUT_GRADIENTS = {
    "for x, y in data:\n    ZERO\n    BACK\n    STEP\n    UPDATE\n": False,
    "for x, y in data:\n    ZERO\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    for z in x:\n        BACK\n    STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n        STEP\n    UPDATE\n": True,
    "for x, y in data:\n    ZERO\n    if flag:\n        BACK\n        STEP\n        UPDATE\n": False,
    "for x, y in data:\n    BACK\n    if last:\n        STEP\n        UPDATE\n        ZERO\n": False,
    "for x, y in data:\n    ZERO\n    BACK\n    STEP\n    ZERO\n    UPDATE\n": False,
    "for x, y in data:\n    ZERO\n    BACK\n    UNSCALE\n    if flag:\n        UPDATE\n        continue\n"
    "    STEP\n    UPDATE\n": False,
}


@pytest.mark.parametrize("text", WITHOUT_GRADIENTS)
def test_only_the_plain_scaler_needs_gradients(text: str) -> None:
    (scope,) = analyse(ast.parse(scaled(text))).scopes
    assert check(scope, strict=True).violations == ()
    found = {v.problem for v in check(scope, Overlay(plain=True), strict=True).violations}
    assert found == ({Problem.NO_GRADIENTS} if WITHOUT_GRADIENTS[text] else set())


TESTS = """\
for x, y in data:
    BACK
    if {first}:
        UNSCALE
        CLIP
{between}    if {second}:
        STEP
        UPDATE
        ZERO
"""


@pytest.mark.parametrize(
    ("first", "second", "between", "correlated"),
    [
        ("last", "last", "", True),
        ("i % 4 == 3", "i % 4 == 3", "", True),
        ("not last", "not last", "", True),
        ("i + 1 == len(data)", "i + 1 == len(data)", "", True),
        ("last", "first", "", False),
        ("last", "not last", "", False),
        ("last", "last", "    last = True\n", False),
        ("last", "last", "    last ^= flag\n", False),
        ("last", "last", "    for last in flags: pass\n", False),
        ("last", "last", "    with flags as last: pass\n", False),
        ("i % 4 == 3", "i % 4 == 3", "    i += 1\n", False),
        ("self.last", "self.last", "    self.last = x\n", False),
        ("random()", "random()", "", False),
        ("next(flags)", "next(flags)", "", False),
        ("flags.pop()", "flags.pop()", "", False),
    ],
)
def test_correlated_tests(first: str, second: str, between: str, correlated: bool) -> None:
    found = problems(TESTS.format(first=first, second=second, between=between))
    assert (found == set()) is correlated


def test_a_new_iteration_forgets_its_tests() -> None:
    text = "for i, x in data:\n    BACK\n    if i % 4 == 3:\n        STEP\n        UPDATE\n    if i % 4 == 3:\n        ZERO\n"
    assert problems(text) == set()
    assert "MIXED" in problems(text.replace("        ZERO", "        print(x)"))


@pytest.mark.parametrize("tests", [4, 40])
def test_too_many_paths_are_undecided(tests: int) -> None:
    """Each condition that is tested twice doubles the states; that ends with an answer, and soon."""
    ifs = "".join(f"    if c{i}:\n        ZERO\n" for i in range(tests)) * 2
    started = time.monotonic()
    found = problems("for x, y in data:\n    ZERO\n    BACK\n" + ifs + "    STEP\n    UPDATE\n")
    assert time.monotonic() - started < 10
    assert ("UNDECIDED" in found) is (tests == 40)


def test_many_plain_branches_are_decided() -> None:
    ifs = "".join(f"    if c{i}:\n        print({i})\n    elif d{i}:\n        CLIP2\n" for i in range(200))
    assert problems("for x, y in data:\n    ZERO\n    BACK\n    STEP\n    UPDATE\n" + ifs) == set()


def test_an_unscaled_backward_counts_only_when_strict() -> None:
    text = "for x, y in data:\n    ZERO\n    loss.backward()\n    STEP\n    UPDATE\n"
    assert problems(text, strict=False) == set()
    assert problems(text, strict=True) == {"NOT_SCALED"}


def test_violations_say_where() -> None:
    text = "for x, y in data:\n    ZERO\n    BACK\n    CLIP\n    STEP\n    UPDATE\n"
    script = scaled(text)
    (scope,) = analyse(ast.parse(script)).scopes
    (violation,) = check(scope, strict=True).violations
    assert script.splitlines()[violation.line - 1].strip().startswith("nn.utils.clip_grad_norm_")
    assert violation.target == "optimizer"


def test_jumps_that_leave_an_update_pending() -> None:
    text = "for x, y in data:\n    ZERO\n    BACK\n    UNSCALE\n    NORM\n    if flag:\n        continue\n    STEP\n    UPDATE\n"
    (scope,) = analyse(ast.parse(scaled(text))).scopes
    jump = next(s for s in scope.statements() if s.kind == "continue")
    assert check(scope).pending == {jump.number: frozenset({"optimizer"})}
