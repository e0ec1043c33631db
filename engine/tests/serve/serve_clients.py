"""Clients that ask a server all the time, each on a connection of its own, and remember what they got."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil
from serve_samples import RECORD

if TYPE_CHECKING:
    from serve_process import Running


class Told(NamedTuple):
    """One answer: the id that was asked for, the status, who answered, and how long it took."""

    id: str
    status: int
    body: dict
    seconds: float


class Asking:
    """Clients in threads that ask from entering to leaving; a child says in `_ask` how, until `ended` is set."""

    def __init__(self, count: int) -> None:
        self.ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        raise NotImplementedError


class Clients(Asking):
    """Ask from entering to leaving; `cut` holds every connection that was lost with a question on its way."""

    def __init__(self, url: str, count: int = 4, record: dict = RECORD, *, keep_alive: bool = True) -> None:
        super().__init__(count)
        self._address, self._record, self._keep_alive = url.removeprefix("http://"), record, keep_alive
        self.told: list[Told] = []
        self.cut: list[str] = []

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Until so many more answers have come."""
        wanted, end = len(self.told) + more, time.monotonic() + seconds
        while len(self.told) < wanted:
            assert time.monotonic() < end, f"{len(self.told)} of {wanted} answers came; cut: {self.cut[-3:]}"
            time.sleep(0.01)

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        asked = 0
        while not self.ended.is_set():
            key, asked = f"{number}-{asked}", asked + 1
            body = json.dumps({**self._record, "flight_id": key})
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:  # nobody listens: nothing was asked
                time.sleep(0.02)
                continue
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict", body, {"content-type": "application/json"})
                response = connection.getresponse()
                told = json.loads(response.read())
                if not self._keep_alive:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.cut.append(f"{key}: {error!r}")
                connection.close()
                continue
            self.told.append(Told(key, response.status, told, time.perf_counter() - start))
        connection.close()


def growth_under_attack(server: Running, attack: Callable[[float], None], attackers: int, seconds: float) -> int:
    """Let attackers run until a monotonic time beside two callers who must not notice; returns the bytes it grew by."""
    memory, sizes = psutil.Process(server.process.pid), []
    end = time.monotonic() + seconds
    before = memory.memory_info().rss
    with Clients(server.url, count=2) as clients:
        threads = [threading.Thread(target=attack, args=(end,)) for _ in range(attackers)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            sizes.append(memory.memory_info().rss)
            time.sleep(0.05)
        for thread in threads:
            thread.join()
    assert clients.cut == []
    assert {told.status for told in clients.told} == {200}
    waits = sorted(told.seconds for told in clients.told)
    assert waits[int(0.99 * len(waits))] < 1  # on two cores that other tests share; it was seven and more
    return max(sizes) - before
