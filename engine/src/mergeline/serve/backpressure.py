"""Bounds how many requests wait at once: one more is sent away at once instead of waiting for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mergeline.serve.errors import RequestError


class WaitingRoom:
    """Places for requests whose body is still coming, or whose turn has not come.

    Used on the event loop alone, so it needs no lock.
    """

    def __init__(self, places: int) -> None:
        self._places, self.waiting = places, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place until the waiting is over.

        Raises:
            RequestError: 429, there is none.
        """
        if self.waiting >= self._places:
            raise RequestError(
                429, f"{self._places} requests are waiting already", hint="come back in a second, or slow down"
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1
