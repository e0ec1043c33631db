"""Stress tests: what the gate's metric loses when the inputs are disturbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.evaluate.importance import Probe, make_probe
from mergeline.evaluate.results import StressResult
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.params import Params
from mergeline.scorer.signature import Column, Kind

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.model.artifact import LoadedModel

MISSING_SHARE, UNSEEN_SHARE, OUTLIER_SHARE, FLIP_SHARE = 0.2, 0.2, 0.05, 0.05
SHIFT_DEVIATIONS, NOISE_DEVIATIONS = 0.5, 0.1
UNSEEN = "a value never seen"

NUMERIC = (Kind.NUMBER, Kind.INTEGER)

Disturb = Callable[["pd.Series[Any]", Column, np.random.Generator], Any]
"""Makes other values of a column's."""


class Test(NamedTuple):
    """A disturbance, and the columns that it can befall."""

    name: str
    description: str
    touches: Callable[[Column], bool]
    disturb: Disturb


def stress_holdout(model: LoadedModel, frame: pd.DataFrame, scored: Scored, params: Params) -> tuple[StressResult, ...]:
    """Every disturbance of a sample of the holdout, the same for every model that reads the same columns."""
    settings, seed = params.evaluation, params.model.seed
    probe = make_probe(model, frame, scored, metric=params.gate.metric, rows=settings.stress_rows, seed=seed)
    return stress_tests(probe, seed, settings.stress_columns)


def stress_tests(probe: Probe, seed: int, most_columns: int | None = None) -> tuple[StressResult, ...]:
    """Every disturbance that can befall the model's columns.

    Values stay what the column's kind and the schema's bounds allow, since the server refuses all others: whole numbers
    stay whole, columns that may not be empty stay filled, closed lists of categories stay closed. With `most_columns`
    so many columns of a row are disturbed at most, drawn for each row: of 64 columns that each break in one row of
    twenty, hardly a row would be left whole, and production does not break like that.
    A model that raises, or answers what is no score, is a result with an `error`.
    """
    columns = probe.model.signature.columns
    results = []
    for place, test in enumerate(TESTS):
        touched = [column for column in columns if test.touches(column)]
        if touched:
            results.append(_run(probe, test, touched, np.random.default_rng([seed, place]), most_columns))
    return tuple(results)


def _run(
    probe: Probe, test: Test, columns: Sequence[Column], rng: np.random.Generator, most: int | None
) -> StressResult:
    features = probe.features
    disturbed = features.assign(**{each.name: test.disturb(features[each.name], each, rng) for each in columns})
    if most is not None and most < len(columns):
        kept = rng.random((len(disturbed), len(columns))).argsort(axis=1) < most
        for place, column in enumerate(columns):
            disturbed[column.name] = disturbed[column.name].where(kept[:, place], features[column.name])
    value, loss, error = None, None, None
    try:
        scores = probe.scores(disturbed)
        value, loss = probe.metric_of(scores), probe.loss(scores)
    except Exception as cause:  # noqa: BLE001 - whatever the team's pipeline raises is what this test measures
        error = f"{type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:300]}"
    return StressResult(name=test.name, description=test.description, value=value, loss=loss, error=error)


def _blank(column: pd.Series[Any], _kind: Column, rng: np.random.Generator) -> pd.Series[Any]:
    return column.mask(rng.random(len(column)) < MISSING_SHARE)


def _push_out(column: pd.Series[Any], kind: Column, rng: np.random.Generator) -> Floats:
    values = column.to_numpy()
    low, high = _span(values)
    reach = (high - low) or 1.0
    outside = _allowed(np.where(rng.random(len(values)) < 0.5, low - reach, high + reach), values, kind)
    return np.where(rng.random(len(values)) < OUTLIER_SHARE, outside, values)


def _shift(column: pd.Series[Any], kind: Column, _rng: np.random.Generator) -> Floats:
    values = column.to_numpy()
    return _allowed(values + SHIFT_DEVIATIONS * _deviation(values), values, kind)


def _jitter(column: pd.Series[Any], kind: Column, rng: np.random.Generator) -> Floats:
    values = column.to_numpy()
    if kind.kind is Kind.BOOLEAN:
        return np.where(rng.random(len(values)) < FLIP_SHARE, 1 - values, values)
    return _allowed(values + rng.normal(scale=NOISE_DEVIATIONS * _deviation(values), size=len(values)), values, kind)


def _rename(column: pd.Series[Any], _kind: Column, rng: np.random.Generator) -> pd.Series[Any]:
    return column.mask(rng.random(len(column)) < UNSEEN_SHARE, UNSEEN)


def _allowed(changed: Floats, values: Floats, column: Column) -> Floats:
    """Whole where the kind is whole, and inside the schema's bounds where the value was inside."""
    if column.kind is Kind.INTEGER:
        changed = np.round(changed)
    least = -np.inf if column.minimum is None else column.minimum
    most = np.inf if column.maximum is None else column.maximum
    return np.clip(changed, np.where(values < least, -np.inf, least), np.where(values > most, np.inf, most))


def _span(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def _deviation(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.std()) if len(known) else 0.0


TESTS = (
    Test(
        "missing values",
        f"{MISSING_SHARE:.0%} of the values of every column that may be empty are taken away",
        lambda column: column.nullable,
        _blank,
    ),
    Test(
        "out-of-range values",
        f"{OUTLIER_SHARE:.0%} of the numbers of every column lie a whole range outside what the holdout holds, "
        "inside the schema's bounds",
        lambda column: column.kind in NUMERIC,
        _push_out,
    ),
    Test(
        "shifted inputs",
        f"every number is {SHIFT_DEVIATIONS} standard deviations higher",
        lambda column: column.kind in NUMERIC,
        _shift,
    ),
    Test(
        "noisy inputs",
        f"every number carries noise of {NOISE_DEVIATIONS} standard deviations; {FLIP_SHARE:.0%} of the booleans flip",
        lambda column: column.kind is not Kind.CATEGORY,
        _jitter,
    ),
    Test(
        "unseen categories",
        f"{UNSEEN_SHARE:.0%} of the values of every open category are a value never seen",
        lambda column: column.kind is Kind.CATEGORY and not column.closed,
        _rename,
    ),
)
