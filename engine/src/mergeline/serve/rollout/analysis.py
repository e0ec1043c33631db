"""Judges one reading of one analysis by the manifest's conditions and limits, with Argo Rollouts' meanings."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from mergeline.manifest.schema import Analysis, Rollout
from mergeline.serve.rollout.measure import Reading
from mergeline.serve.rollout.state import Measurement, Outcome, Progress

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Verdict(NamedTuple):
    """An analysis over its limit: whether the rollout fails by it, and whether data that come would fix it."""

    analysis: str
    outcome: Outcome
    fails: bool
    heals: bool
    reason: str


def judge(analysis: Analysis, value: float) -> Outcome:
    """What the conditions of `analysis` make of a value."""
    if _holds(analysis.failure, value):
        return Outcome.FAILED
    return Outcome.SUCCESSFUL if _holds(analysis.success, value) else Outcome.INCONCLUSIVE


def measurement(analysis: Analysis, step: int, reading: Reading, *, starved: bool, now: datetime) -> Measurement:
    """One reading as a measurement; `starved` says that it rests on fewer samples than `minSamples`."""
    value = reading.value if reading.value is not None and math.isfinite(reading.value) else None
    if reading.error or (value is None and not starved):
        outcome, reason = Outcome.ERROR, reading.error or f"{analysis.metric} has no value"
    elif starved or value is None:
        outcome = Outcome.INCONCLUSIVE
        reason = f"{reading.samples} of {analysis.minSamples} samples when the hold was over"
    else:
        outcome = judge(analysis, value)
        conditions = {
            Outcome.SUCCESSFUL: f"is {analysis.success}",
            Outcome.FAILED: f"is {analysis.failure}",
            Outcome.INCONCLUSIVE: f"is neither {analysis.success} nor {analysis.failure}",
        }
        reason = f"{analysis.metric} {value:.4g} {conditions[outcome]}"
    return Measurement(at=now, step=step, value=value, samples=reading.samples, outcome=outcome, reason=reason)


def verdict(
    rollout: Rollout, analysis: Analysis, progress: Progress, taken: Measurement, *, heals: bool
) -> Verdict | None:
    """The limit that this measurement broke, if it did."""
    rules = {
        Outcome.FAILED: (progress.failed, "failureLimit", rollout.onFailure),
        Outcome.INCONCLUSIVE: (progress.inconclusive, "inconclusiveLimit", rollout.onInconclusive),
        Outcome.ERROR: (progress.errors, "consecutiveErrorLimit", rollout.onError),
    }
    outcome = taken.outcome
    count, limit, action = rules.get(outcome, (0, "failureLimit", "pause"))
    most: int = getattr(analysis, limit)
    if count <= most:
        return None
    reason = f"analysis {analysis.name}: {taken.reason}; {count} {outcome}, {limit} is {most}"
    return Verdict(analysis.name, outcome, action == "rollback", heals, reason)


def _holds(bound: str, value: float) -> bool:
    sign, number = bound.split()
    return _OPERATORS[sign](value, float(number))
