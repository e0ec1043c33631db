"""Scores requests with a second model after their answers are sent, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from mergeline.errors import ModelError
from mergeline.params import Task
from mergeline.requests.answers import Answer, InvalidScoreError
from mergeline.requests.records import Batch
from mergeline.serve.rollout.counts import Counters, Role
from mergeline.serve.rollout.routing import Plan
from mergeline.serve.state import ServedModel

MOST_WAITING = 2000
"""Records that may wait; more are dropped and counted."""

MIRRORS_A_SECOND = 100
"""Of the candidate's own requests so many a second are scored by stable too: enough to tell how they differ."""

GATHER_SECONDS = 0.002
"""A sleep before each round: the thread that answers has the interpreter lock, and several requests are scored at once.

A thread that wakes for every request fights for the lock with the one that answers, and costs it half its throughput.
"""

MOST_AT_ONCE = 64
"""Records that are enough to be scored together; the lock is held for well under a millisecond."""

Sink = Callable[[Any, Sequence[Answer]], None]
"""Takes the ticket of a request in the journal, and the second model's answer to each of its records."""

logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    model: ServedModel
    role: Role
    batch: Batch
    roles: Sequence[Role]
    answers: Sequence[Answer]
    ticket: Any


class Shadow:
    """A bounded queue in front of one thread; nothing here ever makes a request wait or fail.

    Args:
        counters: of this worker.
        sink: keeps what the second model says.
        models: the digests of the models that score here; a request that was answered before another took its place is
            dropped, since its model may be one that hangs.
        clock: monotonic seconds.
    """

    def __init__(
        self, counters: Counters, sink: Sink, models: Collection[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.models = frozenset(models)
        self._counters, self._sink, self._clock = counters, sink, clock
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        # Two sums that one thread each adds to need no lock; their difference is what waits.
        self._taken = self._done = 0
        self._next_mirror = 0.0
        self._stopped = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return self._taken - self._done

    def start(self) -> None:
        """Begin to score."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End after the request that is being scored; what waits is dropped and counted.

        A model that hangs is left to itself after so many seconds: what it says later is neither counted nor kept.
        """
        self._stopped = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._abandoned = self._thread.is_alive()
        if dropped := self.waiting:
            self._counters.drop(dropped)

    def offer(
        self, plan: Plan, batch: Batch, roles: Sequence[Role], answers: Sequence[Answer], ticket: Any = None
    ) -> None:
        """Have an answered request scored by the other model, if the plan asks for it and there is room.

        Args:
            plan: what the request was answered by.
            batch: the request.
            roles: who answered each record.
            answers: as they were sent.
            ticket: the request's place in the journal.
        """
        if plan.is_shadowed(batch):
            job = _Job(plan.shadow, "shadow", batch, roles, answers, ticket)  # type: ignore[arg-type]  # it is there
        elif plan.candidate is not None and "candidate" in roles and self._may_mirror():
            job = _Job(plan.stable, "mirror", batch, roles, answers, ticket)
        else:
            return
        records = len(batch.ids)
        if (
            self._stopped
            or job.model.model.digest not in self.models
            or (self.waiting and self.waiting + records > MOST_WAITING)
        ):
            self._counters.drop(records)
            return
        self._taken += records
        self._queue.put(job)

    def _may_mirror(self) -> bool:
        now = self._clock()
        if now < self._next_mirror:
            return False
        self._next_mirror = now + 1 / MIRRORS_A_SECOND
        return True

    def _run(self) -> None:
        while jobs := self._next():
            for together in _together(jobs):
                if self._stopped:
                    return
                try:
                    self._score(together)
                except BaseException:  # a fault of ours, or of the journal, must not end the shadow
                    logger.exception("a request could not be scored beside")
                self._done += sum(len(job.batch.ids) for job in together)

    def _next(self) -> list[_Job]:
        """What waits, after a while for more to come; nothing when it is over."""
        job = self._queue.get()
        jobs: list[_Job] = []
        records = 0
        if job is not None:
            time.sleep(GATHER_SECONDS)
        while job is not None:
            jobs.append(job)
            records += len(job.batch.ids)
            try:
                job = self._queue.get_nowait() if records < MOST_AT_ONCE else None
            except Empty:
                return jobs
        return jobs

    def _score(self, jobs: Sequence[_Job]) -> None:
        """Score requests to one model together; one by one where that fails, to find out which it is."""
        ids = [key for job in jobs for key in job.batch.ids]
        rows = [row for job in jobs for row in job.batch.rows]
        start = time.perf_counter()
        try:
            others = jobs[0].model.answer(ids, rows)
        except ModelError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._score([job])
            elif not self._abandoned:
                invalid = len(ids) if isinstance(error, InvalidScoreError) else 0
                seconds = time.perf_counter() - start
                self._counters.add(jobs[0].role, len(ids), seconds, failed=True, invalid=invalid)
            return
        seconds, at = time.perf_counter() - start, 0
        for job in jobs:
            end = at + len(job.batch.ids)
            self._take(job, others[at:end], seconds * (end - at) / len(ids))
            at = end

    def _take(self, job: _Job, others: Sequence[Answer], seconds: float) -> None:
        """Count and keep what the second model said to one request."""
        if self._abandoned:
            return
        self._counters.add(job.role, len(others), seconds, scores=[other.score for other in others])
        self._pair(job, others)
        if len(set(job.roles)) == 1:  # beside a mixed request half of the answers would stand beside themselves
            self._sink(job.ticket, others)

    def _pair(self, job: _Job, others: Sequence[Answer]) -> None:
        """Compare what the two models said to the same records."""
        answered: Role = "stable" if job.role == "shadow" else "candidate"
        pairs = [
            (answer, other)
            for role, answer, other in zip(job.roles, job.answers, others, strict=True)
            if role == answered and (answered == "stable" or answer.digest != job.model.model.digest)
        ]
        if job.model.model.signature.output.task is Task.REGRESSION:
            self._counters.pair(0, len(pairs), sum(abs(answer.score - other.score) for answer, other in pairs))
        else:
            self._counters.pair(sum(answer.label != other.label for answer, other in pairs), len(pairs))


def _together(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Neighbours that one call can score.

    A model that is not compiled gets its requests one by one, since how long it takes for one is part of what is
    compared.
    """
    groups = groupby(jobs, lambda job: (id(job.model), job.role) if job.model.is_compiled else id(job))
    return [list(group) for _, group in groups]
