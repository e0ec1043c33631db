"""Threads for what takes too long for the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, TypeVar

from mergeline.requests.problems import RequestError
from mergeline.serve.model_process import describe_exception


class QueueLimit:
    """Places for requests whose body is still coming, or whose turn has not come.

    Used on the event loop alone, so it needs no lock.
    """

    def __init__(self, places: int) -> None:
        self._places, self.waiting = places, 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Take a place until the waiting is over.

        Raises:
            RequestError: 429, there is none.
        """
        if self.waiting >= self._places:
            raise RequestError(
                429, f"{self._places} requests are waiting already", hint="come back in a second, or slow down"
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


ModelRole = Literal["stable", "candidate"]
Purpose = ModelRole | Literal["journal"]
Result = TypeVar("Result")

CANDIDATE_PLACES = 16
"""Requests that may wait for the candidate; stable answers the others in its place."""


class Executors:
    """A thread for each model in each of its two roles, so that a slow candidate never stands in stable's way.

    What hangs in one model's thread hangs there alone: the next model has its own. More threads a model would not score
    faster: they share one interpreter lock.
    """

    def __init__(self, limit: QueueLimit) -> None:
        # A candidate gets few places of its own: those who wait for a slow one must not crowd out stable's.
        self._limits = {"stable": limit, "candidate": QueueLimit(CANDIDATE_PLACES)}
        self._threads: dict[tuple[Purpose, str], _Thread] = {}
        self._lock = threading.Lock()

    async def run(
        self, role: ModelRole, model: str, until: float, call: Callable[..., Result], *arguments: Any
    ) -> Result:
        """What `call` returns, once its turn has come in that thread.

        Args:
            role: the role.
            model: the digest of the model that the call needs.
            until: when to give up, in the event loop's time; what has not begun then never will.
            call: the work.
            arguments: of the call.

        Raises:
            RequestError: 429, too many wait already.
            TimeoutError: it took too long.
        """
        with self._limits[role].enter():
            future = self._submit(role, model, call, arguments)
            try:
                async with asyncio.timeout_at(until):
                    return await asyncio.wrap_future(future)
            finally:
                future.cancel()

    async def stable(self, model: str, until: float, call: Callable[..., Result], *arguments: Any) -> Result:
        """The same in stable's role, which no other can stand in for.

        Raises:
            RequestError: 429, too many wait already; 503, it took too long.
        """
        try:
            return await self.run("stable", model, until, call, *arguments)
        except TimeoutError:
            raise too_late() from None

    async def finish(self, model: str, call: Callable[..., Result], *arguments: Any) -> Result:
        """What `call` returns, for a request that was scored already: it has waited, and is not sent away now.

        It has a thread of its own, in which no model can hang.
        """
        return await asyncio.wrap_future(self._submit("journal", model, call, arguments))

    def keep_only(self, models: Collection[str]) -> None:
        """End the threads of all other models after what they have to do."""
        with self._lock:
            for key in [key for key in self._threads if key[1] not in models]:
                self._threads.pop(key).stop()

    def stop(self) -> None:
        """End the threads after what they have to do."""
        self.keep_only(())

    def _submit(
        self, role: Purpose, model: str, call: Callable[..., Result], arguments: tuple[Any, ...]
    ) -> Future[Result]:
        with self._lock:  # what comes after a thread's end would never be done
            thread = self._threads.get((role, model))
            if thread is None:
                thread = self._threads[role, model] = _Thread(role)
            return thread.submit(call, arguments)


def too_late() -> RequestError:
    """Says that a request has waited for its answer for too long."""
    return RequestError(503, "the answer would come too late", hint="come back later, or send fewer records at once")


class _Job(NamedTuple):
    future: Future[Any]
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


class _Thread:
    """One thread that does its jobs in order.

    The threads of an executor are waited for when the process ends: one model that hangs would keep it for ever.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        job = _Job(Future(), call, arguments)
        self._jobs.put(job)
        return job.future

    def stop(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(job.call(*job.arguments))
                except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
                    job.future.set_exception(
                        error if _can_be_raised(error) else RuntimeError(describe_exception(error))
                    )


def _can_be_raised(error: BaseException) -> bool:
    """Whether an event loop hands it on to who waits: others end the loop, or look as if the waiting was cancelled."""
    return isinstance(error, Exception) and not isinstance(error, StopIteration | CancelledError)
