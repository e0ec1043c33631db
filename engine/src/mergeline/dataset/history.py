"""Compares a partition with the ones before it: rows, missing values, values.

Made to catch broken exports (a unit changed, a column emptied), not seasons: what drifts is for `watch` to tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mergeline.dataset.findings import Finding
from mergeline.dataset.kinds import Kind
from mergeline.params import ValidationParams

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.dataset.schema import SchemaColumn

MAX_NEW_CATEGORIES = 0.5
OUTER_QUANTILES = (0.01, 0.99)


def check_history(  # noqa: PLR0917 - a partition, what was before it, and the bounds: the order reads itself
    name: str,
    frame: pd.DataFrame,
    earlier: Sequence[pd.DataFrame],
    columns: Sequence[SchemaColumn],
    bounds: ValidationParams,
    usual_rows: Sequence[float],
) -> Iterator[Finding]:
    """What is odd about a partition beside the ones before it.

    Args:
        name: the partition's.
        frame: its rows.
        earlier: the rows of each partition before it.
        columns: the columns to look at.
        bounds: what may change.
        usual_rows: of each partition that can be compared with, for a period as long; may be empty.
    """
    import numpy as np
    import pandas as pd

    usual = float(np.median(usual_rows)) if usual_rows else float(len(frame))
    change = len(frame) / max(usual, 1) - 1
    if abs(change) > bounds.max_row_change:
        meaning = f"{len(frame):,} rows, {change:+.0%} against the median {usual:,.0f} of the partitions before"
        yield _finding(name, "", "row count", meaning)
    for column in columns:
        if column.name not in frame.columns or not len(frame):
            continue
        past = pd.concat(
            [before[column.name] for before in earlier if column.name in before.columns] or [frame[column.name]]
        )
        now = frame[column.name]
        rise = float(now.isna().mean() - past.isna().mean())
        if rise > bounds.max_missing_rise:
            meaning = f"{now.isna().mean():.0%} missing, {past.isna().mean():.0%} in the partitions before"
            yield _finding(name, column.name, "missing share", meaning)
        elif column.kind in (Kind.NUMBER, Kind.INTEGER):
            yield from _check_numbers(name, column.name, now, past)
        elif column.kind is Kind.CATEGORY and not column.allowed:
            yield from _check_categories(name, column.name, now, past)


def _check_numbers(name: str, column: str, now: pd.Series, past: pd.Series) -> Iterator[Finding]:
    now, past = now.dropna().astype("float64"), past.dropna().astype("float64")
    if now.empty or past.empty:
        return
    low, high = (float(past.quantile(q)) for q in OUTER_QUANTILES)
    middle = float(now.median())
    if not low <= middle <= high:
        meaning = f"its median is {middle:g}; 98 % of the values before lie in {low:g} to {high:g}"
        yield _finding(name, column, "distribution", meaning)


def _check_categories(name: str, column: str, now: pd.Series, past: pd.Series) -> Iterator[Finding]:
    now, known = now.dropna(), set(past.dropna().unique())
    if now.empty or not known:
        return
    new = float((~now.isin(known)).mean())
    if new > MAX_NEW_CATEGORIES:
        yield _finding(name, column, "distribution", f"{new:.0%} of the rows hold values never seen before")


def _finding(name: str, column: str, rule: str, meaning: str) -> Finding:
    return Finding(partition=name, column=column, rule=rule, rows=0, examples=(), meaning=meaning)
