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
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mergeline.errors import TrafficError
from mergeline.traffic.connection import Connection, Target
from mergeline.traffic.faults import Damage, Fault
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
class TrafficOptions:
    """What the command line asks for.

    Args:
        url: the server's.
        places: partitions, or folders of them; none takes the project's data.
        rate: requests a second.
        speed: how many times faster than the rows' own times.
        duration: seconds after which nothing more is begun; rows start again from the first until then. Without a
            rate, the time that all rows are spread over.
        connections: most requests at a time.
        batch: records in a request.
        limit: rows to send; None sends all.
        timeout: seconds to wait for a reply.
        label_delay: seconds of the rows' own time until a label comes; None sends none.
        faults: what is done to the records that are due `fault_after` seconds from the start, or later.
        seed: which rows a fault hits.
    """

    url: str
    places: tuple[Path, ...] = ()
    rate: float | None = None
    speed: float | None = None
    duration: float | None = None
    connections: int = 8
    batch: int = 1
    limit: int | None = None
    timeout: float = 10.0
    label_delay: float | None = None
    faults: tuple[Fault, ...] = ()
    fault_after: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Pace:
    """When requests and labels are due, in seconds from the start.

    With a `rate`, that many requests a second. With a `speed`, at the rows' own times, so many times faster, counted
    from `origin` (seconds since 1970). With neither, each connection sends as soon as it is free.
    """

    rate: float | None = None
    speed: float | None = None
    origin: float = 0.0

    @property
    def is_planned(self) -> bool:
        """Whether requests have a time at which they are due."""
        return self.rate is not None or self.speed is not None

    def due(self, number: int, own_time: float | None) -> float:
        """When a request is due; 0 without a plan.

        Args:
            number: of the request, from 0.
            own_time: of its last row, in seconds since 1970.
        """
        if self.rate is not None:
            return number / self.rate
        if self.speed is not None and own_time is not None:
            return max(0.0, own_time - self.origin) / self.speed
        return 0.0

    def label_due(self, sent: float, delay: float) -> float:
        """When the labels of a request are due.

        Args:
            sent: when the request was due, or without a plan when it was sent.
            delay: in seconds of the rows' own time; where the pace does not follow that, in seconds.
        """
        return sent + delay / (self.speed or 1.0)


