"""One live segment: a file that records are appended to, and that nobody else touches while it is open."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from mergeline.errors import MergelineError
from mergeline.journal.folders import sync_folder
from mergeline.journal.wal_format import HEADER_BYTES, MAGIC, NONCE_BYTES, framer

SUFFIX = ".log"
DRAFT_SUFFIX = ".new"


class JournalError(MergelineError):
    """The journal cannot be written."""


class Segment:
    """An open segment. Not safe for several threads at once; the journal holds a lock around it.

    What `append` returns from is in the kernel's page cache: it outlives this process, whatever ends that. With `fsync`
    it is on the disk, and outlives a power cut.

    Raises:
        OSError: (when it is made) the folder cannot be written, or the disk is full.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path, self._fsync = path, fsync
        self.declared: dict[int, bytes] = {}
        self._declared_at = 0
        nonce = os.urandom(NONCE_BYTES)
        self._frame = framer(nonce)
        self.size = HEADER_BYTES
        path.parent.mkdir(parents=True, exist_ok=True)
        # Locked before it has its name: whoever seals the segments of the dead never finds it without its holder.
        draft = path.with_suffix(DRAFT_SUFFIX)
        self._handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(self._handle, MAGIC + nonce)
            draft.replace(path)
            if fsync:
                os.fsync(self._handle)
                for folder in path.parents[:2]:
                    sync_folder(folder)
            self._inode = os.fstat(self._handle).st_ino
        except BaseException:
            os.close(self._handle)
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it still takes records."""
        return self._handle >= 0

    @property
    def is_empty(self) -> bool:
        """Whether it holds no record."""
        return self.size == HEADER_BYTES

    def append(self, payload: bytes) -> int:
        """Write one record whole, or leave the segment as it was; returns where it begins.

        Raises:
            OSError: the disk is full, or has failed.
        """
        at, content = self.size, self._frame(payload)
        try:
            written = os.write(self._handle, content)
            if written < len(content):
                _write_all(self._handle, content[written:])
            if self._fsync:
                os.fdatasync(self._handle)
        except OSError:
            os.ftruncate(self._handle, at)
            raise
        self.size = at + len(content)
        return at

    def declare(self, number: int, payload: bytes) -> None:
        """Write the declaration of a layout, as `append` does."""
        self.append(payload)
        self.declared[number] = payload
        self._declared_at = self.size

    def declare_again(self, after: int = 0) -> None:
        """Write every declaration once more where so many bytes were written since: damage to one then costs no row."""
        if self.declared and self.size - self._declared_at > after:
            for number, payload in self.declared.items():
                self.declare(number, payload)

    def is_in_place(self) -> bool:
        """Whether the file is still where it was made: a folder that was deleted takes no more records."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Give it free to be sealed; one without records is deleted."""
        if self._handle < 0:
            return
        with contextlib.suppress(OSError):
            if self.is_empty and self.is_in_place():
                self.path.unlink()
            self.declare_again()
        os.close(self._handle)
        self._handle = -1


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
