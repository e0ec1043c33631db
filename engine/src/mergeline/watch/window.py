"""Stretches of time, by one of two clocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from mergeline.errors import WatchError
from mergeline.timing import duration

_LONGEST = timedelta(days=3653)

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""A row of a time outside of these is no row of any window: a caller may send any time there is, or none."""


class Clock(StrEnum):
    """Which time orders the rows: when a request came, or the record's own time."""

    ARRIVAL = "arrival"
    EVENT = "event"

    @property
    def column(self) -> str:
        """The journal's column that holds it."""
        return "_time" if self is Clock.ARRIVAL else "_event_time"


@dataclass(frozen=True)
class Window:
    """From `start` on and before `end`, by `clock`; both in UTC."""

    start: datetime
    end: datetime
    clock: Clock

    def before(self) -> Window:
        """The window of the same length that ends where this one starts."""
        return self.earlier(self.end - self.start)

    def earlier(self, delay: timedelta) -> Window:
        """The window of the same length that ended so long ago.

        Raises:
            WatchError: no calendar has a time so long ago.
        """
        return Window(back(self.start, delay), back(self.end, delay), self.clock)


def read_window(text: str, end: datetime, clock: Clock) -> Window:
    """The window that `text` names, such as 7d, before `end`.

    Raises:
        WatchError: it is not a number with m, h, d or w after it, or is too long, or begins before the calendar does.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,5}[mhdw]", text):
        raise WatchError(f"{text!r} is not a length of time", where="--window", hint="write it as 90m, 24h, 7d or 4w")
    return Window(back(end, length(text)), end, clock)


def length(text: str) -> timedelta:
    """The length of time that a number with m, h, d or w after it names.

    Raises:
        WatchError: it is longer than ten years: earlier windows of that length would be before all time.
    """
    found = duration(text)
    if found > _LONGEST:
        raise WatchError(f"{text} is longer than ten years", where="a length of time", hint="ask for less, as 7d or 4w")
    return found


def read_moment(text: str) -> datetime:
    """The moment that an ISO 8601 text names; UTC where it has no zone.

    Raises:
        WatchError: it is not such a text.
    """
    error = WatchError(
        f"{text!r} is not a time", where="--end", hint="write it as 2026-03-08 or 2026-03-08T12:00:00+01:00"
    )
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie beyond the calendar's end
        raise error from None


def back(moment: datetime, delay: timedelta) -> datetime:
    """The moment so long before another.

    Raises:
        WatchError: no calendar has it.
    """
    try:
        return moment - delay
    except OverflowError:
        raise WatchError(
            f"the windows before {moment.date()} would begin before the year 1",
            where="--end",
            hint="let it end later, or ask for a shorter --window",
        ) from None
