"""Keeps the state of a rollout in a file that survives restarts, with one leader among the workers."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from pydantic import ValidationError

from mergeline.files import write_bytes
from mergeline.serve.rollout.state import RolloutState

STATE_FILE = "rollout.json"
LOCK_FILE = "leader.lock"

logger = logging.getLogger(__name__)


class StateStore:
    """The state file, and the lock that makes one process its only writer.

    The kernel drops the lock with its holder, however that ends; the next worker that asks leads on.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._lock_path = folder / STATE_FILE, folder / LOCK_FILE
        self._lock: int | None = None
        self._seen: tuple[int, int, int] | None = None
        self._is_unwritten = False
        self.state: RolloutState | None = None
        self.problem = ""
        self.unreadable = ""

    def lead(self) -> bool:
        """Whether this process is the leader; asks to be, where there is none.

        Where the folder cannot be written or locked, every process leads itself, and forgets when it ends.
        """
        if self._lock is not None:
            return True
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as cause:
            self._note(f"the rollout's state cannot be kept: {cause.strerror}: {self._lock_path}")
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another leads
            os.close(handle)
            return False
        except OSError as cause:  # there are no locks here, as on some network drives
            os.close(handle)
            self._note(f"the rollout's state cannot be kept: {cause.strerror}: {self._lock_path}")
            return True
        self._lock = handle
        self.follow()
        return True

    def follow(self) -> None:
        """Read the state anew if its file has changed.

        A file that is there and cannot be read makes `unreadable` the reason: what it said may have been `failed`.
        """
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark == self._seen:
                return
            self.state = RolloutState.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self.state, self.unreadable = None, None, ""
        except (OSError, ValidationError) as cause:
            self._seen, self.state = None, None
            if not self.unreadable:
                logger.warning("the rollout's state is unreadable, stable answers alone: %s: %s", self._path, cause)
            self.unreadable = (
                f"the rollout's state cannot be read, and stable answers alone: {self._path}; "
                "delete the file to begin the rollout anew"
            )
        else:
            self._seen, self.unreadable = mark, ""

    def save(self, state: RolloutState | None) -> None:
        """Take `state` for the present one, and write it where it has changed; for the leader alone.

        What cannot be written is tried again at the next call. Meanwhile there is no file, so that the followers send
        the candidate nothing: an old state could keep a failed one in service.
        """
        if state == self.state and not self._is_unwritten and not self.unreadable:
            return
        self.state, self.unreadable = state, ""
        if self._lock is None:
            return
        try:
            if state is None:
                self._path.unlink(missing_ok=True)
            else:
                write_bytes(self._path, state.model_dump_json(indent=1).encode())
        except OSError as cause:
            self._is_unwritten = True
            self._note(f"the rollout's state cannot be kept: {cause.strerror}: {self._path}")
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        else:
            self._is_unwritten, self.problem = False, ""

    def close(self) -> None:
        """Give the leadership up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s; it will not survive a restart", problem)
        self.problem = problem
