"""Sends requests to one address as fast as it answers, or at a rate, and prints what came back as JSON.

    python benchmarks/peers/load.py --url http://127.0.0.1:3000/predict --bodies FILE [--connections 8] [--seconds 5]
        [--rate 0]

FILE holds one JSON body a line; they are sent in turn. With a rate, requests are planned at equal distances and each
latency counts from the planned moment, whether or not a connection was free then: a server that stalls cannot slow
its clients down unnoticed ("coordinated omission", Gil Tene, 2013).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import uvloop

TICK_SECONDS = 0.001
PATIENCE_SECONDS = 10.0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.sent_at: float | None = None
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open, and free."""
        self.transport = transport
        self.load.free(self)

    def send(self, request: bytes, planned: float) -> None:
        """Ask; the latency counts from `planned`."""
        self.sent_at = planned
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        planned, self.sent_at = self.sent_at, None
        self.load.answered(self.parser.get_status_code(), planned)
        if self.parser.should_keep_alive():
            self.parser = httptools.HttpResponseParser(self)
            self.load.free(self)
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """It is closed, perhaps with a question on its way."""
        if self.sent_at is not None:
            self.load.failed += 1
        self.load.lost()


class Load:
    """All connections, the plan, and what came back."""

    def __init__(
        self, url: str, bodies: list[bytes], *, connections: int, seconds: float, rate: float, key: str
    ) -> None:
        address = urlsplit(url)
        self.host, self.port = address.hostname or "127.0.0.1", address.port or 80
        head = f"POST {address.path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
        head += f"x-api-key: {key}\r\n" if key else ""
        self.requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self.connections, self.seconds, self.rate = connections, seconds, rate
        self.next = self.failed = self.reconnects = 0
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.idle: deque[Connection] = deque()
        self.planned: deque[float] = deque()
        self.end = 0.0
        self.loop = asyncio.get_running_loop()
        self.reopening: set[asyncio.Task[object]] = set()

    async def run(self) -> dict[str, object]:
        """Ask for as long as it was said, and wait for what is on its way."""
        await asyncio.gather(*(self.open() for _ in range(self.connections)))
        start = time.perf_counter()
        self.end = start + self.seconds
        if self.rate:
            await self.keep_rate(start)
        else:
            for connection in list(self.idle):
                self.free(connection)
            await asyncio.sleep(self.seconds)
        last = time.perf_counter() + PATIENCE_SECONDS
        while len(self.idle) < self.connections and time.perf_counter() < last:
            await asyncio.sleep(0.01)
        self.failed += len(self.planned)
        return self.summary()

    async def keep_rate(self, start: float) -> None:
        """Ask by plan, whatever the answers do."""
        count, total = 0, int(self.seconds * self.rate)
        while count < total or (self.planned and time.perf_counter() < self.end + PATIENCE_SECONDS):
            now = time.perf_counter()
            while count < total and start + count / self.rate <= now:
                self.planned.append(start + count / self.rate)
                count += 1
            while self.planned and self.idle:
                self.send(self.idle.popleft(), self.planned.popleft())
            await asyncio.sleep(TICK_SECONDS)

    async def open(self) -> None:
        """One more connection."""
        await self.loop.create_connection(lambda: Connection(self), self.host, self.port)

    def free(self, connection: Connection) -> None:
        """A connection has nothing on its way."""
        if self.rate and self.planned:
            self.send(connection, self.planned.popleft())
        elif self.rate or time.perf_counter() >= self.end:
            self.idle.append(connection)
        else:
            self.send(connection, time.perf_counter())

    def send(self, connection: Connection, planned: float) -> None:
        """The next of the bodies, in turn."""
        request = self.requests[self.next]
        self.next = (self.next + 1) % len(self.requests)
        connection.send(request, planned)

    def answered(self, status: int, planned: float) -> None:
        """Note an answer."""
        self.statuses[status] += 1
        self.latencies.append(time.perf_counter() - planned)

    def lost(self) -> None:
        """Open another connection in place of one that was closed, unless it is over."""
        if time.perf_counter() < self.end:
            self.reconnects += 1
            task = self.loop.create_task(self.open())
            self.reopening.add(task)
            task.add_done_callback(self.reopening.discard)
        else:
            self.connections -= 1

    def summary(self) -> dict[str, object]:
        """What came back; latencies in milliseconds."""
        times = sorted(self.latencies)
        quantiles = {
            f"p{str(share).replace('.', '_')}": round(
                1e3 * times[min(int(len(times) * share / 100), len(times) - 1)], 3
            )
            for share in (50, 90, 99, 99.9)
            if times
        }
        good = self.statuses[200]
        return {
            "requests": sum(self.statuses.values()),
            "failed": self.failed + sum(self.statuses.values()) - good,
            "statuses": dict(self.statuses),
            "reconnects": self.reconnects,
            "rate": round(good / self.seconds, 1),
            "milliseconds": quantiles | ({"max": round(1e3 * times[-1], 3)} if times else {}),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--bodies", required=True, type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0 sends as fast as answers come")
    parser.add_argument("--key", default="", help="an API key")
    given = parser.parse_args()
    bodies = given.bodies.read_bytes().splitlines()

    async def run() -> dict[str, object]:
        how = {"connections": given.connections, "seconds": given.seconds, "rate": given.rate, "key": given.key}
        return await Load(given.url, bodies, **how).run()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
