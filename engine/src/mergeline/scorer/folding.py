"""Moves a split's threshold in front of the operations that its feature went through, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mergeline.scorer.expressions import Op, after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mergeline.scorer.operations import Floats


def fold(ops: Sequence[Op], thresholds: Floats) -> Floats:
    """For each threshold t the largest number x with `ops(x) <= t`, -inf where there is none above it.

    The operations keep the order of floating-point numbers, rounding included, so that the numbers x with
    `ops(x) <= t` are all those up to one: it is found by bisection over the numbers themselves.
    """
    if not ops:
        return thresholds.astype(np.float64)
    low = np.full(thresholds.shape, _rank(np.array([-np.inf]))[0], dtype=np.int64)
    high = np.full(thresholds.shape, _rank(np.array([np.inf]))[0], dtype=np.int64)
    while (low < high).any():
        middle = (low | high) - ((low ^ high) >> 1)  # the upper mean; a difference could leave 64 bits
        fits = after(ops, _number(middle)) <= thresholds
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return _number(low)


def _rank(numbers: Floats) -> NDArray[np.int64]:
    """Whole numbers in the order of the floating-point numbers, one step for each."""
    bits = numbers.view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _number(ranks: NDArray[np.int64]) -> Floats:
    bits = np.where(ranks < 0, np.int64(-(2**63)) - ranks, ranks)
    return bits.view(np.float64)
