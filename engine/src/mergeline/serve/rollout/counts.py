"""The layout of what is counted, and the sum of it over all workers."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mergeline.serve.rollout.scale import LATENCIES, SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
