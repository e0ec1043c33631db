"""Copies sealed files to object storage, and makes sure of each copy before it counts as one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mergeline.files import put_file, write_bytes
from mergeline.journal.folders import SYNC_LOCK, SYNC_STATUS, SYNCED, exclusive, read_note, sealed_files, size_of
from mergeline.journal.merge import sources_of
from mergeline.timing import backoff_seconds

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 1800.0
_CHUNK_BYTES = 1 << 20


class SyncStatus(msgspec.Struct):
    """How the copying stands; times are seconds since 1970."""

    copied: int = 0
    waiting: int = 0
    failures: int = 0
    error: str | None = None
    failing_since: float | None = None
    next_try: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it is time; a time that is further off than any wait was set by a clock that was set back since."""
        return not now < self.next_try <= now + LONGEST_WAIT_SECONDS


def wait_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return backoff_seconds(failures - 1, first=FIRST_WAIT_SECONDS, longest=LONGEST_WAIT_SECONDS)


def sync_all(folder: Path, address: str, *, now: float | None = None) -> SyncStatus:
    """Copy what is not copied yet; a store that does not answer is noted, and tried again later.

    Args:
        folder: the journal.
        address: where to, as `s3://bucket/journal`.
        now: seconds since 1970; the clock's if not given.
    """
    import fsspec

    at = time.time() if now is None else now
    status = read_status(folder)
    with exclusive(folder / SYNC_LOCK) as held:
        if not held or not status.is_due(at):
            return status
        synced = read_synced(folder)
        failing_since = status.failing_since or at
        copied = status.copied
        try:
            system, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
            for file in sealed_files(folder):
                name = str(file.path.relative_to(folder))
                place = f"{str(root).rstrip('/')}/{name}"
                if synced.get(name) != size_of(file.path) and copy(file.path, system, place):
                    synced[name] = file.path.stat().st_size
                    copied += 1
                    _write(folder / SYNCED, synced)
            status = SyncStatus(copied=copied)
        except Exception as cause:  # noqa: BLE001 - whatever a file system of fsspec raises, the copy is made later
            failures = status.failures + 1
            status = SyncStatus(
                copied=copied,
                failures=failures,
                error=f"{type(cause).__name__}: {cause}"[:500],
                failing_since=failing_since,
                next_try=at + wait_seconds(failures),
            )
        names = {str(file.path.relative_to(folder)) for file in sealed_files(folder)}
        status.waiting = len(names - synced.keys())
        _write(folder / SYNCED, {name: size for name, size in synced.items() if name in names})
        write_bytes(folder / SYNC_STATUS, msgspec.json.encode(status))
    return status


def copy(path: Path, system: Any, place: str) -> bool:
    """Copy one file to a place in a file system, read it back, and delete the copies of what it was merged from.

    Returns:
        False where the file is gone: it was merged into another meanwhile.

    Raises:
        Exception: whatever the file system raises; OSError if the copy has other bytes.
    """
    try:
        with path.open("rb") as stream:
            promised = hashlib.file_digest(stream, "sha256").digest()
        sources = _sources_of(path)
        folder = place.rpartition("/")[0]
        system.makedirs(folder, exist_ok=True)
        put_file(system, path, place)
    except FileNotFoundError:
        if path.exists():
            raise
        return False
    digest = hashlib.sha256()
    with system.open(place, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    if digest.digest() != promised:
        raise OSError(f"{place} has other bytes than {path}")
    for source in sources:
        if system.exists(f"{folder}/{source}"):
            system.rm_file(f"{folder}/{source}")
    return True


def _sources_of(path: Path) -> list[str]:
    """As `sources_of`; a damaged file is copied as it is, and stops no other."""
    try:
        return sources_of(path)
    except ValueError:  # of Arrow, and of JSON
        return []


def read_status(folder: Path) -> SyncStatus:
    """How the copying stood after the last attempt."""
    return read_note(folder / SYNC_STATUS, SyncStatus, SyncStatus())


def read_synced(folder: Path) -> dict[str, int]:
    """The files that are safe elsewhere, relative to `folder`, with their sizes."""
    return read_note(folder / SYNCED, dict[str, int], {})


def _write(path: Path, synced: Mapping[str, int]) -> None:
    write_bytes(path, json.dumps(synced, indent=0, sort_keys=True).encode())
