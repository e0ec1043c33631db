"""Scores one request: each record by the model that the plan gives it to, and by stable where that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from mergeline.errors import ModelError
from mergeline.requests.answers import Answer, InvalidScoreError
from mergeline.requests.problems import RecordId, RequestError, Value
from mergeline.requests.records import Batch
from mergeline.serve.executors import Executors
from mergeline.serve.rollout.counts import Counters, Role
from mergeline.serve.rollout.routing import Plan
from mergeline.serve.state import ServedModel

INLINE_RECORDS = 128
"""So many records of a compiled model are scored on the event loop, in about a millisecond.

A thread would fight with the loop for the interpreter lock, which costs both more than that.
"""


class SubBatch(NamedTuple):
    """The records of one request that one model answers, and their places in the request."""

    places: Sequence[int]
    ids: Sequence[RecordId]
    rows: Sequence[tuple[Value, ...]]


class ModelResult(NamedTuple):
    """What one model did for one request; counted when the answer is sent."""

    role: Role
    seconds: float
    records: int
    answers: Sequence[Answer] = ()
    failed: bool = False
    invalid: int = 0


class Scored(NamedTuple):
    """The answers in the order of the records, who gave each, and what is to be counted."""

    answers: Sequence[Answer]
    roles: Sequence[Role]
    results: Sequence[ModelResult]


class Scoring:
    """Scores requests for as long as the server runs.

    Args:
        executors: the threads for models that are not compiled, and for many records.
        counters: told at once of what failed and leaves no answer.
        candidate_seconds: that a candidate may take before stable answers in its place.
    """

    def __init__(self, executors: Executors, counters: Counters, *, candidate_seconds: float) -> None:
        self._executors, self._counters, self._candidate_seconds = executors, counters, candidate_seconds

    def now(self, plan: Plan, batch: Batch) -> Scored | None:
        """Answer every record of `batch` at once; None where some of it has to wait for a thread.

        Raises:
            ModelError: stable failed.
        """
        ids = batch.ids
        if len(ids) > INLINE_RECORDS or not plan.stable.is_compiled:
            return None
        roles = plan.roles(batch)
        if "candidate" not in roles:
            result = self._stable(plan.stable, ids, batch.rows)
            return Scored(result.answers, roles, (result,))
        candidate = plan.candidate
        if candidate is None or not candidate.is_compiled:
            return None
        own, rest = _divided(batch, roles)
        start = time.perf_counter()
        try:
            answers = candidate.answer(own.ids, own.rows)
        except ModelError as error:
            failure = _failure("candidate", error, start, len(own.ids))
            with self._counted_without_answer(failure):
                results = failure, self._stable(plan.stable, own.ids, own.rows)
                return _joined(roles, own, results, rest, self._rest(plan, rest))
        result = ModelResult("candidate", time.perf_counter() - start, len(own.ids), answers)
        return _joined(roles, own, (result,), rest, self._rest(plan, rest))

    def alone(self, plan: Plan, batch: Batch, start: float) -> Scored:
        """Answer every record by stable; for a plan without a candidate, in a thread.

        Args:
            plan: names stable.
            batch: the records.
            start: when the request began to wait for the thread, as `time.perf_counter` says it.

        Raises:
            ModelError: stable failed.
        """
        result = self._stable(plan.stable, batch.ids, batch.rows)
        return Scored(result.answers, plan.roles(batch), (result._replace(seconds=time.perf_counter() - start),))

    async def in_time(self, plan: Plan, batch: Batch, until: float) -> Scored:
        """Answer every record of `batch` in threads, before `until` in the event loop's time.

        Raises:
            ModelError: stable failed.
            RequestError: 429 or 503, too many wait, or it took too long.
        """
        roles = plan.roles(batch)
        candidate = plan.candidate
        if candidate is None or "candidate" not in roles:
            result = await self._stable_in_time(plan.stable, batch.ids, batch.rows, until)
            return Scored(result.answers, roles, (result,))
        own, rest = _divided(batch, roles)
        results = await self._candidate_in_time(plan.stable, candidate, own, until)
        others = [await self._stable_in_time(plan.stable, rest.ids, rest.rows, until)] if rest.ids else []
        return _joined(roles, own, results, rest, others)

    def _rest(self, plan: Plan, rest: SubBatch) -> Sequence[ModelResult]:
        return (self._stable(plan.stable, rest.ids, rest.rows),) if rest.ids else ()

    def _stable(self, stable: ServedModel, ids: Sequence[RecordId], rows: Sequence[tuple[Value, ...]]) -> ModelResult:
        start = time.perf_counter()
        try:
            answers = stable.answer(ids, rows)
        except ModelError as error:
            self._count(_failure("stable", error, start, len(ids)))
            raise
        return ModelResult("stable", time.perf_counter() - start, len(ids), answers)

    async def _stable_in_time(
        self, stable: ServedModel, ids: Sequence[RecordId], rows: Sequence[tuple[Value, ...]], until: float
    ) -> ModelResult:
        if stable.is_compiled and len(ids) <= INLINE_RECORDS:
            return self._stable(stable, ids, rows)
        start = time.perf_counter()
        result = await self._executors.stable(stable.model.digest, until, self._stable, stable, ids, rows)
        return result._replace(seconds=time.perf_counter() - start)  # with the wait for the thread

    async def _candidate_in_time(
        self, stable: ServedModel, candidate: ServedModel, own: SubBatch, until: float
    ) -> tuple[ModelResult, ...]:
        """The candidate's result; stable's where too many wait; where it failed both: the last one has the answers."""
        start, soon = time.perf_counter(), asyncio.get_running_loop().time() + self._candidate_seconds
        try:
            digest = candidate.model.digest
            answers = await self._executors.run(
                "candidate", digest, min(until, soon), candidate.answer, own.ids, own.rows
            )
        except RequestError:  # too many wait for it, which a healthy one can't help
            result = await self._stable_in_time(stable, own.ids, own.rows, until)
            self._counters.fallback(len(own.ids))
            return (result,)
        except (ModelError, TimeoutError) as error:  # it failed, or is slow
            failure = _failure("candidate", error, start, len(own.ids))
            with self._counted_without_answer(failure):
                return failure, await self._stable_in_time(stable, own.ids, own.rows, until)
        return (ModelResult("candidate", time.perf_counter() - start, len(own.ids), answers),)

    @contextmanager
    def _counted_without_answer(self, failure: ModelResult) -> Iterator[None]:
        """Count the candidate's failure though stable fails as well, and the request gets no answer."""
        try:
            yield
        except (ModelError, RequestError):
            self._count(failure)
            raise

    def _count(self, result: ModelResult) -> None:
        self._counters.add(result.role, result.records, result.seconds, failed=result.failed, invalid=result.invalid)


