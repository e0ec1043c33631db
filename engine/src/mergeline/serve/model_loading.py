"""Does what may never return in threads of their own, and waits for it only so long."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from mergeline.errors import DigestError, MergelineError, ModelError, StoreError
from mergeline.model.artifact import folder_digest
from mergeline.serve.model_process import describe_exception
from mergeline.store.objects import Store

KEEP_SECONDS = 24 * 3600
"""How long a model stays that no manifest names: a server that shares the folder may still serve it."""


class ModelCache:
    """Model folders by digest; what is there is checked again each time."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store

    def fetch(self, source: str, digest: str) -> Path:
        """The folder of the model with this digest, taken from the store unless a good copy is there.

        Args:
            source: the folder's object in the store, as `files/md5/ab/cdef….dir`.
            digest: what the folder must add up to.

        Raises:
            StoreError: an object is missing, the store does not answer, or the model cannot be written here.
            DigestError: the store holds other bytes than it promises, or another model than the manifest names.
        """
        try:
            return self._fetch(source, digest)
        except OSError as cause:
            raise StoreError(
                f"the model cannot be kept: {cause.strerror or cause}",
                where=str(self._folder),
                hint="make room, or give this user the right to write there",
            ) from cause

    def _fetch(self, source: str, digest: str) -> Path:
        from filelock import FileLock

        folder = self._folder / digest.replace(":", "-")
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _holds(folder, digest):
                self._store.fetch_folder(source, folder)
                if (found := folder_digest(folder)) != digest:
                    raise DigestError(
                        f"the object is the model {found}, the manifest promises {digest}",
                        where=f"{self._store.url}/{source}",
                        hint="make the manifest's `source` and `digest` name one model: mergeline propose",
                    )
        return folder

    def prune(self, named: Iterable[str], now: float | None = None) -> list[str]:
        """Delete what no server has named for a day: models, and drafts of fetches that were cut off.

        Args:
            named: the digests that the manifest names; they stay, and count as used now.
            now: Unix time; None is the clock's.

        Returns:
            The names that were deleted.
        """
        from filelock import FileLock, Timeout

        now = time.time() if now is None else now
        kept = {digest.replace(":", "-") for digest in named}
        gone = []
        for path in self._folder.glob("*sha256-*") if self._folder.is_dir() else ():
            if path.suffix == ".lock" or not path.is_dir():
                continue
            if path.name in kept:
                os.utime(path, (now, now))
            elif path.stat().st_mtime < now - KEEP_SECONDS:
                lock = path.with_suffix(".lock")
                try:
                    with FileLock(lock, timeout=0):
                        shutil.rmtree(path, ignore_errors=True)
                except Timeout:
                    continue
                lock.unlink(missing_ok=True)
                gone.append(path.name)
        return gone


def _holds(folder: Path, digest: str) -> bool:
    try:
        return folder_digest(folder) == digest
    except (ModelError, OSError):
        return False


UPDATE_SECONDS = 5.0
"""Whoever waits looks elsewhere after so long, and asks again."""

Result = TypeVar("Result")
Report = Callable[[str], None]
"""Takes what the work is at: `fetching`, say."""


class UnfinishedError(Exception):
    """The work goes on, and its time is not up; ask again."""


class TooSlowError(ModelError):
    """The work goes on, though its time is up."""


class HangingError(ModelError):
    """A model did not answer its own example in its time, and its process was ended."""


class Key(NamedTuple):
    """What tells one attempt from another: the model, and all else that its result depends on."""

    digest: str
    more: str


class _Attempt:
    def __init__(self, call: Callable[[Report], Any]) -> None:
        self.began, self.stage, self.future = time.monotonic(), "being prepared", Future[Any]()
        self._call = call
        # No process waits for a daemon's end: one model that hangs would keep it for ever.
        threading.Thread(target=self._run, name="load", daemon=True).start()

    def _report(self, stage: str) -> None:
        self.stage = stage

    def _run(self) -> None:
        try:
            self.future.set_result(self._call(self._report))
        except MergelineError as error:
            self.future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - a model's code runs here, and may even try to end the process
            failure = ModelError(
                f"the model failed while it was {self.stage}: {describe_exception(error)}",
                hint="load and predict once where it was trained; see its own code",
            )
            failure.__cause__ = error
            self.future.set_exception(failure)


class ModelLoader:
    """Gets models ready, each in a thread of its own; for one thread that asks.

    A thread cannot be stopped. So an attempt that takes too long goes on, and there is never a second one beside it:
    a model that hangs costs one thread however often it is asked for, and one that is only slow is taken when it comes.

    Args:
        seconds: that an attempt may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loader: dict[Key, _Attempt] = {}

    def run(self, key: Key, where: str, call: Callable[[Report], Result]) -> Result:
        """What `call` returns, or raises, in the attempt of this name that is under way, or in a new one.

        Args:
            key: of the attempt.
            where: what the manifest calls the model.
            call: the work.

        Raises:
            UnfinishedError: it goes on.
            TooSlowError: it goes on for longer than it may.
        """
        attempt = self._loader.get(key)
        if attempt is None:
            attempt = self._loader[key] = _Attempt(call)
        left = attempt.began + self._seconds - time.monotonic()
        wait((attempt.future,), timeout=max(0.0, min(left, UPDATE_SECONDS)))
        if attempt.future.done():
            del self._loader[key]
            return cast("Result", attempt.future.result())
        if left > UPDATE_SECONDS:
            raise UnfinishedError
        raise TooSlowError(
            f"the model was not ready after {self._seconds:g} seconds, and is still {attempt.stage}",
            where=where,
            hint="raise serve.load_seconds if it is large or the store is slow; a model that hangs must be replaced",
        )

    def forget(self, named: Collection[str]) -> None:
        """Give up the results of attempts whose digest is not `named` any more."""
        self._loader = {
            key: attempt for key, attempt in self._loader.items() if key.digest in named or not attempt.future.done()
        }
