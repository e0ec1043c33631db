"""Decides which files of the journal are too old, or too many, and deletes them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from mergeline.journal.folders import DAMAGED, sealed_files


class Kept(NamedTuple):
    """One file that may be deleted."""

    path: Path
    day: date
    size: int
    modified: float


def expired(files: Sequence[Kept], today: date, keep_days: int, keep_bytes: int) -> list[Kept]:
    """The files to delete: those of days before the last `keep_days`, then the oldest until the rest fits.

    Args:
        files: everything that may be deleted.
        today: the day in UTC.
        keep_days: days to keep, today among them.
        keep_bytes: most bytes to keep.
    """
    first = today - timedelta(days=keep_days - 1)
    oldest_first = sorted(files, key=lambda file: (file.day, file.modified, file.path))
    gone = [file for file in oldest_first if file.day < first]
    rest = oldest_first[len(gone) :]
    excess = sum(file.size for file in rest) - keep_bytes
    for file in rest:
        if excess <= 0:
            break
        gone.append(file)
        excess -= file.size
    return gone


def retain(folder: Path, today: date, *, keep_days: int, keep_bytes: int, copied: set[str] | None) -> list[Path]:
    """Delete what is expired; the caller holds the keeper's lock and that of readers.

    Args:
        folder: the journal.
        today: the day in UTC.
        keep_days: days to keep, today among them.
        keep_bytes: most bytes to keep.
        copied: the files, relative to `folder`, that are safe elsewhere; others are not deleted. None where nothing
            is copied, and everything may be deleted.
    """
    files = [
        Kept(file.path, file.day, (stat := file.path.stat()).st_size, stat.st_mtime) for file in sealed_files(folder)
    ]
    for path in (folder / DAMAGED).glob("*"):
        stat = path.stat()
        files.append(Kept(path, datetime.fromtimestamp(stat.st_mtime, UTC).date(), stat.st_size, stat.st_mtime))
    gone = [
        file.path
        for file in expired(files, today, keep_days, keep_bytes)
        if copied is None or file.path.parent.name == DAMAGED or str(file.path.relative_to(folder)) in copied
    ]
    for path in gone:
        path.unlink()
        for place in (path.parent, path.parent.parent):
            if "=" in place.name:
                with contextlib.suppress(OSError):  # other files are there
                    place.rmdir()
    return gone
