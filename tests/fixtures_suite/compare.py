"""Compare the records of two runs; every function gives the differences as sentences, none if there are none."""

from typing import Any

import torch

Record = dict[str, Any]


def exact_problems(reference: Record, candidate: Record) -> list[str]:
    """Differences between runs that must be the same in every bit: steps, final state, output, random numbers."""
    problems = run_problems(reference, candidate)
    for index, (expected, got) in enumerate(zip(reference["steps"], candidate["steps"], strict=False)):
        if expected[0] != got[0]:
            problems.append(f"step {index} is of optimizer {got[0]}, not {expected[0]}")
        elif not _same(expected[1], got[1]):
            problems.append(f"step {index}: optimizer {got[0]} saw other gradients")
        elif not _same(expected[2], got[2]):
            problems.append(f"step {index}: optimizer {got[0]} left other parameters")
        else:
            continue
        break
    if not _same(reference["optimizers"], candidate["optimizers"]):
        problems.append("the optimizers' final states differ")
    for name, tensor in reference["state"].items():
        if name not in candidate["state"]:
            problems.append(f"{name} is gone at the end")
        elif not _same(tensor, candidate["state"][name]):
            problems.append(f"{name} differs at the end")
    if not _same(reference["random"], candidate["random"]):
        problems.append("the random generators ended elsewhere")
    if reference["printed"] != candidate["printed"]:
        problems.append(f"it printed {candidate['printed']!r} instead of {reference['printed']!r}")
    if new := set(candidate["warnings"]) - set(reference["warnings"]):
        problems.append(f"new warnings: {sorted(new)}")
    return problems


def close_problems(reference: Record, candidate: Record, tolerance: float) -> list[str]:
    """What is wrong with a half-precision run: first gradients further off than by rounding, or nothing in half."""
    problems = run_problems(reference, candidate) + _first_step_problems(reference, candidate, tolerance)
    first_expected, first_got = _first_gradients(reference), _first_gradients(candidate)
    doubles = all(g.dtype is torch.float64 for grads in first_expected.values() for g in grads if g is not None)
    if first_expected and not doubles and _same(first_expected, first_got):  # autocast leaves float64 alone
        problems.append("gradients are those of fp32: nothing ran in half precision")
    return problems


def divergences(reference: Record, candidate: Record, tolerance: float) -> list[str]:
    """Where a half-precision run trains otherwise: first gradients further off than by rounding, or steps left out."""
    return _step_problems(reference, candidate) + _first_step_problems(reference, candidate, tolerance)


def run_problems(reference: Record, candidate: Record) -> list[str]:
    """What must hold in every mode: it runs to the end, steps as often as the original, breaks no rule on the way."""
    problems = list(candidate["problems"])
    if reference["error"]:
        problems.append(f"the original fails: {reference['error']}")
    if candidate["error"]:
        problems.append(f"it fails: {candidate['error']}")
    return problems + _step_problems(reference, candidate)


def _step_problems(reference: Record, candidate: Record) -> list[str]:
    counts = [_count(record) for record in (reference, candidate)]
    return [] if counts[0] == counts[1] else [f"steps by optimizer: {counts[1]} instead of {counts[0]}"]


def _first_step_problems(reference: Record, candidate: Record, tolerance: float) -> list[str]:
    expected, got = _first_gradients(reference), _first_gradients(candidate)
    errors = {number: relative_error(expected[number], got[number]) for number in expected.keys() & got.keys()}
    return [
        f"first step of optimizer {number}: relative gradient error {error:.4g} > {tolerance:g}"
        for number, error in errors.items()
        if not error <= tolerance
    ]


def relative_error(expected: list[Any], got: list[Any]) -> float:
    """||got - expected|| / ||expected|| over all gradients together; inf where one is missing or not finite."""
    shapes = [[None if g is None else g.shape for g in side] for side in (expected, got)]
    if shapes[0] != shapes[1]:
        return float("inf")
    empty = torch.zeros(0)
    a, b = (torch.cat([empty, *(g.double().flatten() for g in side if g is not None)]) for side in (expected, got))
    if not b.isfinite().all():
        return float("inf")
    return float((b - a).norm() / a.norm()) if a.any() else float(b.norm())


def _first_gradients(record: Record) -> dict[int, list[Any]]:
    first: dict[int, list[Any]] = {}
    for number, gradients, _ in record["steps"]:
        first.setdefault(number, gradients)
    return first


def _count(record: Record) -> dict[int, int]:
    counts: dict[int, int] = {}
    for number, _, _ in record["steps"]:
        counts[number] = counts.get(number, 0) + 1
    return counts


def _same(a: Any, b: Any) -> bool:
    """Equality of nested values; tensors are the same if dtype, shape and every value are, and NaN equals NaN."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
            return False
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return torch.equal(a, b) or torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (a != a and b != b)
