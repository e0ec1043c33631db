"""Seals closed segments into Parquet files by day and model: each row ends in one file, whatever is interrupted."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Generator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mergeline.files import open_file
from mergeline.journal.folders import (
    DAMAGED,
    FEEDBACK,
    KEEPER_LOCK,
    LIVE,
    NEW_SEGMENT,
    PREDICTIONS,
    READING_LOCK,
    SEGMENT,
    day_folder,
    digest_part,
    exclusive,
    sealed_name,
    sync_folder,
    try_lock,
)
from mergeline.journal.merge import recover
from mergeline.journal.tables import (
    NANOSECONDS,
    ROWS_AT_ONCE,
    TableWriter,
    feedback_rows,
    feedback_schema,
    prediction_rows,
    prediction_schema,
)
from mergeline.journal.wal_format import (
    Declared,
    Found,
    Gap,
    Labelled,
    Layout,
    Predictions,
    Shadowed,
    read_segment,
)

MICROSECONDS_A_DAY = 86_400_000_000
_DAY_ZERO = date(1970, 1, 1).toordinal()
_NO_LAYOUT = -1
"""Stands for the layout of labels, which all have one."""

ABANDONED_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Sealed(NamedTuple):
    """What was sealed: segments, predictions and labels; `damaged` segments were kept aside as well."""

    segments: int = 0
    predictions: int = 0
    labels: int = 0
    damaged: int = 0


def seal_all(folder: Path) -> Sealed:
    """Seal every segment that no server holds. Safe beside servers and other callers.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is lost, and it may be called again.
    """
    if not (folder / LIVE).is_dir():
        return Sealed()
    with exclusive(folder / KEEPER_LOCK) as held:
        if not held:
            return Sealed()
        with exclusive(folder / READING_LOCK) as alone:
            if alone:
                recover(folder)
        return seal_closed(folder)


def seal_closed(folder: Path, refused: list[Exception] | None = None) -> Sealed:
    """Seal every segment that no server holds; the caller holds the keeper's lock.

    Args:
        folder: the journal.
        refused: takes why something in a segment's place cannot be read: it stops no other.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    found = [_seal_or_set_aside(path, folder) for path in _closed_segments(folder, refused)]
    for draft in (folder / LIVE).glob(f"*{NEW_SEGMENT}"):  # its maker ended before the first record
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > ABANDONED_SECONDS:
                draft.unlink()
    return Sealed(*map(sum, zip(*found, strict=True))) if found else Sealed()


def _closed_segments(folder: Path, refused: list[Exception] | None = None) -> Generator[Path]:
    """The segments that no server holds; each is locked until the next one is asked for."""
    for path in sorted((folder / LIVE).glob(f"*{SEGMENT}")):
        try:
            handle = open_file(path)
        except FileNotFoundError:
            continue  # its server held nothing in it, and deleted it; or another process has sealed it
        except OSError as cause:
            if refused is not None:
                refused.append(cause)
            continue
        try:
            if try_lock(handle):
                yield path
        finally:
            os.close(handle)


def _seal_or_set_aside(path: Path, folder: Path) -> Sealed:
    """Seal a segment; one that holds what no table takes is kept for people to look at, and stops no other."""
    try:
        return seal_segment(path, folder)
    except OSError:
        raise
    except Exception:  # whatever the libraries make of it, the other segments are sealed
        logger.exception("the segment %s cannot be sealed; it is kept in %s", path.name, folder / DAMAGED)
        _set_aside(path, folder)
        return Sealed(damaged=1)


def _set_aside(path: Path, folder: Path) -> None:
    (folder / DAMAGED).mkdir(exist_ok=True)
    path.replace(folder / DAMAGED / path.name)


def has_closed_segments(folder: Path) -> bool:
    """Whether there is something to seal."""
    with contextlib.closing(_closed_segments(folder)) as found:
        return next(found, None) is not None


