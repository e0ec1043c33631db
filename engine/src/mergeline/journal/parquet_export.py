"""Seals closed segments into Parquet files by day and model: each row ends in one file, whatever is interrupted."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import msgspec

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
    ROWS_AT_ONCE,
    Label,
    Row,
    Shadow,
    TableWriter,
    feedback_schema,
    prediction_columns,
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
    label_name,
    read_segment,
)

NANOSECONDS, MICROSECONDS_A_DAY = 1000, 86_400_000_000
_DAY_ZERO = date(1970, 1, 1).toordinal()

ABANDONED_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Sealed(NamedTuple):
    """What was sealed: segments, predictions and labels; `damaged` segments were kept aside as well."""

    segments: int = 0
    predictions: int = 0
    labels: int = 0
    damaged: int = 0

    def plus(self, other: Sealed) -> Sealed:
        """Both together."""
        return Sealed(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


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


def seal_closed(folder: Path) -> Sealed:
    """Seal every segment that no server holds; the caller holds the keeper's lock."""
    total = Sealed()
    for path in sorted((folder / LIVE).glob(f"*{SEGMENT}")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its server held nothing in it, and deleted it
        try:
            if try_lock(handle):
                total = total.plus(_seal_or_set_aside(path, folder))
        finally:
            os.close(handle)
    for draft in (folder / LIVE).glob(f"*{NEW_SEGMENT}"):  # its maker ended before the first record
        with contextlib.suppress(FileNotFoundError):
            if time.time() - draft.stat().st_mtime > ABANDONED_SECONDS:
                draft.unlink()
    return total


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
    for path in (folder / LIVE).glob(f"*{SEGMENT}"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # sealed by another process since
        try:
            if try_lock(handle):
                return True
        finally:
            os.close(handle)
    return False


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
                    layout = layouts[record.layout]
                    tables.add_predictions(record.layout, layout, rows_of(record, layout, shadows.get(found.at)))
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


def rows_of(record: Predictions, layout: Layout, shadowed: Shadowed | None) -> Iterator[Row]:
    """The rows of one request."""
    time_us, nothing = record.time_ns // NANOSECONDS, (None,) * len(layout.unread)
    for index, answer in enumerate(record.answers):
        yield Row(
            str(answer.id),
            time_us,
            answer.digest,
            answer.version,
            record.roles[index],
            answer.score,
            None if answer.label is None else label_name(answer.label),
            None if answer.scores is None else [answer.scores.get(name) for name in layout.classes],
            Shadow(shadowed.digest, shadowed.scores[index], shadowed.labels[index]) if shadowed else None,
            record.rows[index],
            record.unread[index] if record.unread else nothing,
            record.trace_id,
        )


class _Tables:
    """The Parquet files that one segment becomes, with the rows that are not written yet."""

    def __init__(self, folder: Path, segment: str) -> None:
        self._folder, self._segment = folder, segment
        self._rows: dict[tuple[int, str, int], list[Row]] = {}
        self._labels: dict[int, list[Label]] = {}
        self._layouts: dict[int, Layout] = {}
        self._writers: dict[Path, TableWriter] = {}
        self.predictions = self.labels = 0

    def add_predictions(self, number: int, layout: Layout, rows: Iterator[Row]) -> None:
        self._layouts[number] = layout
        for row in rows:
            day = row.time_us // MICROSECONDS_A_DAY
            waiting = self._rows.setdefault((day, row.digest, number), [])
            waiting.append(row)
            self.predictions += 1
            if len(waiting) >= ROWS_AT_ONCE:
                self._write_rows(day, row.digest, number)

    def add_labels(self, record: Labelled) -> None:
        time_us = record.time_ns // NANOSECONDS
        day = time_us // MICROSECONDS_A_DAY
        waiting = self._labels.setdefault(day, [])
        for key, label, value in zip(record.ids, record.labels, record.values, strict=True):
            waiting.append(Label(str(key), time_us, label, value))
            self.labels += 1
        if len(waiting) >= ROWS_AT_ONCE:
            self._write_labels(day)

    def finish(self) -> None:
        for key in list(self._rows):
            self._write_rows(*key)
        for day in list(self._labels):
            self._write_labels(day)
        for writer in self._writers.values():
            writer.finish()

    def _write_rows(self, day: int, digest: str, number: int) -> None:
        rows, layout = self._rows.pop((day, digest, number)), self._layouts[number]
        place = (
            day_folder(self._folder / PREDICTIONS, _date(day))
            / digest_part(digest)
            / sealed_name(self._segment, number)
        )
        if place not in self._writers:
            self._writers[place] = TableWriter(place, prediction_schema(layout))
        self._writers[place].write(prediction_columns(rows, layout))

    def _write_labels(self, day: int) -> None:
        place = day_folder(self._folder / FEEDBACK, _date(day)) / sealed_name(self._segment)
        if place not in self._writers:
            self._writers[place] = TableWriter(place, feedback_schema())
        self._writers[place].write(list(zip(*self._labels.pop(day), strict=True)))


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


def _date(day: int) -> date:
    """The date in UTC of a day counted from 1970."""
    return date.fromordinal(_DAY_ZERO + day)
