"""Lets a reader see every row of the sealed files once, while a server goes on writing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mergeline.journal.folders import READING_LOCK
from mergeline.journal.locks import exclusive, shared
from mergeline.journal.merge import recover


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep files from being merged or deleted meanwhile; rows that are sealed meanwhile may appear.

    A folder that cannot be written (a copy, a read-only mount) is read without a lock.
    """
    try:
        with exclusive(folder / READING_LOCK) as alone:
            if alone:
                recover(folder)
        lock = shared(folder / READING_LOCK)
    except OSError:
        yield
        return
    with lock:
        yield
