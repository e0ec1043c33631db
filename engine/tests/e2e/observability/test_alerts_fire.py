"""The real server is broken in every way that there is an alert for, before a real Prometheus and Alertmanager."""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from breakable_production import STEPS, Traffic, Watching, analysis, fill, serving, small_disk
from metric_tools import Monitor, alerts, eventually, free_port, monitoring, needs

from mergeline.journal.folders import KEEPER_LOCK, LIVE
from mergeline.watch.results import Outcome

pytestmark = [pytest.mark.slow, needs("prometheus", "alertmanager", "node exporter")]


@contextmanager
def held(lock: Path):
    """A time in which nobody else can take the lock."""
    with lock.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def unwritable(folder: Path, *, mounted: bool):
    """A time in which the journal's disk is full, or, where no disk could be mounted, its folder is shut."""
    if mounted:
        ballast = fill(folder)
        try:
            yield
        finally:
            ballast.unlink()
        return
    (folder / LIVE).chmod(0)
    try:
        yield
    finally:
        (folder / LIVE).chmod(0o755)


def everybody_is_told(monitor: Monitor, unproven: set[str]) -> None:
    """Each receiver got the alerts of its severity, those and no others; drift names its columns."""
    receivers = {"on-call": "critical", "team": "warning", "interested": "info"}
    for receiver, severity in receivers.items():
        due = {name for name, rule in alerts().items() if rule["labels"]["severity"] == severity} - unproven
        eventually(lambda r=receiver, d=due: monitor.box.told(r) == d, lambda r=receiver: monitor.box.told(r))
    drifts = [one for one in monitor.box.mail["interested"] if one["labels"]["alertname"] == "MergelineDrift"]
    assert "amount (values, against training)" in drifts[0]["annotations"]["description"]


def test_every_alert_fires_when_the_real_thing_breaks_and_nothing_fires_while_it_works(tmp_path, breakables):
    port, journal, copies = free_port(), tmp_path / "journal", tmp_path / "copies"
    with ExitStack() as stack:
        mounted = stack.enter_context(small_disk(journal))
        monitor = stack.enter_context(monitoring(tmp_path / "monitor", port))
        watching = Watching(tmp_path / "watched", monitor.textfiles)
        monitor.expect("MergelineDown")  # it was never started
        breakables.production.write("spec: [this is no manifest]\n")
        server = stack.enter_context(serving(tmp_path, port, copies))
        monitor.expect("MergelineNotReady", "MergelineReloadFailing", "MergelineWatchStale")
        eventually(lambda: "MergelineReloadFailing" in monitor.suppressed(), monitor.suppressed)

        breakables.deploy()
        watching.finds(Outcome.STEADY)
        server.wait(server.ready)
        traffic = stack.enter_context(Traffic(server.url))
        eventually(lambda: list(copies.rglob("*.parquet")), lambda: server.status["journal"])
        monitor.expect_calm()

        breakables.deploy(steps=STEPS, analysis=[analysis()])
        server.wait(lambda: server.status["counts"]["candidate"]["requests"] > 20)
        monitor.expect_calm()  # a rollout that goes on is nothing to tell
        copies.rename(tmp_path / "copies-away")
        copies.write_text("a file where the folder was")
        watching.finds(Outcome.DRIFT)
        with breakables.told("candidate", "raise"):
            monitor.expect("MergelineGuardTripped", "MergelineDrift", "MergelineJournalCopiesFailing")
        watching.finds(Outcome.DEGRADED)
        breakables.deploy(analysis=[analysis(failure=">= 0", success="< 0")])
        with held(journal / KEEPER_LOCK), breakables.told("stable", "sleep"):
            monitor.expect("MergelineRolloutFailed", "MergelineDegraded", "MergelineSlow", "MergelineJournalNotSealing")
        watching.finds(Outcome.INCONCLUSIVE)
        breakables.deploy(analysis=[analysis(failure="> 1", success="< 0")])
        with traffic.mistaken():
            monitor.expect("MergelineInconclusive", "MergelineRefusing")
        monitor.expect("MergelineRolloutPaused")
        watching.finds(Outcome.STEADY, ago=timedelta(days=2))
        breakables.deploy(candidate={**breakables.candidate.release(2), "digest": "sha256:" + "0" * 64})
        monitor.expect("MergelineCandidateRefused", "MergelineWatchStale")
        with breakables.told("stable", "raise"):
            monitor.expect("MergelineErrors")
        with unwritable(journal, mounted=mounted):
            full = ["MergelineJournalDisk"] if mounted else []
            monitor.expect("MergelineJournalStopped", *full)

        breakables.deploy()
        copies.unlink()  # tried again half a minute later
        monitor.expect_calm("MergelineJournalCopiesFailing", "MergelineWatchStale")
        os.killpg(server.process.pid, signal.SIGKILL)
        monitor.expect("MergelineDown")

        unproven = set() if mounted else {"MergelineJournalDisk"}
        assert monitor.fired == set(alerts()) - unproven
        everybody_is_told(monitor, unproven)