def seal_segment(path: Path, folder: Path) -> Sealed:
    """Write the rows of one segment to Parquet, then delete it.

    A crash before the deletion makes the next attempt write the same files again, under the same names.
    """
    layouts, shadows = _read_first(path)
    tables = _Tables(folder, path.stem)
    damaged = False
    with path.open("rb") as stream:
        for found in read_segment(stream):
            if isinstance(found, Gap):
                damaged |= not found.is_torn
                continue
            try:
                record = found.decode()
            except msgspec.DecodeError:
                damaged = True
                continue
            if isinstance(record, Predictions):
                if record.layout in layouts:
                    tables.add_predictions(record, layouts[record.layout], shadows.get(found.at))
                else:
                    damaged = True
            elif isinstance(record, Labelled):
                tables.add_labels(record)
    tables.finish()
    if damaged:
        _set_aside(path, folder)
    else:
        path.unlink()
    sync_folder(path.parent)
    return Sealed(1, tables.predictions, tables.labels, int(damaged))


class _Tables:
    """The Parquet files that one segment becomes, with the rows that are not written yet."""

    def __init__(self, folder: Path, segment: str) -> None:
        self._folder, self._segment = folder, segment
        self._rows: dict[tuple[int, str, int], list[tuple[Any, ...]]] = {}
        self._layouts: dict[int, Layout] = {}
        self._writers: dict[Path, TableWriter] = {}
        self.predictions = self.labels = 0

    def add_predictions(self, record: Predictions, layout: Layout, shadowed: Shadowed | None) -> None:
        self._layouts[record.layout] = layout
        day = _day_of(record)
        for answer, row in zip(record.answers, prediction_rows(record, layout, shadowed), strict=True):
            self._add((day, answer.digest, record.layout), row)
        self.predictions += len(record.answers)

    def add_labels(self, record: Labelled) -> None:
        day = _day_of(record)
        for row in feedback_rows(record):
            self._add((day, "", _NO_LAYOUT), row)
        self.labels += len(record.ids)

    def finish(self) -> None:
        for key in self._rows:
            self._write(key)
        for writer in self._writers.values():
            writer.finish()

    def _add(self, key: tuple[int, str, int], row: tuple[Any, ...]) -> None:
        waiting = self._rows.setdefault(key, [])
        waiting.append(row)
        if len(waiting) >= ROWS_AT_ONCE:
            self._write(key)

    def _write(self, key: tuple[int, str, int]) -> None:
        day, digest, number = key
        rows, self._rows[key] = self._rows[key], []
        if not rows:
            return
        when = date.fromordinal(_DAY_ZERO + day)
        if number == _NO_LAYOUT:
            place, schema = day_folder(self._folder / FEEDBACK, when) / sealed_name(self._segment), feedback_schema
        else:
            part = day_folder(self._folder / PREDICTIONS, when) / digest_part(digest)
            place, schema = part / sealed_name(self._segment, number), partial(prediction_schema, self._layouts[number])
        if place not in self._writers:
            self._writers[place] = TableWriter(place, schema())
        self._writers[place].write(rows)


def _day_of(record: Predictions | Labelled) -> int:
    """The day in UTC, counted from 1970."""
    return record.time_ns // NANOSECONDS // MICROSECONDS_A_DAY


def _read_first(path: Path) -> tuple[dict[int, Layout], dict[int, Shadowed]]:
    """The layouts, by number, and what shadow models answered, by where the predictions begin that it belongs to."""
    layouts, shadows = {}, {}
    with path.open("rb") as stream:
        for found in read_segment(stream):
            if isinstance(found, Found) and found.is_wanted_first:
                with contextlib.suppress(msgspec.DecodeError):  # told when the rows are read
                    record = found.decode()
                    if isinstance(record, Declared):
                        layouts[record.number] = record.layout
                    elif isinstance(record, Shadowed):
                        shadows[record.at] = record
    return layouts, shadows
