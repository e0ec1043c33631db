"""Scores disturbed copies of a sample of the holdout, and says what the gate's metric loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.metrics import measure
from mergeline.evaluate.results import Importance
from mergeline.evaluate.scoring import Floats, Rows, Scored
from mergeline.params import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel


@dataclass(frozen=True)
class Probe:
    """A model, a sample of prepared input rows, their undisturbed scores, and the gate's metric on them.

    `value` is None where the sample leaves the metric undefined.
    """

    model: LoadedModel
    features: pd.DataFrame
    scored: Scored
    metric: str
    value: float | None

    def take(self, rows: Rows) -> Probe:
        """The same for some of the rows."""
        sample = self.scored.take(rows)
        features = self.features.iloc[rows].reset_index(drop=True)
        return Probe(self.model, features, sample, self.metric, measure(sample).get(self.metric))

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
        return measure(self.scored.with_scores(scores)).get(self.metric)


def make_probe(model: LoadedModel, frame: pd.DataFrame, scored: Scored, *, metric: str, rows: int, seed: int) -> Probe:
    """Draw a sample without replacement, all rows where there are no more; `scored` belongs to all of `frame`."""
    from mergeline.scorer.pipeline import to_features

    chosen = sample_rows(len(frame), rows, seed)
    sample = scored.take(chosen)
    features = to_features(frame.iloc[chosen], model.signature.columns).reset_index(drop=True)
    return Probe(model, features, sample, metric, measure(sample).get(metric))


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


def permutation_importance(probe: Probe, seed: int) -> tuple[Importance, ...]:
    """The loss of every feature, the largest first; empty where the sample leaves the metric undefined.

    Each feature is shuffled on its own (Breiman, 2001; Fisher, Rudin and Dominici, 2019), so that features which say
    the same thing share their importance and may each look unimportant. `deviation` is the standard
    deviation between shuffles. Repeats are stacked and scored in one call, which costs the pipeline's overhead once.

    Raises:
        ModelError: the model's scores of shuffled rows are not numbers or not probabilities.
    """
    columns = list(probe.features.columns)
    repeats = int(np.clip(SHUFFLES // len(columns), FEWEST_REPEATS, MOST_REPEATS))
    rows = min(len(probe.features), max(FEWEST_ROWS, SCORED_ROWS // (repeats * len(columns))))
    probe = probe.take(sample_rows(len(probe.features), rows, seed))
    if probe.value is None:
        return ()
    stacked = probe.features.iloc[np.tile(np.arange(rows), repeats)].reset_index(drop=True)
    found = [_importance(probe, stacked, name, repeats, [seed, place]) for place, name in enumerate(columns)]
    return tuple(sorted(found, key=lambda importance: (-importance.loss, importance.feature)))


def _importance(probe: Probe, stacked: pd.DataFrame, name: str, repeats: int, seed: list[int]) -> Importance:
    column = probe.features[name]
    if column.nunique(dropna=False) < 2:
        return Importance(feature=name, loss=0.0, deviation=0.0)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(column)) for _ in range(repeats)])
    shuffled = stacked.assign(**{name: column.array.take(order)})
    answers = np.split(probe.scores(shuffled), repeats)
    losses = [loss for answer in answers if (loss := probe.loss(answer)) is not None]
    return Importance(feature=name, loss=float(np.mean(losses)), deviation=float(np.std(losses, ddof=1)))
