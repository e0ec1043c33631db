"""Locks on files that the kernel takes back when their holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False where another holder is in the way."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` alone; yields False, and holds nothing, where somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield try_lock(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock file `path` with other readers; waits for a writer to end."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
