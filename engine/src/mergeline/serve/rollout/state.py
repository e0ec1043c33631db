"""What is known of a rollout between two looks at it: its phase, its step, and what was measured and decided."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, NonNegativeInt, ValidationError

from mergeline.documents import Frozen
from mergeline.files import canonical_json, read_bounded, write_bytes
from mergeline.release_params import Rollout

MOST_DECISIONS = 100
MOST_MEASUREMENTS = 10
MAX_LOGGED = 500
"""Characters of why a file is unreadable: whoever wrote it decides how much there is to say."""


class Phase(StrEnum):
    """Where a rollout stands; `failed` is final."""

    PROGRESSING = "progressing"
    PAUSED = "paused"
    PASSED = "passed"
    FAILED = "failed"


class MeasurementOutcome(StrEnum):
    """What one measurement says, with Argo Rollouts' meanings."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class DecisionKind(StrEnum):
    """What was decided."""

    STARTED = "started"
    ADVANCED = "advanced"
    PAUSED = "paused"
    RESUMED = "resumed"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "taken_off"


class Decision(Frozen):
    """One decision, with the candidate's share of the answers from then on, in percent."""

    at: AwareDatetime
    kind: DecisionKind
    step: int
    weight: int
    reason: str


class Measurement(Frozen):
    """One value of one analysis, and what the analysis' bounds make of it."""

    at: AwareDatetime
    step: int
    value: float | None
    samples: int
    outcome: MeasurementOutcome
    reason: str


class AnalysisProgress(Frozen):
    """One analysis so far.

    Counts are over the whole rollout; `errors` is how many came one after another. What is measured next is counted
    from `window_since` on; `window` numbers the windows. `settled_step` is the last step that this analysis let go.
    """

    window: int = 0
    window_since: AwareDatetime
    settled_step: int = -1
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors: int = 0
    measurements: tuple[Measurement, ...] = ()


class RolloutState(Frozen):
    """A rollout as it stands; `step` counts from 0.

    `waiting` names the analyses that a pause waits for: they lacked data, and end the pause when they have them. A
    `lasting` pause ends only when the manifest changes.
    """

    identity: str
    candidate: str
    started: AwareDatetime
    phase: Phase
    since: AwareDatetime
    reason: str
    step: NonNegativeInt
    step_since: AwareDatetime
    waiting: tuple[str, ...] = ()
    lasting: bool = False
    analyses: dict[str, AnalysisProgress] = {}
    decisions: tuple[Decision, ...] = ()
    decided: dict[DecisionKind, int] = {}


def fits(rollout: Rollout, state: RolloutState) -> bool:
    """Whether the rollout has the step and the analyses that the state tells of; one that was damaged may not."""
    return state.step < max(1, len(rollout.steps)) and all(each.name in state.analyses for each in rollout.analysis)


def identity_of(candidate: str, rollout: Rollout) -> str:
    """What makes a rollout this one: the candidate's digest, and every word of the manifest's section `rollout`."""
    content = {"candidate": candidate, "rollout": rollout.model_dump(mode="json")}
    return "sha256:" + hashlib.sha256(canonical_json(content)).hexdigest()


def weight(rollout: Rollout, state: RolloutState) -> int:
    """The share of the requests that the candidate answers, in percent.

    What has passed every step answers all of them: the last stretch before a pull request makes it stable.
    """
    if rollout.strategy != "canary" or state.phase is Phase.FAILED:
        return 0
    return 100 if state.phase is Phase.PASSED else rollout.steps[state.step].weight


def shadow_share(rollout: Rollout, state: RolloutState) -> int:
    """The share of the requests that the candidate scores beside stable, in percent."""
    if rollout.strategy != "shadow" or state.phase is Phase.FAILED:
        return 0
    return rollout.steps[state.step].weight if rollout.steps else 100


STATE_FILE = "rollout.json"
MAX_STATE_BYTES = 16_000_000
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
            self.state = RolloutState.model_validate_json(read_bounded(self._path, MAX_STATE_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            self._seen, self.state, self.unreadable = None, None, ""
        except (OSError, ValidationError) as cause:
            self._seen = None
            self.refuse(str(cause)[:MAX_LOGGED])
        else:
            self._seen, self.unreadable = mark, ""

    def refuse(self, why: str) -> None:
        """Take the state for unreadable until its file changes."""
        if not self.unreadable:
            logger.warning("the rollout's state is unreadable, stable answers alone: %s: %s", self._path, why)
        self.state = None
        self.unreadable = (
            f"the rollout's state cannot be read, and stable answers alone: {self._path}; "
            "delete the file to begin the rollout anew"
        )

    def save(self, state: RolloutState | None) -> None:
        """Take `state` for the present one, and write it where it has changed; for the leader alone.

        What cannot be written is tried again at the next call. Meanwhile the file is empty, which takes no room: an old
        state, or none, could give a failed candidate its share back in the followers and after a restart.
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
                self._path.open("w").close()
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
