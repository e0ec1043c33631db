"""Appends records to live segments, closes those that are full or old, and heals when the disk does."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from mergeline.errors import MergelineError
from mergeline.journal.folders import NEW_SEGMENT, SEGMENT, sync_folder
from mergeline.journal.wal_format import HEADER_BYTES, MAGIC, NONCE_BYTES, Declared, Layout, framer

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


class JournalError(MergelineError):
    """The journal cannot be written."""


class Segment:
    """An open segment. Not safe for several threads at once; the journal holds a lock around it.

    What `append` returns from is in the kernel's page cache: it outlives this process, whatever ends that. With `fsync`
    it is on the disk, and outlives a power cut.

    Raises:
        OSError: (when it is made) the folder cannot be written, or the disk is full.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path, self._fsync = path, fsync
        self.declared: dict[int, bytes] = {}
        self._declared_at = 0
        nonce = os.urandom(NONCE_BYTES)
        self._frame = framer(nonce)
        self.size = HEADER_BYTES
        path.parent.mkdir(parents=True, exist_ok=True)
        # Locked before it has its name: whoever seals the segments of the dead never finds it without its holder.
        draft = path.with_suffix(NEW_SEGMENT)
        self._handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(self._handle, MAGIC + nonce)
            draft.replace(path)
            if fsync:
                os.fsync(self._handle)
                for folder in path.parents[:2]:
                    sync_folder(folder)
            self._inode = os.fstat(self._handle).st_ino
        except BaseException:
            os.close(self._handle)
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it still takes records."""
        return self._handle >= 0

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self.size == HEADER_BYTES

    def append(self, payload: bytes) -> int:
        """Write one record whole, or leave the segment as it was; returns where it begins.

        Raises:
            OSError: the disk is full, or has failed.
        """
        at, content = self.size, self._frame(payload)
        try:
            written = os.write(self._handle, content)
            if written < len(content):
                _write_all(self._handle, content[written:])
            if self._fsync:
                os.fdatasync(self._handle)
        except OSError:
            os.ftruncate(self._handle, at)
            raise
        self.size = at + len(content)
        return at

    def declare(self, number: int, payload: bytes) -> None:
        """Write the declaration of a layout, as `append` does."""
        self.append(payload)
        self.declared[number] = payload
        self._declared_at = self.size

    def declare_again(self, after: int = 0) -> None:
        """Write every declaration once more where so many bytes were written since: damage to one then costs no row."""
        if self.declared and self.size - self._declared_at > after:
            for number, payload in self.declared.items():
                self.declare(number, payload)

    def is_in_place(self) -> bool:
        """Whether the file is still where it was made: a folder that was deleted takes no more records."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Give it free to be sealed; one without records is deleted."""
        if self._handle < 0:
            return
        with contextlib.suppress(OSError):
            if self.is_empty and self.is_in_place():
                self.path.unlink()
            self.declare_again()
        os.close(self._handle)
        self._handle = -1


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


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
                try:
                    segment.declare_again(DECLARE_BYTES)
                except OSError as cause:
                    self._fail(cause)
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
        return Segment(self._folder / f"{self._worker}-{self._number:06}{SEGMENT}", fsync=self._fsync)

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
