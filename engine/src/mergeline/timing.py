"""Lengths of time as people write them, and how long to wait before something that failed is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""A row of a time outside of these is no row of any window: a caller may send any time there is, or none."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def duration(text: str) -> timedelta:
    """The length of time that a whole number with s, m, h, d or w after it names, as `90s`, `15m`, `2h`, `1d`, `4w`.

    Raises:
        ValueError: the text is none.
        OverflowError: it is longer than any calendar.
    """
    if text[-1:] not in _SECONDS or not text[:-1].isdecimal():
        raise ValueError(f"{text!r} is not a length of time")
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])


def in_words(length: timedelta) -> str:
    """A length of time in the unit that people would take, as `40 seconds`, `90 minutes`, `5.5 hours`, `3.0 days`."""
    minutes = length.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} minutes" if minutes >= 2 else f"{minutes * 60:.0f} seconds"
    return f"{minutes / 1440:.1f} days" if minutes >= 2880 else f"{minutes / 60:.1f} hours"


class Pause(NamedTuple):
    """A wait that a clock which is set back ends, and does not make longer; one without a length is over."""

    since: datetime = EARLIEST
    length: timedelta = timedelta(0)

    def is_over(self, now: datetime) -> bool:
        """Whether it is."""
        return not self.since <= now < self.since + self.length


def backoff_seconds(failures: int, *, first: float, longest: float) -> float:
    """How long to wait after `failures` earlier ones (0, 1, ...): `first`, and twice as long each time."""
    return float(min(first * 2 ** min(failures, 16), longest))
