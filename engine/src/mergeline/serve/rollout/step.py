"""Advances a rollout by time and by analysis; the words mean what they mean in Argo Rollouts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from mergeline.release_params import Analysis, Rollout
from mergeline.serve.rollout.measure import Reading
from mergeline.serve.rollout.state import (
    MOST_DECISIONS,
    MOST_MEASUREMENTS,
    AnalysisProgress,
    Decision,
    DecisionKind,
    Measurement,
    MeasurementOutcome,
    Phase,
    RolloutState,
    identity_of,
    weight,
)
from mergeline.timing import duration

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class AnalysisVerdict(NamedTuple):
    """An analysis over its limit: whether the rollout fails by it, and whether data that come would fix it."""

    analysis: str
    outcome: MeasurementOutcome
    fails: bool
    heals: bool
    reason: str


def judge(analysis: Analysis, value: float) -> MeasurementOutcome:
    """What the conditions of `analysis` make of a value."""
    if _holds(analysis.failure, value):
        return MeasurementOutcome.FAILED
    return MeasurementOutcome.SUCCESSFUL if _holds(analysis.success, value) else MeasurementOutcome.INCONCLUSIVE


def measurement(analysis: Analysis, step: int, reading: Reading, *, starved: bool, now: datetime) -> Measurement:
    """One reading as a measurement; `starved` says that it rests on fewer samples than `minSamples`."""
    value = reading.value if reading.value is not None and math.isfinite(reading.value) else None
    if reading.error or (value is None and not starved):
        outcome, reason = MeasurementOutcome.ERROR, reading.error or f"{analysis.metric} has no value"
    elif starved or value is None:
        outcome = MeasurementOutcome.INCONCLUSIVE
        reason = f"{reading.samples} of {analysis.minSamples} samples when the hold was over"
    else:
        outcome = judge(analysis, value)
        conditions = {
            MeasurementOutcome.SUCCESSFUL: f"is {analysis.success}",
            MeasurementOutcome.FAILED: f"is {analysis.failure}",
            MeasurementOutcome.INCONCLUSIVE: f"is neither {analysis.success} nor {analysis.failure}",
        }
        reason = f"{analysis.metric} {value:.4g} {conditions[outcome]}"
    return Measurement(at=now, step=step, value=value, samples=reading.samples, outcome=outcome, reason=reason)


def verdict(
    rollout: Rollout, analysis: Analysis, progress: AnalysisProgress, taken: Measurement, *, heals: bool
) -> AnalysisVerdict | None:
    """The limit that this measurement broke, if it did."""
    rules = {
        MeasurementOutcome.FAILED: (progress.failed, "failureLimit", rollout.onFailure),
        MeasurementOutcome.INCONCLUSIVE: (progress.inconclusive, "inconclusiveLimit", rollout.onInconclusive),
        MeasurementOutcome.ERROR: (progress.errors, "consecutiveErrorLimit", rollout.onError),
    }
    outcome = taken.outcome
    count, limit, action = rules.get(outcome, (0, "failureLimit", "pause"))
    most: int = getattr(analysis, limit)
    if count <= most:
        return None
    reason = f"analysis {analysis.name}: {taken.reason}; {count} {outcome}, {limit} is {most}"
    return AnalysisVerdict(analysis.name, outcome, action == "rollback", heals, reason)


def _holds(bound: str, value: float) -> bool:
    sign, number = bound.split()
    return _OPERATORS[sign](value, float(number))


def start(rollout: Rollout, candidate: str, now: datetime) -> RolloutState:
    """A rollout that begins `now`, on its first step."""
    state = RolloutState(
        identity=identity_of(candidate, rollout),
        candidate=candidate,
        started=now,
        phase=Phase.PROGRESSING,
        since=now,
        reason="",
        step=0,
        step_since=now,
        analyses={analysis.name: AnalysisProgress(window_since=now) for analysis in rollout.analysis},
    )
    return _decide(rollout, state, DecisionKind.STARTED, _place(rollout, 0), now)


def due(rollout: Rollout, state: RolloutState, now: datetime) -> tuple[Analysis, ...]:
    """The analyses that want a reading now: their interval is over, or the step waits for them."""
    if state.phase is Phase.FAILED:
        return ()
    over = _hold_is_over(rollout, state, now)
    return tuple(
        analysis
        for analysis in rollout.analysis
        if now - state.analyses[analysis.name].window_since >= duration(analysis.interval)
        # After an error the interval is waited for, so that errors in a row are as far apart as the manifest says.
        or (over and not _is_settled(analysis, state) and not state.analyses[analysis.name].errors)
    )


def advance(rollout: Rollout, state: RolloutState, readings: Mapping[str, Reading], now: datetime) -> RolloutState:
    """The rollout after `readings` of those analyses that were due.

    A measurement is `successful` or `failed` where the manifest's condition holds (failure is looked at first),
    `inconclusive` where neither does, and an `error` where there is no value though there are samples. More failed
    ones than `failureLimit`, more inconclusive ones than `inconclusiveLimit`, more errors in a row than
    `consecutiveErrorLimit` end in what `onFailure`, `onInconclusive` and `onError` say. Too few samples are waited for
    until the step's hold is over, and are inconclusive then.

    Args:
        rollout: the manifest's section.
        state: of a rollout with this identity.
        readings: by the name of the analysis.
        now: time with a zone; holds are counted by it, and go on while the server is down.
    """
    if state.phase is Phase.FAILED:
        return state
    verdicts: list[AnalysisVerdict] = []
    for analysis in rollout.analysis:
        reading = readings.get(analysis.name)
        if reading is None:
            continue
        state, broken = _take(rollout, state, analysis, reading, now)
        if broken is not None and not analysis.dryRun:
            verdicts.append(broken)
    if verdicts:
        return _stop(rollout, state, verdicts, now)
    if state.phase is Phase.PAUSED and not state.waiting and not state.lasting:
        state = _decide(
            rollout, _in_phase(state, Phase.PROGRESSING, now), DecisionKind.RESUMED, "the missing data came", now
        )
    settled = all(_is_settled(analysis, state) for analysis in rollout.analysis)
    if state.phase is Phase.PROGRESSING and settled and _hold_is_over(rollout, state, now):
        return _next_step(rollout, state, now)
    return state


def abort(rollout: Rollout, state: RolloutState, reason: str, now: datetime) -> RolloutState:
    """The rollout after the guard tripped, here or on another server: failed, whatever it was before."""
    if state.phase is Phase.FAILED:
        return state
    return _decide(rollout, _in_phase(state, Phase.FAILED, now, reason), DecisionKind.ABORTED, reason, now)


def _take(
    rollout: Rollout, state: RolloutState, analysis: Analysis, reading: Reading, now: datetime
) -> tuple[RolloutState, AnalysisVerdict | None]:
    """Judge one reading, and count it."""
    starved = not reading.error and reading.samples < analysis.minSamples
    if starved and (state.phase is not Phase.PROGRESSING or not _hold_is_over(rollout, state, now)):
        return state, None  # more samples are waited for
    taken = measurement(analysis, state.step, reading, starved=starved, now=now)
    outcome, progress = taken.outcome, state.analyses[analysis.name]
    has_data = outcome is not MeasurementOutcome.ERROR and not starved
    progress = progress.model_copy(
        update={
            "successful": progress.successful + (outcome is MeasurementOutcome.SUCCESSFUL),
            "failed": progress.failed + (outcome is MeasurementOutcome.FAILED),
            "inconclusive": progress.inconclusive + (outcome is MeasurementOutcome.INCONCLUSIVE),
            "errors": progress.errors + 1 if outcome is MeasurementOutcome.ERROR else 0,
            "measurements": (*progress.measurements, taken)[-MOST_MEASUREMENTS:],
            "settled_step": progress.settled_step if outcome is MeasurementOutcome.ERROR else state.step,
            # A window with too few samples goes on until there are enough.
            **({} if starved else {"window": progress.window + 1, "window_since": now}),
        }
    )
    waiting = tuple(name for name in state.waiting if name != analysis.name or not has_data)
    update = {"analyses": {**state.analyses, analysis.name: progress}, "waiting": waiting}
    return state.model_copy(update=update), verdict(rollout, analysis, progress, taken, heals=not has_data)


def _stop(rollout: Rollout, state: RolloutState, verdicts: list[AnalysisVerdict], now: datetime) -> RolloutState:
    """The rollout after analyses broke their limits: failed if one of them asks for it, else paused."""
    if state.phase is Phase.PASSED:  # it has shown what it had to; only a failure takes that back
        verdicts = [one for one in verdicts if one.outcome is MeasurementOutcome.FAILED and one.fails]
        if not verdicts:
            return state
    fatal = [one for one in verdicts if one.fails]
    reason = "; ".join(one.reason for one in fatal or verdicts)
    if fatal:
        return _decide(rollout, _in_phase(state, Phase.FAILED, now, reason), DecisionKind.FAILED, reason, now)
    waiting = {*state.waiting, *(one.analysis for one in verdicts if one.heals)}
    lasting = state.lasting or any(not one.heals for one in verdicts)
    is_new = state.phase is not Phase.PAUSED or (lasting and not state.lasting)
    if is_new:
        state = _decide(rollout, _in_phase(state, Phase.PAUSED, now, reason), DecisionKind.PAUSED, reason, now)
    return state.model_copy(update={"waiting": tuple(sorted(waiting)), "lasting": lasting})


def _next_step(rollout: Rollout, state: RolloutState, now: datetime) -> RolloutState:
    """The next step, with new windows for its analyses; or the end."""
    if state.step + 1 == len(rollout.steps):
        reason = "every step is passed; a pull request may make the candidate stable"
        return _decide(rollout, _in_phase(state, Phase.PASSED, now, reason), DecisionKind.PASSED, reason, now)
    analyses = {
        name: progress.model_copy(update={"window": progress.window + 1, "window_since": now})
        for name, progress in state.analyses.items()
    }
    state = state.model_copy(update={"step": state.step + 1, "step_since": now, "analyses": analyses})
    return _decide(rollout, state, DecisionKind.ADVANCED, _place(rollout, state.step), now)


def _place(rollout: Rollout, step: int) -> str:
    if not rollout.steps:
        return "shadow of every request, until the manifest changes"
    return (
        f"step {step + 1} of {len(rollout.steps)}: weight {rollout.steps[step].weight}, hold {rollout.steps[step].hold}"
    )


def _hold_is_over(rollout: Rollout, state: RolloutState, now: datetime) -> bool:
    return bool(rollout.steps) and now - state.step_since >= duration(rollout.steps[state.step].hold)


def _is_settled(analysis: Analysis, state: RolloutState) -> bool:
    return analysis.dryRun or state.analyses[analysis.name].settled_step >= state.step


def _in_phase(state: RolloutState, phase: Phase, now: datetime, reason: str = "") -> RolloutState:
    return state.model_copy(
        update={"phase": phase, "since": now, "reason": reason, "waiting": (), "lasting": False},
    )


def _decide(rollout: Rollout, state: RolloutState, kind: DecisionKind, reason: str, now: datetime) -> RolloutState:
    decision = Decision(at=now, kind=kind, step=state.step, weight=weight(rollout, state), reason=reason)
    return state.model_copy(
        update={
            "decisions": (*state.decisions, decision)[-MOST_DECISIONS:],
            "decided": {**state.decided, kind: state.decided.get(kind, 0) + 1},
        }
    )
