"""Tells Prometheus what the server, its models and their rollout do."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.serve.rollout.counts import (
    DIFFERENT,
    DROPPED,
    FAILED,
    FALLBACKS,
    INVALID,
    LATENCIES_A_DECADE,
    RECORDS,
    REQUESTS,
    ROLES,
    SECONDS,
    Counts,
    latency_edge,
)
from mergeline.serve.rollout.state import DecisionKind, Phase, RolloutState, weight
from mergeline.serve.state import Serving

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from mergeline.serve.rollout.controller import RolloutController


FILE_BYTES = 1 << 19
"""Enough for a thousand models and manifests, one after another."""


class RequestOutcome(StrEnum):
    """How a request to /predict ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    UNREADY = "unready"

    @classmethod
    def of(cls, status: int) -> RequestOutcome:
        """The outcome that an HTTP status stands for."""
        if status == 503:
            return cls.UNREADY
        if status >= 500:
            return cls.FAILED
        return cls.ANSWERED if status == 200 else cls.REFUSED


class Metrics:
    """The server's own metrics, beside BentoML's; made once a process.

    Times are Unix timestamps, as Prometheus has it: `time() - mergeline_last_reload_success_timestamp_seconds`
    is the age of what is served. With several workers the newest value of a gauge counts.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # prometheus_client reads PROMETHEUS_MULTIPROC_DIR when it is imported, and BentoML sets that late.
        from prometheus_client import Counter, Gauge

        _reserve_files()
        counter = partial(Counter, registry=registry)
        newest = partial(Gauge, registry=registry, multiprocess_mode="mostrecent")
        self._requests = counter("mergeline_requests", "Requests to /predict by how they ended", ["outcome"])
        for outcome in RequestOutcome:
            self._requests.labels(outcome)  # from 0 on: a rate cannot see the first of what was not there
        self._records = counter("mergeline_records", "Records that got an answer")
        self._model = newest(
            "mergeline_model_info",
            "1 for the model that is served in a role, 0 for one that was",
            ["name", "role", "version", "digest"],
        )
        self._manifest = newest(
            "mergeline_manifest_info",
            "1 for the manifest that is in service, by the sha256 of its bytes, 0 for one that was",
            ["digest"],
        )
        self._failures = counter("mergeline_reload_failures", "Attempts to put a manifest into service that failed")
        self._in_force = newest("mergeline_last_reload_successful", "Whether the newest manifest is in service")
        self._success = newest(
            "mergeline_last_reload_success_timestamp_seconds", "When a manifest was last put into service"
        )
        self._checked = Gauge(
            "mergeline_manifest_checked_timestamp_seconds",
            "When the thread that follows the manifest last finished a look at it",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._restarts = counter("mergeline_reload_restarts", "How often that thread failed and began again")
        self._told_restarts = 0
        # Sums that only grow: on one side what was counted, on the other what prometheus_client knows of.
        self._tally: defaultdict[int, int] = defaultdict(int)
        self._told: defaultdict[int, int] = defaultdict(int)
        self._answered = self._told_records = 0
        self._lock = threading.Lock()
        self._labels: set[tuple[str, str, str, str]] = set()
        self._revision = ""
        self._in_force.set(0)

    def request(self, status: int, records: int = 0) -> None:
        """Count one request to /predict, and the records that it got answers for; on the event loop alone."""
        self._tally[status] += 1
        self._answered += records

    def flush(self) -> None:
        """Hand on what was counted since the last time: prometheus_client takes microseconds for each number."""
        with self._lock:
            for status, count in list(self._tally.items()):
                self._requests.labels(RequestOutcome.of(status)).inc(count - self._told[status])
                self._told[status] = count
            answered = self._answered
            self._records.inc(answered - self._told_records)
            self._told_records = answered

    def reload_succeeded(self, serving: Serving, now: datetime) -> None:
        """Note what is served from `now` on."""
        served = {"stable": serving.stable, "candidate": serving.candidate}
        labels = {(serving.name, role, str(one.version), one.model.digest) for role, one in served.items() if one}
        for former in self._labels - labels:
            self._model.labels(*former).set(0)
        for present in labels:
            self._model.labels(*present).set(1)
        self._labels = labels
        if self._revision not in {"", serving.manifest}:
            self._manifest.labels(self._revision).set(0)
        self._manifest.labels(serving.manifest).set(1)
        self._revision = serving.manifest
        self._in_force.set(1)
        self._success.set(now.timestamp())

    def manifest_checked(self, now: datetime, restarts: int) -> None:
        """Note that the thread which follows the manifest is at work, and how often it began again so far."""
        self._checked.set(now.timestamp())
        self._restarts.inc(restarts - self._told_restarts)
        self._told_restarts = restarts

    def reload_recovered(self) -> None:
        """Note that the newest manifest is the one in service again."""
        self._in_force.set(1)

    def reload_failed(self) -> None:
        """Count one failed attempt."""
        self._failures.inc()
        self._in_force.set(0)


def _reserve_files() -> None:
    """Take the blocks of prometheus_client's files before it maps them.

    It makes them of holes; on a full disk the first number that is put into one would end the process. And a file that
    is empty, since its process could not go on, is one that no process can read.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and hasattr(os, "posix_fallocate"):  # macOS has none
        for kind in ("counter", "gauge_mostrecent", "gauge_livemin"):
            file = Path(folder, f"{kind}_{os.getpid()}.db")
            draft = file if file.exists() else file.with_suffix(".new")
            try:
                with draft.open("ab") as stream:
                    os.posix_fallocate(stream.fileno(), 0, FILE_BYTES)
                draft.replace(file)
            except OSError:
                file.with_suffix(".new").unlink(missing_ok=True)
                raise


