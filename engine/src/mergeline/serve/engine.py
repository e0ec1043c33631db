"""Answers the body of one request: read, score, journal, write; then count and shadow."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from mergeline.journal.journal import Journal
from mergeline.journal.labels import FIELDS, read_feedback
from mergeline.journal.metrics import JournalMetrics
from mergeline.journal.prediction_recorder import Recorder
from mergeline.journal.wal_writer import JournalError
from mergeline.requests.answers import encode
from mergeline.requests.problems import RequestError, check_values
from mergeline.requests.records import Batch, parse_json
from mergeline.scorer.signature import Output
from mergeline.serve.executors import Executors, QueueLimit, too_late
from mergeline.serve.metrics import Metrics
from mergeline.serve.reload import Poller, Reloader
from mergeline.serve.rollout.controller import RolloutController
from mergeline.serve.rollout.counts import Role
from mergeline.serve.rollout.peers import Peers
from mergeline.serve.rollout.routing import Plan
from mergeline.serve.rollout.shadow import Shadow
from mergeline.serve.scoring import INLINE_RECORDS, Scored, Scoring, count
from mergeline.serve.settings import Settings
from mergeline.serve.state import CurrentState, ServedModel, Serving, State, describe
from mergeline.serve.tracing import start_tracing


def freeze_garbage() -> None:
    """Take what lives now out of the collector's sight; to be called after each swap of a model.

    It would walk every object of the libraries and the model again and again, which stalls answers for 40 to
    100 ms, and none of them becomes garbage before the next swap. So only the first call, before there are any
    requests, looks at everything; a later one looks at what is new, which takes a millisecond or two. The little that
    a former model leaves in reference cycles is never freed.
    """
    gc.collect(1 if gc.get_freeze_count() else 2)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


WAIT_SECONDS = 0.02
INLINE_BYTES = 131_072
"""A larger body is read in a thread."""


Read = TypeVar("Read")


class Reply(NamedTuple):
    """The JSON of the answers, the role of the model that gave each, and what is left to do when it is sent."""

    body: bytes
    roles: Sequence[Role]
    after: Callable[[], None]


class Engine:
    """The models in service, what keeps them current, and the journal.

    Args:
        settings: of the server.
        metrics: of this process.
        shared: a folder of this run that all workers share.
    """

    def __init__(self, settings: Settings, metrics: Metrics, shared: Path) -> None:
        self.settings, self.metrics = settings, metrics
        self.draining = False
        self.queue = QueueLimit(settings.max_waiting)
        self.tracing = start_tracing()
        self._executors = Executors(self.queue)
        self._current = CurrentState()
        self.controller = RolloutController(
            self._current,
            settings.state_path,
            shared / "counts",
            settings.guard,
            Peers(settings.peers, settings.api_key),
        )
        self._reloader = Reloader(
            settings, self._current, metrics, clock=lambda: datetime.now(UTC), after_swap=self._take_over
        )
        self._poller = Poller((self._reloader.poll, metrics.flush, self._note_check), settings.poll_seconds)
        # Imported late: it reads PROMETHEUS_MULTIPROC_DIR. With that set, the registry is only a name.
        from prometheus_client import CollectorRegistry

        self.journal = Journal(
            settings.journal_path,
            settings.journal,
            shared=shared,
            after_tick=JournalMetrics(CollectorRegistry()).update,
        )
        self._checked: datetime | None = None
        self._recorder: tuple[ServedModel, Recorder] | None = None
        self._shadow = Shadow(self.controller.counters, self.journal.shadow, ())
        self._scoring = Scoring(
            self._executors, self.controller.counters, candidate_seconds=settings.guard.max_latency_ms / 1e3
        )

    @property
    def state(self) -> State:
        """What is loaded now."""
        return self._current.state

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.controller.plan is not None and not self.draining

    def start(self, wait_seconds: float = 0) -> None:
        """Begin to follow the manifest, to journal and to roll out; wait so long for the first models to be loaded."""
        self.journal.start()
        self._shadow.start()
        self.controller.start()
        self._poller.start()
        end = time.monotonic() + wait_seconds
        while not self.is_ready and self.state.failure is None and time.monotonic() < end:
            time.sleep(WAIT_SECONDS)

    def stop(self) -> None:
        """End every thread, and close the journal when nothing is left to be written."""
        self._poller.stop()
        self.controller.stop()
        self._shadow.stop()
        self._executors.stop()
        self._reloader.close()
        self.journal.close()
        self.metrics.flush()
        if self.tracing is not None:
            self.tracing.stop()

    def serving(self) -> Serving:
        """What is loaded now.

        Raises:
            RequestError: 503, nothing is; with the reason.
        """
        state = self._current.state
        if state.serving is None:
            failure = state.failure
            raise RequestError(
                503,
                f"no model is loaded: {failure.error.what}" if failure else "no model is loaded yet",
                hint=(failure.error.hint if failure else "") or "try again in a few seconds; GET /status says more",
            )
        return state.serving

    def predict_now(self, body: bytes, trace_id: str | None = None) -> Reply | None:
        """What `predict` gives, where nothing has to wait for a thread; else None.

        Raises:
            RequestError: the request gets no prediction.
            ModelError: stable failed.
        """
        if len(body) > INLINE_BYTES:
            return None
        time_ns = time.time_ns()
        plan = self._plan()
        batch = plan.stable.reader.read(body, self.settings.max_records)
        scored = self._scoring.now(plan, batch)
        if scored is None:
            return None
        return self._write(plan, batch, scored, time_ns, trace_id)

    async def predict(self, body: bytes, trace_id: str | None = None) -> Reply:
        """Answer the records in `body`, and write them to the journal before that is sent.

        Raises:
            RequestError: the request gets no prediction.
            ModelError: stable failed.
        """
        reply = self.predict_now(body, trace_id)
        if reply is not None:
            return reply
        time_ns = time.time_ns()
        plan = self._plan()
        until = asyncio.get_running_loop().time() + self.settings.max_seconds
        if plan.candidate is None:
            return await self._executors.stable(
                plan.stable.model.digest, until, self._predict_alone, plan, body, time_ns, time.perf_counter(), trace_id
            )
        batch = await self.read(body, plan.stable.reader.read, self.settings.max_records, until=until)
        scored = await self._scoring.in_time(plan, batch, until)
        if len(batch.ids) <= INLINE_RECORDS:
            return self._write(plan, batch, scored, time_ns, trace_id)
        return await self._executors.finish(
            plan.stable.model.digest, self._write, plan, batch, scored, time_ns, trace_id
        )

    def _predict_alone(self, plan: Plan, body: bytes, time_ns: int, start: float, trace_id: str | None) -> Reply:
        """All of `predict` in one go in stable's thread: each change of threads costs more than reading a record."""
        batch = plan.stable.reader.read(body, self.settings.max_records)
        scored = self._scoring.alone(plan, batch, start)
        if time.perf_counter() - start > self.settings.max_seconds:
            raise too_late()  # which the caller was told; what is journalled was answered
        return self._write(plan, batch, scored, time_ns, trace_id)

    async def feedback(self, body: bytes) -> bytes:
        """Write labels of earlier answers to the journal, and say what is known of each.

        Raises:
            RequestError: the labels are wrong, or cannot be written.
        """
        return await self.read(body, self._label, self._plan().stable.model.signature.output)

    async def read(self, body: bytes, call: Callable[..., Read], *arguments: Any, until: float | None = None) -> Read:
        """What `call` makes of a body and the arguments; in stable's thread where it is long.

        Raises:
            RequestError: the body is wrong; 429 or 503, too many wait, or it took too long.
        """
        if len(body) <= INLINE_BYTES:
            return call(body, *arguments)
        end = asyncio.get_running_loop().time() + self.settings.max_seconds if until is None else until
        return await self._executors.stable(self._plan().stable.model.digest, end, call, body, *arguments)

    def describe(self) -> dict[str, Any]:
        """The body of GET /status."""
        checked = self._checked
        return {
            **describe(self._current.state, ready=self.is_ready),
            **self.controller.describe(),
            "journal": self.journal.status(),
            "waiting": self.queue.waiting,
            "following": {
                "checked": checked.isoformat(timespec="milliseconds") if checked else None,
                "restarts": self._poller.restarts,
            },
        }

    def _note_check(self) -> None:
        self._checked = datetime.now(UTC)
        self.metrics.manifest_checked(self._checked, self._poller.restarts)

    def _plan(self) -> Plan:
        return self.controller.plan or self._first_plan()

    def _first_plan(self) -> Plan:
        self.serving()
        self.controller.update()
        return self._plan()

    def _write(self, plan: Plan, batch: Batch, scored: Scored, time_ns: int, trace_id: str | None) -> Reply:
        """Write a request and its answers to the journal, so that they can be sent."""
        known = self._recorder
        recorder = known[1] if known is not None and known[0] is plan.stable else self._record_for(plan.stable)
        try:
            ticket = recorder.append(batch, scored.answers, scored.roles, time_ns, trace_id)
        except JournalError as error:
            raise RequestError(503, error.what, hint=error.hint) from error

        def after() -> None:
            count(self.controller.counters, scored)
            self._shadow.offer(plan, batch, scored.roles, scored.answers, ticket)

        return Reply(encode(scored.answers, many=batch.many), scored.roles, after)

    def _renew_threads(self) -> None:
        """Let no model wait for a thread that a former one hangs in."""
        serving = self.serving()
        models = frozenset(each.model.digest for each in (serving.stable, serving.candidate) if each)
        self._executors.keep_only(models)
        former = self._shadow
        if models != former.models:
            self._shadow = Shadow(self.controller.counters, self.journal.shadow, models)
            self._shadow.start()
            former.stop()

    def _record_for(self, stable: ServedModel) -> Recorder:
        recorder = self.journal.recorder(stable.model.signature)
        self._recorder = stable, recorder
        return recorder

    def _label(self, body: bytes, output: Output) -> bytes:
        check_values(body, self.settings.max_records * len(FIELDS))
        document = parse_json(body)
        labels = read_feedback(document, output, self.settings.max_records)
        try:
            outcomes = self.journal.feedback(labels, time.time_ns())
        except JournalError as error:
            raise RequestError(503, error.what, hint=error.hint) from error
        told = [{"id": label.id, "outcome": outcome} for label, outcome in zip(labels, outcomes, strict=True)]
        return msgspec.json.encode(told if isinstance(document, list) else told[0])

    def _take_over(self) -> None:
        """After each swap: answer with what was loaded, and keep the collector away from it."""
        self.controller.update()
        self._renew_threads()
        self._record_for(self._plan().stable)
        freeze_garbage()
