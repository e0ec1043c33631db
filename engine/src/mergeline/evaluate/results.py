"""The typed results of an evaluation and of the gate: what every report is written from."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field, ValidationError

from mergeline.documents import Frozen, parse_json, read_text
from mergeline.errors import DataError, DocumentError
from mergeline.params import Task

EVALUATION_FOLDER, EVALUATION_FILE = Path("evaluation"), "evaluation.json"


class Estimate(Frozen):
    """A value with its bootstrap interval; without one (`low` is None) where it cannot be had."""

    value: float
    low: float | None = None
    high: float | None = None


class Metric(Frozen):
    """One metric on the holdout."""

    name: str
    estimate: Estimate
    higher_is_better: bool


class SliceResult(Frozen):
    """The gate's metric and its companions on the rows where `column` is `value`."""

    column: str
    value: str
    rows: int
    metrics: tuple[Metric, ...]


class GroupRates(Frozen):
    """What one group of a fairness column gets (rates between 0 and 1, or errors in the target's unit)."""

    group: str
    rows: int
    rates: dict[str, float]


class Fairness(Frozen):
    """How alike the groups of one column are treated.

    `gaps` are the largest differences between groups: demographic parity and equalised odds for a class,
    the difference of mean absolute error over the overall one for a number.
    """

    column: str
    groups: tuple[GroupRates, ...]
    gaps: dict[str, float]


class Importance(Frozen):
    """How much the gate's metric loses when one feature is shuffled.

    `low` to `high` is its interval; None where these rows leave it undefined.
    """

    feature: str
    loss: float
    deviation: float
    low: float | None = None
    high: float | None = None


class StressResult(Frozen):
    """How much the gate's metric loses under one disturbance; `error` says what the model raised instead."""

    name: str
    description: str
    value: float | None
    loss: float | None
    error: str | None = None


class Series(Frozen):
    """One line of a chart."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Curve(Frozen):
    """One chart: at most 60 points a series."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


class Confusion(Frozen):
    """Counts at the tuned threshold: `counts[i][j]` rows of class `i` were labelled `j`."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    threshold: float | None


class Holdout(Frozen):
    """The rows that a model is judged on."""

    digest: str
    partitions: tuple[str, ...]
    rows: int
    first: str | None
    last: str | None


class Evaluation(Frozen):
    """Everything that was measured of one model on one holdout.

    `slice_edges` are the borders of the columns that are cut into bins, so that other rows can be cut alike.
    """

    name: str
    task: Task
    digest: str
    holdout: Holdout
    metrics: tuple[Metric, ...]
    slices: tuple[SliceResult, ...]
    slice_edges: dict[str, tuple[float, ...]]
    fairness: tuple[Fairness, ...]
    importance: tuple[Importance, ...]
    stress: tuple[StressResult, ...]
    curves: tuple[Curve, ...]
    confusion: Confusion | None
    model_bytes: int


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


Named = TypeVar("Named", bound=_HasName)


def named(metrics: Iterable[Named], name: str) -> Named | None:
    """The metric of that name; None where it is undefined on these rows."""
    return next((metric for metric in metrics if metric.name == name), None)


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        DataError: the file is missing or is not an evaluation.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        raise DataError("there is no evaluation", where=str(path), hint="make it: dvc repro")
    try:
        return Evaluation.model_validate(parse_json(read_text(path), str(path)))
    except (DocumentError, ValidationError) as cause:
        raise DataError(f"not an evaluation: {cause}", where=str(path), hint="make it again: dvc repro") from cause


Written = Annotated[str | None, Field(exclude_if=lambda text: text is None)]
"""A sentence that verdicts held before reports composed it; kept when such a file is read, so that its digest stays."""


class GateOutcome(StrEnum):
    """What the paired comparison shows."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    NO_CHAMPION = "no champion"

    @property
    def passes(self) -> bool:
        """Whether a challenger with this outcome may be proposed."""
        return self in (GateOutcome.BETTER, GateOutcome.EQUIVALENT, GateOutcome.NO_CHAMPION)


class PairedMetric(Frozen):
    """One metric of both models on the same rows; a positive `gain` means that the challenger is better."""

    name: str
    higher_is_better: bool
    champion: Estimate
    challenger: Estimate
    gain: Estimate


class SliceChange(Frozen):
    """The gate's slice metric of both models on one slice.

    `p_value` is one-sided: the chance to see a loss this far beyond the margin if the challenger were
    worse by exactly the margin. `q_value` is the same after Benjamini and Hochberg.
    """

    column: str
    value: str
    rows: int
    metric: str
    champion: float
    challenger: float
    gain: Estimate
    p_value: float
    q_value: float
    worse: bool


