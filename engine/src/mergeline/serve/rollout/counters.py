"""Counts what the models do, in memory that the workers share through files."""

from __future__ import annotations

import math
import mmap
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.serve.rollout.counts import (
    ALL_INTS,
    BYTES,
    DIFFERENT,
    DISTANCE,
    DROPPED,
    FAILED,
    FALLBACKS,
    FLOATS,
    INTS,
    INVALID,
    LATENCY,
    PAIRS,
    RECORDS,
    REPEATS,
    REQUESTS,
    ROLES,
    SCORE,
    SCORE_SQUARES,
    SCORE_SUM,
    SECONDS,
    SUFFIX,
    Role,
    latency_bucket,
    score_bucket,
    score_buckets,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        draft.replace(folder / (draft.name[1:] + SUFFIX))
        self._array = np.frombuffer(self._memory, np.int64, ALL_INTS)
        whole = memoryview(self._memory)
        self._ints = whole[: 8 * ALL_INTS].cast("q")
        self._floats = whole[8 * ALL_INTS :].cast("d")
        self._places = {role: (row * INTS, row * FLOATS) for row, role in enumerate(ROLES)}
        self._last = dict.fromkeys(ROLES, math.nan)
        self._lock = threading.Lock()

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
