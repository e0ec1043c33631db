"""Sends requests when they are due, and labels when their time has come.

The loop is open: a request is due at its planned time however slowly the server answers, and its latency counts from
then. A generator that waits for the last answer before it sends the next stops asking just when the server is slow, and
reports the few requests that it did send (coordinated omission; Gil Tene, 2013, "How NOT to measure latency").
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from mergeline.traffic.connection import Connection, Target
from mergeline.traffic.faults import Damage
from mergeline.traffic.pace import Pace
from mergeline.traffic.rows import Row
from mergeline.traffic.tally import Tally

SPIN_SECONDS = 0.002
"""Timers are a millisecond or two late; the rest of the wait is spent awake."""

LABELS_AT_ONCE = 200
LABEL_ATTEMPTS = 5
RETRY_SECONDS = 1.0
LIVE_SECONDS = 0.5

BREATH_SECONDS = 0.05
"""Without a plan, a connection that failed waits so long: a server that is away must not use up the rows."""

_encode = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct):
    id: str | int


class _Outcome(msgspec.Struct):
    outcome: str


_answers = msgspec.json.Decoder(list[_Answer] | _Answer)
_outcomes = msgspec.json.Decoder(list[_Outcome])


@dataclass(frozen=True)
class Load:
    """How requests are made.

    Args:
        pace: when they are due.
        connections: most requests at a time.
        batch: records in a request.
        limit: rows to send; None sends all.
        duration: seconds after which nothing more is begun; rows start again from the first until then.
        timeout: seconds to wait for a reply.
        label_delay: seconds of the rows' own time until a label comes; None sends none.
        id_column: which field of a record is its id, if any.
        damage: what is done to the records that are due `damage_after` seconds from the start, or later.
    """

    pace: Pace
    connections: int = 8
    batch: int = 1
    limit: int | None = None
    duration: float | None = None
    timeout: float = 10.0
    label_delay: float | None = None
    id_column: str | None = None
    damage: Damage | None = None
    damage_after: float = 0.0


class _Request(NamedTuple):
    due: float
    body: bytes
    labels: tuple[Any, ...]


class _Due(NamedTuple):
    due: float
    number: int
    labels: tuple[dict[str, Any], ...]
    attempts: int


Chunks = Callable[[], Iterator[list[Row]]]
"""Begins to read the rows from the first."""


class Driver:
    """One run.

    Args:
        target: where to.
        load: what, and when.
        chunks: the rows.
        say: takes a line on how it stands, twice a second; None for no such lines.
    """

    def __init__(self, target: Target, load: Load, chunks: Chunks, say: Callable[[str], None] | None = None) -> None:
        self._target, self._load, self._chunks, self._say = target, load, chunks, say
        self.tally = Tally(planned=load.pace.is_planned)
        self._stop = asyncio.Event()
        self._queue: asyncio.Queue[_Request | None] = asyncio.Queue(load.connections)
        self._due: list[_Due] = []
        self._numbers = 0
        self._predicting = True
        self._start = 0.0

    async def run(self) -> Tally:
        """Send everything, until all is sent, the time is over, or Ctrl-C."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        requests = self._requests()
        first = await anext(requests, None)  # the first rows are read before the clock starts
        self._start = time.perf_counter()
        workers = [asyncio.create_task(self._work()) for _ in range(self._load.connections)]
        labels = asyncio.create_task(self._send_labels())
        live = asyncio.create_task(self._tell())
        try:
            await self._feed(first, requests)
            for _ in workers:
                await self._queue.put(None)
            await asyncio.gather(*workers)
            self.tally.seconds = self._now()
            self._predicting = False
            await labels
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in (*workers, labels, live):
                task.cancel()
            await asyncio.gather(*workers, labels, live, return_exceptions=True)
        self.tally.labels_left = sum(len(due.labels) for due in self._due)
        return self.tally

    def _now(self) -> float:
        return time.perf_counter() - self._start  # the event loop's own clock counts whole milliseconds

    def _interrupt(self) -> None:
        self.tally.interrupted = True
        self._stop.set()

    async def _requests(self) -> AsyncIterator[_Request]:
        """Every request in order, made ready just before it is due."""
        load, loop = self._load, asyncio.get_running_loop()
        number = sent = lap = 0
        waiting: list[Row] = []
        while True:
            chunks = self._chunks()
            ahead = loop.run_in_executor(None, next, chunks, None)
            found = False
            while (rows := await ahead) is not None:
                ahead = loop.run_in_executor(None, next, chunks, None)
                found = True
                for row in rows:
                    if load.limit is not None and sent >= load.limit:
                        break
                    waiting.append(row)
                    sent += 1
                    if len(waiting) == load.batch:
                        yield self._ready(number, waiting, lap)
                        number, waiting = number + 1, []
            again = load.duration is not None and load.pace.speed is None and found
            if not again or (load.limit is not None and sent >= load.limit):
                break
            lap += 1
        if waiting:
            yield self._ready(number, waiting, lap)

    def _ready(self, number: int, rows: list[Row], lap: int) -> _Request:
        load = self._load
        due = load.pace.due(number, rows[-1].time)
        records = [dict(row.record) for row in rows]
        if lap and load.id_column:  # the ids of the first lap are taken; the server makes new ones
            for record in records:
                record.pop(load.id_column, None)
        at = due if load.pace.is_planned else (self._now() if self._start else 0.0)
        if load.damage is not None and at >= load.damage_after:
            records = [load.damage(record) for record in records]
        body = _encode(records[0] if load.batch == 1 else records)
        return _Request(due, body, tuple(row.label for row in rows))

    async def _feed(self, first: _Request | None, requests: AsyncIterator[_Request]) -> None:
        """Hand each request to a connection when it is due."""
        free_since, request = 0.0, first
        while request is not None and not self._stop.is_set():
            if self._load.pace.is_planned:
                if not await self._wait(request.due):
                    return
                now = self._now()
                self.tally.lateness.add(max(0.0, now - max(request.due, free_since)))
            if self._is_over(request):
                return
            if self._is_hopeless():
                self.tally.count(0, "not sent", len(request.labels), 0.0)
            elif self._queue.full():
                putting = asyncio.ensure_future(self._queue.put(request))
                stopping = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait({putting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if not putting.done():
                    putting.cancel()
                    return
                free_since = self._now()
            else:
                self._queue.put_nowait(request)
            request = await anext(requests, None)

    def _is_over(self, request: _Request) -> bool:
        """Whether the time was over when this request was due: one that is late is still sent."""
        load = self._load
        if load.duration is None or load.pace.speed is not None:
            return False
        return (request.due if load.pace.is_planned else self._now()) >= load.duration

    def _is_hopeless(self) -> bool:
        """Whether the server is so far behind that what is left is only counted."""
        load = self._load
        return load.pace.is_planned and load.duration is not None and self._now() > load.duration + load.timeout

    async def _wait(self, due: float) -> bool:
        """Wait until a time from the start; False if the run was stopped."""
        while (left := due - self._now()) > 0:
            if self._stop.is_set():
                return False
            await asyncio.sleep(min(left - SPIN_SECONDS, 0.1) if left > SPIN_SECONDS else 0)
        return not self._stop.is_set()

    async def _work(self) -> None:
        connection, load, tally = Connection(self._target, self._load.timeout), self._load, self.tally
        try:
            while (request := await self._queue.get()) is not None:
                sent = self._now()
                reply = await connection.ask(self._target.request("/predict", request.body))
                since = request.due if load.pace.is_planned else sent
                tally.count(reply.status, reply.problem, len(request.labels), self._now() - since)
                if not reply.status and not load.pace.is_planned:
                    await asyncio.sleep(BREATH_SECONDS)
                if reply.status == 200 and load.label_delay is not None:
                    self._plan_labels(reply.body, request.labels, load.pace.label_due(since, load.label_delay))
        finally:
            connection.close()

    def _plan_labels(self, body: bytes, labels: tuple[Any, ...], due: float) -> None:
        answers = _answers.decode(body)
        ids = [answer.id for answer in (answers if isinstance(answers, list) else [answers])]
        known = tuple({"id": key, "label": label} for key, label in zip(ids, labels, strict=True) if label is not None)
        if known:
            self._numbers += 1
            heapq.heappush(self._due, _Due(due, self._numbers, known, 0))

    async def _send_labels(self) -> None:
        connection = Connection(self._target, self._load.timeout)
        try:
            while (self._predicting or self._due) and not self._stop.is_set():
                if not self._due or self._due[0].due > self._now():
                    left = self._due[0].due - self._now() if self._due else 0.05
                    await asyncio.sleep(min(max(left, 0.001), 0.05))
                    continue
                ready = [heapq.heappop(self._due)]
                size = len(ready[0].labels)
                while self._due and self._due[0].due <= self._now() and size < LABELS_AT_ONCE:
                    ready.append(heapq.heappop(self._due))
                    size += len(ready[-1].labels)
                await self._send(connection, ready)
        finally:
            connection.close()

    async def _send(self, connection: Connection, ready: list[_Due]) -> None:
        labels = [label for due in ready for label in due.labels]
        reply = await connection.ask(self._target.request("/feedback", _encode(labels)))
        if reply.status == 200:
            self.tally.labels.update(each.outcome for each in _outcomes.decode(reply.body))
        elif reply.status in (0, 429, 503):
            for due in ready:
                if due.attempts + 1 < LABEL_ATTEMPTS:
                    later = due._replace(due=self._now() + RETRY_SECONDS, attempts=due.attempts + 1)
                    heapq.heappush(self._due, later)
                else:
                    self.tally.labels[str(reply.status) if reply.status else reply.problem] += len(due.labels)
        else:
            self.tally.labels[str(reply.status)] += len(labels)

    async def _tell(self) -> None:
        while self._say is not None:
            await asyncio.sleep(LIVE_SECONDS)
            self._say(self.tally.line(self._now()))
