"""Measures the gate's comparison against a plain loop over scikit-learn's metrics, in turn.

    python benchmarks/gate_speed.py [--rounds 3]

Both compare two models on 30,000 rows by the eight binary metrics and their differences. The peer draws the same rows
for both models and calls scikit-learn's functions on them; it has no calibration error, so none is asked of it (which
favours it). It runs few resamples, and its time is scaled to 1,000: a loop costs the same for each. scipy's
`stats.bootstrap` is timed the same way, on the difference in AUC alone. Imports are not counted. Nothing is written.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from mergeline.evaluate.compare import compare
from mergeline.evaluate.metrics import resample
from mergeline.evaluate.scoring import Scored
from mergeline.params import Task, read_params

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
ROWS, RESAMPLES, PEER_RESAMPLES = 30_000, 1_000, 10
TARGET_SECONDS = 2.0


def models() -> tuple[Scored, Scored]:
    """Two calibrated binormal models whose scores correlate by 0.95."""
    rng = np.random.default_rng(0)
    truth = (rng.random(ROWS) < 0.34).astype(np.int64)
    shared, own = rng.normal(size=(2, ROWS))

    def model(noise: np.ndarray) -> Scored:
        return Scored(Task.BINARY, truth, 1 / (1 + np.exp(-(truth + noise - 1.2))), ("no", "yes"), 0.4)

    return model(shared), model(0.95 * shared + (1 - 0.95**2) ** 0.5 * own)


def by_sklearn(champion: Scored, challenger: Scored) -> None:
    """A loop that draws rows and calls seven metrics for each model."""
    rng = np.random.default_rng(1)
    for _ in range(PEER_RESAMPLES):
        rows = rng.integers(0, ROWS, ROWS)
        for scored in (champion, challenger):
            truth, scores = scored.truth[rows], scored.scores[rows]
            label = scores >= scored.threshold
            metrics.roc_auc_score(truth, scores)
            metrics.average_precision_score(truth, scores)
            metrics.log_loss(truth, scores)
            metrics.brier_score_loss(truth, scores)
            metrics.accuracy_score(truth, label)
            metrics.balanced_accuracy_score(truth, label)
            metrics.f1_score(truth, label)


def by_scipy(champion: Scored, challenger: Scored) -> None:
    """Scipy's paired bootstrap of the difference in AUC alone."""

    def gain(truth: np.ndarray, old: np.ndarray, new: np.ndarray) -> float:
        return metrics.roc_auc_score(truth, new) - metrics.roc_auc_score(truth, old)

    stats.bootstrap(
        (champion.truth, champion.scores, challenger.scores),
        gain,
        paired=True,
        vectorized=False,
        n_resamples=PEER_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(1),
    )


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turn; medians are shown")
    rounds = parser.parse_args().rounds
    params = read_params(PARAMS)
    params = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"resamples": RESAMPLES})})
    champion, challenger = models()
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({name: rng.choice(list("abcdefgh"), ROWS) for name in params.evaluation.slices})
    scale = RESAMPLES / PEER_RESAMPLES
    taken: dict[str, list[float]] = {"resample": [], "compare": [], "sklearn": [], "scipy": []}
    for _ in range(rounds + 1):
        taken["resample"].append(seconds(lambda: resample([champion, challenger], RESAMPLES, 1)))
        taken["compare"].append(
            seconds(lambda: compare(champion, challenger, frame, params, digest="sha256:" + "c" * 64, version=1))
        )
        taken["sklearn"].append(scale * seconds(lambda: by_sklearn(champion, challenger)))
        taken["scipy"].append(scale * seconds(lambda: by_scipy(champion, challenger)))
    median = {name: statistics.median(times[1:]) for name, times in taken.items()}  # the first round warms up
    print(f"{ROWS:,} rows, {RESAMPLES:,} resamples, two models, medians of {rounds} rounds")
    print(f"paired resamples of eight metrics:       {median['resample']:7.2f} s")
    print(f"the whole comparison (slices, DeLong):   {median['compare']:7.2f} s")
    for name, told in (
        ("sklearn", "loop over scikit-learn, seven metrics"),
        ("scipy", "scipy.stats.bootstrap, AUC alone"),
    ):
        ratio = median[name] / median["compare"]
        print(f"{told + ':':40} {median[name]:7.1f} s, scaled from {PEER_RESAMPLES} resamples: {ratio:.0f} times ours")
    met = median["compare"] <= TARGET_SECONDS
    print(f"target of {TARGET_SECONDS:g} s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
