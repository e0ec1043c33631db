"""The layout of what is counted, and the sum of it over all workers."""

from __future__ import annotations

import math
import mmap
import os
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LATENCIES_A_DECADE = 24
LATENCY_DECADES = 8
LATENCIES = LATENCIES_A_DECADE * LATENCY_DECADES + 2
"""From a microsecond to 100 seconds in steps of 10 %, what is quicker, and what is slower."""

_STEP = math.log(1.2)
_LOG_MILLION = math.log(1e6)
_BELOW = math.ceil(math.log(1e18) / _STEP)  # from -1e12 to -1e-6
_LOGIT_STEP = 0.1
_LOGITS = 201  # log-odds from -20 to 20, both ends with what is beyond
_WITHIN = 2 * _LOGITS - 1
_ABOVE = math.ceil(math.log(1e12) / _STEP)  # from 1 to 1e12
SCORES = _BELOW + _WITHIN + _ABOVE


def latency_bucket(seconds: float) -> int:
    """The bucket of a duration; its upper edge is inclusive, as in Prometheus."""
    microseconds = seconds * 1e6
    if microseconds <= 1:
        return 0
    return min(math.ceil(LATENCIES_A_DECADE * math.log10(microseconds) - 1e-9), LATENCIES - 1)


def latency_edge(bucket: int) -> float:
    """The upper edge of a bucket, in seconds; the last one has none."""
    return math.inf if bucket >= LATENCIES - 1 else 1e-6 * 10 ** (bucket / LATENCIES_A_DECADE)


def latency_quantile(counts: Sequence[int], share: float) -> float | None:
    """The `share` quantile of counted durations in seconds, at most 5 % off; None where nothing was counted.

    By nearest rank, as the middle of its bucket. What is beyond 100 seconds counts as 100 seconds.
    """
    rank = max(1, math.ceil(share * sum(counts)))
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            upper = latency_edge(min(bucket, LATENCIES - 2))
            middle = 10 ** (-0.5 / LATENCIES_A_DECADE) if 0 < bucket < LATENCIES - 1 else 1.0
            return upper * middle
    return None


def score_bucket(score: float) -> int:
    """The bucket of a finite score; buckets grow with scores.

    Probabilities are told apart by their log-odds, so that 0.001 and 0.01 are as far from each other as 0.99 and
    0.999; beyond 0 and 1, where only a regression goes, numbers are told apart by their order of size.
    """
    if 0 <= score <= 1:
        if score in (0, 1):
            return _BELOW + (_WITHIN - 1 if score else 0)
        logit = math.log(score / (1 - score))
        return _BELOW + min(max(round(logit / _LOGIT_STEP) + _LOGITS - 1, 0), _WITHIN - 1)
    if score > 1:
        return _BELOW + _WITHIN + min(int(math.log(score) / _STEP), _ABOVE - 1)
    return _BELOW - 1 - min(max(int((math.log(-score) + _LOG_MILLION) / _STEP), 0), _BELOW - 1)


