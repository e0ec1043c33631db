"""Turns journalled rows into columns, and writes them as Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.journal.folders import DRAFT, sync_folder
from mergeline.journal.wal_format import Labelled, Layout, Predictions, Shadowed, label_name, stored_name

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 2048
"""Rows in memory, and in a row group of a sealed file; merged files have larger ones."""

COMPRESSION_LEVEL = 3

NANOSECONDS = 1000  # in a microsecond

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def prediction_schema(layout: Layout) -> pa.Schema:
    """The columns of a file of predictions."""
    import pyarrow as pa

    time, text = pa.timestamp("us", tz="UTC"), pa.string()
    types = {"boolean": pa.bool_(), "category": text}
    own = [
        ("_id", text), ("_time", time), ("_event_time", time), ("_digest", text), ("_version", pa.int32()),
        ("_role", text), ("_score", pa.float64()), ("_label", text), ("_scores", pa.list_(pa.float64())),
        ("_shadow_digest", text), ("_shadow_score", pa.float64()), ("_shadow_label", text),
        ("_trace_id", text),
    ]  # fmt: skip
    read = [(stored_name(name), types.get(kind, pa.float64())) for name, kind in layout.columns]
    return pa.schema([*own, *read, *((stored_name(name), text) for name in layout.unread[layout.timed :])])


def feedback_schema() -> pa.Schema:
    """The columns of a file of labels."""
    import pyarrow as pa

    return pa.schema(
        [
            ("_id", pa.string()), ("_time", pa.timestamp("us", tz="UTC")),
            ("_label", pa.string()), ("_value", pa.float64()),
        ]
    )  # fmt: skip


def prediction_rows(record: Predictions, layout: Layout, shadowed: Shadowed | None) -> Iterator[tuple[Any, ...]]:
    """A row of `prediction_schema` for each answer of one request.

    Whole numbers become 64-bit floats: Arrow would refuse one from 2^53 on that it has to round.
    """
    time_us, nothing = record.time_ns // NANOSECONDS, (None,) * len(layout.unread)
    whole = [place for place, (_, kind) in enumerate(layout.columns) if kind == "integer"]
    for index, answer in enumerate(record.answers):
        values, unread = list(record.rows[index]), record.unread[index] if record.unread else nothing
        for place in whole:
            values[place] = None if values[place] is None else float(values[place])
        yield (
            str(answer.id),
            time_us,
            as_event_time(unread[0]) if layout.timed else None,
            answer.digest,
            answer.version,
            record.roles[index],
            answer.score,
            None if answer.label is None else label_name(answer.label),
            None if answer.scores is None else [answer.scores.get(name) for name in layout.classes],
            *((shadowed.digest, shadowed.scores[index], shadowed.labels[index]) if shadowed else (None,) * 3),
            record.trace_id,
            *values,
            *map(as_text, unread[layout.timed :]),
        )


def feedback_rows(record: Labelled) -> Iterator[tuple[Any, ...]]:
    """A row of `feedback_schema` for each label of one request."""
    time_us = record.time_ns // NANOSECONDS
    for key, label, value in zip(record.ids, record.labels, record.values, strict=True):
        yield str(key), time_us, label, value


class TableWriter:
    """Writes one Parquet file: under another name until it is whole and on the disk."""

    def __init__(self, path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self._schema = schema.with_metadata(dict(metadata) if metadata else None)
        self._draft = path.with_name(f".{path.name}{DRAFT}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._draft.open("wb")
        self._writer = pq.ParquetWriter(
            self._stream,
            self._schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=_repetitive(self._schema),
        )

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows; NaN is missing."""
        import pyarrow as pa

        columns = zip(zip(*rows, strict=True), self._schema, strict=True)
        arrays = [pa.array(values, field.type, from_pandas=True) for values, field in columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def write_table(self, table: pa.Table) -> None:
        """Add the rows of an Arrow table as one row group."""
        self._writer.write_table(table.cast(self._schema), row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """End without giving the file its name."""
        with suppress(OSError):  # a full disk, which whoever wrote was told
            self._writer.close()
        self._stream.close()
        self._draft.unlink(missing_ok=True)

    def finish(self, into: Path | None = None) -> None:
        """Give the file its name, or the name `into`; what is there already is replaced."""
        self._writer.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._draft.replace(into or self.path)
        sync_folder(self.path.parent)


def in_chunks(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, a few thousand at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False)


@lru_cache(maxsize=4096)  # rows that come together are often of one time
def as_event_time(value: Any) -> int | None:
    """An ISO 8601 time in microseconds since 1970; without a zone it is taken as UTC, as the data are."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def as_text(value: Any) -> str | None:
    """A single JSON value as text."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _repetitive(schema: pa.Schema) -> list[str]:
    """Columns whose values come again and again: looking up each measured number would take most of the time."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_string(field.type) and field.name not in {"_id", "_trace_id"}]
