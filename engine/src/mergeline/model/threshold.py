"""Tunes the threshold from which on a binary score is labelled positive."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def best_threshold(hits: NDArray[np.bool_], scores: NDArray[np.float64], criterion: str) -> float:
    """The threshold that maximises F1 or balanced accuracy when rows at or above it are labelled positive.

    Args:
        hits: shape (n,), whether a row is positive.
        scores: shape (n,), the probability of the positive class.
        criterion: `f1` or `balanced_accuracy`.

    Returns:
        One of the scores, rounded to six digits; 0.5 where the rows hold one class only.
    """
    import numpy as np

    positives, negatives = int(hits.sum()), int((~hits).sum())
    if not positives or not negatives:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    found = np.cumsum(hits[order])[last_of_tie]
    flagged = np.flatnonzero(last_of_tie) + 1
    if criterion == "f1":
        quality = 2 * found / (flagged + positives)
    else:
        quality = (found / positives + 1 - (flagged - found) / negatives) / 2
    return float(f"{ranked[last_of_tie][int(np.argmax(quality))]:.6g}")