_EVERY = LATENCIES_A_DECADE // 4
"""Of the 24 buckets a decade Prometheus gets each sixth edge; sums over them stay exact."""


class RolloutCollector:
    """A collector for prometheus_client's registry; any worker gives the numbers of all."""

    def __init__(self, controller: RolloutController) -> None:
        self._controller = controller

    def collect(self) -> Iterable[Metric]:
        """The families as they stand."""
        from prometheus_client.core import GaugeMetricFamily

        counts = self._controller.counts()
        if counts is not None:
            yield from _counted(counts)
        yield from _rolled_out(self._controller.serving, self._controller.state)
        unknown = GaugeMetricFamily(
            "mergeline_rollout_state_unreadable", "1 while the rollout's state cannot be read, and stable answers alone"
        )
        unknown.add_metric([], int(bool(self._controller.unknown)))
        yield unknown


def _counted(counts: Counts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    wholes = (
        ("mergeline_role_requests", "Requests that a model scored, or failed to", REQUESTS),
        ("mergeline_role_errors", "Requests that a model gave no usable scores for", FAILED),
        ("mergeline_role_records", "Records that a model was asked for", RECORDS),
        ("mergeline_role_invalid_scores", "Scores that were no finite number", INVALID),
    )
    for name, text, what in wholes:
        family = CounterMetricFamily(name, text, labels=["role"])
        for role in ROLES:
            family.add_metric([role], counts.of(role, what))
        yield family
    histogram = HistogramMetricFamily("mergeline_role_seconds", "How long a model took for a request", labels=["role"])
    for role in ROLES:
        histogram.add_metric([role], _buckets(counts.latencies(role)), counts.sum_of(role, SECONDS))
    yield histogram
    commons = (
        ("mergeline_fallbacks", "Records that stable answered since the candidate could not", FALLBACKS),
        ("mergeline_shadow_dropped", "Records that were not scored beside since the queue was full", DROPPED),
        ("mergeline_pairs_different", "Records that both models scored, with different labels", DIFFERENT),
    )
    for name, text, what in commons:
        yield CounterMetricFamily(name, text, value=int(counts.common[what]))
    yield CounterMetricFamily("mergeline_pairs", "Records that both models scored", value=counts.pairs)


def _buckets(latencies: list[int]) -> list[tuple[str, float]]:
    edges = range(_EVERY, len(latencies) - 1, _EVERY)
    buckets = [(f"{latency_edge(edge):.6g}", float(sum(latencies[: edge + 1]))) for edge in edges]
    return [*buckets, ("+Inf", float(sum(latencies)))]


def _rolled_out(serving: Serving | None, state: RolloutState | None) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    answered = weight(serving.rollout, state) if serving and serving.candidate and state else 0
    family = GaugeMetricFamily(
        "mergeline_weight", "Share of the requests that a model answers, in percent", labels=["role"]
    )
    family.add_metric(["stable"], 100 - answered)
    family.add_metric(["candidate"], answered)
    yield family
    step = GaugeMetricFamily("mergeline_rollout_step", "The rollout's step, from 1; 0 where nothing rolls out")
    step.add_metric([], state.step + 1 if state else 0)
    yield step
    phases = GaugeMetricFamily("mergeline_rollout_phase", "1 for the phase that the rollout is in", labels=["phase"])
    for phase in Phase:
        phases.add_metric([phase], int(state is not None and state.phase is phase))
    yield phases
    refused = GaugeMetricFamily("mergeline_candidate_refused", "1 while the manifest's candidate cannot be loaded")
    refused.add_metric([], int(serving is not None and serving.refused is not None))
    yield refused
    decided = CounterMetricFamily("mergeline_rollout_decisions", "Decisions of this rollout", labels=["decision"])
    for kind in DecisionKind:
        decided.add_metric([kind], state.decided.get(kind, 0) if state else 0)
    yield decided
    values = GaugeMetricFamily("mergeline_analysis_value", "What an analysis measured last", labels=["analysis"])
    for name, progress in state.analyses.items() if state else ():
        if progress.measurements and progress.measurements[-1].value is not None:
            values.add_metric([name], progress.measurements[-1].value)
    yield values
