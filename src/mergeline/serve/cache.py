"""Brings models from the store into a local folder that several servers may share."""

from __future__ import annotations

from pathlib import Path

from mergeline.errors import DigestError, ModelError
from mergeline.model.artifact import folder_digest
from mergeline.model.store import Store


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
                        mend="make the manifest's `source` and `digest` name one model: mergeline propose",
                    )
        return folder


def _holds(folder: Path, digest: str) -> bool:
    try:
        return folder_digest(folder) == digest
    except (ModelError, OSError):
        return False
