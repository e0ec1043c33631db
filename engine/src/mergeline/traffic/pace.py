"""Decides when each request is due, whatever the server does: the schedule of an open loop."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mergeline.errors import MergelineError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class TrafficError(MergelineError):
    """The traffic that was asked for cannot be sent."""


@dataclass(frozen=True)
class Pace:
    """When requests and labels are due, in seconds from the start.

    With a `rate`, that many requests a second. With a `speed`, at the rows' own times, so many times faster, counted
    from `origin` (seconds since 1970). With neither, each connection sends as soon as it is free.
    """

    rate: float | None = None
    speed: float | None = None
    origin: float = 0.0

    @property
    def is_planned(self) -> bool:
        """Whether requests have a time at which they are due."""
        return self.rate is not None or self.speed is not None

    def due(self, number: int, own_time: float | None) -> float:
        """When a request is due; 0 without a plan.

        Args:
            number: of the request, from 0.
            own_time: of its last row, in seconds since 1970.
        """
        if self.rate is not None:
            return number / self.rate
        if self.speed is not None and own_time is not None:
            return max(0.0, own_time - self.origin) / self.speed
        return 0.0

    def label_due(self, sent: float, delay: float) -> float:
        """When the labels of a request are due.

        Args:
            sent: when the request was due, or without a plan when it was sent.
            delay: in seconds of the rows' own time; where the pace does not follow that, in seconds.
        """
        return sent + delay / (self.speed or 1.0)


def plan_pace(
    *, rate: float | None, speed: float | None, duration: float | None, span: tuple[float, float] | None
) -> Pace:
    """The pace that the command line asks for.

    Args:
        rate: requests a second.
        speed: how many times faster than the rows' own times.
        duration: seconds; without a rate, the time that all rows are spread over.
        span: own times of the first and the last row, in seconds since 1970; None where rows have none.

    Raises:
        TrafficError: the options contradict each other, or the rows have no times.
    """
    if rate is not None and speed is not None:
        raise TrafficError(
            "a rate and a speed contradict each other", where="--rate", hint="give --rate or --speed, not both"
        )
    if speed is not None and duration is not None:
        raise TrafficError(
            "a speed and a duration contradict each other", where="--speed", hint="give --speed or --duration, not both"
        )
    if rate is not None or (speed is None and duration is None):
        return Pace(rate=rate)
    if span is None:
        raise TrafficError(
            "the rows have no times to follow",
            where="params.yaml: data.time",
            hint="send at a rate of your own, as --rate 200, with --duration for how long",
        )
    first, last = span
    return Pace(speed=speed or max((last - first) / (duration or 1.0), 1e-9), origin=first)


def seconds_of(text: str, option: str) -> float:
    """A duration such as `500ms`, `60s`, `15m`, `2h` or `1d`; a bare number is seconds.

    Raises:
        TrafficError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", text.strip())
    if not found:
        raise TrafficError(f"no duration: {text!r}", where=option, hint="write it as 500ms, 60s, 15m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]
