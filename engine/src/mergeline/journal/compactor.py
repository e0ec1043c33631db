"""Seals, merges, retains and copies in a process of its own: no answer waits for it, and its memory is given back."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mergeline.files import write_bytes
from mergeline.journal.folders import (
    DAMAGED,
    KEEPER_LOCK,
    KEEPER_STATUS,
    READING_LOCK,
    Keeping,
    exclusive,
    read_note,
    sealed_files,
    size_of,
)

if TYPE_CHECKING:
    from mergeline.params import JournalParams

LIMIT_SECONDS = {"seal": 600, "sync": 1800}
"""A process that takes longer ends itself; what it began is ended by the next one."""

LATE = timedelta(hours=1)
"""A day is over so long after midnight: its last segments are sealed by then."""


logger = logging.getLogger(__name__)


class KeeperStatus(msgspec.Struct):
    """What the last pass did; times are seconds since 1970, counts are of all passes on this folder.

    `expired_days` are the days that are too old and still there: one goes at each pass.
    """

    finished: float = 0.0
    sealed_predictions: int = 0
    sealed_labels: int = 0
    damaged_segments: int = 0
    merges: int = 0
    deleted_files: int = 0
    files: int = 0
    bytes: int = 0
    expired_days: int = 0
    error: str | None = None


def keep(keeping: Keeping, now: datetime) -> KeeperStatus | None:
    """One pass: retention first, since sealing may need the room; None where another process is at it."""
    from mergeline.journal.merge import merge_all, recover
    from mergeline.journal.parquet_export import Sealed, seal_closed
    from mergeline.journal.sync import read_synced

    folder = Path(keeping.folder)
    status = read_keeper_status(folder)
    with exclusive(folder / KEEPER_LOCK) as held:
        if not held:
            return None
        sealed, merges, deleted = Sealed(), 0, 0
        refused: list[Exception] = []

        def tidy() -> None:
            nonlocal deleted
            with exclusive(folder / READING_LOCK) as alone:
                if alone:
                    recover(folder)
                    copied = set(read_synced(folder)) if keeping.sync else None
                    limits = {"keep_days": keeping.keep_days, "keep_bytes": keeping.keep_bytes}
                    deleted = len(retain(folder, now.date(), copied=copied, **limits))

        def seal() -> None:
            nonlocal sealed
            sealed = seal_closed(folder, refused)

        def merge() -> None:
            nonlocal merges
            with exclusive(folder / READING_LOCK) as alone:
                if alone:
                    merges = merge_all(folder, (now - LATE).date(), refused)

        for step in (tidy, seal, merge):  # what one of them stumbles over stops no other
            try:
                step()
            except TimeoutError as cause:
                refused.append(cause)
                break
            except OSError as cause:
                refused.append(cause)
            except Exception as cause:
                logger.exception("a part of the journal cannot be kept")
                refused.append(cause)
        error = _describe(refused[0], folder) if refused else None
        files = sealed_files(folder)
        sizes = [size_of(file.path) or 0 for file in files]
        status = KeeperStatus(
            finished=now.timestamp(),
            sealed_predictions=status.sealed_predictions + sealed.predictions,
            sealed_labels=status.sealed_labels + sealed.labels,
            damaged_segments=status.damaged_segments + sealed.damaged,
            merges=status.merges + merges,
            deleted_files=status.deleted_files + deleted,
            files=len(files),
            bytes=sum(sizes),
            expired_days=len(too_old([file.day for file in files], now.date(), keeping.keep_days)),
            error=error,
        )
        write_bytes(folder / KEEPER_STATUS, msgspec.json.encode(status))
        return status


def keep_and_copy(folder: Path, settings: JournalParams) -> None:
    """One pass of all that a server does beside answering, for a journal that no server may be at."""
    keeping = Keeping.of(folder, settings)
    keep(keeping, datetime.now(UTC))
    if keeping.sync is not None:
        from mergeline.journal.sync import sync_all

        sync_all(folder, keeping.sync)


def _describe(error: Exception, folder: Path) -> str:
    place, text = (error.filename, error.strerror) if isinstance(error, OSError) else (None, None)
    return f"{place or folder}: {text or error}"[:500]


def read_keeper_status(folder: Path) -> KeeperStatus:
    """What the last pass wrote."""
    return read_note(folder / KEEPER_STATUS, KeeperStatus, KeeperStatus())


def main(task: str, settings: str) -> None:
    """One pass of `task`, seal or sync, with the settings as JSON."""
    os.nice(19)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT_SECONDS[task])
    keeping = msgspec.json.decode(settings, type=Keeping)
    if task == "sync":
        from mergeline.journal.sync import sync_all

        if keeping.sync:
            sync_all(Path(keeping.folder), keeping.sync, now=time.time())
        return
    gc.disable()  # nothing here makes cycles, and looking for them would take a third of the time
    # Arrow does without them here, and they are more than half of the memory and the time to start.
    sys.modules["numpy"] = sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        keep(keeping, datetime.now(UTC))
    except OSError as cause:  # not even what was done can be written down
        sys.exit(f"the journal cannot be kept: {keeping.folder}: {cause.strerror or cause}")


def _give_up(_: int, __: FrameType | None) -> None:
    raise TimeoutError("the journal's keeper took too long")


class Kept(NamedTuple):
    """One file that may be deleted."""

    path: Path
    day: date
    size: int
    modified: float


def expired(files: Sequence[Kept], today: date, keep_days: int, keep_bytes: int) -> list[Kept]:
    """The files to delete: the oldest day where it is too old, then the oldest files until the rest fits.

    Age is counted from the newest file, and no more than a day goes at once: a clock that jumps ahead deletes little
    before somebody sees it.

    Args:
        files: everything that may be deleted.
        today: the day in UTC.
        keep_days: days to keep, the newest one among them.
        keep_bytes: most bytes to keep.
    """
    oldest_first = sorted(files, key=lambda file: (file.day, file.modified, file.path))
    old = too_old([file.day for file in files], today, keep_days)
    gone = [file for file in oldest_first if old and file.day == old[0]]
    rest = oldest_first[len(gone) :]
    excess = sum(file.size for file in rest) - keep_bytes
    for file in rest:
        if excess <= 0:
            break
        gone.append(file)
        excess -= file.size
    return gone


def too_old(days: Collection[date], today: date, keep_days: int) -> list[date]:
    """The days before the last `keep_days` that end with the newest one, oldest first."""
    first = min(today, max(days, default=today)) - timedelta(days=keep_days - 1)
    return sorted({day for day in days if day < first})


def retain(folder: Path, today: date, *, keep_days: int, keep_bytes: int, copied: set[str] | None) -> list[Path]:
    """Delete what is expired; the caller holds the keeper's lock and that of readers.

    Args:
        folder: the journal.
        today: the day in UTC.
        keep_days: days to keep, the newest one among them.
        keep_bytes: most bytes to keep.
        copied: the files, relative to `folder`, that are safe elsewhere; others are not deleted. None where nothing
            is copied, and everything may be deleted.
    """
    files = []
    found = [(file.path, file.day) for file in sealed_files(folder)]
    for path, day in [*found, *((path, None) for path in (folder / DAMAGED).glob("*"))]:
        with contextlib.suppress(FileNotFoundError):  # a person may delete files too
            stat = path.stat()
            when = day or datetime.fromtimestamp(stat.st_mtime, UTC).date()
            files.append(Kept(path, when, stat.st_size, stat.st_mtime))
    gone = [
        file.path
        for file in expired(files, today, keep_days, keep_bytes)
        if copied is None or file.path.parent.name == DAMAGED or str(file.path.relative_to(folder)) in copied
    ]
    for path in gone:
        path.unlink(missing_ok=True)
        for place in (path.parent, path.parent.parent):
            if "=" in place.name:
                with contextlib.suppress(OSError):  # other files are there
                    place.rmdir()
    return gone


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
