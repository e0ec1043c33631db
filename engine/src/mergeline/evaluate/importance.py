"""Permutation importance: what the gate's metric loses when one feature is shuffled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.probe import Probe, sample_rows
from mergeline.evaluate.results import Importance

if TYPE_CHECKING:
    import pandas as pd

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
