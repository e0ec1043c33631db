"""Cuts the holdout into slices by the values of a column, measures the model on each, and compares two there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.dataset.schema import require_column
from mergeline.evaluate.metrics import LOSS, estimates, row_losses
from mergeline.evaluate.results import Estimate, SliceChange, SliceResult
from mergeline.evaluate.scoring import Floats, Rows, Scored
from mergeline.params import Params
from mergeline.stats.paired import PairedTest, benjamini_hochberg, paired_test

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MOST_VALUES = 20
"""A numeric column with more distinct values than this is cut into quantile bins."""

BINS = 5
"""Quantile bins of such a column."""

POOLED, MISSING = "other", "missing"


class Slice(NamedTuple):
    """The rows where `column` is `value`; `pooled` where it gathers values that are too rare to stand alone."""

    column: str
    value: str
    rows: Rows
    pooled: bool = False


def slice_column(
    frame: pd.DataFrame,
    column: str,
    min_rows: int,
    key: str = "evaluation.slices",
    edges: Sequence[float] | None = None,
) -> tuple[Slice, ...]:
    """Every row of `frame` in exactly one slice, in the order of the values; the pool of small slices comes last.

    A column of numbers or times with more than 20 values is cut into five quantile bins. Missing values are a
    slice of their own. The pool itself may hold fewer than `min_rows` rows. With the `edges` of other rows the bins are
    theirs: see `bin_edges`.

    Raises:
        DataError: there is no such column; the message names the nearest one.
    """
    require_column(column, list(map(str, frame.columns)), key)
    codes, names = _values(frame[column], edges)
    found = [(name, np.flatnonzero(codes == code)) for code, name in enumerate(names)]
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        found.append((free_name(MISSING, names), missing))
    large = [Slice(column, name, rows) for name, rows in found if len(rows) >= min_rows]
    small = [rows for _, rows in found if 0 < len(rows) < min_rows]
    if small:
        taken = [entry.value for entry in large]
        large.append(Slice(column, free_name(POOLED, taken), np.sort(np.concatenate(small)), pooled=True))
    return tuple(large)


def evaluate_slices(scored: Scored, frame: pd.DataFrame, params: Params) -> tuple[SliceResult, ...]:
    """The gate's metric, and the loss that slices are compared by, on every slice of every configured column.

    Raises:
        DataError: a configured column does not exist.
    """
    wanted = (params.gate.metric, LOSS[params.task])
    results = []
    for column in params.evaluation.slices:
        for part in slice_column(frame, column, params.evaluation.min_slice_rows):
            metrics = estimates(
                scored.take(part.rows),
                resamples=params.evaluation.resamples,
                confidence=params.gate.confidence,
                seed=params.model.seed,
            )
            named = {metric.name: metric for metric in metrics}
            results.append(
                SliceResult(
                    column=column,
                    value=part.value,
                    rows=len(part.rows),
                    metrics=tuple(named[name] for name in dict.fromkeys(wanted) if name in named),
                )
            )
    return tuple(results)


def compare_slices(
    champion: Scored, challenger: Scored, frame: pd.DataFrame, params: Params
) -> tuple[SliceChange, ...]:
    """Every slice of every configured column that has at least `min_slice_rows` rows.

    Slices are compared by a loss that every row has a share of: log loss for classes, absolute error for a number.
    (The AUC of a slice is not such a mean, and undefined on a slice with one class.) `slice_margin` is in nats for
    classes; for a number, or with `slice_margin_relative`, it is a share of the champion's mean loss on the slice.
    Benjamini and Hochberg's procedure over all slices of all columns keeps the expected share of false alarms among
    the slices called worse below `slice_discovery_rate`.

    Raises:
        DataError: a configured column does not exist.
    """
    settings = params.evaluation
    parts = [
        part
        for column in settings.slices
        for part in slice_column(frame, column, settings.min_slice_rows)
        if len(part.rows) >= max(2, settings.min_slice_rows)
    ]
    old, new = row_losses(champion), row_losses(challenger)
    tests = [_test(old[part.rows], new[part.rows], params) for part in parts]
    adjusted = benjamini_hochberg(np.array([test.p_value for test in tests]))
    return tuple(
        _change(part, test, q, (old, new), params)
        for part, test, q in zip(parts, tests, adjusted.tolist(), strict=True)
    )


def _test(old: Floats, new: Floats, params: Params) -> PairedTest:
    relative = params.gate.slice_margin_relative or not params.task.classifies
    margin = params.gate.slice_margin * old if relative else params.gate.slice_margin
    return paired_test(new - old, margin, params.gate.confidence)


def _change(
    part: Slice, test: PairedTest, q_value: float, losses: tuple[Floats, Floats], params: Params
) -> SliceChange:
    old, new = losses
    return SliceChange(
        column=part.column,
        value=part.value,
        rows=len(part.rows),
        metric=LOSS[params.task],
        champion=float(old[part.rows].mean()),
        challenger=float(new[part.rows].mean()),
        gain=Estimate(value=-test.added, low=-test.high, high=-test.low),
        p_value=test.p_value,
        q_value=q_value,
        worse=q_value < params.gate.slice_discovery_rate,
    )


def bin_edges(column: pd.Series[Any]) -> tuple[float, ...]:
    """The borders of the quantile bins that a column is cut into, times in seconds; none where it is cut by value."""
    if not _is_ordered(column) or column.nunique() <= MOST_VALUES:
        return ()
    values = _numbers(column)[~column.isna().to_numpy()]
    return tuple(np.unique(np.quantile(values, np.arange(1, BINS) / BINS)).tolist())


def _values(column: pd.Series[Any], edges: Sequence[float] | None) -> tuple[Rows, list[str]]:
    """Each row's place among the sorted names of its values, -1 where it is missing."""
    import pandas as pd

    edges = bin_edges(column) if edges is None else edges
    if edges and _is_ordered(column):
        return _bins(column, edges)
    codes, uniques = pd.factorize(column, sort=True)
    return codes, [_text(value) for value in uniques]


def _bins(column: pd.Series[Any], edges: Sequence[float]) -> tuple[Rows, list[str]]:
    import pandas as pd

    times = pd.api.types.is_datetime64_any_dtype(column.dtype)
    codes = np.where(~column.isna().to_numpy(), np.searchsorted(edges, _numbers(column), side="left"), -1)
    words = [pd.Timestamp(edge, unit="s").isoformat() if times else f"{edge:.10g}" for edge in edges]
    middle = [f"{low} to {high}" for low, high in pairwise(words)]
    return codes, [f"≤ {words[0]}", *middle, f"> {words[-1]}"]


def _is_ordered(column: pd.Series[Any]) -> bool:
    """Whether it holds numbers or times."""
    import pandas as pd

    kinds = pd.api.types
    numbers = kinds.is_numeric_dtype(column.dtype) and not kinds.is_bool_dtype(column.dtype)
    return numbers or kinds.is_datetime64_any_dtype(column.dtype)


def _numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    """Numbers as they are, times in seconds since 1970."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column.to_numpy(dtype="datetime64[s]").astype(np.float64)
    return column.to_numpy(dtype=np.float64)


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, set apart by brackets from values of the column that are written alike."""
    while name in taken:
        name = f"({name})"
    return name
