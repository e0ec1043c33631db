"""Counts what the server does, for Prometheus."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.serve.state import Serving

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


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
        self._requests = Counter(
            "mergeline_requests", "Requests to /predict by how they ended", ["outcome"], registry=registry
        )
        for outcome in RequestOutcome:
            self._requests.labels(outcome)  # from 0 on: a rate cannot see the first of what was not there
        self._records = Counter("mergeline_records", "Records that got an answer", registry=registry)
        self._model = Gauge(
            "mergeline_model_info",
            "1 for the model that is served in a role, 0 for one that was",
            ["name", "role", "version", "digest"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._manifest = Gauge(
            "mergeline_manifest_info",
            "1 for the manifest that is in service, by the sha256 of its bytes, 0 for one that was",
            ["digest"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._failures = Counter(
            "mergeline_reload_failures", "Attempts to put a manifest into service that failed", registry=registry
        )
        self._in_force = Gauge(
            "mergeline_last_reload_successful",
            "Whether the newest manifest is in service",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._success = Gauge(
            "mergeline_last_reload_success_timestamp_seconds",
            "When a manifest was last put into service",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._checked = Gauge(
            "mergeline_manifest_checked_timestamp_seconds",
            "When the thread that follows the manifest last finished a look at it",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._restarts = Counter(
            "mergeline_reload_restarts", "How often that thread failed and began again", registry=registry
        )
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
