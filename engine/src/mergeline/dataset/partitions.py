"""Finds the partitions of the data and reads them as the schema's types."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import math
import numbers
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeline.dataset import Kind
from mergeline.dataset.findings import MAX_EXAMPLES, Finding, broken_cells
from mergeline.documents import repeated
from mergeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.dataset.schema import SchemaColumn, TeamSchema

MISSING_WORDS = frozenset({"na", "n/a", "nan", "null", "none", "<na>"})
"""What other programs write for a missing number, time or truth value; in a text column they are text."""

TRUE_WORDS, FALSE_WORDS = (
    frozenset({"true", "1", "1.0", "yes", "t", "y"}),
    frozenset({"false", "0", "0.0", "no", "f", "n"}),
)


WITH_ZONE = re.compile(r".+[T ].+(?:Z|[+-]\d{2}(?::?\d{2})?)\s*", re.IGNORECASE)
"""A time of ISO 8601 that says how far it is from UTC."""

EXACT = 2**53
"""From here on a float has not every whole number."""

MEANINGS = {
    Kind.NUMBER: "not a number",
    Kind.INTEGER: "not a whole number below 2^53 (an id is better a str)",
    Kind.BOOLEAN: "neither true nor false",
    Kind.CATEGORY: "not a text (fractions, truth values, times, bytes and lists are none)",
    Kind.TIME: "not a time as ISO 8601 writes it (2024-03-31 10:00:00)",
}


PERIOD = re.compile(r"^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?$")
SPAN = re.compile(r"^(\d{4}-\d{2}-\d{2})_(\d{4}-\d{2}-\d{2})$")
"""From a first to a last day, as a retraining names what it makes."""


class Partition(NamedTuple):
    """One file of the data: all rows of one period."""

    name: str
    path: Path


def list_partitions(folder: Path) -> tuple[Partition, ...]:
    """The partitions in `folder`, oldest first; see `order_of`.

    Raises:
        DataError: there is none, or a file is neither Parquet nor CSV.
    """
    if not folder.is_dir():
        raise DataError("there is no data folder", where=str(folder), hint="fetch it: dvc pull")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix not in (".parquet", ".csv") or not path.is_file():
            raise DataError(
                "neither a Parquet nor a CSV file", where=str(path), hint="keep only YYYY-MM.parquet or .csv files here"
            )
        if path.stem in found:
            raise DataError(
                f"partition {path.stem} is there twice", where=str(path), hint=f"delete it or {found[path.stem].name}"
            )
        found[path.stem] = path
    if not found:
        raise DataError("there is no partition", where=str(folder), hint="add one: YYYY-MM.parquet or .csv")
    return tuple(Partition(name, found[name]) for name in sorted(found, key=order_of))


def order_of(name: str) -> tuple[bool, str]:
    """What partitions are sorted by: periods by their time (2013-01, 2013-02, …), and after files named by none."""
    return period_of(name) is not None, name


def period_of(name: str) -> tuple[dt.datetime, dt.datetime] | None:
    """Start and end (exclusive) of the year, month, day or span of days that a partition's name gives, or None."""
    span = SPAN.match(name)
    if span:
        first, last = period_of(span[1]), period_of(span[2])
        return (first[0], last[1]) if first and last else None
    found = PERIOD.match(name)
    if not found:
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        start = dt.datetime(year or 1, month or 1, day or 1)  # noqa: DTZ001 - partitions carry local or UTC time as the team chose
    except ValueError:
        return None
    if day:
        return start, start + dt.timedelta(days=1)
    if month:
        return start, (start.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
    return start, start.replace(year=start.year + 1)


def data_digest(folder: Path) -> str:
    """DVC's digest of a data folder: `md5:….dir` over its sorted list of files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [
        {
            "md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
            "relpath": path.relative_to(folder).as_posix(),
        }
        for path in files
    ]
    entries.sort(key=lambda entry: entry["relpath"].split("/"))
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"md5:{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


def read_raw(partition: Partition) -> pd.DataFrame:
    """The file as it stands: Parquet with its own types, CSV as text.

    Raises:
        DataError: the file is truncated or is not what its name says, or its rows and columns are ambiguous.
    """
    is_csv = partition.path.suffix == ".csv"
    try:
        return _read_csv(partition.path) if is_csv else _read_parquet(partition.path)
    except FileNotFoundError:
        raise DataError("the partition is gone", where=str(partition.path), hint="fetch it: dvc pull") from None
    except (OSError, ValueError, UnicodeError, NotImplementedError, csv.Error) as cause:
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        hint = (
            "save it as UTF-8, with commas, one header line and as many cells in each row"
            if is_csv
            else "write it again"
        )
        raise DataError(
            f"the file is damaged: {reason}",
            where=str(partition.path),
            hint=f"{hint}; where it was right once, `dvc checkout {partition.path.parent.name}` brings that back",
        ) from cause


def _read_parquet(path: Path) -> pd.DataFrame:
    """The file's rows; UUIDs become their text."""
    import pandas as pd
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    _require_unique(schema.names, path)
    frame = pd.read_parquet(path)
    for field in schema:
        if str(field.type) == "extension<arrow.uuid>":
            frame[field.name] = frame[field.name].map(lambda cell: str(uuid.UUID(bytes=cell)), na_action="ignore")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    """All cells as text; only an empty one is missing."""
    import pandas as pd

    _check_csv(path)
    return pd.read_csv(
        path,
        dtype="str",
        skipinitialspace=True,
        keep_default_na=False,
        na_values=[""],
        index_col=False,
        encoding="utf-8-sig",
    )


OTHER_SEPARATORS = {";": "`;`", "\t": "tabs", "|": "`|`"}
DECIMAL_COMMA = re.compile(r"-?[\d.]*\d,\d+")


def _check_csv(path: Path) -> None:
    """Refuse what a lenient reader would shift or swallow without a word: short rows, stray quotes, names twice.

    Raises:
        DataError: says which row, how many cells, or which name.
    """
    csv.field_size_limit(2**31 - 1)
    where = str(path)
    uneven: list[tuple[int, int]] = []
    rows, record = 0, list[str]()

    def lines(file: Iterable[str]) -> Iterator[str]:
        for line in file:
            record.append(line)
            yield line

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(lines(file), skipinitialspace=True, strict=True)
        header = next(reader, [])
        require_commas(header, path, file)
        _require_unique([name for name in header if name], path)
        while True:
            record.clear()
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as cause:
                raise DataError(
                    f"row {rows + 1} has a quote that does not enclose its cell ({cause})",
                    where=where,
                    hint='a quote inside a cell is written twice, and the cell is enclosed: """fragile"" goods"',
                ) from None
            if not cells:
                continue
            rows += 1
            if len(cells) < len(header) or any(cells[len(header) :]):
                uneven.append((rows, len(cells)))
            elif len(record) > 1 and all(line.count(",") == len(header) - 1 > 1 for line in record):
                raise DataError(
                    f"row {rows} swallows the lines after it: a cell begins with a quote that ends {len(record) - 1} "
                    f"line{'s' if len(record) > 2 else ''} below",
                    where=where,
                    hint='a quote inside a cell is written twice, and the cell is enclosed: """fragile"" goods"',
                )
    if uneven:
        more = "more" if uneven[0][1] > len(header) else "fewer"
        shown = ", ".join(f"row {row}: {cells}" for row, cells in uneven[:MAX_EXAMPLES])
        raise DataError(
            f"{len(uneven):,} of {rows:,} rows have {more} cells than the header, which names {len(header)} ({shown})",
            where=where,
            hint="write every cell, an empty one too, and enclose a text that holds commas in quotes",
        )


def require_commas(header: list[str], path: Path, file: Iterable[str]) -> None:
    """Refuse a file whose header is separated by something else than commas."""
    found = [mark for mark in OTHER_SEPARATORS if len(header) == 1 and mark in header[0]]
    if not found:
        return
    mark = found[0]
    decimals = any(DECIMAL_COMMA.fullmatch(cell.strip()) for cell in next(iter(file), "").split(mark))
    decimal = ', decimal=","' if decimals else ""
    raise DataError(
        f"its cells are separated by {OTHER_SEPARATORS[mark]}, not by commas"
        + (", and its numbers have a decimal comma" if decimals else ""),
        where=str(path),
        hint=f"convert it, and delete it: pandas.read_csv({path.name!r}, sep={mark!r}{decimal})"
        f".to_parquet('{path.stem}.parquet'); codes with leading zeros need dtype={{'column': 'str'}}",
    )


def _require_unique(names: list[str], path: Path) -> None:
    """Refuse a name that two columns have."""
    twice = repeated(names)
    if twice is not None:
        places = [str(place) for place, name in enumerate(names, start=1) if name == twice]
        raise DataError(
            f"{len(places)} columns are called {twice!r}: {', '.join(places[:-1])} and {places[-1]}",
            where=str(path),
            hint="give each column a name of its own, or drop one of them",
        )


def read_partition(partition: Partition, schema: TeamSchema) -> pd.DataFrame:
    """The rows of a partition with the schema's columns and types.

    Raises:
        DataError: the file is damaged, or a cell is not of its column's type.
    """
    frame, findings = convert(read_raw(partition), schema, partition.name)
    if findings:
        raise DataError(str(findings[0]), where=str(partition.path), hint="correct the data, then: mergeline validate")
    return frame


def convert(frame: pd.DataFrame, schema: TeamSchema, name: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Give every column of the schema its kind's type; cells that do not fit are findings and become missing."""
    import pandas as pd

    findings, columns = [], {}
    for column in schema.columns:
        if column.name not in frame.columns:
            continue
        raw = frame[column.name]
        if column.kind is not Kind.CATEGORY and pd.api.types.is_string_dtype(raw.dtype):
            raw = raw.where(~raw.astype("str").str.strip().str.lower().isin(MISSING_WORDS))
        values = _as_kind(raw, column)
        bad = values.isna() & raw.notna()
        if bad.any():
            meaning = _meaning(raw, column.kind, raw[bad])
            findings.append(broken_cells(name, column.name, "type", raw, bad, meaning))
        columns[column.name] = values
    return pd.DataFrame(columns, index=frame.index), findings


def _meaning(raw: pd.Series, kind: Kind, bad: pd.Series) -> str:
    """What is wrong with the cells that do not fit."""
    import pandas as pd

    types = pd.api.types
    if kind is not Kind.TIME and types.is_timedelta64_dtype(raw.dtype):
        return "a duration, whose unit differs from file to file: write a number of seconds or days"
    if kind is not Kind.TIME and types.is_datetime64_any_dtype(raw.dtype):
        return f"a time, {MEANINGS[kind]}"
    if kind in (Kind.NUMBER, Kind.INTEGER) and all(DECIMAL_COMMA.fullmatch(str(cell).strip()) for cell in bad):
        return "a decimal comma: write 1.5, not 1,5"
    return MEANINGS[kind]


def _as_kind(raw: pd.Series, column: SchemaColumn) -> pd.Series:
    """The column as its kind's type; what does not fit becomes missing."""
    import numpy as np
    import pandas as pd

    types = pd.api.types
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    if column.kind is Kind.TIME:
        return _as_time(raw, column.zone)
    if types.is_datetime64_any_dtype(raw.dtype) or types.is_timedelta64_dtype(raw.dtype):
        return pd.Series(np.nan, index=raw.index, dtype="str" if column.kind is Kind.CATEGORY else "float64")
    if column.kind is Kind.CATEGORY:
        return _as_text(raw)
    return _as_boolean(raw) if column.kind is Kind.BOOLEAN else _as_number(raw, whole=column.kind is Kind.INTEGER)


def _as_time(raw: pd.Series, zone: str | None) -> pd.Series:
    """The times in UTC; those that are written without a zone are of `zone`."""
    import numpy as np
    import pandas as pd

    types = pd.api.types
    if types.is_numeric_dtype(raw.dtype) or types.is_timedelta64_dtype(raw.dtype):
        return pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us]")  # in which unit, nobody can tell
    written = not types.is_datetime64_any_dtype(raw.dtype)
    times = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601" if written else None)
    if zone is not None and (written or raw.dt.tz is None):
        told = raw.astype("str").str.fullmatch(WITH_ZONE).to_numpy(dtype=bool) if written else np.zeros(len(raw), bool)
        local = times.dt.tz_localize(None).dt.tz_localize(zone, ambiguous=~told, nonexistent="shift_forward")
        times = times.where(told, local.dt.tz_convert("UTC"))
    return times.dt.tz_localize(None)


def _as_boolean(raw: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_bool_dtype(raw.dtype):
        return raw
    words = raw.astype("str").str.strip().str.lower()
    known = words.map({**dict.fromkeys(TRUE_WORDS, True), **dict.fromkeys(FALSE_WORDS, False)}).astype("boolean")
    return known if known.isna().any() else known.astype("bool")


def _as_number(raw: pd.Series, *, whole: bool) -> pd.Series:
    import numpy as np
    import pandas as pd

    if raw.dtype == object:
        raw = raw.where(raw.map(lambda cell: isinstance(cell, (str, numbers.Number))), np.nan)
    values = pd.to_numeric(raw, errors="coerce").astype("float64")
    values = values.where(np.isfinite(values))
    if not whole:
        return values
    values = values.where((values == values.round()) & (values.abs() < EXACT))
    return values.astype("Int64") if values.isna().any() else values.astype("int64")


def _as_text(raw: pd.Series) -> pd.Series:
    """Numbers, and cells of mixed types, as text: a whole number has one way to be written, whatever its type."""
    import pandas as pd

    if raw.dtype != object and (pd.api.types.is_integer_dtype(raw.dtype) or pd.api.types.is_string_dtype(raw.dtype)):
        return raw.astype("str")
    return raw.map(_text_of, na_action="ignore").astype("str")


def _text_of(cell: Any) -> str | float:
    if isinstance(cell, (str, uuid.UUID)):
        return str(cell)
    if isinstance(cell, dt.date) and not isinstance(cell, dt.datetime):
        return cell.isoformat()
    if isinstance(cell, numbers.Number) and not isinstance(cell, (bool, complex)):
        number = cell if isinstance(cell, int) else float(cell)  # type: ignore[arg-type]
        if isinstance(number, int) or (number.is_integer() and abs(number) < EXACT):
            return str(int(number))
    return math.nan