class DeLong(Frozen):
    """The cross-check of an AUC difference by DeLong, DeLong and Clarke-Pearson (1988)."""

    gain: Estimate
    p_value: float
    agrees: bool


class Power(Frozen):
    """What the holdout can tell: how likely `difference` shows on `rows`, and on how many it shows with `target`."""

    difference: float
    rows: int
    power: float
    target: float
    rows_needed: int


class Comparison(Frozen):
    """Champion and challenger on the same holdout rows.

    `curves` are the champion's, for the charts of the report; no file and no digest of a verdict holds them.
    """

    champion_digest: str
    champion_version: int
    outcome: GateOutcome
    metrics: tuple[PairedMetric, ...]
    slices: tuple[SliceChange, ...]
    delong: DeLong | None
    power: Power | None = Field(default=None, exclude_if=lambda power: power is None)
    curves: tuple[Curve, ...] = Field(default=(), exclude=True)
    reason: Written = None


class Status(StrEnum):
    """What one check found."""

    PASS = "pass"  # noqa: S105 - the outcome of a check, not a secret
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"


class Check(Frozen):
    """One reason of a verdict: what was measured, what it had to be, and what that means."""

    name: str
    status: Status
    value: str
    bound: str
    meaning: str


def make_check(name: str, status: Status, value: str, bound: str, meaning: str) -> Check:
    """A check by its place in a table of them."""
    return Check(name=name, status=status, value=value, bound=bound, meaning=meaning)


CheckCase = Literal[
    "no champion", "same model", "champion unreadable", "metric undefined", "no interval", "better", "equivalent",
    "worse", "inconclusive", "no DeLong", "DeLong agrees", "DeLong disagrees", "floor undefined", "floor reached",
    "floor missed", "ceiling exceeded", "no slice columns", "no other model", "no large slice", "no worse slice",
    "worse slices", "no fairness columns", "one group", "gaps undefined", "unfair", "odds undefined", "fair",
    "no probabilities", "calibration undefined", "calibrated", "miscalibrated", "no stress test",
    "raises under stress", "stress undefined", "stress loss", "stress beside the champion", "small", "large",
    "latency unknown", "fast", "slow", "served by scikit-learn", "no scorer", "scorer differs", "compiled",
]  # fmt: skip
"""The situation that a check of the gate found: `report.words` has the sentence for each."""


class GateCheck(Frozen):
    """One check of the gate: what was measured, what it had to be, and the situation, in numbers and names.

    `numbers` and `names` are what the sentence of `case` holds. `meaning` is the sentence itself in a verdict that
    was written before there were cases.
    """

    name: str
    status: Status
    value: str
    bound: str
    case: CheckCase | None = Field(default=None, exclude_if=lambda case: case is None)
    numbers: dict[str, float] = Field(default={}, exclude_if=lambda numbers: not numbers)
    names: dict[str, str] = Field(default={}, exclude_if=lambda names: not names)
    meaning: Written = None


class GateVerdict(Frozen):
    """Whether the model may be proposed, and why."""

    accepted: bool
    outcome: GateOutcome
    checks: tuple[GateCheck, ...]
    comparison: Comparison | None
    challenger_digest: str
    holdout: Holdout
    headline: Written = None

    @property
    def inconclusive(self) -> bool:
        """Whether the comparison alone stands against the model, and more rows could still change it."""
        return not self.accepted and self.outcome is GateOutcome.INCONCLUSIVE and len(self.failures) <= 1

    @property
    def failures(self) -> tuple[GateCheck, ...]:
        """The checks that stand against the model."""
        return tuple(check for check in self.checks if check.status is Status.FAIL)


DIGITS = 6
"""Significant digits that are kept."""

Result = TypeVar("Result", bound=Frozen)


def rounded(result: Result) -> Result:
    """The same result with every float rounded to six significant digits."""
    return type(result).model_validate(_round(result.model_dump()))


def _round(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0
    if isinstance(value, dict):
        return {key: _round(child) for key, child in value.items()}
    if isinstance(value, tuple | list):
        return [_round(child) for child in value]
    return value


class LabelComparison(Frozen):
    """Candidate and stable by the labels that came for what they answered.

    `paired` where both scored the same requests. `outcome` is the gate's word for the candidate, None where there are
    too few labels to say; `reading` says it in a sentence.
    """

    paired: bool
    labelled: int
    outcome: GateOutcome | None = None
    gain: Estimate | None = None
    reading: str
