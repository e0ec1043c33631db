"""Turns journalled rows into columns, and writes them as Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.journal.folders import DRAFT, sync_folder
from mergeline.journal.wal_format import Layout, stored_name

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 2048
"""Rows in memory, and in a row group of a sealed file; merged files have larger ones."""

COMPRESSION_LEVEL = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Shadow(NamedTuple):
    """What a shadow model answered to one record."""

    digest: str
    score: float
    label: str | None


class Row(NamedTuple):
    """One answered prediction."""

    id: str
    time_us: int
    digest: str
    version: int
    role: str
    score: float
    label: str | None
    scores: list[float | None] | None
    shadow: Shadow | None
    values: Sequence[Any]
    unread: Sequence[Any]
    trace_id: str | None = None


class Label(NamedTuple):
    """One label that came later."""

    id: str
    time_us: int
    label: str | None
    value: float | None


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


def prediction_columns(rows: Sequence[Row], layout: Layout) -> list[Sequence[Any]]:
    """The values of every column of `prediction_schema`, in its order."""
    shadows = [row.shadow for row in rows]
    unread = list(zip(*(row.unread for row in rows), strict=True)) or [() for _ in layout.unread]
    times = [as_event_time(value) for value in unread[0]] if layout.timed else [None] * len(rows)
    return [
        [row.id for row in rows],
        [row.time_us for row in rows],
        times,
        [row.digest for row in rows],
        [row.version for row in rows],
        [row.role for row in rows],
        [row.score for row in rows],
        [row.label for row in rows],
        [row.scores for row in rows],
        [shadow and shadow.digest for shadow in shadows],
        [shadow and shadow.score for shadow in shadows],
        [shadow and shadow.label for shadow in shadows],
        [row.trace_id for row in rows],
        *map(_as_stored, zip(*(row.values for row in rows), strict=True), (kind for _, kind in layout.columns)),
        *([as_text(value) for value in column] for column in unread[layout.timed :]),
    ]


class TableWriter:
    """Writes one Parquet file: under another name until it is whole and on the disk."""

    def __init__(self, path: Path, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> None:
        import pyarrow.parquet as pq

        self.path, self.rows = path, 0
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

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Add rows, given as the values of each column; NaN is missing."""
        import pyarrow as pa

        arrays = [
            pa.array(values, field.type, from_pandas=True) for values, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.rows += len(columns[0])

    def write_table(self, table: pa.Table) -> None:
        """Add the rows of an Arrow table as one row group."""
        self._writer.write_table(table.cast(self._schema), row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

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


def _as_stored(values: Sequence[Any], kind: str) -> Sequence[Any]:
    """Whole numbers as 64-bit floats: Arrow would refuse one from 2^53 on that it has to round."""
    return [None if value is None else float(value) for value in values] if kind == "integer" else values
