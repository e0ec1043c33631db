"""Keeps what a server answers, so that no end of its process loses an answered prediction."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mergeline.journal.compactor import LIMIT_SECONDS, read_keeper_status
from mergeline.journal.folders import LIVE, Keeping
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import has_closed_segments
from mergeline.journal.prediction_recorder import Counts, RecentIds, Recorder
from mergeline.journal.redaction import hashed, plan, redaction_key, unknown_columns
from mergeline.journal.sync import read_status
from mergeline.journal.wal_format import Labelled, Layout, Shadowed
from mergeline.journal.wal_writer import Ticket, Writer, encode
from mergeline.params import JournalParams
from mergeline.requests.answers import Answer, class_name
from mergeline.scorer.signature import Signature

TICK_SECONDS = 0.5
RECENT_FILES = ("predicted.ids", "labelled.ids")

logger = logging.getLogger(__name__)


class Journal:
    """The journal of one process. Safe for several threads; a bad disk is no error unless the params say so.

    Args:
        folder: where everything is kept; made when the first record is written.
        settings: `serve.journal` of the params.
        shared: a folder of this run that all workers share, for the ids seen lately; None for one worker.
        after_tick: told twice a second how the journal stands, as `JournalMetrics.update`.
    """

    def __init__(
        self,
        folder: Path,
        settings: JournalParams,
        *,
        shared: Path | None = None,
        after_tick: Callable[[Journal], None] | None = None,
    ) -> None:
        self.folder, self._settings, self._counts = folder.absolute(), settings, Counts()
        self._writer = Writer(self.folder / LIVE, settings.seal_seconds, fsync=settings.fsync)
        self._layouts: dict[Layout, int] = {}
        self._unknown: tuple[str, ...] = ()
        self._hash_key = b""
        self._hash_ids = False
        if shared is not None:
            shared.mkdir(parents=True, exist_ok=True)
        self._predicted, self._labelled = (RecentIds(shared / name if shared else None) for name in RECENT_FILES)
        self._minder = Minder(Keeping.of(self.folder, settings))
        self._after_tick = after_tick
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to seal what is written, and what processes that were killed left behind."""
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Write no more, and seal what there is; what `seconds` do not suffice for is sealed at the next start."""
        self._stopped.set()
        started = self._thread.ident is not None
        if started:
            self._thread.join(timeout=seconds)
        self._writer.close()
        self._minder.finish(seconds, last_pass=started)

    def recorder(self, signature: Signature) -> Recorder:
        """What writes the predictions of models with this signature; made once a model, before it serves."""
        layout, redaction = plan(signature, self._settings)
        self._hash_ids = redaction is not None and redaction.hash_ids
        unknown = tuple(unknown_columns(signature, self._settings))
        if unknown and unknown != self._unknown:
            logger.warning("%s", "; ".join(unknown))
        self._unknown = unknown
        return Recorder(
            (self._layouts.setdefault(layout, len(self._layouts)), layout),
            redaction,
            must_write=self._settings.when_full == "stop_answering",
            key=self._key,
            writer=self._writer,
            predicted=self._predicted,
            counts=self._counts,
        )

    def shadow(self, ticket: Ticket | None, answers: Sequence[Answer]) -> None:
        """Write what the shadow model answered beside what was answered; any time later, from any thread.

        Args:
            ticket: what `Recorder.append` gave for the request; None where nothing was written.
            answers: the shadow model's, one for each record in order.
        """
        if ticket is None:
            return
        labels = [None if answer.label is None else class_name(answer.label) for answer in answers]
        record = Shadowed(ticket.at, answers[0].digest, [answer.score for answer in answers], labels)
        if self._writer.append_beside(ticket, encode(record)):
            self._counts.shadows += len(answers)
        else:
            self._counts.lost_shadows += len(answers)

    def feedback(self, labels: Sequence[Feedback], time_ns: int) -> list[str]:
        """Write labels, and say for each what is known of its id.

        `recorded`: an answer with this id was given lately. `repeated`: it has a label already; the newest counts.
        `unknown`: no such answer is remembered; the label is kept, since the answer may be older.

        Args:
            labels: what came.
            time_ns: when, in nanoseconds since 1970.

        Raises:
            JournalError: nothing was written; the caller may try again.
        """
        ids = [label.id for label in labels]
        if self._hash_ids:
            try:
                key = self._key()
            except OSError as cause:
                self._writer.fail(cause)
                raise self._writer.error() from cause
            written: list[str | int] = [hashed(value, key) for value in ids]
        else:
            written = ids
        record = Labelled(time_ns, written, [each.label for each in labels], [each.value for each in labels])
        if self._writer.append(encode(record)) is None:
            raise self._writer.error()
        outcomes = [self._outcome(value) for value in ids]
        self._counts.feedback += len(labels)
        self._counts.feedback_unknown += outcomes.count("unknown")
        self._counts.feedback_repeated += outcomes.count("repeated")
        return outcomes

    @property
    def counts(self) -> Counts:
        """What this process wrote, and what it could not."""
        return self._counts

    @property
    def is_writing(self) -> bool:
        """Whether the disk takes records; if not, `status` says why."""
        return self._writer.trouble is None

    def status(self) -> dict[str, Any]:
        """What GET /status says about the journal; counts are of this process since it started."""
        trouble, counts = self._writer.trouble, self._counts
        since = trouble.since.isoformat(timespec="milliseconds") if trouble else ""
        return {
            "folder": str(self.folder),
            "writing": trouble is None,
            "error": {"what": trouble.what, "since": since} if trouble else None,
            "predictions": {"written": counts.predictions, "lost": counts.lost_predictions},
            "shadows": {"written": counts.shadows, "lost": counts.lost_shadows},
            "feedback": {
                "written": counts.feedback,
                "unknown": counts.feedback_unknown,
                "repeated": counts.feedback_repeated,
            },
            "warnings": list(self._unknown),
            "keeper": self._minder.status(),
        }

    def tend(self) -> None:
        """Do what is due: close what is old, try a failed disk again, have closed segments sealed."""
        self._writer.tend()
        self._minder.tick()
        if self._after_tick is not None:
            self._after_tick(self)

    def _run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            try:
                self.tend()
            except Exception:  # a fault of ours must not end the sealing
                logger.exception("the journal could not be tended")

    def _outcome(self, value: str | int) -> str:
        repeated = value in self._labelled
        self._labelled.add(value)
        if value not in self._predicted:
            return "unknown"
        return "repeated" if repeated else "recorded"

    def _key(self) -> bytes:
        if not self._hash_key:
            self._hash_key = redaction_key(self.folder, os.environ)
        return self._hash_key


HOUSEKEEPING_SECONDS = 3600.0
"""Retention and merging look at an idle journal so often."""


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
            if self._has_closed_segments() or (now >= self._house_at and self._folder.is_dir()):
                self._house_at = now + HOUSEKEEPING_SECONDS
                self._start("seal", now)
        elif self._keeping.sync is not None and "sync" not in self._running and self._folder.is_dir():
            status = read_status(self._folder)
            if self._sync_due or (status.failures and status.is_due(time.time())):
                self._sync_due = False
                self._start("sync", now)

    def _has_closed_segments(self) -> bool:
        try:
            return has_closed_segments(self._folder)
        except OSError as cause:
            self._failure = f"the segments cannot be listed: {cause}"
            return False

    def finish(self, seconds: float, *, last_pass: bool) -> None:
        """End what is running, and in a last pass seal and copy what is left, all in `seconds` at most."""
        deadline = time.monotonic() + seconds
        self._wait(deadline)
        if not last_pass:
            return
        for task in ("seal", *(["sync"] if self._keeping.sync else [])):
            if time.monotonic() < deadline and (task == "sync" or self._has_closed_segments()):
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
