"""Merges small Parquet files of one partition into one, so that a crash neither loses nor doubles a row.

The merged file appears under a hidden name when it is whole, and names its sources. From then on it counts: the sources
are deleted, and it gets its visible name. Whoever comes after a crash ends what was begun.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.journal.folders import (
    DRAFT,
    LIVE,
    PARQUET,
    SEALED,
    SEGMENT,
    SealedFile,
    merged_name,
    partitions,
    sync_folder,
)
from mergeline.journal.tables import TableWriter, in_chunks

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES = "mergeline.sources"
READY = ".ready"

MERGE_AT = 16
"""Files of one level that become one of the next: a row is rewritten once for each factor of 16."""

LARGE_BYTES = 256_000_000
"""Files from this size on are left alone."""

ROW_GROUP = 32_768


Refused = list[Exception] | None
"""Takes why something cannot be merged, which then stops nothing else; None raises it."""


def merge_all(folder: Path, today: date, refused: Refused = None) -> int:
    """Merge what is worth it: everything of a day that is over, and every 16 files of today; returns merges made.

    The caller holds the keeper's lock and that of readers.

    Args:
        folder: the journal.
        today: the day, in UTC, that rows still come for.
        refused: see there.
    """
    return sum(
        merge_partition(place, folder / LIVE, over=day < today, refused=refused)
        for table in SEALED
        for day, place in partitions(folder, table)
    )


def merge_partition(place: Path, live: Path, *, over: bool, refused: Refused = None) -> int:
    """Merge the files of one partition; returns merges made."""
    groups: dict[tuple[int, str], list[SealedFile]] = {}
    for path in sorted(place.glob(f"*{PARQUET}")):
        file = SealedFile(path, date.min)
        being_sealed = file.segment and (live / f"{file.segment}{SEGMENT}").exists()
        if path.is_file() and not being_sealed and path.stat().st_size < LARGE_BYTES:
            with _noting(refused, path):
                groups.setdefault((0 if over else file.level, _columns(path)), []).append(file)
    merges = 0
    for files in groups.values():
        if len(files) >= (2 if over else MERGE_AT):
            with _noting(refused, place):
                merge_files(files)
                merges += 1
    return merges


@contextmanager
def _noting(refused: Refused, path: Path) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, ValueError) as cause:  # Arrow's errors are of these kinds
        if refused is None:
            raise
        refused.append(OSError(cause.errno if isinstance(cause, OSError) else errno.EIO, str(cause), str(path)))


def merge_files(files: Sequence[SealedFile]) -> Path:
    """Put the rows of files with the same columns into one, and delete them; returns the new file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [file.path.name for file in files]
    identity = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    path = files[0].path.with_name(merged_name(max(file.level for file in files) + 1, identity))
    schema = pq.read_schema(files[0].path)
    # With what those were merged from: its copies may still be in object storage if theirs were never made.
    sources = [*names, *(name for file in files if file.level for name in sources_of(file.path))]
    writer = TableWriter(path, schema, {SOURCES: json.dumps(sources)})
    waiting: list[pa.RecordBatch] = []
    try:
        for file in files:
            for chunk in in_chunks(file.path):
                waiting.append(chunk.replace_schema_metadata(None))
                if sum(each.num_rows for each in waiting) >= ROW_GROUP:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    except (OSError, ValueError):  # a file is damaged, or the disk is full
        writer.close()
        raise
    ready = path.with_name(f".{path.name}{READY}")
    writer.finish(ready)
    return _take_over(ready)


def recover(folder: Path) -> None:
    """End what a crash interrupted, and delete what was only begun; the caller holds the keeper's lock."""
    for table in SEALED:
        for _, place in partitions(folder, table):
            for draft in place.glob(f".*{DRAFT}"):
                draft.unlink()
            for ready in place.glob(f".*{READY}"):
                _take_over(ready)


def sources_of(path: Path) -> list[str]:
    """The names of the files that were merged into this one, and of those that they were merged from."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path).metadata or {}
    return [str(name) for name in json.loads(metadata.get(SOURCES.encode(), b"[]"))]


def _take_over(ready: Path) -> Path:
    for name in sources_of(ready):
        ready.with_name(name).unlink(missing_ok=True)
    sync_folder(ready.parent)
    path = ready.with_name(ready.name.removeprefix(".").removesuffix(READY))
    ready.replace(path)
    sync_folder(path.parent)
    return path


def _columns(path: Path) -> str:
    import pyarrow.parquet as pq

    return str(pq.read_schema(path).remove_metadata())
