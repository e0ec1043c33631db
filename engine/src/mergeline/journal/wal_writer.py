"""Appends records to live segments, closes those that are full or old, and heals when the disk does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from mergeline.journal.wal_format import Declared, Layout
from mergeline.journal.wal_segment import SUFFIX, JournalError, Segment

SEGMENT_BYTES = 64 << 20
"""A segment of this size is closed: sealing one takes about a second."""

LINGER_SECONDS = 5.0
"""A closed segment still takes what a shadow model answers to its requests for so long."""

DECLARE_BYTES = 1 << 20
"""After so many bytes the layouts are declared once more: damage to one declaration then costs no row."""

RETRY_SECONDS = 1.0
"""How often a disk that takes nothing is tried again."""

logger = logging.getLogger(__name__)

encode = msgspec.msgpack.Encoder().encode


class Ticket(NamedTuple):
    """Where a record was written: what belongs to it is written into the same segment."""

    segment: Segment
    at: int


class Trouble(NamedTuple):
    """Why nothing is written, and since when; `retry_at` is on the monotonic clock."""

    what: str
    since: datetime
    retry_at: float


class Writer:
    """The segments of one process. Safe for several threads.

    Args:
        folder: where live segments are; made when the first record is written.
        seal_seconds: a segment with records is closed at this age.
        fsync: whether each record is put on the disk before it is answered.
    """

    def __init__(self, folder: Path, seal_seconds: float, *, fsync: bool = False) -> None:
        self._folder, self._seal_seconds, self._fsync = folder, seal_seconds, fsync
        self._worker = f"{datetime.now(UTC):%Y%m%dT%H%M%S}.{os.getpid()}.{os.urandom(3).hex()}"
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._number = 0
        self._opened_at = 0.0
        self._lingering: deque[tuple[float, Segment]] = deque()
        self.trouble: Trouble | None = None

    def append(self, payload: bytes, layout: tuple[int, Layout] | None = None) -> Ticket | None:
        """Write one record; None where the disk does not take it.

        Args:
            payload: the record, encoded.
            layout: the number and the layout that it refers to, if any.
        """
        with self._lock:
            segment = self._segment
            try:
                if segment is None or self.trouble is not None or (layout and layout[0] not in segment.declared):
                    segment = self._prepared(layout)
                    if segment is None:
                        return None
                at = segment.append(payload)
            except OSError as cause:
                self._fail(cause)
                return None
            if self.trouble is not None:
                self._heal()
            return Ticket(segment, at)

    def append_beside(self, ticket: Ticket, payload: bytes) -> bool:
        """Write one record into the segment of another; False where that is closed, or the disk does not take it."""
        with self._lock:
            if not ticket.segment.is_open:
                return False
            try:
                ticket.segment.append(payload)
            except OSError as cause:
                self._fail(cause)
                return False
            return True

    def fail(self, cause: OSError) -> None:
        """Write nothing for a second, because of `cause`."""
        with self._lock:
            self._fail(cause)

    def error(self) -> JournalError:
        """Why nothing is written."""
        trouble = self.trouble
        return JournalError(
            f"the journal cannot be written: {trouble.what if trouble else 'it is closed'}",
            where=str(self._folder),
            hint="make room, or give this user the right to write there; it is tried again every second",
        )

    def tend(self) -> None:
        """Close what is full, old or no longer in its place; try again a disk that failed."""
        now = time.monotonic()
        with self._lock:
            while self._lingering and self._lingering[0][0] <= now:
                self._lingering.popleft()[1].close()
            if self.trouble is not None and now >= self.trouble.retry_at:
                self._try_again()
            segment, age = self._segment, now - self._opened_at
            if segment is not None:
                self._declare_again(segment)
        if segment is None:
            return
        old = age >= self._seal_seconds and not segment.is_empty
        if old or segment.size >= SEGMENT_BYTES or not segment.is_in_place():
            self._rotate(now)

    def close(self) -> None:
        """Close every segment; what is appended later is refused."""
        with self._lock:
            for segment in (*(old for _, old in self._lingering), *filter(None, [self._segment])):
                segment.close()
            self._lingering.clear()
            self._segment = None
            self.trouble = Trouble("the server is stopping", datetime.now(UTC), float("inf"))

    def _prepared(self, layout: tuple[int, Layout] | None) -> Segment | None:
        """The open segment, or a new one, that knows the layout; None while a disk that failed is left alone.

        Raises:
            OSError: the disk takes nothing.
        """
        if self.trouble is not None and time.monotonic() < self.trouble.retry_at:
            return None
        segment = self._segment or self._open()
        if layout is not None and layout[0] not in segment.declared:
            segment.declare(layout[0], encode(Declared(*layout)))
        return segment

    def _open(self) -> Segment:
        self._segment = self._next_segment()
        self._opened_at = time.monotonic()
        return self._segment

    def _next_segment(self) -> Segment:
        self._number += 1
        return Segment(self._folder / f"{self._worker}-{self._number:06}{SUFFIX}", fsync=self._fsync)

    def _rotate(self, now: float) -> None:
        """Put a new segment in the place of the open one; requests wait only for the exchange."""
        try:
            segment: Segment | None = self._next_segment()
        except OSError as cause:
            with self._lock:
                self._fail(cause)
            return
        with self._lock:
            if self._segment is not None:
                self._lingering.append((now + LINGER_SECONDS, self._segment))
            self._segment, self._opened_at = segment, now

    def _declare_again(self, segment: Segment) -> None:
        try:
            segment.declare_again(DECLARE_BYTES)
        except OSError as cause:
            self._fail(cause)

    def _try_again(self) -> None:
        try:
            self._open()
        except OSError as cause:
            self._fail(cause)
        else:
            self._heal()

    def _fail(self, cause: OSError) -> None:
        """Give up the open segment, and note why; the caller holds the lock."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        what = cause.strerror or str(cause)
        since = self.trouble.since if self.trouble else datetime.now(UTC)
        if self.trouble is None:
            logger.error("the journal cannot be written: %s: %s", self._folder, what)
        self.trouble = Trouble(what, since, time.monotonic() + RETRY_SECONDS)

    def _heal(self) -> None:
        self.trouble = None
        logger.warning("the journal is written again: %s", self._folder)
