"""Reads partitions as the records and labels that a server takes, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.dataset.partitions import Partition, list_partitions, read_partition
from mergeline.errors import DataError, TrafficError
from mergeline.params import DataParams

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.dataset.schema import TeamSchema


@dataclass(frozen=True)
class Field:
    """One field that the model reads; bounds are inclusive, and where `is_closed` no other values are allowed."""

    name: str
    types: frozenset[str]
    minimum: float | None
    maximum: float | None
    is_closed: bool
    is_required: bool


def read_fields(document: Mapping[str, Any], url: str) -> dict[str, Field]:
    """The fields of a record, in the document's order.

    Raises:
        TrafficError: this is not the document of a Mergeline server.
    """
    try:
        record = document["components"]["schemas"]["Record"]
        required = set(record.get("required", ()))
        return {
            name: Field(
                name,
                frozenset([kinds] if isinstance(kinds := spec["type"], str) else kinds),
                spec.get("minimum"),
                spec.get("maximum"),
                "enum" in spec,
                name in required,
            )
            for name, spec in record["properties"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise TrafficError(
            "what answers there is no Mergeline server", where=f"{url}/openapi.json", hint="give its address with --url"
        ) from None


CHUNK_ROWS = 2000


class Row(NamedTuple):
    """One row: the record to send, its label (None where it has none), and its own time in seconds since 1970."""

    record: dict[str, Any]
    label: Any
    time: float | None


def find_partitions(places: Sequence[Path]) -> tuple[Partition, ...]:
    """The partitions in folders, and files by name, in the order given.

    Raises:
        DataError: there is none.
    """
    found: list[Partition] = []
    for place in places:
        found += [Partition(place.stem, place)] if place.is_file() else list_partitions(place)
    return tuple(found)


def read_rows(
    partitions: Sequence[Partition], schema: TeamSchema, data: DataParams, fields: Mapping[str, Field]
) -> Iterator[list[Row]]:
    """The rows of all partitions, each partition in the order of its own times.

    Args:
        partitions: in the order to be sent.
        schema: the team's.
        data: what the columns are for.
        fields: of the server's records; other columns are not sent.

    Raises:
        DataError: a file is damaged, or lacks a column that the model needs.
    """
    for partition in partitions:
        frame = read_partition(partition, schema)
        missing = [field.name for field in fields.values() if field.is_required and field.name not in frame.columns]
        if missing:
            raise DataError(
                f"there is no column {missing[0]!r}, which the served model reads",
                where=str(partition.path),
                hint="send rows of the data set that the model was made for",
            )
        if data.time is not None and data.time in frame.columns:
            frame = frame.sort_values(data.time, kind="stable", ignore_index=True)
        for start in range(0, len(frame), CHUNK_ROWS):
            yield _rows(frame.iloc[start : start + CHUNK_ROWS], data, fields)


def own_span(partitions: Sequence[Partition], schema: TeamSchema, data: DataParams) -> tuple[float, float] | None:
    """The own times of the first and the last row, in seconds since 1970; None where rows have no times."""
    if data.time is None:
        return None
    times = [
        frame[data.time].dropna()
        for partition in {partitions[0], partitions[-1]}
        if data.time in (frame := read_partition(partition, schema)).columns
    ]
    known = [each for each in times if len(each)]
    if not known:
        return None
    return min(each.min().timestamp() for each in known), max(each.max().timestamp() for each in known)


def _rows(frame: pd.DataFrame, data: DataParams, fields: Mapping[str, Field]) -> list[Row]:
    import pandas as pd

    names = [name for name in frame.columns if name in fields]
    columns = [_values(frame[name]) for name in names]
    count = len(frame)
    labels = _values(frame[data.target]) if data.target in frame.columns else [None] * count
    times: list[float | None] = [None] * count
    if data.time in frame.columns:
        times = [None if pd.isna(time) else time.timestamp() for time in frame[data.time]]
    records = zip(*columns, strict=True) if columns else iter([()] * count)
    return [
        Row(dict(zip(names, values, strict=True)), label, time)
        for values, label, time in zip(records, labels, times, strict=True)
    ]


def _values(column: pd.Series) -> list[Any]:
    """A column as JSON values; what is missing is None, a time is ISO 8601."""
    import pandas as pd

    return [
        None if gone else value.isoformat() if isinstance(value, pd.Timestamp) else value
        for gone, value in zip(column.isna().tolist(), column.astype(object).tolist(), strict=True)
    ]