def count(counters: Counters, scored: Scored) -> None:
    """Count what was done for one request."""
    for role, seconds, records, answers, failed, invalid in scored.results:
        scores = [answer.score for answer in answers]
        counters.add(role, records, seconds, failed=failed, invalid=invalid, scores=scores)
        if failed:
            counters.fallback(records)


def _failure(role: Role, error: Exception, start: float, records: int) -> ModelResult:
    invalid = records if isinstance(error, InvalidScoreError) else 0
    return ModelResult(role, time.perf_counter() - start, records, failed=True, invalid=invalid)


def _divided(batch: Batch, roles: Sequence[Role]) -> tuple[SubBatch, SubBatch]:
    """The candidate's records, and stable's."""
    parts = []
    for wanted in ("candidate", "stable"):
        places = [place for place, role in enumerate(roles) if role == wanted]
        parts.append(SubBatch(places, [batch.ids[place] for place in places], [batch.rows[place] for place in places]))
    return parts[0], parts[1]


def _joined(
    roles: Sequence[Role], own: SubBatch, results: Sequence[ModelResult], rest: SubBatch, others: Sequence[ModelResult]
) -> Scored:
    """Both parts in the order of the records; the last result of each has its answers."""
    answers = dict(zip(own.places, results[-1].answers, strict=True))
    if others:
        answers |= dict(zip(rest.places, others[-1].answers, strict=True))
    if results[-1].role == "stable":
        roles = ["stable"] * len(roles)
    return Scored([answers[place] for place in range(len(roles))], roles, (*results, *others))
