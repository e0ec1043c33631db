"""Scores disturbed copies of a sample of the holdout, and says what the gate's metric loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.evaluate.metrics import measure, prepare
from mergeline.evaluate.results import Importance
from mergeline.evaluate.scoring import Floats, Rows, Scored
from mergeline.params import METRICS
from mergeline.stats.paired import DEFINED_SHARE, draw_counts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.model.artifact import LoadedModel


@dataclass(frozen=True)
class Probe:
    """A model, a sample of prepared input rows, their undisturbed scores, and the gate's metric on them.

    `value` is None where the sample leaves the metric undefined. `weights` is how many rows each one stands for, shape
    (n,), where a rare class has more than its share of the sample.
    """

    model: LoadedModel
    features: pd.DataFrame
    scored: Scored
    metric: str
    value: float | None
    weights: Floats | None = None

    def scores(self, features: pd.DataFrame) -> Floats:
        """The model's unchecked scores of prepared rows."""
        from mergeline.scorer.pipeline import scores

        return scores(self.model.pipeline, features, self.model.signature)

    def loss(self, scores: Floats) -> float | None:
        """How much worse the metric is with these scores; positive is worse, None is undefined.

        Raises:
            ModelError: the scores are not what a model of this task may answer.
        """
        value = self.metric_of(scores)
        if value is None or self.value is None:
            return None
        better = METRICS[self.scored.task][self.metric]
        return self.value - value if better else value - self.value

    def metric_of(self, scores: Floats) -> float | None:
        """The metric with these scores instead."""
        return measure(self.scored.with_scores(scores), self.weights).get(self.metric)


def make_probe(model: LoadedModel, frame: pd.DataFrame, scored: Scored, *, metric: str, rows: int, seed: int) -> Probe:
    """Draw a sample without replacement, all rows where there are no more; `scored` belongs to all of `frame`."""
    from mergeline.scorer.pipeline import to_features

    chosen, weights = sample_by_class(scored, rows, seed)
    sample = scored.take(chosen)
    features = to_features(frame.iloc[chosen], model.signature.columns).reset_index(drop=True)
    return Probe(model, features, sample, metric, measure(sample, weights).get(metric), weights)


RARE_ROWS = 200
"""A class of which a sample would hold fewer rows than this gets so many, or all that it has."""


def sample_by_class(scored: Scored, rows: int, seed: int) -> tuple[Rows, Floats | None]:
    """About `rows` row numbers, rising, and how many rows each stands for; None where each stands for as many.

    With 22 positive rows of 4,000 nothing can be said of a column, so rare classes are drawn more often, and weighted.
    """
    total = len(scored.truth)
    if not scored.task.classifies or rows >= total:
        return sample_rows(total, rows, seed), None
    _, codes, counts = np.unique(scored.truth, return_inverse=True, return_counts=True)
    expected = rows * counts / total
    fewest = np.minimum(counts, min(RARE_ROWS, rows // len(counts)))
    if (expected >= fewest).all():
        return sample_rows(total, rows, seed), None
    wanted = np.maximum(expected.astype(np.intp), np.maximum(fewest, 1))
    wanted[counts.argmax()] -= min(max(0, wanted.sum() - rows), wanted.max() - fewest[counts.argmax()])
    chosen = np.sort(
        np.concatenate(
            [
                np.flatnonzero(codes == code)[sample_rows(int(counts[code]), int(wanted[code]), seed)]
                for code in range(len(counts))
            ]
        )
    )
    return chosen, (counts / wanted)[codes[chosen]]


def importance_rows(columns: int, most: int) -> int:
    """How many rows a table with so many columns is judged on, at most `most`."""
    return min(most, max(FEWEST_ROWS, SCORED_ROWS // (_repeats(columns) * max(1, columns))))


def sample_rows(total: int, rows: int, seed: int) -> Rows:
    """At most `rows` of `total` row numbers, rising; the same for the same seed."""
    if rows >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng([seed, total]).choice(total, size=rows, replace=False))


MOST_REPEATS, FEWEST_REPEATS = 5, 2
SHUFFLES = 100
"""Shuffles in all that repeats are planned for: a table with many columns gets fewer of each."""

SCORED_ROWS, FEWEST_ROWS = 500_000, 500
"""Shuffled rows in all that are scored: past that, a table with many columns is judged on fewer of its rows."""

RESAMPLES = 50
"""Bootstrap resamples of the rows behind each interval: its ends are off by a tenth of its width."""


def _repeats(columns: int) -> int:
    return int(np.clip(SHUFFLES // max(1, columns), FEWEST_REPEATS, MOST_REPEATS))


def permutation_importance(probe: Probe, seed: int, confidence: float) -> tuple[Importance, ...]:
    """The loss of every feature, the largest first; empty where the sample leaves the metric undefined.

    Each feature is shuffled on its own (Breiman, 2001; Fisher, Rudin and Dominici, 2019), so that features which say
    the same thing share their importance and may each look unimportant. `deviation` is the standard
    deviation between shuffles. Repeats are stacked and scored in one call, which costs the pipeline's overhead once.
    The interval is the normal one, of the deviation over bootstrap resamples of the rows and that between shuffles.

    Raises:
        ModelError: the model's scores of shuffled rows are not numbers or not probabilities.
    """
    from scipy.special import ndtri

    columns = list(probe.features.columns)
    if probe.value is None or not columns:
        return ()
    repeats, rows = _repeats(len(columns)), len(probe.features)
    stacked = probe.features.iloc[np.tile(np.arange(rows), repeats)].reset_index(drop=True)
    weights = draw_counts(np.random.default_rng([seed, rows]), RESAMPLES, rows)
    if probe.weights is not None:
        weights = weights * probe.weights
    base = prepare(probe.scored)(weights)[probe.metric]
    reach = float(ndtri((1 + confidence) / 2))
    found = [
        _importance(probe, stacked, name, [seed, place], _Resamples(repeats, weights, base, reach))
        for place, name in enumerate(columns)
    ]
    return tuple(sorted(found, key=lambda importance: (-importance.loss, importance.feature)))


class _Resamples(NamedTuple):
    """Shuffles of each feature, row weights of the resamples, shape (b, n), the metric on them, the interval's z."""

    repeats: int
    weights: NDArray[Any]
    base: Floats
    reach: float


def _importance(probe: Probe, stacked: pd.DataFrame, name: str, seed: list[int], resamples: _Resamples) -> Importance:
    column, repeats = probe.features[name], resamples.repeats
    if column.nunique(dropna=False) < 2:
        return Importance(feature=name, loss=0.0, deviation=0.0, low=0.0, high=0.0)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(column)) for _ in range(repeats)])
    shuffled = stacked.assign(**{name: column.array.take(order)})
    answers = np.split(probe.scores(shuffled), repeats)
    losses = [loss for answer in answers if (loss := probe.loss(answer)) is not None]
    loss, deviation = float(np.mean(losses)), float(np.std(losses, ddof=1))
    shuffled_draws = [prepare(probe.scored.with_scores(answer))(resamples.weights)[probe.metric] for answer in answers]
    draws = np.mean(shuffled_draws, axis=0) - resamples.base
    draws = draws[np.isfinite(draws)]
    if len(draws) < DEFINED_SHARE * RESAMPLES:
        return Importance(feature=name, loss=loss, deviation=deviation)
    reach = resamples.reach * float(np.sqrt(draws.var(ddof=1) + deviation**2 / repeats))
    return Importance(feature=name, loss=loss, deviation=deviation, low=loss - reach, high=loss + reach)
