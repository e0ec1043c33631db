"""Compares champion and challenger on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mergeline.errors import ModelError
from mergeline.evaluate.metrics import interval, measure, resample
from mergeline.evaluate.results import Comparison, DeLong, Estimate, GateOutcome, PairedMetric, Power, named, rounded
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.evaluate.slices import compare_slices
from mergeline.params import METRICS, Params, Task
from mergeline.stats.paired import DEFINED_SHARE, delong, detection

if TYPE_CHECKING:
    import pandas as pd

UNITLESS = {"r2"}
"""Metrics of a regression whose margin is a plain difference; of the others it is a share of the champion's value."""


def compare(
    champion: Scored, challenger: Scored, frame: pd.DataFrame, params: Params, *, digest: str, version: int
) -> Comparison:
    """Champion and challenger on the same rows: paired bootstrap of every metric, slices, and DeLong's cross-check.

    Each resample draws the same rows for both models, so what the rows have in common cancels out of the gain.

    Args:
        champion: as `align` gives it.
        challenger: of the same rows.
        frame: these rows, with the columns of the slices.
        params: metric, margins, confidence, slices.
        digest: the champion's.
        version: the champion's, for people.

    Raises:
        DataError: a slice column does not exist.
    """
    metrics, error = _paired_metrics(champion, challenger, params)
    outcome = _outcome(metrics, params)
    return rounded(
        Comparison(
            champion_digest=digest,
            champion_version=version,
            outcome=outcome,
            metrics=metrics,
            slices=compare_slices(champion, challenger, frame, params),
            delong=_cross_check(champion, challenger, outcome, params),
            power=_power(metrics, error, len(frame), params),
        )
    )


def align(champion: Scored, challenger: Scored) -> Scored:
    """The champion's scores with its classes in the challenger's order.

    Raises:
        ModelError: the two models answer different questions.
    """
    hint = "propose the challenger under a new name, or give both models the same target and classes"
    if champion.task is not challenger.task:
        raise ModelError(f"a {champion.task} model, not a {challenger.task} one", where="champion", hint=hint)
    if champion.classes == challenger.classes:
        return champion
    if champion.task is not Task.MULTICLASS or sorted(champion.classes) != sorted(challenger.classes):
        raise ModelError(
            f"it answers the classes {', '.join(champion.classes)}; the challenger {', '.join(challenger.classes)}",
            where="champion",
            hint=hint,
        )
    order = [champion.classes.index(label) for label in challenger.classes]
    return replace(champion, truth=challenger.truth, scores=champion.scores[:, order], classes=challenger.classes)


def conclude(gain: Estimate, margin: float) -> GateOutcome:
    """What an interval of the gain shows; positive is better for the challenger.

    Above zero: better. Above minus the margin: equivalent (non-inferior; Blackwelder, 1982). Below zero: worse.
    Anything else, a missing interval included, is inconclusive.
    """
    if gain.low is None or gain.high is None:
        return GateOutcome.INCONCLUSIVE
    if gain.low > 0:
        return GateOutcome.BETTER
    if gain.low > -margin or gain.low == gain.high == 0:
        return GateOutcome.EQUIVALENT
    return GateOutcome.WORSE if gain.high < 0 else GateOutcome.INCONCLUSIVE


def margin_of(params: Params, champion: float) -> float:
    """The gate's margin in the unit of its metric.

    `gate.margin` is a difference of the metric; where that has the target's unit, a share of the champion's value.
    """
    return params.gate.margin * champion if has_unit(params) else params.gate.margin


def has_unit(params: Params) -> bool:
    """Whether the gate's metric is an error of a regression, in the target's unit: its bounds are shares."""
    return params.task is Task.REGRESSION and params.gate.metric not in UNITLESS


def margin_in(metric: str, champion: float, params: Params, *, gate_metric: float | None) -> float:
    """The gate's margin in the unit of any metric.

    `gate.margin` is in the gate's metric alone. What it takes of the champion's loss there, it takes of the champion's
    loss in another metric: with a log loss of 0.50 a margin of 0.005 nats is 1 %, and with 20 % wrong answers 0.002 of
    the accuracy. The loss of a metric whose best value is 1 is what it lacks of 1.

    Args:
        metric: its name.
        champion: the champion's value of it.
        params: the gate's metric and margin.
        gate_metric: the champion's value of the gate's metric; None where it is unknown.

    Returns:
        0 where the share of the gate's metric is unknown or undefined: then no loss is known to be bearable.
    """
    if metric == params.gate.metric:
        return margin_of(params, champion)
    if gate_metric is None:
        return 0.0
    whole = loss_of(params.gate.metric, gate_metric, params.task)
    return margin_of(params, gate_metric) / whole * loss_of(metric, champion, params.task) if whole > 0 else 0.0


def loss_of(metric: str, value: float, task: Task) -> float:
    """What a metric's value lacks of its best one, where that is 0 or 1."""
    return max(0.0, 1 - value if METRICS[task][metric] else value)


def _paired_metrics(
    champion: Scored, challenger: Scored, params: Params
) -> tuple[tuple[PairedMetric, ...], float | None]:
    """Every metric of both, and the standard error of the gain in the gate's metric where it has one."""
    old, new = measure(champion), measure(challenger)
    old_draws, new_draws = resample([champion, challenger], params.evaluation.resamples, params.model.seed)
    confidence = params.gate.confidence

    def paired(name: str, higher_is_better: bool) -> PairedMetric:
        sign = 1 if higher_is_better else -1
        gains: Floats = sign * (new_draws[name] - old_draws[name])
        return PairedMetric(
            name=name,
            higher_is_better=higher_is_better,
            champion=interval(old[name], old_draws[name], confidence),
            challenger=interval(new[name], new_draws[name], confidence),
            gain=interval(sign * (new[name] - old[name]), gains, confidence),
        )

    found = tuple(paired(name, better) for name, better in METRICS[params.task].items() if name in old and name in new)
    draws = new_draws[params.gate.metric] - old_draws[params.gate.metric]
    draws = draws[np.isfinite(draws)]
    return found, float(draws.std(ddof=1)) if len(draws) >= DEFINED_SHARE * params.evaluation.resamples else None


POWER = 0.8
"""The probability with which a difference as large as the margin is to show."""


def _power(metrics: Sequence[PairedMetric], error: float | None, rows: int, params: Params) -> Power | None:
    """What these rows can show of a difference as large as the margin; None where the bootstrap gives no error."""
    judged = named(metrics, params.gate.metric)
    margin = 0.0 if judged is None else margin_of(params, judged.champion.value)
    if not error or margin <= 0:
        return None
    found = detection(error, rows, margin, confidence=params.gate.confidence, target=POWER)
    return Power(difference=margin, rows=rows, power=found.power, target=POWER, rows_needed=found.rows_needed)


def _outcome(metrics: Sequence[PairedMetric], params: Params) -> GateOutcome:
    judged = named(metrics, params.gate.metric)
    if judged is None:
        return GateOutcome.INCONCLUSIVE
    return conclude(judged.gain, margin_of(params, judged.champion.value))


def _cross_check(champion: Scored, challenger: Scored, outcome: GateOutcome, params: Params) -> DeLong | None:
    if params.task is not Task.BINARY or params.gate.metric != "roc_auc":
        return None
    found = delong(challenger.truth, champion.scores, challenger.scores, params.gate.confidence)
    if found is None or not np.isfinite(found.error):
        return None
    gain = Estimate(value=found.gain, low=found.low, high=found.high)
    return DeLong(gain=gain, p_value=found.p_value, agrees=conclude(gain, params.gate.margin) is outcome)
