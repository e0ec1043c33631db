"""The rules that one partition must keep, as pure functions of its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mergeline.dataset.findings import MAX_EXAMPLES, Example, Finding, broken_cells, shorten
from mergeline.dataset.partitions import SPAN, period_of
from mergeline.documents import nearest
from mergeline.params import Params, Task

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.dataset.schema import TeamSchema


ANY_ZONE = dt.timedelta(hours=14)
"""Local time is ahead of UTC, or behind it, by at most so much."""


def check_columns(name: str, raw: pd.DataFrame, schema: TeamSchema, params: Params) -> Iterator[Finding]:
    """Every column of the schema is there, and no other."""
    known = [column.name for column in schema.columns]
    for column in known:
        if column not in raw.columns:
            guess = nearest(column, [str(other) for other in raw.columns if other not in known])
            hint = f"; is it {guess!r} here?" if guess else ""
            if len(raw.columns) == 1 and column in str(raw.columns[0]):
                hint = "; the file has one column only: separate its cells by commas"
            yield broken(name, column, "missing column", f"the schema asks for it{hint}")
    for column in map(str, raw.columns):
        if column in params.validation.known_later:
            yield broken(name, column, "leak", "it is known only after the prediction; drop it from the data")
        elif column not in known:
            yield broken(name, column, "unknown column", f"drop it, or add it to {params.data.schema_}")


def check_schema(name: str, frame: pd.DataFrame, schema: TeamSchema) -> Iterator[Finding]:
    """The team's own rules: nulls, ranges, categories, patterns, uniqueness."""
    cases = schema_failures(frame, schema)
    if cases is None:
        return
    for (column, rule), rows in cases.groupby(["column", "check"], sort=False, dropna=False):
        located = rows.dropna(subset=["index"]) if "index" in rows else rows.iloc[:0]
        yield Finding(
            partition=name,
            column=str(column) if isinstance(column, str) else "",
            rule=_rule_name(str(rule)),
            rows=len(located),
            examples=tuple(
                Example(row=int(row) + 1, value=shorten(value))
                for row, value in zip(located["index"][:MAX_EXAMPLES], located["failure_case"], strict=False)
            ),
            meaning=rule_meaning(str(rule)),
        )


def schema_failures(frame: pd.DataFrame, schema: TeamSchema) -> pd.DataFrame | None:
    """Each cell that breaks one of the team's rules, as pandera tells it (column, check, index, failure_case)."""
    from pandera.errors import SchemaErrors

    present = [column for column in schema.pandera.columns if column in frame.columns]
    # Types were told of by `convert`; here a column of pandas' own nullable type is as good as any.
    rules = schema.pandera.select_columns(present)
    rules = rules.update_columns({column: {"dtype": None, "coerce": False} for column in present})
    rules.coerce, rules.index = False, None
    try:
        rules.validate(frame.reset_index(drop=True), lazy=True)
    except SchemaErrors as broken:
        found: pd.DataFrame = broken.failure_cases
        return found
    return None


def check_identity(name: str, frame: pd.DataFrame, params: Params, seen: set[object]) -> Iterator[Finding]:
    """Ids are there, and none stands twice in this or an earlier partition; `seen` collects them."""
    column = params.data.id
    if column is None or column not in frame.columns:
        return
    ids = frame[column]
    yield from _where(
        name, column, "duplicate id", frame, ids.duplicated() & ids.notna(), "it stands twice in this file"
    )
    again = ids.isin(seen) if seen else ids.duplicated() & False
    yield from _where(name, column, "duplicate id", frame, again, "it stands in an earlier partition too")
    yield from _where(name, column, "missing id", frame, ids.isna(), "every row needs its id")
    seen.update(ids.dropna())


def check_time(name: str, frame: pd.DataFrame, params: Params) -> Iterator[Finding]:
    """Times lie inside the period that the partition's name gives (2013, 2013-01 or 2013-01-31)."""
    import pandas as pd

    column = params.data.time
    if column is None or column not in frame.columns:
        return
    yield from _where(name, column, "missing time", frame, frame[column].isna(), "every row needs its time")
    period = period_of(name)
    if period is not None:
        zone = params.data.timezone or "UTC"
        start, end = (
            pd.Timestamp(moment).tz_localize(zone, ambiguous=True, nonexistent="shift_forward").tz_convert(None)
            for moment in period
        )
        outside = ~((frame[column] >= start) & (frame[column] < end)) & frame[column].notna()
        meaning = f"the file is for {period[0]} to {period[1]} (with a zone: {zone})"
        if outside.any() and frame.loc[outside, column].between(start - ANY_ZONE, end + ANY_ZONE).all():
            meaning += (
                "; where files are cut by local time, cut files by UTC, or give data.timezone"
                if zone == "UTC"
                else f"; in UTC: {start} to {end}"
            )
        yield from _where(name, column, "outside the partition", frame, outside, meaning)


