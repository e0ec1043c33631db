"""Looks for columns that give the target away."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MAX_ROWS = 20_000
BINS = 32


def lone_score(feature: pd.Series, target: pd.Series, *, classifies: bool) -> float:
    """How well one column predicts the target alone, out of sample.

    The column is cut into values or quantile bins; each half of the rows is predicted by the mean target
    of the same bin in the other half. No order or shape of the relation is assumed.

    Args:
        feature: shape (n,), any type.
        target: shape (n,), classes or numbers, not missing.
        classifies: whether the target is a class.

    Returns:
        For classes the largest one-against-rest AUC, for numbers the absolute rank correlation; 0.5
        and 0 mean nothing was found.
    """
    import numpy as np

    step = -(-len(feature) // MAX_ROWS)
    feature, target = feature.iloc[::step], target.iloc[::step]
    codes = _codes(feature)
    if not classifies:
        guess = _other_half_mean(codes, target.to_numpy(dtype=np.float64))
        return abs(_correlation(_ranks(guess), _ranks(target.to_numpy(dtype=np.float64))))
    best = 0.5
    for label in target.unique():
        hit = (target == label).to_numpy(dtype=np.float64)
        if 0 < hit.sum() < len(hit):
            area = _auc(_other_half_mean(codes, hit), hit)
            best = max(best, area)
    return best


def _codes(feature: pd.Series) -> NDArray[np.int64]:
    """A small integer for each row: its value, or its quantile bin; missing is a bin of its own."""
    import numpy as np
    import pandas as pd

    if pd.api.types.is_numeric_dtype(feature) and feature.nunique() > 2 * BINS:
        binned = pd.qcut(feature.astype("float64"), BINS, labels=False, duplicates="drop")
        return np.asarray(binned.fillna(-1).to_numpy(), dtype=np.int64) + 1
    return np.asarray(pd.factorize(feature, use_na_sentinel=True)[0], dtype=np.int64) + 1


def _other_half_mean(codes: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    half = np.arange(len(codes)) % 2 == 0
    guess = np.empty(len(codes))
    size = int(codes.max(initial=0)) + 1
    for here in (half, ~half):
        total = np.bincount(codes[~here], weights=values[~here], minlength=size)
        count = np.bincount(codes[~here], minlength=size)
        overall = values[~here].mean() if (~here).any() else 0.0
        guess[here] = np.where(count > 0, total / np.maximum(count, 1), overall)[codes[here]]
    return guess


def _auc(score: NDArray[np.float64], hit: NDArray[np.float64]) -> float:
    """Area under the ROC curve by the rank-sum identity (Hanley and McNeil 1982)."""
    positives = hit.sum()
    negatives = len(hit) - positives
    return float((_ranks(score)[hit == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np
    import pandas as pd

    return np.asarray(pd.Series(values).rank(), dtype=np.float64)


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    import numpy as np

    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
