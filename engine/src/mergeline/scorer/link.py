"""What is made of a model's sums: probabilities, calibrated ones, or values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mergeline.scorer.program import Floats, operate


@dataclass(frozen=True)
class Calibrator:
    """A calibration of one score: Platt's sigmoid (`x` holds its two numbers), or steps from `x` to `y`."""

    kind: Literal["sigmoid", "isotonic"]
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a neural network behind the first: weighted sums, `weights` of shape (inputs, outputs), and shifts."""

    weights: Floats
    shifts: Floats


def _logistic(x: Floats) -> Floats:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, power) / (1 + power))


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "logistic": _logistic,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": lambda x: np.asarray(np.tanh(x)),
}
"""What a hidden layer makes of its sums."""


@dataclass(frozen=True)
class Finish:
    """From sums to scores: divide, undo the link, calibrate, undo the target's transformation.

    `link` is identity, exp, logit, half_logit, softmax or one_vs_rest. With calibrators the targets are
    those of `folds` models side by side, and the mean of their calibrated answers counts. With layers the sums are
    those of a neural network's first layer.
    """

    link: str
    divisor: float = 1.0
    inverse: str = ""
    calibrators: tuple[Calibrator, ...] = ()
    folds: int = 1
    layers: tuple[Layer, ...] = ()
    activation: str = ""

    def scores(self, sums: Floats) -> Floats:
        """Scores of shape (n, targets) from sums of that shape; with calibrators of shape (n, targets / folds)."""
        for layer in self.layers:
            sums = ACTIVATIONS[self.activation](sums) @ layer.weights + layer.shifts
        made = undo(self.link, sums / self.divisor if self.divisor != 1 else sums)
        if self.calibrators:
            made = self._calibrated(made)
        return operate(self.inverse, made) if self.inverse else made

    def width(self, sums: int) -> int:
        """How many targets it makes of so many sums."""
        return len(self.layers[-1].shifts) if self.layers else sums

    def score_one(self, total: float) -> float:
        """The same for one row of a model with one target and no calibrators; twenty times as fast."""
        if self.divisor != 1:
            total /= self.divisor
        if self.link == "logit":
            return logistic(total)
        if self.link == "half_logit":
            return logistic(2 * total)
        return total

    @property
    def is_plain(self) -> bool:
        """Whether `score_one` knows all of it."""
        return (
            not self.calibrators
            and not self.inverse
            and not self.layers
            and self.link in {"identity", "logit", "half_logit"}
        )

    def _calibrated(self, made: Floats) -> Floats:
        columns = [_calibrate(calibrator, made[:, place]) for place, calibrator in enumerate(self.calibrators)]
        width = len(columns) // self.folds
        mean = np.zeros((len(made), width))
        for first in range(0, len(columns), width):
            fold = np.column_stack(columns[first : first + width])
            if width > 1:
                total = fold.sum(axis=1, keepdims=True)
                uniform = np.full_like(fold, 1 / width)
                fold = np.divide(fold, total, out=uniform, where=total != 0)
            mean += np.where((fold > 1) & (fold <= 1 + 1e-5), 1.0, fold)  # scikit-learn's own tolerance
        return mean / self.folds


def undo(link: str, sums: Floats) -> Floats:
    """The inverse of a link, row by row."""
    if link == "identity":
        return sums
    if link == "exp":
        return np.exp(sums)
    if link in {"logit", "half_logit", "one_vs_rest"}:
        shares = _logistic(2 * sums if link == "half_logit" else sums)
        if link != "one_vs_rest":
            return shares
        total = shares.sum(axis=1, keepdims=True)
        return np.where(total == 0, 1 / shares.shape[1], shares / np.where(total == 0, 1, total))
    if link == "softmax":
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    raise ValueError(f"no link {link!r}")


def logistic(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    power = math.exp(x)
    return power / (1 + power)  # NaN comes here too, and stays NaN


def _calibrate(calibrator: Calibrator, x: Floats) -> Floats:
    if calibrator.kind == "sigmoid":
        a, b = calibrator.x
        return _logistic(-(a * x + b))
    # scikit-learn's isotonic regression refuses an infinite score.
    return np.where(np.isfinite(x), np.interp(x, calibrator.x, calibrator.y), np.nan)
