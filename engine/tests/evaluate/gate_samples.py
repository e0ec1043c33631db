"""Evaluations, comparisons and verdicts that are made by hand, for the tests of the gate."""

from judged_models import HOLDOUT, params

from mergeline.evaluate.checks import GateFinding
from mergeline.evaluate.gate import decide
from mergeline.evaluate.results import (
    Comparison,
    DeLong,
    Estimate,
    Evaluation,
    Fairness,
    GateOutcome,
    GroupRates,
    Metric,
    PairedMetric,
    SliceChange,
    StressResult,
)
from mergeline.params import METRICS, Task

DIGEST = "sha256:" + "a" * 64


NO_CHAMPION = GateFinding(GateOutcome.NO_CHAMPION)


def measured(task="binary", *, metrics=None, **parts):
    """An evaluation that passes every check, with parts replaced."""
    usual = {"roc_auc": 0.75, "log_loss": 0.5, "calibration_error": 0.02, "mae": 10.0, "r2": 0.5}
    values = {name: usual[name] for name in METRICS[Task(task)] if name in usual} if metrics is None else metrics
    groups = tuple(GroupRates(group=name, rows=100, rates={}) for name in "ab")
    whole = {
        "name": "orders",
        "task": task,
        "digest": DIGEST,
        "holdout": HOLDOUT,
        "metrics": tuple(
            Metric(name=name, estimate=Estimate(value=value), higher_is_better=METRICS[Task(task)][name])
            for name, value in values.items()
        ),
        "slices": (),
        "slice_edges": {},
        "fairness": (
            Fairness(
                column="channel",
                groups=groups,
                gaps={"demographic_parity_difference": 0.1, "equalized_odds_difference": 0.2},
            ),
        ),
        "importance": (),
        "stress": (StressResult(name="noisy inputs", description="", value=0.7, loss=0.05),),
        "curves": (),
        "confusion": None,
        "model_bytes": 1_000_000,
    }
    return Evaluation(**{**whole, **parts})


def change(value="north", *, worse=False):
    return SliceChange(
        column="region",
        value=value,
        rows=500,
        metric="log_loss",
        champion=0.5,
        challenger=0.7 if worse else 0.5,
        gain=Estimate(value=-0.2 if worse else 0.0, low=-0.3, high=-0.15),
        p_value=0.001 if worse else 0.9,
        q_value=0.002 if worse else 0.9,
        worse=worse,
    )


def compared(outcome=GateOutcome.EQUIVALENT, *, slices=None, agrees=True):
    gain = Estimate(value=0.001, low=-0.002, high=0.004)
    comparison = Comparison(
        champion_digest="sha256:" + "c" * 64,
        champion_version=3,
        outcome=outcome,
        metrics=(
            PairedMetric(
                name="roc_auc",
                higher_is_better=True,
                champion=Estimate(value=0.749),
                challenger=Estimate(value=0.75),
                gain=gain,
            ),
        ),
        slices=(change(),) if slices is None else slices,
        delong=DeLong(gain=gain, p_value=0.5, agrees=agrees),
    )
    return GateFinding(outcome, comparison, 3)


def decided(evaluation=None, finding=NO_CHAMPION, latency_ms=5.0, settings=None):
    return decide(evaluation or measured(), finding, latency_ms, settings or params("binary"))


def check(verdict, name):
    return next(found for found in verdict.checks if found.name == name)
