"""The reference profile: what the training data looked like, without a row of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergeline.documents import Frozen
from mergeline.model.signature import Kind, Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

QUANTILES = 254
MAX_CATEGORIES = 200
MIN_COUNT = 20
"""A category seen fewer times than this is counted in the tail and not named."""


class NumberProfile(Frozen):
    """`quantiles` are the inner edges of bins of equal mass, ascending and distinct; `counts` has one more."""

    name: str
    missing: int
    minimum: float | None
    maximum: float | None
    quantiles: tuple[float, ...]
    counts: tuple[int, ...]


class CategoryProfile(Frozen):
    """Counts of the named categories, and of all the others together."""

    name: str
    missing: int
    counts: dict[str, int]
    tail: int


class Profile(Frozen):
    """Every input of the model and its score on the training rows."""

    rows: int
    numbers: tuple[NumberProfile, ...]
    categories: tuple[CategoryProfile, ...]
    scores: tuple[NumberProfile, ...]


def make_profile(features: pd.DataFrame, scores: NDArray[np.float64], signature: Signature) -> Profile:
    """Count the training rows.

    Args:
        features: the model's input, as `to_features` makes it.
        scores: the model's scores of these rows, shapes as in `LoadedModel.predict`.
        signature: names the columns and classes.
    """
    kinds = {column.name: column.kind for column in signature.columns}
    columns = scores.reshape(len(features), -1)
    named = [str(label) for label in signature.output.classes] if columns.shape[1] > 1 else ["score"]
    return Profile(
        rows=len(features),
        numbers=tuple(_numbers(n, features[n].to_numpy()) for n, kind in kinds.items() if kind is not Kind.CATEGORY),
        categories=tuple(_categories(n, features[n]) for n, kind in kinds.items() if kind is Kind.CATEGORY),
        scores=tuple(_numbers(name, columns[:, index]) for index, name in enumerate(named)),
    )


def _numbers(name: str, values: NDArray[np.float64]) -> NumberProfile:
    import numpy as np

    known = values[np.isfinite(values)]
    missing = int(values.size - known.size)
    if not known.size:
        return NumberProfile(name=name, missing=missing, minimum=None, maximum=None, quantiles=(), counts=(0,))
    edges = np.quantile(known, np.linspace(0, 1, QUANTILES + 1)[1:-1], method="inverted_cdf")
    # Six digits keep the file small and equal on every machine; counts are taken with the edges as written.
    edges = np.unique([float(f"{edge:.6g}") for edge in edges])
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return NumberProfile(
        name=name,
        missing=missing,
        minimum=float(f"{known.min():.6g}"),
        maximum=float(f"{known.max():.6g}"),
        quantiles=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def _categories(name: str, values: pd.Series) -> CategoryProfile:
    counts = {str(value): int(count) for value, count in values.value_counts().items()}
    named = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES])
    named = {value: count for value, count in named.items() if count >= MIN_COUNT}
    return CategoryProfile(
        name=name,
        missing=int(values.isna().sum()),
        counts=dict(sorted(named.items())),
        tail=sum(counts.values()) - sum(named.values()),
    )
