"""Cuts the holdout into slices by the values of a column, and measures the model on each."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.evaluate.bootstrap import estimates
from mergeline.evaluate.metrics import LOSS
from mergeline.evaluate.results import SliceResult
from mergeline.evaluate.scored import Rows, Scored, require_column
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd

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


def slice_column(frame: pd.DataFrame, column: str, min_rows: int, key: str = "evaluation.slices") -> tuple[Slice, ...]:
    """Every row of `frame` in exactly one slice, in the order of the values; the pool of small slices comes last.

    A column of numbers or times with more than 20 values is cut into five quantile bins. Missing values are a
    slice of their own. The pool itself may hold fewer than `min_rows` rows.

    Raises:
        DataError: there is no such column; the message names the nearest one.
    """
    require_column(frame, column, key)
    codes, names = _values(frame[column])
    found = [(name, np.flatnonzero(codes == code)) for code, name in enumerate(names)]
    missing = np.flatnonzero(codes < 0)
    if len(missing):
        found.append((_free(MISSING, names), missing))
    large = [Slice(column, name, rows) for name, rows in found if len(rows) >= min_rows]
    small = [rows for _, rows in found if 0 < len(rows) < min_rows]
    if small:
        taken = [entry.value for entry in large]
        large.append(Slice(column, _free(POOLED, taken), np.sort(np.concatenate(small)), pooled=True))
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


def _values(column: pd.Series[Any]) -> tuple[Rows, list[str]]:
    """Each row's place among the sorted names of its values, -1 where it is missing."""
    import pandas as pd

    kinds = pd.api.types
    times = kinds.is_datetime64_any_dtype(column.dtype)
    numbers = kinds.is_numeric_dtype(column.dtype) and not kinds.is_bool_dtype(column.dtype)
    if (numbers or times) and column.nunique() > MOST_VALUES:
        return _bins(column, times=times)
    codes, uniques = pd.factorize(column)
    order = sorted(range(len(uniques)), key=lambda place: _sort_key(uniques[place]))
    rank = np.empty(len(uniques) + 1, dtype=np.intp)
    rank[order] = np.arange(len(uniques))
    rank[-1] = -1
    return rank[codes], [_text(uniques[place]) for place in order]


def _bins(column: pd.Series[Any], *, times: bool) -> tuple[Rows, list[str]]:
    import pandas as pd

    values = column.to_numpy(dtype="datetime64[s]").astype(np.float64) if times else column.to_numpy(dtype=np.float64)
    here = ~column.isna().to_numpy()
    edges = np.unique(np.quantile(values[here], np.arange(1, BINS) / BINS))
    codes = np.where(here, np.searchsorted(edges, values, side="left"), -1)
    words = [pd.Timestamp(edge, unit="s").isoformat() if times else f"{edge:.10g}" for edge in edges]
    middle = [f"{low} to {high}" for low, high in pairwise(words)]
    return codes, [f"≤ {words[0]}", *middle, f"> {words[-1]}"]


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _sort_key(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, (bool, int, float, np.number)) else (1, 0.0, str(value))


def _free(name: str, taken: list[str]) -> str:
    """The name, set apart from a value of the column that is written alike."""
    return f"({name})" if name in taken else name
