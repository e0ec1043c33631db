"""Finds the partitions of the data and reads them as the schema's types."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.dataset.findings import MAX_EXAMPLES, Example, Finding, shorten
from mergeline.dataset.kinds import Kind
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


MEANINGS = {
    Kind.NUMBER: "not a number",
    Kind.INTEGER: "not a whole number below 2^53 (an id is better a str)",
    Kind.BOOLEAN: "neither true nor false",
    Kind.CATEGORY: "not a text",
    Kind.TIME: "not a time as ISO 8601 writes it (2024-03-31 10:00:00)",
}


class Partition(NamedTuple):
    """One file of the data: all rows of one period."""

    name: str
    path: Path


def list_partitions(folder: Path) -> tuple[Partition, ...]:
    """The partitions in `folder`, oldest first: names sort by time (2013-01, 2013-02, …).

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
    return tuple(Partition(name, found[name]) for name in sorted(found))


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
        DataError: the file is truncated or is not what its name says.
    """
    import pandas as pd

    csv = partition.path.suffix == ".csv"
    try:
        return _read_csv(partition.path) if csv else pd.read_parquet(partition.path)
    except FileNotFoundError:
        raise DataError("the partition is gone", where=str(partition.path), hint="fetch it: dvc pull") from None
    except (OSError, ValueError, UnicodeError) as cause:
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        hint = (
            "save it as UTF-8, with commas, one header line and as many cells in each row" if csv else "write it again"
        )
        raise DataError(
            f"the file is damaged: {reason}",
            where=str(partition.path),
            hint=f"{hint}; where it was right once, `dvc checkout {partition.path.parent.name}` brings that back",
        ) from cause


def _read_csv(path: Path) -> pd.DataFrame:
    """All cells as text; only an empty one is missing."""
    import pandas as pd

    with warnings.catch_warnings():
        # A row with more cells than the header: pandas would drop them, or shift the columns.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path,
                dtype="str",
                skipinitialspace=True,
                keep_default_na=False,
                na_values=[""],
                index_col=False,
                encoding="utf-8-sig",
            )
        except pd.errors.ParserWarning as cause:
            raise ValueError(f"some rows have more cells than the header ({cause})") from cause


def read_partition(partition: Partition, schema: TeamSchema) -> pd.DataFrame:
    """The rows of a partition with the schema's columns and types.

    Raises:
        DataError: the file is damaged, or a cell is not of its column's type.
    """
    frame, findings = convert(read_raw(partition), schema, partition.name)
    if findings:
        raise DataError(str(findings[0]), where=str(partition.path), hint="hint the data, then: mergeline validate")
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
            rows = [index for index, broken in enumerate(bad) if broken]
            findings.append(
                Finding(
                    partition=name,
                    column=column.name,
                    rule="type",
                    rows=len(rows),
                    examples=tuple(Example(row=i + 1, value=shorten(raw.iloc[i])) for i in rows[:MAX_EXAMPLES]),
                    meaning=MEANINGS[column.kind],
                )
            )
        columns[column.name] = values
    return pd.DataFrame(columns, index=frame.index), findings


def _as_kind(raw: pd.Series, column: SchemaColumn) -> pd.Series:
    """The column as its kind's type; what does not fit becomes missing."""
    import numpy as np
    import pandas as pd

    if column.kind is Kind.CATEGORY:
        return raw.astype("str")
    if column.kind is Kind.TIME:
        written = not pd.api.types.is_datetime64_any_dtype(raw.dtype)
        times = pd.to_datetime(raw, errors="coerce", utc=True, format="ISO8601" if written else None)
        return times.dt.tz_localize(None)
    if column.kind is Kind.BOOLEAN:
        if pd.api.types.is_bool_dtype(raw.dtype):
            return raw
        words = raw.astype("str").str.strip().str.lower()
        known = words.map({**dict.fromkeys(TRUE_WORDS, True), **dict.fromkeys(FALSE_WORDS, False)}).astype("boolean")
        return known if known.isna().any() else known.astype("bool")
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    numbers = numbers.where(np.isfinite(numbers))
    if column.kind is Kind.INTEGER:
        numbers = numbers.where((numbers == numbers.round()) & (numbers.abs() < 2**53))
        return numbers.astype("Int64") if numbers.isna().any() else numbers.astype("int64")
    return numbers
