"""Remembers what was counted a while ago, so that the last seconds can be told from the rest."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from mergeline.serve.rollout.counts import Counts


class Window:
    """What was counted in the last `seconds`, off by a twelfth of it at most, and by one look.

    Until so much time has gone by, the window begins with the first look.
    """

    def __init__(self, seconds: float) -> None:
        self._length, self._spacing = timedelta(seconds=seconds), timedelta(seconds=seconds / 12)
        self._looks: deque[tuple[datetime, Counts]] = deque()

    def look(self, now: datetime, counts: Counts) -> Counts:
        """Take the counts as they stand `now`, and give what came in the window that ends with them."""
        looks = self._looks
        if looks and now < looks[-1][0]:  # the clock was set back
            looks.clear()
        if not looks or now - looks[-1][0] >= self._spacing:
            looks.append((now, counts))
        while len(looks) > 1 and now - looks[1][0] >= self._length:
            looks.popleft()
        return counts.since(looks[0][1])
