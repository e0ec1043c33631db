"""Tells of a rollout: the part of GET /status that people and `mergeline rollout status` read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mergeline.manifest.schema import Rollout
from mergeline.serve.rollout.counts import (
    DROPPED,
    FAILED,
    FALLBACKS,
    INVALID,
    RECORDS,
    REQUESTS,
    ROLES,
    Counts,
    latency_quantile,
)
from mergeline.serve.rollout.state import AnalysisProgress, RolloutState, identity_of, shadow_share, weight
from mergeline.serve.state import Serving
from mergeline.timing import duration


def describe(
    serving: Serving | None, state: RolloutState | None, counts: Counts | None, now: datetime, *, unknown: str = ""
) -> dict[str, Any]:
    """What `GET /status` says under `rollout`, `candidate` and `counts`.

    `rollout` is null where the manifest names no candidate. Its phase is `loading` or `refused` while there is nothing
    to roll out yet; with `unknown`, the reason why its state was lost, it is `paused`, and stable answers alone.
    """
    told: dict[str, Any] = {"candidate": None, "rollout": None, "counts": _counts(counts) if counts else None}
    if serving is None or serving.rolling_out is None:
        return told
    candidate, rollout = serving.candidate, serving.rollout
    if candidate is not None:
        since = _time(candidate.since)
        told["candidate"] = {"version": candidate.version, "digest": candidate.model.digest, "since": since}
    if state is None or state.identity != identity_of(serving.rolling_out, rollout):
        told["rollout"] = _not_begun(serving, unknown)
    else:
        told["rollout"] = _rollout(serving, state, now)
    return told


def _not_begun(serving: Serving, unknown: str) -> dict[str, Any]:
    refused = serving.refused
    phase, reason = ("paused", unknown) if unknown else ("loading", "the candidate is being loaded")
    return {
        "strategy": serving.rollout.strategy,
        "candidate": serving.rolling_out,
        "phase": "refused" if refused else phase,
        "reason": str(refused.error) if refused else reason,
        "since": _time(refused.since) if refused else None,
        "weights": {"stable": 100, "candidate": 0},
    }


def _rollout(serving: Serving, state: RolloutState, now: datetime) -> dict[str, Any]:
    rollout = serving.rollout
    share = weight(rollout, state) if serving.candidate else 0
    return {
        "strategy": rollout.strategy,
        "candidate": state.candidate,
        "identity": state.identity,
        "phase": state.phase,
        "reason": state.reason,
        "since": _time(state.since),
        "started": _time(state.started),
        "waiting": list(state.waiting),
        "refused": str(serving.refused.error) if serving.refused else None,
        "sticky": rollout.sticky,
        "weights": {"stable": 100 - share, "candidate": share},
        "shadow_share": shadow_share(rollout, state) if serving.candidate else 0,
        "step": _step(rollout, state, now),
        "analysis": [
            _analysis(state.analyses[analysis.name], analysis.model_dump(mode="json")) for analysis in rollout.analysis
        ],
        "decisions": [decision.model_dump(mode="json") for decision in state.decisions],
        "decided": dict(state.decided),
    }


def _step(rollout: Rollout, state: RolloutState, now: datetime) -> dict[str, Any] | None:
    """The step as people count, from 1."""
    if not rollout.steps:
        return None
    step = rollout.steps[state.step]
    end = state.step_since + duration(step.hold)
    return {
        "number": state.step + 1,
        "of": len(rollout.steps),
        "weight": step.weight,
        "hold": step.hold,
        "since": _time(state.step_since),
        "hold_over": _time(end),
        "seconds_left": max(0.0, round((end - now).total_seconds(), 1)),
    }


def _analysis(progress: AnalysisProgress, asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked, how often it came out how, and the newest measurements, the newest last."""
    last = progress.measurements[-1] if progress.measurements else None
    return {
        **asked,
        "value": last.value if last else None,
        "samples": last.samples if last else 0,
        "outcome": last.outcome if last else None,
        "counts": {
            "successful": progress.successful,
            "failed": progress.failed,
            "inconclusive": progress.inconclusive,
            "consecutive_errors": progress.errors,
        },
        "measurements": [measurement.model_dump(mode="json") for measurement in progress.measurements],
    }


def _counts(counts: Counts) -> dict[str, Any]:
    """What was counted since the server started, over all workers."""
    roles: dict[str, Any] = {}
    for role in ROLES:
        p50, p99 = (latency_quantile(counts.latencies(role), share) for share in (0.5, 0.99))
        roles[role] = {
            "requests": counts.of(role, REQUESTS),
            "failed": counts.of(role, FAILED),
            "records": counts.of(role, RECORDS),
            "invalid": counts.of(role, INVALID),
            "p50_ms": None if p50 is None else round(p50 * 1e3, 4),
            "p99_ms": None if p99 is None else round(p99 * 1e3, 4),
        }
    common = {"fallbacks": int(counts.common[FALLBACKS]), "shadow_dropped": int(counts.common[DROPPED])}
    return {**roles, **common, "pairs": counts.pairs}


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
