"""Starts the keeper when there is something to do, and ends one that hangs."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mergeline.journal.compactor import LIMIT_SECONDS, read_keeper_status
from mergeline.journal.folders import Keeping
from mergeline.journal.parquet_export import has_closed_segments
from mergeline.journal.sync import read_status

HOUSEKEEPING_SECONDS = 3600.0
"""Retention and merging look at an idle journal so often."""

logger = logging.getLogger(__name__)


class Minder:
    """The keeper's processes of one server; of several servers' keepers on a folder one works, and the others leave."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping, self._folder = keeping, Path(keeping.folder)
        self._settings = msgspec.json.encode(keeping).decode()
        self._running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._failure: str | None = None
        self._seal_at = 0.0
        self._house_at = time.monotonic() + HOUSEKEEPING_SECONDS
        self._sync_due = keeping.sync is not None

    def tick(self) -> None:
        """Start what is due."""
        now = time.monotonic()
        sealed = self._reap(now)
        self._sync_due |= sealed and self._keeping.sync is not None
        if now >= self._seal_at and "seal" not in self._running:
            self._seal_at = now + self._keeping.seal_seconds
            if has_closed_segments(self._folder) or (now >= self._house_at and self._folder.is_dir()):
                self._house_at = now + HOUSEKEEPING_SECONDS
                self._start("seal", now)
        elif self._keeping.sync is not None and "sync" not in self._running and self._folder.is_dir():
            status = read_status(self._folder)
            if self._sync_due or (status.failures and time.time() >= status.next_try):
                self._sync_due = False
                self._start("sync", now)

    def finish(self, seconds: float, *, last_pass: bool) -> None:
        """End what is running, and in a last pass seal and copy what is left, all in `seconds` at most."""
        deadline = time.monotonic() + seconds
        self._wait(deadline)
        if not last_pass:
            return
        for task in ("seal", *(["sync"] if self._keeping.sync else [])):
            if time.monotonic() < deadline and (task == "sync" or has_closed_segments(self._folder)):
                self._start(task, time.monotonic())
                self._wait(deadline)

    def status(self) -> dict[str, Any]:
        """What the keeper did last, for GET /status."""
        kept = read_keeper_status(self._folder)
        found = {
            "last_pass": _iso(kept.finished),
            "sealed_predictions": kept.sealed_predictions,
            "sealed_labels": kept.sealed_labels,
            "damaged_segments": kept.damaged_segments,
            "files": kept.files,
            "bytes": kept.bytes,
            "deleted_files": kept.deleted_files,
            "expired_days": kept.expired_days,
            "error": kept.error or self._failure,
        }
        if self._keeping.sync is None:
            return found
        sync = read_status(self._folder)
        failing = {"error": sync.error, "since": _iso(sync.failing_since), "next_try": _iso(sync.next_try)}
        return found | {
            "sync": {"to": self._keeping.sync, "copied": sync.copied, "waiting": sync.waiting}
            | (failing if sync.error else {"error": None})
        }

    def _start(self, task: str, now: float) -> None:
        command = [sys.executable, "-P", "-m", "mergeline.journal.compactor", task, self._settings]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        except OSError as cause:
            logger.warning("the journal's keeper does not start: %s", cause)
        else:
            self._running[task] = (process, now)

    def _reap(self, now: float) -> bool:
        """Forget the processes that ended; whether one of them sealed."""
        sealed = False
        for task, (process, started) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[task]
                sealed |= task == "seal"
                if task == "seal":
                    code = process.returncode
                    self._failure = f"the last pass ended with {code}; the log says why" if code else None
                if process.returncode:
                    logger.warning("the journal's keeper (%s) ended with %d", task, process.returncode)
            elif now - started > LIMIT_SECONDS[task] + 60:
                process.kill()
        return sealed

    def _wait(self, deadline: float) -> None:
        for process, _ in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # what it began is ended by the next one
                process.wait()
        self._running.clear()


def _iso(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
