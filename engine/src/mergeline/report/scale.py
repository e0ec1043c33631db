"""Round ends and steps for the axis of a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Axis(NamedTuple):
    """Where an axis begins and ends, and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where `value` stands between the ends, as a share."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, wanted: int = 5, whole: bool = False) -> Axis:
    """An axis with round ticks that holds every finite value, the ticks whole numbers where `whole`.

    Steps are 1, 2 or 5 times a power of ten (Heckbert 1990, "Nice numbers for graph labels").
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        spread = abs(high) * 0.1 or 1.0
        low, high = low - spread, high + spread
    step = max(_round_step((high - low) / wanted), 1.0 if whole else 0.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(tick * step for tick in range(first, last + 1)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(times for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9)) * power)
