"""Ends training on a cluster that stops to answer, or that has lost what it was working on."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import TypeVar

LOST_SECONDS = 60
"""How long a cluster may give no answer, or have no workers, while it trains."""

LOOK_SECONDS = 2

Found = TypeVar("Found")


class ClusterLost(BaseException):
    """Raised in the midst of training; no `except Exception` of the pipeline's takes it for an error of its own."""


def within(seconds: float, work: Callable[[], Found]) -> Found:
    """What `work` returns or raises; it goes on in a thread where it takes longer, as some waits have no limit.

    Raises:
        TimeoutError: it takes longer.
    """
    done: Future[Found] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)


@contextlib.contextmanager
def ended_when_lost(workers: Callable[[], object]) -> Iterator[None]:
    """Raise `ClusterLost` in this block when nothing has been heard of any worker for `LOST_SECONDS`.

    Outside of the main thread, which alone can be interrupted, nothing is watched.

    Args:
        workers: asks the cluster; what is empty, an error, and no answer are all alike.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended, main = threading.Event(), threading.main_thread().ident

    def look() -> None:
        heard = time.monotonic()
        while not ended.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):  # each cluster's client has errors of its own
                if within(LOST_SECONDS, workers):
                    heard = time.monotonic()
            if time.monotonic() - heard >= LOST_SECONDS and not ended.is_set() and main is not None:
                signal.pthread_kill(main, signal.SIGUSR1)
                return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise ClusterLost

    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGUSR1, before)
