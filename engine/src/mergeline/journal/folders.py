"""The places in the journal's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from mergeline.errors import MergelineError
from mergeline.files import read_bounded

if TYPE_CHECKING:
    from mergeline.params import JournalParams

LIVE, PREDICTIONS, FEEDBACK, DAMAGED = "live", "predictions", "feedback", "damaged"
SEALED = (PREDICTIONS, FEEDBACK)

KEEPER_LOCK, READING_LOCK, SYNC_LOCK = "keeper.lock", "reading.lock", "sync.lock"
KEEPER_STATUS, SYNC_STATUS, SYNCED = "keeper.json", "sync.json", "synced.json"

SEGMENT, NEW_SEGMENT = ".log", ".new"
PARQUET = ".parquet"
DRAFT = ".draft"
MERGED = "merged"


class SealedFile(NamedTuple):
    """One Parquet file of the journal."""

    path: Path
    day: date

    @property
    def segment(self) -> str:
        """The stem of the segment that it was sealed from; empty for a merged file."""
        return "" if self.level else self.path.stem.rpartition("-")[0]

    @property
    def level(self) -> int:
        """How many times its rows were merged: 0 for a file that was sealed from one segment."""
        parts = self.path.stem.split("-")
        return int(parts[1]) if parts[0] == MERGED else 0


Kept = TypeVar("Kept")

MAX_NOTE_BYTES = 16_000_000
"""Of what is noted in JSON; the longest names every file."""


def read_note(path: Path, kind: type[Kept], otherwise: Kept) -> Kept:
    """What a process of the journal noted in JSON for the others; `otherwise` where there is nothing of that kind."""
    try:
        return msgspec.json.decode(read_bounded(path, MAX_NOTE_BYTES), type=kind)
    except (OSError, RecursionError, ValueError):  # with msgspec's own errors, and those of UTF-8
        return otherwise


def sealed_name(segment: str, layout: int = 0) -> str:
    """The name of the file that a segment's rows of one layout are sealed into: the same at every attempt."""
    return f"{segment}-{layout}{PARQUET}"


def merged_name(level: int, identity: str) -> str:
    """The name of a file that others were merged into."""
    return f"{MERGED}-{level}-{identity}{PARQUET}"


def day_folder(table: Path, day: date) -> Path:
    """Where the rows of one day are."""
    return table / f"day={day.isoformat()}"


def digest_part(digest: str) -> str:
    """A model's digest as the name of a folder."""
    return f"digest={digest.rpartition(':')[2][:12]}"


def partitions(folder: Path, table: str) -> Iterator[tuple[date, Path]]:
    """The folders that hold Parquet files of `table`, oldest day first."""
    for place in sorted((folder / table).glob("day=*")):
        try:
            day = date.fromisoformat(place.name.removeprefix("day="))
        except ValueError:
            continue  # not ours
        yield from ((day, part) for part in ([place] if table == FEEDBACK else sorted(place.glob("digest=*"))))


def sealed_files(folder: Path) -> list[SealedFile]:
    """Every Parquet file of the journal, oldest day first."""
    return [
        SealedFile(path, day)
        for table in SEALED
        for day, place in partitions(folder, table)
        for path in sorted(place.glob(f"*{PARQUET}"))
        if path.is_file()
    ]


def size_of(path: Path) -> int | None:
    """The size of a file; None where it is gone: a person may delete files too."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False where another holder is in the way."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` alone; yields False, and holds nothing, where somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield try_lock(handle)
    finally:
        os.close(handle)


LOCK_SECONDS = 60.0
"""A merge or a deletion takes far less."""


@contextlib.contextmanager
def shared(path: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file `path` with other readers; waits for a writer to end.

    Raises:
        MergelineError: somebody has held it alone for all of `seconds`.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        end = time.monotonic() + seconds
        while not try_lock(handle, shared=True):
            if time.monotonic() > end:
                raise MergelineError(
                    f"another process has held the journal's lock for {seconds:g} seconds",
                    where=str(path),
                    hint=f"find it with `fuser {path}`, and end it if it hangs",
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


class Keeping(msgspec.Struct, frozen=True):
    """How a journal is kept; `sync` is an address that fsspec knows, or None."""

    folder: str
    seal_seconds: float = 60.0
    keep_days: int = 90
    keep_bytes: int = 20_000_000_000
    sync: str | None = None

    @classmethod
    def of(cls, folder: Path, settings: JournalParams) -> Keeping:
        """The keeper's part of the params; a gigabyte is 10⁹ bytes."""
        return cls(
            str(folder), settings.seal_seconds, settings.keep_days, int(settings.keep_gb * 1e9), settings.sync or None
        )