def check_order(name: str, frame: pd.DataFrame, before: pd.DataFrame, params: Params) -> Iterator[Finding]:
    """Partitions come in the order of their names: what sorts last is held out, so it must be the newest."""
    column = params.data.time
    if column is None or column not in frame or column not in before or frame.empty or before.empty:
        return
    early = frame[column] < before[column].max()
    meaning = "the partition before holds later times; name files so that they sort by time (2024-09, 2024-10)"
    yield from _where(name, column, "time order", frame, early, meaning)


def check_target(name: str, frame: pd.DataFrame, params: Params) -> Iterator[Finding]:
    """The target is there, and has the classes that the task needs."""
    column = params.data.target
    if column not in frame.columns:
        return
    target = frame[column]
    yield from _where(name, column, "missing target", frame, target.isna(), "a row without its label cannot be used")
    classes = list(target.dropna().unique())
    if params.task is Task.BINARY:
        if len(classes) != 2:
            found = ", ".join(shorten(label, 20) for label in classes[:5])
            yield broken(name, column, "classes", f"a binary task needs two classes, found {len(classes)}: {found}")
        elif params.data.positive not in classes:
            yield broken(name, column, "classes", f"data.positive is {params.data.positive!r}, found {classes}")
    numeric = target.dtype.kind in "iuf"
    if params.task is Task.REGRESSION and not numeric:
        yield broken(name, column, "target", f"a regression needs numbers, the schema says {target.dtype}")
    if params.task is Task.MULTICLASS and target.dtype.kind == "f" and (target.dropna() % 1 != 0).any():
        yield broken(name, column, "target", "fractions are no classes: choose task regression, or a str or int target")
    if params.task is Task.MULTICLASS and len(classes) < 2:
        yield broken(name, column, "classes", "a multiclass task needs two classes or more")


def check_rows(name: str, frame: pd.DataFrame, params: Params) -> Iterator[Finding]:
    """There are rows enough."""
    if len(frame) < params.validation.min_rows:
        yield broken(name, "", "too few rows", f"{len(frame)}, at least {params.validation.min_rows} are needed")


def usual_rows(name: str, earlier: Mapping[str, int]) -> list[float]:
    """The rows of the earlier partitions that this one can be compared with.

    A span of days holds the rows that got a label, so it is compared with other spans, by the day; other periods are
    compared with one another as they are, and so are files that are named by none.
    """
    if not SPAN.match(name):
        named = period_of(name) is not None
        return [
            rows for other, rows in earlier.items() if not SPAN.match(other) and (period_of(other) is not None) == named
        ]
    days = _days(name)
    return [rows * days / _days(other) for other, rows in earlier.items() if SPAN.match(other)]


def _days(name: str) -> int:
    period = period_of(name)
    return max(1, (period[1] - period[0]).days) if period else 1


def broken(name: str, column: str, rule: str, meaning: str) -> Finding:
    """A rule that a whole partition breaks, or a whole column of it."""
    return Finding(partition=name, column=column, rule=rule, meaning=meaning)


def _where(  # noqa: PLR0917 - where, which rule, which rows, why: read in this order
    name: str, column: str, rule: str, frame: pd.DataFrame, broken: pd.Series, meaning: str
) -> Iterator[Finding]:
    if broken.any():
        yield broken_cells(name, column, rule, frame[column], broken, meaning)


def _rule_name(check: str) -> str:
    for start, name in (
        ("in_range", "range"), ("greater_than", "range"), ("less_than", "range"), ("isin", "category"),
        ("not_nullable", "null"), ("field_uniqueness", "duplicate"), ("str_", "pattern"),
    ):  # fmt: skip
        if check.startswith(start):
            return name
    return "schema"


def rule_meaning(check: str) -> str:
    """What a broken rule of pandera's means, for people."""
    if check == "not_nullable":
        return "missing, and the schema does not allow it"
    if check == "field_uniqueness":
        return "the schema wants every value once"
    return f"breaks {check}"
