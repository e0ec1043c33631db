"""Makes the plan that requests are answered by, and looks at the rollout a few times a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergeline.params import GuardParams
from mergeline.release_params import Rollout
from mergeline.serve.model_process import describe_exception
from mergeline.serve.rollout import step
from mergeline.serve.rollout.counts import (
    DROPPED,
    FAILED,
    FALLBACKS,
    INVALID,
    RECORDS,
    REQUESTS,
    ROLES,
    Counters,
    Counts,
    Window,
    latency_quantile,
    read_counts,
)
from mergeline.serve.rollout.guard import WINDOWS_SECONDS, judge
from mergeline.serve.rollout.measure import Reading, Scorer, measure
from mergeline.serve.rollout.peers import Peers
from mergeline.serve.rollout.routing import Plan, make_plan
from mergeline.serve.rollout.state import (
    AnalysisProgress,
    Phase,
    RolloutState,
    StateStore,
    fits,
    identity_of,
    shadow_share,
    weight,
)
from mergeline.serve.state import CurrentState, Serving
from mergeline.timing import duration

UPDATE_SECONDS = 0.25
"""Followers are at most so far behind the leader, and the guard behind the counts."""

logger = logging.getLogger(__name__)


class RolloutController:
    """One in each worker; the leader's moves the rollout, the others follow the file that it writes.

    Args:
        current: what is loaded.
        state_folder: where the rollout's state is kept over restarts; workers of one server share it.
        counts_folder: where the workers of this run count; a new one at each start of the server.
        bounds: what the guard allows a candidate.
        peers: the other servers; a candidate that one of them aborts is aborted here.
        clock: the time, with a zone.
    """

    def __init__(
        self,
        current: CurrentState,
        state_folder: Path,
        counts_folder: Path,
        bounds: GuardParams,
        peers: Peers | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._current, self._bounds, self._clock = current, bounds, clock
        self._counts_folder = counts_folder
        self.counters = Counters(counts_folder)
        self.peers = peers or Peers(())
        self._store = StateStore(state_folder)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollout", daemon=True)
        self._leads = False
        self._identity = self._fault = ""
        self._unknown_identity: str | None = None
        self._windows: dict[float, Window] = {}
        self._bases: dict[str, tuple[int, Counts]] = {}
        self._made_of: tuple[Serving | None, RolloutState | None] = (None, None)
        self.plan: Plan | None = None

    def start(self) -> None:
        """Begin to look."""
        self.peers.start()
        self._thread.start()

    def stop(self) -> None:
        """End, and let another worker lead."""
        self.peers.stop()
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)
        with self._lock:
            self._leads = False
            self._store.close()

    def update(self) -> None:
        """Look at the rollout once, and make the plan; to be called after each swap of a model, too."""
        with self._lock:
            if self._stopped.is_set():
                return
            serving, now = self._current.state.serving, self._clock()
            if _is_waiting(serving) and not self._store.problem:
                self._store.close()  # one that has the candidate leads: it alone can judge
                self._leads = False
            else:
                self._leads = self._store.lead()
            if not self._leads:
                self._identity = ""
                self._store.follow()
            if serving is not None and self.state is not None and not fits(serving.rollout, self.state):
                self._store.refuse("its step or its analyses are not the manifest's")
            if self._leads and serving is not None and not self._is_unknown(serving):
                self._store.save(self._moved(serving, self._store.state, now))
            made_of = (serving, self._store.state)
            if serving is not None and any(old is not new for old, new in zip(self._made_of, made_of, strict=True)):
                self.plan, self._made_of = make_plan(serving, self._store.state), made_of

    def describe(self) -> dict[str, Any]:
        """The part of GET /status that tells of the rollout."""
        store, serving, counts = self._store, self._current.state.serving, self.counts()
        blind = "" if counts else f"the counts cannot be read, and nothing is judged by them: {self._counts_folder}"
        return {
            **describe(serving, store.state, counts, self._clock(), unknown=store.unreadable),
            "rollout_problem": store.unreadable or store.problem or blind or self._fault or None,
        }

    def counts(self) -> Counts | None:
        """What all workers have counted; None where it cannot be read, or somebody has deleted it."""
        try:
            return read_counts(self._counts_folder) if self.counters.is_in_place() else None
        except (OSError, ValueError):  # mmap's, of an empty file
            return None

    @property
    def serving(self) -> Serving | None:
        """What is loaded."""
        return self._current.state.serving

    @property
    def state(self) -> RolloutState | None:
        """The rollout that the manifest asks for, if it has begun."""
        serving, state = self._current.state.serving, self._store.state
        return state if state is not None and serving is not None and _belongs(state, serving) else None

    @property
    def unknown(self) -> str:
        """Why it is not known how the rollout stands; empty where it is."""
        return self._store.unreadable

    def _is_unknown(self, serving: Serving) -> bool:
        """Whether the state of this rollout was lost: it may have failed, so its candidate gets nothing.

        Another candidate, or another section `rollout`, begins anew, as it would after a failure.
        """
        if self._store.unreadable:
            self._store.follow()  # a person may have deleted the file, or put it back
        if not self._store.unreadable:
            self._unknown_identity = None
            return False
        identity = identity_of(serving.rolling_out, serving.rollout) if serving.rolling_out else ""
        if self._unknown_identity is None:
            self._unknown_identity = identity
        return bool(identity) and identity == self._unknown_identity

    def _run(self) -> None:
        while not self._stopped.wait(UPDATE_SECONDS):
            try:
                self.update()
                self._fault = ""
            except BaseException as error:  # a fault of ours must not stop the guard for ever
                fault = f"the rollout cannot be looked at: {describe_exception(error)}"
                if fault != self._fault:
                    logger.exception("the rollout cannot be looked at, and stays as it is")
                self._fault = fault

    def _moved(self, serving: Serving, state: RolloutState | None, now: datetime) -> RolloutState | None:
        """The state after one look of the leader."""
        if serving.rolling_out is None:
            self._identity = ""
            return None
        if serving.candidate is None:  # it is being loaded, or it could not be
            self._identity = ""
            return state
        counts = self.counts()
        if state is None or not _belongs(state, serving):
            state = step.start(serving.rollout, serving.rolling_out, now)
            self._identity = ""
        if self._identity != state.identity:  # begun, or taken over from another process or an earlier run
            self._identity, self._bases = state.identity, {}
            self._windows = {seconds: Window(seconds) for seconds in WINDOWS_SECONDS}
        if state.phase is Phase.FAILED:
            return state
        before = state.decisions[-1:]
        if counts is not None:
            windows = {seconds: window.look(now, counts) for seconds, window in self._windows.items()}
            breach = judge(windows, self._bounds, _role(serving))
            if breach is not None:
                state = step.abort(serving.rollout, state, f"guard {breach.rule}: {breach.reason}", now)
        elsewhere = self.peers.failure(state.identity)
        if elsewhere:
            state = step.abort(serving.rollout, state, elsewhere, now)
        if counts is None and not serving.rollout.analysis:
            return state  # the guard sees nothing, and no analysis tells
        readings = self._readings(serving, state, counts, now)
        state = step.advance(serving.rollout, state, readings, now)
        if state.decisions[-1:] != before:
            decision = state.decisions[-1]
            logger.info("rollout %s, candidate at %d %%: %s", decision.kind, decision.weight, decision.reason)
        return state

    def _readings(
        self, serving: Serving, state: RolloutState, counts: Counts | None, now: datetime
    ) -> dict[str, Reading]:
        """A reading of each analysis that is due, each over its own window."""
        due = {analysis.name for analysis in step.due(serving.rollout, state, now)}
        readings = {}
        for analysis in serving.rollout.analysis:
            number = state.analyses[analysis.name].window
            if counts is None:
                if analysis.name in due:
                    readings[analysis.name] = Reading(None, 0, "the counts cannot be read")
                continue
            known, base = self._bases.get(analysis.name, (-1, counts))
            if known != number:
                base = counts
                self._bases[analysis.name] = (number, counts)
            if analysis.name in due:
                readings[analysis.name] = measure(analysis.metric, counts.since(base), _role(serving))
        return readings


def _is_waiting(serving: Serving | None) -> bool:
    """Whether there is to be a candidate that this worker has not loaded."""
    return serving is not None and serving.rolling_out is not None and serving.candidate is None


def _role(serving: Serving) -> Scorer:
    return "shadow" if serving.rollout.strategy == "shadow" else "candidate"


def _belongs(state: RolloutState, serving: Serving) -> bool:
    return serving.rolling_out is not None and state.identity == identity_of(serving.rolling_out, serving.rollout)


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
