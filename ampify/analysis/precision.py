"""Precision: what a value may be under autocast, and what becomes of several."""

from __future__ import annotations

from enum import IntEnum


class Precision(IntEnum):
    """What a value is under autocast. MAYBE: half on one device or for some callers."""

    NONE = 0  # no floating-point tensor
    FULL = 1  # a float32 tensor
    MAYBE = 2
    HALF = 3


NONE, FULL, MAYBE, HALF = Precision


def join(a: Precision, b: Precision) -> Precision:
    """One or the other."""
    if a is b or b is NONE:
        return a
    return b if a is NONE else MAYBE


def combine(*operands: Precision) -> Precision:
    """What an operator makes of its operands: tensors are promoted, unless the wider has no dimensions."""
    result = NONE
    for operand in operands:
        result = join(result, operand)
    return result