def plan_pace(
    *, rate: float | None, speed: float | None, duration: float | None, span: tuple[float, float] | None
) -> Pace:
    """The pace that the command line asks for.

    Args:
        rate: requests a second.
        speed: how many times faster than the rows' own times.
        duration: seconds; without a rate, the time that all rows are spread over.
        span: own times of the first and the last row, in seconds since 1970; None where rows have none.

    Raises:
        TrafficError: the options contradict each other, or the rows have no times.
    """
    if rate is not None and speed is not None:
        raise TrafficError(
            "a rate and a speed contradict each other", where="--rate", hint="give --rate or --speed, not both"
        )
    if speed is not None and duration is not None:
        raise TrafficError(
            "a speed and a duration contradict each other", where="--speed", hint="give --speed or --duration, not both"
        )
    if rate is not None or (speed is None and duration is None):
        return Pace(rate=rate)
    if span is None:
        raise TrafficError(
            "the rows have no times to follow",
            where="params.yaml: data.time",
            hint="send at a rate of your own, as --rate 200, with --duration for how long",
        )
    first, last = span
    return Pace(speed=speed or max((last - first) / (duration or 1.0), 1e-9), origin=first)


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
        options: what, and how fast.
        pace: when requests are due.
        chunks: the rows.
        id_column: which field of a record is its id, if any.
        damage: the faults, made ready.
        say: takes a line on how it stands, twice a second; None for no such lines.
    """

    def __init__(
        self,
        target: Target,
        options: TrafficOptions,
        pace: Pace,
        chunks: Chunks,
        *,
        id_column: str | None = None,
        damage: Damage | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._target, self._options, self._pace, self._chunks, self._say = target, options, pace, chunks, say
        self._id_column, self._damage = id_column, damage
        self.tally = Tally(planned=pace.is_planned)
        self._queue: asyncio.Queue[_Request | None] = asyncio.Queue(options.connections)
        self._due: list[_Due] = []
        self._numbers = 0
        self._predicting = True
        self._start = 0.0

    async def run(self) -> Tally:
        """Send everything, until all is sent, the time is over, or Ctrl-C."""
        loop = asyncio.get_running_loop()
        requests = self._requests()
        first = await anext(requests, None)  # the first rows are read before the clock starts
        self._start = time.perf_counter()
        feeding = asyncio.create_task(self._feed(first, requests))
        workers = [asyncio.create_task(self._work()) for _ in range(self._options.connections)]
        labels = asyncio.create_task(self._send_labels())
        live = asyncio.create_task(self._tell())
        loop.add_signal_handler(signal.SIGINT, self._interrupt, feeding)
        try:
            await asyncio.wait({feeding})
            if not feeding.cancelled():
                feeding.result()
            for _ in workers:
                await self._queue.put(None)
            await asyncio.gather(*workers)
            self.tally.seconds = self._now()
            self._predicting = False
            await labels
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in (feeding, *workers, labels, live):
                task.cancel()
            await asyncio.gather(feeding, *workers, labels, live, return_exceptions=True)
        self.tally.labels_left = sum(len(due.labels) for due in self._due)
        return self.tally

    def _now(self) -> float:
        return time.perf_counter() - self._start  # the event loop's own clock counts whole milliseconds

    def _interrupt(self, feeding: asyncio.Task[None]) -> None:
        self.tally.interrupted = True
        feeding.cancel()

    async def _requests(self) -> AsyncIterator[_Request]:
        """Every request in order, made ready just before it is due."""
        options, loop = self._options, asyncio.get_running_loop()
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
                    if options.limit is not None and sent >= options.limit:
                        break
                    waiting.append(row)
                    sent += 1
                    if len(waiting) == options.batch:
                        yield self._ready(number, waiting, lap)
                        number, waiting = number + 1, []
            again = options.duration is not None and self._pace.speed is None and found
            if not again or (options.limit is not None and sent >= options.limit):
                break
            lap += 1
        if waiting:
            yield self._ready(number, waiting, lap)

    def _ready(self, number: int, rows: list[Row], lap: int) -> _Request:
        options = self._options
        due = self._pace.due(number, rows[-1].time)
        records = [dict(row.record) for row in rows]
        if lap and self._id_column:  # the ids of the first lap are taken; the server makes new ones
            for record in records:
                record.pop(self._id_column, None)
        at = due if self._pace.is_planned else (self._now() if self._start else 0.0)
        if self._damage is not None and at >= options.fault_after:
            records = [self._damage(record) for record in records]
        body = _encode(records[0] if options.batch == 1 else records)
        return _Request(due, body, tuple(row.label for row in rows))

    async def _feed(self, first: _Request | None, requests: AsyncIterator[_Request]) -> None:
        """Hand each request to a connection when it is due."""
        free_since, request = 0.0, first
        while request is not None:
            if self._pace.is_planned:
                await self._wait(request.due)
                self.tally.lateness.add(max(0.0, self._now() - max(request.due, free_since)))
            if self._is_over(request):
                return
            if self._is_hopeless():
                self.tally.count(0, "not sent", len(request.labels), 0.0)
            else:
                was_full = self._queue.full()
                await self._queue.put(request)
                free_since = self._now() if was_full else free_since
            request = await anext(requests, None)

    def _is_over(self, request: _Request) -> bool:
        """Whether the time was over when this request was due: one that is late is still sent."""
        options = self._options
        if options.duration is None or self._pace.speed is not None:
            return False
        return (request.due if self._pace.is_planned else self._now()) >= options.duration

    def _is_hopeless(self) -> bool:
        """Whether the server is so far behind that what is left is only counted."""
        options = self._options
        return (
            self._pace.is_planned and options.duration is not None and self._now() > options.duration + options.timeout
        )

    async def _wait(self, due: float) -> None:
        """Wait until a time from the start."""
        while (left := due - self._now()) > 0:
            await asyncio.sleep(left - SPIN_SECONDS if left > SPIN_SECONDS else 0)

    async def _work(self) -> None:
        connection, options, tally = Connection(self._target, self._options.timeout), self._options, self.tally
        try:
            while (request := await self._queue.get()) is not None:
                sent = self._now()
                reply = await connection.ask(self._target.request("/predict", request.body))
                since = request.due if self._pace.is_planned else sent
                tally.count(reply.status, reply.problem, len(request.labels), self._now() - since)
                if not reply.status and not self._pace.is_planned:
                    await asyncio.sleep(BREATH_SECONDS)
                if reply.status == 200 and options.label_delay is not None:
                    self._plan_labels(reply.body, request.labels, self._pace.label_due(since, options.label_delay))
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
        connection = Connection(self._target, self._options.timeout)
        try:
            while (self._predicting or self._due) and not self.tally.interrupted:
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
