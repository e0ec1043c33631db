"""The typed results of watching one window: what every report of it is written from."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from mergeline.documents import Frozen
from mergeline.evaluate.results import Check, Comparison, Estimate, Series
from mergeline.params import Task
from mergeline.watch.data_quality import Quality
from mergeline.watch.drift import Finding
from mergeline.watch.performance import LiveMetric, MeaningChange


class Outcome(StrEnum):
    """What a window shows; `inconclusive` where it holds too little to say."""

    STEADY = "steady"
    DRIFT = "drift"
    DEGRADED = "degraded"
    INCONCLUSIVE = "inconclusive"


class Stretch(Frozen):
    """From `start` on and before `end`, by the clock that orders the rows."""

    start: datetime
    end: datetime
    clock: str


class Distribution(Frozen):
    """What a column held before and now: shares by value, over the same places.

    `named` names the places of a category, and of a number with few values; it is empty where the places are numbers.
    """

    column: str
    before: Series
    now: Series
    named: tuple[str, ...] = ()


class WholeRow(Frozen):
    """How well a classifier tells rows of the window from rows of `against`: an AUC of 0.5 is by chance.

    `features` are the columns that it told them apart by, with their shares of what it gained, from 1 % on.
    """

    against: str
    rows: int
    auc: float
    p_value: float
    differs: bool
    features: dict[str, float]


class Slice(Frozen):
    """The gate's metric on the rows where `column` is `value`, live and on the holdout."""

    column: str
    value: str
    rows: int
    metric: LiveMetric


class OutcomeShare(Frozen):
    """How often a class came, among the labels of the window and on the holdout."""

    label: str
    before: float | None
    now: float


class Live(Frozen):
    """What the labels say.

    `stretch` is the window that was judged: the newest one whose labels have had time to come. `rows` were judged,
    `labelled` have a label and `answered` were answered in it; `sampled` where not all labelled rows were judged.
    `repeated` counts labels that replaced another, `unknown` labels of a class that the model does not know.
    """

    stretch: Stretch
    answered: int
    labelled: int
    rows: int
    sampled: bool
    unknown: int
    metrics: tuple[LiveMetric, ...]
    slices: tuple[Slice, ...]
    meaning: tuple[MeaningChange, ...]
    outcomes: tuple[OutcomeShare, ...]


class BackTest(Frozen):
    """What was estimated for an earlier window, beside what its labels said later."""

    stretch: Stretch
    rows: int
    estimated: dict[str, float]
    realised: dict[str, float]


class Estimated(Frozen):
    """What the metrics should be if scores mean what they meant, without a label; and how such estimates fared."""

    rows: int
    metrics: dict[str, float]
    back_tests: tuple[BackTest, ...]


class Agreement(Frozen):
    """How the shadow's answers differ from the stable model's on the same requests, whatever is right."""

    rows: int
    same_label: float | None
    mean_difference: float
    correlation: float | None


class Rival(Frozen):
    """Another model beside the stable one.

    `paired` where both answered the same requests (a shadow); a canary's requests are others, so its metrics stand
    beside the stable model's, and each difference has the uncertainty of both.
    """

    digest: str
    role: Literal["shadow", "candidate"]
    paired: bool
    requests: int
    labelled: int
    agreement: Agreement | None = None
    comparison: Comparison | None = None
    metrics: tuple[LiveMetric, ...] = ()
    gain: Estimate | None = None
    reading: str


class Watched(Frozen):
    """Everything that one look at production found. `format` changes with the meaning of a key."""

    format: Literal[1] = 1
    name: str
    task: Task
    version: int
    digest: str
    outcome: Outcome
    headline: str
    reasons: tuple[Check, ...]
    made_at: datetime
    stretch: Stretch
    rows: int
    answered: int
    references: tuple[str, ...]
    quality: Quality
    findings: tuple[Finding, ...]
    answers_before: tuple[Finding, ...]
    whole_rows: tuple[WholeRow, ...]
    distributions: tuple[Distribution, ...]
    live: Live | None
    estimated: Estimated | None
    rivals: tuple[Rival, ...]
    notices: tuple[str, ...]
