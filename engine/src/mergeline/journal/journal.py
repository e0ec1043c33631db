"""Keeps what a server answers, so that no end of its process loses an answered prediction."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mergeline.journal.folders import LIVE, Keeping
from mergeline.journal.labels import Feedback
from mergeline.journal.prediction_recorder import Counts, RecentIds, Recorder
from mergeline.journal.redaction import hashed, plan, redaction_key, unknown_columns
from mergeline.journal.scheduler import Minder
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
