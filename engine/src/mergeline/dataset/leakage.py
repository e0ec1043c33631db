"""Looks for columns that give the target away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mergeline.params import Task
from mergeline.stats.paired import share_below

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS = 20_000
BINS = 32


MEASURES = {
    Task.BINARY: "AUC",
    Task.MULTICLASS: "share of the mistakes that always naming the commonest class makes, avoided:",
    Task.REGRESSION: "rank correlation",
}
"""What `lone_score` is, for each task."""


def lone_score(feature: pd.Series, target: pd.Series, task: Task) -> float:
    """How well one column predicts the target alone, out of sample.

    The column is cut into values or quantile bins; each half of the rows is predicted by the mean target
    of the same bin in the other half (numbers and many classes: by the nearest row there). No order or shape of
    the relation is assumed.

    Of several classes, a single one may be told apart by an honest column (a petal's length tells setosa): a leak
    gives all of them away, which is measured by Goodman and Kruskal's lambda (1954) out of sample. Class by class only
    the missing values are looked at: a column that is filled in for one class alone was filled in afterwards.

    Args:
        feature: shape (n,), any type.
        target: shape (n,), classes or numbers, not missing.
        task: how the target is read.

    Returns:
        For two classes the AUC, for more the share of mistakes that is avoided or the largest AUC of missing values,
        for numbers the absolute rank correlation; 0.5 or 0 means that nothing was found.
    """
    step = -(-len(feature) // MAX_ROWS)
    feature, target = feature.iloc[::step], target.iloc[::step]
    codes = _codes(feature)
    if task is Task.REGRESSION:
        guess = _other_half_mean(codes, target.to_numpy(dtype=np.float64))
        return abs(_correlation(_ranks(guess), _ranks(target.to_numpy(dtype=np.float64))))
    hits = pd.get_dummies(target).to_numpy(dtype=np.float64)
    if task is Task.BINARY:
        return max([0.5, *(_auc(_other_half_mean(codes, hit), hit) for hit in hits.T if 0 < hit.sum() < len(hit))])
    missing = np.asarray(feature.isna(), dtype=np.float64)
    told = [max(area := _auc(missing, hit), 1 - area) for hit in hits.T if 0 < hit.sum() < len(hit)]
    if _is_continuous(feature):
        named = _other_half_nearest(np.asarray(feature.astype("float64"), dtype=np.float64), hits.argmax(axis=1))
    else:
        named = np.column_stack([_other_half_mean(codes, hit) for hit in hits.T]).argmax(axis=1)
    right, commonest = hits[np.arange(len(hits)), named].mean(), hits.mean(axis=0).max()
    return max([0.0, *told, float((right - commonest) / (1 - commonest)) if commonest < 1 else 0.0])


def _is_continuous(feature: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(feature) and feature.nunique() > 2 * BINS)


def _codes(feature: pd.Series) -> NDArray[np.int64]:
    """A small integer for each row: its value, or its quantile bin; missing is a bin of its own."""
    if _is_continuous(feature):
        binned = pd.qcut(feature.astype("float64"), BINS, labels=False, duplicates="drop")
        return np.asarray(binned.fillna(-1).to_numpy(), dtype=np.int64) + 1
    return np.asarray(pd.factorize(feature, use_na_sentinel=True)[0], dtype=np.int64) + 1


def _other_half_mean(codes: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    half = np.arange(len(codes)) % 2 == 0
    guess = np.empty(len(codes))
    size = int(codes.max(initial=0)) + 1
    for here in (half, ~half):
        total = np.bincount(codes[~here], weights=values[~here], minlength=size)
        count = np.bincount(codes[~here], minlength=size)
        overall = values[~here].mean() if (~here).any() else 0.0
        guess[here] = np.where(count > 0, total / np.maximum(count, 1), overall)[codes[here]]
    return guess


def _other_half_nearest(values: NDArray[np.float64], labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """The label of each row's nearest value in the other half; bins would straddle the borders between classes."""
    known = np.isfinite(values)
    values = np.where(known, values, 2 * values[known].max() - values[known].min() + 1)  # missing is far from all
    half = np.arange(len(values)) % 2 == 0
    named = np.zeros(len(values), dtype=np.intp)
    for here in (half, ~half):
        order = np.argsort(values[~here], kind="stable")
        others, names = values[~here][order], labels[~here][order]
        right = np.clip(np.searchsorted(others, values[here]), 1, len(others) - 1)
        nearest = right - (values[here] - others[right - 1] < others[right] - values[here])
        named[here] = names[nearest]
    return named


def _auc(score: NDArray[np.float64], hit: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the mean share of the others below each hit (Hanley and McNeil, 1982)."""
    return float(share_below(score[hit == 1], np.sort(score[hit == 0])).mean())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(pd.Series(values).rank(), dtype=np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
