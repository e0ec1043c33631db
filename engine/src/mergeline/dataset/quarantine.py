"""Turns labelled rows of production into partitions of the data; rows that break a rule are set aside with reasons."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.dataset.findings import shorten
from mergeline.dataset.partitions import SPAN, convert, list_partitions, order_of, read_partition
from mergeline.dataset.rules import rule_meaning, schema_failures
from mergeline.documents import Frozen
from mergeline.errors import DataError
from mergeline.params import DataParams, Params, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.dataset.schema import TeamSchema

QUARANTINE_FOLDER = Path("build/quarantine")
REASON = "reasons"
MAX_REASONS = 10
ARRIVAL = "_arrival"
"""When a row came, beside the schema's columns: it orders rows that have no time of their own."""
FUTURE = timedelta(days=1)
"""A row's own time may be so far ahead of the clock here: clocks differ, and so do zones."""


class Reason(NamedTuple):
    """Why a row is bad: the rule that its column breaks, and the cell."""

    column: str
    rule: str
    value: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, self))


@dataclass(frozen=True)
class KnownData:
    """The data as they are: every partition's rows, oldest first."""

    partitions: tuple[tuple[str, pd.DataFrame], ...]

    @property
    def newest(self) -> str:
        """The name that sorts last."""
        return self.partitions[-1][0]


@dataclass(frozen=True)
class SortedRows:
    """Fresh rows: the good ones by time, with the schema's types, and the bad ones with their reasons.

    `known` rows are in the data already; `late` ones are older than the newest data, into which nothing is put later.
    `arrivals` are when the good ones came, shape (n,); `reasons` are those of each bad one.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    reasons: tuple[tuple[Reason, ...], ...]
    arrivals: pd.Series
    known: int
    late: int


@dataclass(frozen=True)
class FreshPart:
    """Rows that become one partition."""

    name: str
    rows: pd.DataFrame


class Ingested(Frozen):
    """What was taken in: the new partitions, and what became of every row that was offered."""

    partitions: tuple[str, ...]
    rows: int
    known: int
    late: int
    quarantined: int
    reasons: dict[str, int]

    @property
    def offered(self) -> int:
        """The rows that were new."""
        return self.rows + self.quarantined

    @property
    def bad_share(self) -> float:
        """The share of the new rows that break the schema."""
        return self.quarantined / max(1, self.offered)


def read_known(root: Path, params: Params, schema: TeamSchema) -> KnownData:
    """Read all partitions.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    found = list_partitions(root / params.data.path)
    return KnownData(tuple((partition.name, read_partition(partition, schema)) for partition in found))


def sort_out(fresh: pd.DataFrame, known: KnownData, schema: TeamSchema, params: Params, now: datetime) -> SortedRows:
    """Tell good rows from bad, known and late ones.

    Args:
        fresh: labelled rows with the schema's columns as the journal has them, and `ARRIVAL`; one a row of production.
        known: the data as they are.
        schema: what a row must be.
        params: which column is what.
        now: the present time; a row whose own time is still to come would be the newest for ever.
    """
    import numpy as np
    import pandas as pd

    fresh = fresh.reset_index(drop=True)
    columns = [column.name for column in schema.columns]
    frame, mistyped = convert(fresh.reindex(columns=columns), schema, "fresh rows")
    id_, time, target = params.data.id, params.data.time, params.data.target
    again = np.zeros(len(frame), dtype=bool)
    if id_ is not None:
        ids = pd.concat([rows[id_] for _, rows in known.partitions], ignore_index=True)
        again = frame[id_].isin(ids).to_numpy(dtype=bool)
    late = _older(frame, fresh[ARRIVAL], known, params) & ~again
    reasons: list[list[Reason]] = [[] for _ in range(len(frame))]
    told_of = {finding.column: finding.meaning for finding in mistyped}
    for column in schema.columns:
        if column.name in told_of:
            broken = frame[column.name].isna() & fresh[column.name].notna()
            for row in np.flatnonzero(broken):
                value = shorten(fresh[column.name].iloc[row])
                reasons[row].append(Reason(column.name, told_of[column.name], value))
    _add_failures(frame, schema, told_of, reasons)
    _add_unnamed(frame, params, now, told_of, reasons)
    if params.task is not Task.REGRESSION:
        classes = {value for _, rows in known.partitions for value in rows[target].dropna().unique()}
        for row in np.flatnonzero(~frame[target].isin(classes) & frame[target].notna()):
            reasons[row].append(Reason(target, "no class of the data", shorten(frame[target].iloc[row])))
    if id_ is not None:
        # What the journal tells apart can be one id of the data: 7 and 07.
        fine = np.array([not found for found in reasons], dtype=bool) & ~again & ~late
        for row in np.flatnonzero(fine)[frame.loc[fine, id_].duplicated(keep="last").to_numpy(dtype=bool)]:
            reasons[row].append(Reason(id_, "a later row has the same id", shorten(frame[id_].iloc[row])))
    bad = np.array([bool(found) for found in reasons], dtype=bool) & ~again & ~late
    good = ~bad & ~again & ~late
    arrivals = fresh[ARRIVAL]
    order = frame[time] if time is not None else arrivals
    places = order[good].sort_values(kind="stable").index
    told = tuple(tuple(reasons[row]) for row in np.flatnonzero(bad))
    set_aside = fresh.loc[bad].assign(**{REASON: ["; ".join(map(str, found)) for found in told]})
    return SortedRows(
        good=_settled(frame.loc[places].reset_index(drop=True), known),
        bad=set_aside.reset_index(drop=True),
        reasons=told,
        arrivals=arrivals.loc[places].reset_index(drop=True),
        known=int(again.sum()),
        late=int(late.sum()),
    )


