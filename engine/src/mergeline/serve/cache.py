"""Brings models from the store into a local folder that several servers may share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from mergeline.errors import DigestError, ModelError
from mergeline.model.artifact import folder_digest
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
            StoreError: an object is missing, or the store does not answer.
            DigestError: the store holds other bytes than it promises, or another model than the manifest names.
        """
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
