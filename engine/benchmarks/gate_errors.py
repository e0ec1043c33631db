"""Measures how often the gate is wrong: equal challengers refused, challengers worse by the margin passed.

    python benchmarks/gate_errors.py [--pairs 600]

Each pair of models is simulated on as many rows as the default holdout has, judged with the repository's
`params.yaml` by the gate's own comparison, slices and decision. The score is binormal: normal with unit deviation in
each class, so that its AUC is known exactly. Of each class, the correlation of the two models' scores is 0.95 for one
half of the pairs and 0.98 for the other: models trained on three and on five months of flights come to about 0.95.
Rows belong to carriers and origins in the shares of June 2013, at random. Nothing is written.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mergeline.evaluate.checks import GateFinding
from mergeline.evaluate.compare import compare
from mergeline.evaluate.fairness import evaluate_fairness
from mergeline.evaluate.gate import decide
from mergeline.evaluate.results import Evaluation, Holdout, Metric
from mergeline.evaluate.scoring import Scored
from mergeline.params import Task, read_params

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
ROWS, LATE_RATE, AUC = 28_243, 0.34, 0.76
CORRELATIONS = (0.95, 0.98)
CARRIERS = {
    "UA": 4975, "B6": 4622, "EV": 4456, "DL": 4126, "AA": 2757, "MQ": 2178, "US": 1736, "9E": 1437, "WN": 1028,
    "VX": 480, "FL": 252, "AS": 60, "F9": 55, "YV": 49, "HA": 30, "OO": 2,
}  # fmt: skip
ORIGINS = {"EWR": 10175, "JFK": 9472, "LGA": 8596}
ALLOWED = 0.05


class Pair(NamedTuple):
    """One simulated comparison: how much AUC the challenger truly loses, and how alike the two models are."""

    seed: int
    loss: float
    correlation: float


class Answer(NamedTuple):
    """What the gate said, and which checks failed."""

    pair: Pair
    accepted: bool
    outcome: str
    failed: tuple[str, ...]


def simulate(pair: Pair) -> tuple[Scored, Scored, pd.DataFrame]:
    """A champion, a challenger that truly loses `pair.loss` in AUC, and the columns of the slices."""
    rng = np.random.default_rng([pair.seed, round(1e6 * pair.loss), round(100 * pair.correlation)])
    truth = (rng.random(ROWS) < LATE_RATE).astype(np.int64)
    shared, own = rng.normal(size=(2, ROWS))
    noises = (shared, pair.correlation * shared + (1 - pair.correlation**2) ** 0.5 * own)
    models = []
    for auc, noise in zip((AUC, AUC - pair.loss), noises, strict=True):
        distance = 2**0.5 * stats.norm.ppf(auc)
        odds = distance * (distance * truth + noise) - distance**2 / 2 + np.log(LATE_RATE / (1 - LATE_RATE))
        models.append(Scored(Task.BINARY, truth, 1 / (1 + np.exp(-odds)), ("False", "True"), 0.36))
    frame = pd.DataFrame(
        {
            name: rng.choice(list(shares), ROWS, p=np.array(list(shares.values())) / sum(shares.values()))
            for name, shares in (("carrier", CARRIERS), ("origin", ORIGINS))
        }
    )
    return models[0], models[1], frame


def run(pair: Pair) -> Answer:
    """Simulate one pair and let the gate judge it."""
    params = read_params(PARAMS)
    champion, challenger, frame = simulate(pair)
    comparison = compare(champion, challenger, frame, params, digest="sha256:" + "c" * 64, version=1)
    evaluation = Evaluation(
        name=params.name,
        task=params.task,
        digest="sha256:" + "a" * 64,
        holdout=Holdout(digest="sha256:" + "0" * 64, partitions=(), rows=ROWS, first=None, last=None),
        metrics=tuple(
            Metric(name=metric.name, estimate=metric.challenger, higher_is_better=metric.higher_is_better)
            for metric in comparison.metrics
        ),
        slices=(),
        fairness=evaluate_fairness(challenger, frame, params),
        importance=(),
        stress=(),
        curves=(),
        slice_edges={},
        confusion=None,
        model_bytes=0,
    )
    verdict = decide(evaluation, GateFinding(comparison.outcome, comparison, comparison.champion_version), 1.0, params)
    return Answer(pair, verdict.accepted, verdict.outcome.value, tuple(check.name for check in verdict.failures))


def rate(name: str, wrong: int, total: int) -> bool:
    """Print one error rate with its exact interval (Clopper and Pearson, 1934); whether it is small enough."""
    interval = stats.binomtest(wrong, total).proportion_ci(0.95)
    print(f"{name}: {wrong} of {total} = {wrong / total:.2%} (95 % interval {interval.low:.2%} to {interval.high:.2%})")
    return wrong / total <= ALLOWED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=600, help="simulated pairs behind each rate")
    count = parser.parse_args().pairs
    params = read_params(PARAMS)
    pairs = [
        Pair(seed, loss, CORRELATIONS[seed % len(CORRELATIONS)])
        for loss in (0.0, params.gate.margin)
        for seed in range(count)
    ]
    start = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        answers = list(pool.map(run, pairs, chunksize=10))
    print(f"{ROWS:,} rows, AUC {AUC}, margin {params.gate.margin}, {params.evaluation.resamples} resamples")
    print(f"{len(pairs)} comparisons in {time.perf_counter() - start:.0f} s, two processes")
    good = True
    for correlation in (*CORRELATIONS, None):
        told = f"correlation {correlation}" if correlation else "all"
        chosen = [answer for answer in answers if correlation in (None, answer.pair.correlation)]
        equal = [answer for answer in chosen if answer.pair.loss == 0]
        worse = [answer for answer in chosen if answer.pair.loss > 0]
        good &= rate(f"{told}: truly equal, refused", sum(not answer.accepted for answer in equal), len(equal))
        good &= rate(f"{told}: worse by the margin, passed", sum(answer.accepted for answer in worse), len(worse))
    alarms = sum("slices" in answer.failed for answer in answers)
    print(f"slices called worse in {alarms} of {len(answers)} comparisons")
    print(f"allowed error rate {ALLOWED:.0%}: {'met' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