def divide_fresh(sorted_rows: SortedRows, known: KnownData, params: Params) -> tuple[FreshPart, ...]:
    """The partitions that good rows become: the newest days, which the next model is judged on, and those before.

    The days before stand alone only if they are enough for a partition. A partition is named by its first and last day,
    in `data.timezone`.

    Returns:
        None, one or two parts, oldest first.

    Raises:
        DataError: the names would not sort after those of the data.
    """
    import numpy as np
    import pandas as pd

    rows = sorted_rows.good
    if rows.empty:
        return ()
    moments = rows[params.data.time] if params.data.time is not None else sorted_rows.arrivals
    days = pd.to_datetime(moments)
    if params.data.timezone is not None:
        days = days.dt.tz_localize("UTC").dt.tz_convert(params.data.timezone).dt.tz_localize(None)
    days = days.dt.normalize()
    newest = sorted(days.unique())[-params.retrain.judge_days :]
    judged = (days >= newest[0]).to_numpy(dtype=bool)
    if (~judged).sum() < params.validation.min_rows:
        judged = np.ones(len(rows), dtype=bool)
    parts = []
    for chosen in (~judged, judged):
        if chosen.any():
            first, last = days[chosen].min(), days[chosen].max()
            name = f"{first:%Y-%m-%d}_{last:%Y-%m-%d}"
            parts.append(FreshPart(name, rows.loc[chosen].reset_index(drop=True)))
    before = known.newest
    for part in parts:
        if order_of(part.name) <= order_of(before):
            raise DataError(
                f"the new partition {part.name} would not come after {before}",
                where=params.data.path,
                hint="name partitions by their time (2024-09, 2024-09-01): what sorts last is judged on",
            )
        before = part.name
    return tuple(parts)


def write_parts(parts: Sequence[FreshPart], folder: Path, data: DataParams) -> tuple[Path, ...]:
    """Write each part as a Parquet partition, all or none; files of those names must not be there.

    With `data.timezone` times are written as UTC, since one without a zone would be read in that.

    Raises:
        DataError: a partition of that name is there.
    """
    paths = [folder / f"{part.name}.parquet" for part in parts]
    for path in paths:
        if path.exists():
            raise DataError("the partition is there already", where=str(path), hint="delete it, or keep it: dvc add")
    folder.mkdir(parents=True, exist_ok=True)
    drafts = [path.with_name(f".{path.name}") for path in paths]
    try:
        for draft, part in zip(drafts, parts, strict=True):
            # No times and no writer's version of pandas go in: the same rows are the same bytes.
            rows = part.rows
            if data.time is not None and data.timezone is not None:
                rows = rows.assign(**{data.time: rows[data.time].dt.tz_localize("UTC")})
            rows.to_parquet(draft, compression="zstd", compression_level=19, index=False)
        for draft, path in zip(drafts, paths, strict=True):
            draft.replace(path)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    return tuple(paths)


