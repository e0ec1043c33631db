"""Turns the predictions of one request into a record of the journal."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zlib import crc32

import msgspec

from mergeline.journal.redaction import Redaction, hashed
from mergeline.journal.wal_format import Answered, Layout, Predictions
from mergeline.journal.wal_writer import Ticket, Writer, encode
from mergeline.requests.answers import Answer
from mergeline.requests.records import Batch

SLOTS = 1 << 20
"""Ids remembered at most; a newer one takes an older one's place."""


class RecentIds:
    """A direct-mapped table of 32-bit checksums: 4 MiB, 0.2 µs an id.

    It may forget an id (two share a slot: of the last 100,000 about 5 %), and takes an unseen id for a seen one in
    about one of 4,096 cases. So it is good for counting, not for deciding.

    Args:
        path: a file of 4 MiB that several workers open; None keeps the table in this process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._table = memoryview(mmap.mmap(-1, SLOTS * 4) if path is None else _open(path)).cast("I")

    def add(self, value: str | int) -> None:
        """Remember an id."""
        checksum = crc32(str(value).encode())
        self._table[checksum % SLOTS] = checksum

    def __contains__(self, value: str | int) -> bool:
        checksum = crc32(str(value).encode())
        return self._table[checksum % SLOTS] == checksum


def _open(path: Path) -> mmap.mmap:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Its blocks are taken now: a full disk would otherwise end the process at the first store into them.
        os.posix_fallocate(handle, 0, SLOTS * 4)
        return mmap.mmap(handle, SLOTS * 4)
    finally:
        os.close(handle)


@dataclass
class Counts:
    """What this process wrote and what it could not, since it started."""

    predictions: int = 0
    lost_predictions: int = 0
    shadows: int = 0
    lost_shadows: int = 0
    feedback: int = 0
    feedback_unknown: int = 0
    feedback_repeated: int = 0


class Recorder:
    """Writes the predictions of models with one signature.

    Args:
        layout: what is written of a record, and the layout's number in this process.
        redaction: what must be dropped or hashed; None for nothing.
        must_write: whether a request fails when it cannot be written.
        key: gives the key of the hashes; raises OSError where there is none.
        writer: takes the records.
        predicted: remembers the ids.
        counts: of this process.
    """

    def __init__(
        self,
        layout: tuple[int, Layout],
        redaction: Redaction | None,
        *,
        must_write: bool,
        key: Callable[[], bytes],
        writer: Writer,
        predicted: RecentIds,
        counts: Counts,
    ) -> None:
        self._writer, self._predicted, self._counts = writer, predicted, counts
        self._must_write = must_write
        self._layout, self._redaction, self._key = layout, redaction, key

    def append(
        self,
        batch: Batch,
        answers: Sequence[Answer],
        roles: Sequence[str],
        time_ns: int,
        trace_id: str | None = None,
    ) -> Ticket | None:
        """Write what was asked and answered; what this returns from outlives the process.

        Args:
            batch: the records as the server read them.
            answers: one for each record, in order.
            roles: of the model that gave each answer: stable or candidate.
            time_ns: when the request came, in nanoseconds since 1970.
            trace_id: of the request's trace, in hex; None where it has none.

        Returns:
            A ticket for `Journal.shadow`; None where the disk took nothing and the params say to answer all the same.

        Raises:
            JournalError: the disk took nothing, and the params say not to answer then.
        """
        # The server's own answers are written as they are: `Answered` is how they are read again.
        given = cast("Sequence[Answered]", answers)
        record = Predictions(self._layout[0], time_ns, roles, given, batch.rows, batch.unread, trace_id)
        if self._redaction is None:
            ticket = self._writer.append(encode(record), self._layout)
        else:
            ticket = self._append_redacted(self._redaction, record)
        if ticket is None:
            self._counts.lost_predictions += len(answers)
            if self._must_write:
                raise self._writer.error()
            return None
        self._counts.predictions += len(answers)
        for answer in answers:
            self._predicted.add(answer.id)
        return ticket

    def _append_redacted(self, redaction: Redaction, record: Predictions) -> Ticket | None:
        try:
            key = self._key()
        except OSError as cause:  # there is no key to hash by, so nothing may be written
            self._writer.fail(cause)
            return None
        if redaction.hash_ids:
            record.answers = [msgspec.structs.replace(each, id=hashed(each.id, key)) for each in record.answers]
        record.rows, record.unread = redaction.redact(record.rows, record.unread, key)
        return self._writer.append(encode(record), self._layout)
