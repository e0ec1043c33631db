"""Builds scored rows of each task without a model."""

import numpy as np

from mergeline.evaluate.scoring import Scored
from mergeline.params import Task


def binary(count: int = 400, seed: int = 0, *, skill: float = 1.0, digits: int | None = None) -> Scored:
    """Calibrated binormal scores; rounded to `digits` they are tied."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < 0.4).astype(np.int64)
    score = 1 / (1 + np.exp(-(skill * (skill * truth + rng.normal(size=count)) - skill**2 / 2 - 0.4)))
    return Scored(Task.BINARY, truth, score if digits is None else score.round(digits), ("no", "yes"), 0.45)


def multiclass(count: int = 400, classes: int = 3, seed: int = 0) -> Scored:
    """Softmax scores that lean to the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Scored(Task.MULTICLASS, truth, scores, tuple("abcdefgh"[:classes]))


def regression(count: int = 400, seed: int = 0) -> Scored:
    """Predictions with an error of about one."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 3, count)
    return Scored(Task.REGRESSION, truth, truth + rng.normal(size=count))


EXAMPLES = {"binary": binary, "multiclass": multiclass, "regression": regression}
