"""The vocabulary of a diagnosis: what may be wrong, what speaks for it, and what helps."""

from __future__ import annotations

from enum import StrEnum

from mergeline.documents import Frozen
from mergeline.watch.drift import Finding
from mergeline.watch.results import Outcome


class Cause(StrEnum):
    """What may be wrong."""

    SILENT = "requests stopped"
    UNIT = "unit change upstream"
    SHIFTED = "values shifted upstream"
    PILED = "one value repeated upstream"
    NULLED = "column nulled upstream"
    CATEGORIES = "new categories upstream"
    REPEATED = "rows repeated upstream"
    INPUTS = "inputs drifted"
    CONCEPT = "concept drift"
    RELEASE = "bad release"
    LABELS = "label outage"
    CANDIDATE = "slow candidate"
    BAD_CANDIDATE = "bad candidate"
    FAILING = "requests that the model fails on"
    STARVED = "resource starvation"


class Action(StrEnum):
    """What helps against it."""

    FIND = "find where requests stop: callers, server or journal"
    MEND = "mend upstream"
    RETRAIN = "retrain"
    ROLL_BACK = "roll back"
    WAIT = "wait for labels"
    SCALE = "scale"


class Ruling(StrEnum):
    """What the evidence says of one cause; `inconclusive` where an input is missing that could show it."""

    SUSPECTED = "suspected"
    INCONCLUSIVE = "inconclusive"
    CLEARED = "cleared"


ACTIONS = {
    Cause.SILENT: Action.FIND,
    Cause.UNIT: Action.MEND,
    Cause.SHIFTED: Action.MEND,
    Cause.PILED: Action.MEND,
    Cause.REPEATED: Action.MEND,
    Cause.NULLED: Action.MEND,
    Cause.CATEGORIES: Action.MEND,
    Cause.INPUTS: Action.RETRAIN,
    Cause.CONCEPT: Action.RETRAIN,
    Cause.RELEASE: Action.ROLL_BACK,
    Cause.LABELS: Action.WAIT,
    Cause.CANDIDATE: Action.ROLL_BACK,
    Cause.BAD_CANDIDATE: Action.ROLL_BACK,
    Cause.FAILING: Action.MEND,
    Cause.STARVED: Action.SCALE,
}


class Load(Frozen):
    """What a server counted of one model since it started; `p99_ms` is None before its first answer."""

    requests: int
    failed: int
    p99_ms: float | None


class Server(Frozen):
    """What one server says of its load; `candidate` is None where nothing rolls out."""

    stable: Load
    candidate: Load | None
    waiting: int


class Evidence(Frozen):
    """Everything that a diagnosis rests on; None is an input that is missing, and never good news.

    `rows` and `rows_before` are of the window and of the one before, `repeated` is the share whose id came before.
    `candidate_worse` says that labels show the candidate worse than stable, beyond the gate's margin. `worse` says that
    the gate's metric is surely worse by the labels, and `meaning` that scores mean something else. `labels_before` is
    whether earlier windows had labels. `release_recent` is whether the stable model was released in the window or in
    the one before it.
    """

    outcome: Outcome | None = None
    findings: tuple[Finding, ...] | None = None
    absent: tuple[str, ...] = ()
    rows: int | None = None
    rows_before: int | None = None
    repeated: float = 0.0
    candidate_worse: bool | None = None
    candidate_change: float | None = None
    answered: int | None = None
    labelled: int = 0
    labels_before: bool = False
    worse: bool | None = None
    meaning: bool | None = None
    quality_change: float | None = None
    release_recent: bool | None = None
    server: Server | None = None


class Suspect(Frozen):
    """One cause, with the numbers that speak for it; `score` orders suspects, and is no probability.

    `column` is where it shows, empty where it is no column's; `missing` are the inputs that it would take to tell.
    """

    cause: Cause
    ruling: Ruling
    score: float = 0.0
    column: str = ""
    numbers: dict[str, float] = {}
    missing: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """What helps against this cause."""
        return ACTIONS[self.cause]