def score_buckets(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """`score_bucket` of every one of n finite scores."""
    import numpy as np

    if scores.min() < 0 or scores.max() > 1:
        return np.array([score_bucket(score) for score in scores.tolist()], dtype=np.int64)
    with np.errstate(divide="ignore"):  # 0 and 1 have no odds; they get the outermost buckets
        logits = np.log(scores / (1 - scores))
    within = np.clip(np.rint(logits / _LOGIT_STEP) + _LOGITS - 1, 0, _WITHIN - 1)
    buckets: NDArray[np.int64] = (within + _BELOW).astype(np.int64)
    return buckets


class Window:
    """What was counted in the last `seconds`, off by a twelfth of it at most, and by one look.

    Until so much time has gone by, the window begins with the first look.
    """

    def __init__(self, seconds: float) -> None:
        self._length, self._spacing = timedelta(seconds=seconds), timedelta(seconds=seconds / 12)
        self._looks: deque[tuple[datetime, Counts]] = deque()

    def look(self, now: datetime, counts: Counts) -> Counts:
        """Take the counts as they stand `now`, and give what came in the window that ends with them."""
        looks = self._looks
        if looks and now < looks[-1][0]:  # the clock was set back
            looks.clear()
        if not looks or now - looks[-1][0] >= self._spacing:
            looks.append((now, counts))
        while len(looks) > 1 and now - looks[1][0] >= self._length:
            looks.popleft()
        return counts.since(looks[0][1])


Role = Literal["stable", "candidate", "shadow", "mirror"]
"""Who scored: the two that answer; a candidate beside stable's answers; stable beside the candidate's answers."""

ROLES: tuple[Role, ...] = ("stable", "candidate", "shadow", "mirror")

# One role's whole numbers, then its buckets.
REQUESTS, FAILED, RECORDS, INVALID, REPEATS = range(5)
LATENCY = 5
SCORE = LATENCY + LATENCIES
INTS = SCORE + SCORES
# One role's sums.
SECONDS, SCORE_SUM, SCORE_SQUARES = range(3)
FLOATS = 3
# What belongs to no single role.
FALLBACKS, DROPPED, PAIRS, DIFFERENT = range(4)
COMMON = 4
DISTANCE = 0
COMMON_FLOATS = 1

ALL_INTS = len(ROLES) * INTS + COMMON
ALL_FLOATS = len(ROLES) * FLOATS + COMMON_FLOATS
BYTES = 8 * (ALL_INTS + ALL_FLOATS)
SUFFIX = ".counts"


@dataclass(frozen=True)
class Counts:
    """Everything that was counted up to a moment: `ints` and `floats` hold a row for each role."""

    ints: NDArray[np.int64]
    floats: NDArray[np.float64]
    common: NDArray[np.int64]
    distance: float

    def since(self, earlier: Counts) -> Counts:
        """What was counted after `earlier`."""
        return Counts(
            self.ints - earlier.ints,
            self.floats - earlier.floats,
            self.common - earlier.common,
            self.distance - earlier.distance,
        )

    def of(self, role: Role, what: int) -> int:
        """One whole number of one role."""
        return int(self.ints[ROLES.index(role), what])

    def sum_of(self, role: Role, what: int) -> float:
        """One sum of one role."""
        return float(self.floats[ROLES.index(role), what])

    def latencies(self, role: Role) -> list[int]:
        """The durations of one role's requests, in the buckets of `scale`."""
        found: list[int] = self.ints[ROLES.index(role), LATENCY:SCORE].tolist()
        return found

    def scores(self, role: Role) -> NDArray[np.int64]:
        """The scores that one role gave, in the buckets of `scale`."""
        return self.ints[ROLES.index(role), SCORE:]

    @property
    def pairs(self) -> int:
        """How many records both models scored."""
        return int(self.common[PAIRS])


def read_counts(folder: Path) -> Counts:
    """The sum over all workers that ever counted in `folder`.

    Raises:
        OSError: the folder cannot be read.
    """
    import numpy as np

    ints, floats = np.zeros(ALL_INTS, np.int64), np.zeros(ALL_FLOATS)
    for path in folder.glob("*" + SUFFIX):
        # Mapped, not read: a number that its worker is adding to is then seen before or after, never half.
        with path.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), BYTES, access=mmap.ACCESS_READ)
        ints += np.frombuffer(content, np.int64, ALL_INTS)
        floats += np.frombuffer(content, np.float64, ALL_FLOATS, 8 * ALL_INTS)
    split, cut = len(ROLES) * INTS, len(ROLES) * FLOATS
    return Counts(
        ints[:split].reshape(len(ROLES), INTS),
        floats[:cut].reshape(len(ROLES), FLOATS),
        ints[split:],
        float(floats[cut + DISTANCE]),
    )


_FEW = 16  # up to so many scores a plain loop is quicker than NumPy


