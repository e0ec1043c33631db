"""Percentile intervals by resampling rows, the same rows for every model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Measure = Callable[[NDArray[Any]], dict[str, Floats]]
"""Statistics by name, each of shape (b,), of a batch of row weights of shape (b, n)."""

STREAM = 20_130_607
"""Keeps these draws apart from every other use of the model's seed."""

CELLS = 2**18
"""Counts drawn at once: small enough to stay in the processor's cache."""

DEFINED_SHARE = 0.95
"""An interval needs a value in at least this share of the resamples."""


def resample(measures: Sequence[Measure], rows: int, *, resamples: int, seed: int) -> list[dict[str, Floats]]:
    """Every statistic of every model on the same resamples of the rows (Efron, 1979).

    Rows are drawn with replacement, so they are taken as independent.

    Args:
        measures: one for each model.
        rows: how many there are, n.
        resamples: how many.
        seed: of the draws; the answer depends on nothing else, the number of threads included.

    Returns:
        For each model and statistic an array of shape (resamples,), NaN where a resample leaves it undefined.
    """
    from threadpoolctl import threadpool_limits

    found: list[list[dict[str, Floats]]] = [[] for _ in measures]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAM])))
    size = max(1, CELLS // rows)
    # Threads of the matrix product would only wait for each other at these sizes, and change the last bits.
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, resamples, size):
            counts = draw_counts(rng, min(size, resamples - start), rows)
            for answers, measured in zip(found, measures, strict=True):
                answers.append(measured(counts))
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in found]


def draw_counts(rng: np.random.Generator, resamples: int, rows: int) -> NDArray[Any]:
    """How often each row is drawn in each resample, shape (resamples, rows)."""
    # A row is drawn once on average: beyond 255 draws of one row of many are less likely than a broken processor.
    kind = np.uint8 if rows > 255 else np.uint16
    counts = np.empty((resamples, rows), dtype=kind)
    for place in range(resamples):
        drawn = rng.integers(0, rows, size=rows, dtype=np.uint32)
        counts[place] = np.bincount(drawn, minlength=rows)
    return counts


def percentile_interval(draws: Floats, confidence: float) -> tuple[float, float] | None:
    """The percentile interval (Efron, 1979) of the draws that are defined; None where those are too few."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < DEFINED_SHARE * len(draws) or len(defined) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
