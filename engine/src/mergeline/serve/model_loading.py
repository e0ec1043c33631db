"""Does what may never return in threads of their own, and waits for it only so long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from typing import Any, NamedTuple, TypeVar, cast

from mergeline.errors import MergelineError, ModelError
from mergeline.serve.state import describe_exception

LOOK_SECONDS = 5.0
"""Whoever waits looks elsewhere after so long, and asks again."""

Result = TypeVar("Result")
Tell = Callable[[str], None]
"""Takes what the work is at: `fetching`, say."""


class UnfinishedError(Exception):
    """The work goes on, and its time is not up; ask again."""


class TooSlowError(ModelError):
    """The work goes on, though its time is up."""


class Key(NamedTuple):
    """What tells one attempt from another: the model, and all else that its result depends on."""

    digest: str
    more: str


class _Attempt:
    def __init__(self, call: Callable[[Tell], Any]) -> None:
        self.began, self.stage, self.future = time.monotonic(), "being prepared", Future[Any]()
        self._call = call
        # No process waits for a daemon's end: one model that hangs would keep it for ever.
        threading.Thread(target=self._run, name="load", daemon=True).start()

    def _tell(self, stage: str) -> None:
        self.stage = stage

    def _run(self) -> None:
        try:
            self.future.set_result(self._call(self._tell))
        except MergelineError as error:
            self.future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - a model's code runs here, and may even try to end the process
            failure = ModelError(
                f"the model failed while it was {self.stage}: {describe_exception(error)}",
                hint="load and predict once where it was trained; see its own code",
            )
            failure.__cause__ = error
            self.future.set_exception(failure)


class Attempts:
    """Attempts to get models ready; for one thread that asks.

    A thread cannot be stopped. So an attempt that takes too long goes on, and there is never a second one beside it:
    a model that hangs costs one thread however often it is asked for, and one that is only slow is taken when it comes.

    Args:
        seconds: that an attempt may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._attempts: dict[Key, _Attempt] = {}

    def run(self, key: Key, where: str, call: Callable[[Tell], Result]) -> Result:
        """What `call` returns, or raises, in the attempt of this name that is under way, or in a new one.

        Args:
            key: of the attempt.
            where: what the manifest calls the model.
            call: the work.

        Raises:
            UnfinishedError: it goes on.
            TooSlowError: it goes on for longer than it may.
        """
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._attempts[key] = _Attempt(call)
        left = attempt.began + self._seconds - time.monotonic()
        wait((attempt.future,), timeout=max(0.0, min(left, LOOK_SECONDS)))
        if attempt.future.done():
            del self._attempts[key]
            return cast("Result", attempt.future.result())
        if left > LOOK_SECONDS:
            raise UnfinishedError
        raise self._too_slow(attempt, where)

    def forget(self, named: Collection[str]) -> None:
        """Give up the results of attempts whose digest is not `named` any more."""
        self._attempts = {
            key: attempt for key, attempt in self._attempts.items() if key.digest in named or not attempt.future.done()
        }

    def _too_slow(self, attempt: _Attempt, where: str) -> TooSlowError:
        return TooSlowError(
            f"the model was not ready after {self._seconds:g} seconds, and is still {attempt.stage}",
            where=where,
            hint="raise serve.load_seconds if it is large or the store is slow; a model that hangs must be replaced",
        )