class Counters:
    """The counts of one worker; they only grow, and outlive the worker in its file.

    A worker writes to a file of its own, so no two processes ever add to one number; whoever wants the whole sums the
    files of the folder (`read_counts`). Threads of the worker take turns by a lock.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{os.getpid()}-{uuid.uuid4().hex}"
        with draft.open("w+b") as stream:
            # Its blocks are taken now: a full disk would otherwise end the process at the first count.
            os.posix_fallocate(stream.fileno(), 0, BYTES)
            self._memory = mmap.mmap(stream.fileno(), BYTES)
        self._path = draft.replace(folder / (draft.name[1:] + SUFFIX))
        self._array = np.frombuffer(self._memory, np.int64, ALL_INTS)
        whole = memoryview(self._memory)
        self._ints = whole[: 8 * ALL_INTS].cast("q")
        self._floats = whole[8 * ALL_INTS :].cast("d")
        self._places = {role: (row * INTS, row * FLOATS) for row, role in enumerate(ROLES)}
        self._last = dict.fromkeys(ROLES, math.nan)
        self._lock = threading.Lock()

    def is_in_place(self) -> bool:
        """Whether the file is still where others look for it."""
        return self._path.exists()

    def add(
        self,
        role: Role,
        records: int,
        seconds: float,
        *,
        failed: bool = False,
        invalid: int = 0,
        scores: Sequence[float] | NDArray[np.float64] = (),
    ) -> None:
        """Count one request that `role` scored, or failed to.

        Args:
            role: who scored it.
            records: how many records it held.
            seconds: how long this model took.
            failed: whether it gave no usable scores.
            invalid: how many scores of the request were unusable, where `scores` does not hold them.
            scores: one a record, as they are answered; one that is not a finite number counts as unusable.
        """
        place, sums = self._places[role]
        ints, floats = self._ints, self._floats
        with self._lock:
            ints[place + REQUESTS] += 1
            ints[place + RECORDS] += records
            ints[place + LATENCY + latency_bucket(seconds)] += 1
            floats[sums + SECONDS] += seconds
            if failed:
                ints[place + FAILED] += 1
            if invalid:
                ints[place + INVALID] += invalid
            if len(scores) <= _FEW:
                for score in scores:
                    self._add_score(role, place, sums, score)
            else:
                self._add_scores(role, place, sums, scores)

    def pair(self, different: int, pairs: int, distance: float = 0.0) -> None:
        """Count records that both models scored.

        Args:
            different: how many of them got another label.
            pairs: how many there were.
            distance: the sum of the absolute differences of their scores.
        """
        place = len(ROLES) * INTS
        with self._lock:
            self._ints[place + PAIRS] += pairs
            self._ints[place + DIFFERENT] += different
            self._floats[len(ROLES) * FLOATS + DISTANCE] += distance

    def fallback(self, records: int) -> None:
        """Count records that stable answered since the candidate could not."""
        self._add_common(FALLBACKS, records)

    def drop(self, records: int) -> None:
        """Count records that should have been scored beside, and were not since the queue was full."""
        self._add_common(DROPPED, records)

    def _add_common(self, what: int, count: int) -> None:
        with self._lock:
            self._ints[len(ROLES) * INTS + what] += count

    def _add_score(self, role: Role, place: int, sums: int, score: float) -> None:
        ints, floats = self._ints, self._floats
        if not math.isfinite(score):
            ints[place + INVALID] += 1
            return
        ints[place + SCORE + score_bucket(score)] += 1
        floats[sums + SCORE_SUM] += score
        floats[sums + SCORE_SQUARES] += score * score
        if score == self._last[role]:
            ints[place + REPEATS] += 1
        self._last[role] = score

    def _add_scores(self, role: Role, place: int, sums: int, scores: Sequence[float] | NDArray[np.float64]) -> None:
        import numpy as np

        given = np.asarray(scores, dtype=np.float64)
        finite = given[np.isfinite(given)]
        ints, floats = self._ints, self._floats
        ints[place + INVALID] += len(given) - len(finite)
        if not len(finite):
            return
        np.add.at(self._array[place + SCORE : place + INTS], score_buckets(finite), 1)
        floats[sums + SCORE_SUM] += float(finite.sum())
        floats[sums + SCORE_SQUARES] += float(finite @ finite)
        ints[place + REPEATS] += int(np.count_nonzero(finite[1:] == finite[:-1])) + (finite[0] == self._last[role])
        self._last[role] = float(finite[-1])