def write_quarantine(bad: pd.DataFrame, folder: Path) -> Path | None:
    """Write the rows that were set aside, with their reasons, a line of JSON each; None where there are none."""
    path = folder / "quarantine.jsonl"
    path.unlink(missing_ok=True)
    if bad.empty:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    bad.to_json(path, orient="records", lines=True, date_format="iso")
    return path


def summarise(parts: Sequence[FreshPart], sorted_rows: SortedRows) -> Ingested:
    """What became of the rows; reasons are counted by column and rule, the most frequent first."""
    counted: dict[str, int] = {}
    for told in sorted_rows.reasons:
        for reason in {f"{one.column}: {one.rule}" for one in told}:
            counted[reason] = counted.get(reason, 0) + 1
    most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_REASONS]
    return Ingested(
        partitions=tuple(part.name for part in parts),
        rows=sum(len(part.rows) for part in parts),
        known=sorted_rows.known,
        late=sorted_rows.late,
        quarantined=len(sorted_rows.bad),
        reasons=dict(most),
    )


def _older(frame: pd.DataFrame, arrivals: pd.Series, known: KnownData, params: Params) -> NDArray[np.bool_]:
    """Which rows are older than the newest data, shape (n,)."""
    import numpy as np
    import pandas as pd

    time = params.data.time
    if time is not None:
        newest = max(rows[time].max() for _, rows in known.partitions)
        # Rows without an id can only be told from known ones by their time; partitions must not overlap in any case.
        past = frame[time] <= newest if params.data.id is None else frame[time] < newest
        return np.asarray(past, dtype=np.bool_)
    span = SPAN.match(known.newest)
    if span is None:
        return np.zeros(len(frame), dtype=bool)
    # Rows of these days are in the data by their arrival; a second partition of the same day would not come after it.
    return np.asarray(arrivals < pd.Timestamp(span[2]) + pd.Timedelta("1d"), dtype=np.bool_)


def _add_unnamed(
    frame: pd.DataFrame, params: Params, now: datetime, mistyped: Collection[str], reasons: list[list[Reason]]
) -> None:
    """Add what is wrong with ids and times."""
    import numpy as np
    import pandas as pd

    id_, time = params.data.id, params.data.time
    for name, what in ((id_, "every row needs its id"), (time, "every row needs its time")):
        if name is not None and name not in mistyped:
            for row in np.flatnonzero(frame[name].isna()):
                if all(reason.column != name for reason in reasons[row]):
                    reasons[row].append(Reason(name, what))
    if time is not None:
        end = pd.Timestamp(now.astimezone(UTC).replace(tzinfo=None)) + FUTURE
        for row in np.flatnonzero(frame[time] > end):
            reasons[row].append(Reason(time, "its time is still to come", shorten(frame[time].iloc[row])))


def _add_failures(
    frame: pd.DataFrame, schema: TeamSchema, mistyped: Collection[str], reasons: list[list[Reason]]
) -> None:
    """Add what the team's own rules say of each row."""
    cases = schema_failures(frame, schema)
    if cases is None:
        return
    located = cases.dropna(subset=["index"])
    told = (located["column"], located["check"], located["index"], located["failure_case"])
    for column, check, row, found in zip(*told, strict=True):
        if column in mistyped and str(check).startswith("not_nullable"):
            continue  # it was told of as a wrong type
        value = "" if found is None else shorten(found)
        reasons[int(row)].append(Reason(str(column), rule_meaning(str(check)), value))


def _settled(rows: pd.DataFrame, known: KnownData) -> pd.DataFrame:
    """Columns as the data's own files have them, where no value is lost: whole numbers are not written as fractions."""
    newest = known.partitions[-1][1]
    for name in rows.columns:
        kind = newest[name].dtype if name in newest else None
        if kind is not None and rows[name].dtype != kind and not rows[name].isna().any():
            rows[name] = rows[name].astype(kind)
    return rows
