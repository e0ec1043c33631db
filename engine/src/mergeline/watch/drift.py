"""Decides for each column whether the window differs from the reference, and by how much."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mergeline.documents import Frozen
from mergeline.model.bin_counts import CategoryCounts, NumberCounts
from mergeline.model.profile import CategoryProfile, NumberProfile, merged
from mergeline.params import DriftParams
from mergeline.stats.paired import benjamini_hochberg
from mergeline.stats.two_samples import (
    Tested,
    chi_squared,
    detectable_distance,
    grouped,
    jensen_shannon,
    kolmogorov_smirnov,
    shares_differ,
    stability_index,
    wasserstein,
)
from mergeline.watch.patterns import patterns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.model.binning import Grid

JS_BINS = 20

_Spans = tuple["NDArray[np.float64]", "NDArray[np.float64]"]
"""The lower and the upper borders."""


class Part(StrEnum):
    """What a column is to the model."""

    INPUT = "input"
    SCORE = "score"
    LABEL = "label"


class Change(StrEnum):
    """What a test looks for."""

    VALUES = "values"
    MISSING = "missing"
    NEW = "new categories"


class Status(StrEnum):
    """What a test found: `note` is a change in a column that the model hardly uses, `few` too few rows to tell."""

    STEADY = "steady"
    NOTE = "note"
    DRIFT = "drift"
    FEW = "few"


class Finding(Frozen):
    """One test of one column.

    `against` is what it was compared with; of several references the one that it differs least from. `effect` is the
    corrected effect size and `bound` what it must reach: the distance D of the distribution functions (numbers),
    Cramér's V (categories), or the change of a share (missing, new categories). `q_value` is the false discovery rate
    at which the test finds it. `importance` is the column's share of the model's permutation importance, None where
    that is not known. `measures` has the other effect sizes by name, and what
    the values look like as a whole: see `patterns`.
    """

    column: str
    part: Part
    change: Change
    status: Status
    against: str
    effect: float
    bound: float
    q_value: float
    before: float | None
    after: float | None
    importance: float | None
    measures: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """A column's profile and its counts in the window."""

    part: Part
    profile: NumberProfile | CategoryProfile
    counts: NumberCounts | CategoryCounts


class _Test(NamedTuple):
    """One test of a column before all of them were seen together."""

    of: Compared
    change: Change
    tested: Tested
    before: float | None = None
    after: float | None = None
    measures: Mapping[str, float] = {}


def find_drift(
    columns: Sequence[Compared],
    importance: Mapping[str, float],
    bounds: DriftParams,
    against: str,
    unused: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Test every column, correct for their number, and rank what was found.

    A change is drift where its q-value is below the discovery rate *and* its corrected effect reaches the bound: with a
    million rows everything is significant, with a hundred everything is large. A change in an input that the model is
    known not to use is a note.

    Args:
        columns: each column with its profile and counts.
        importance: the inputs' shares of the model's permutation importance, by name; may be empty.
        bounds: what counts.
        against: what the profiles are of.
        unused: the inputs with less than `min_importance` of the importance, whatever of its interval holds.

    Returns:
        The findings, the worst first.
    """
    tests = [test for column in columns for test in _tests(column)]
    if not tests:
        return ()
    q_values = benjamini_hochberg(np.array([test.tested.p_value for test in tests]))
    findings = []
    for test, q_value in zip(tests, q_values.tolist(), strict=True):
        part, name = test.of.part, test.of.profile.name
        weight = importance.get(name) if part is Part.INPUT else None
        bound = bounds.min_effect if test.change is Change.VALUES else bounds.min_share_change
        if q_value <= bounds.discovery_rate and test.tested.corrected >= bound:
            status = Status.NOTE if part is Part.INPUT and name in unused else Status.DRIFT
        else:
            seen = detectable_distance(*_rows(test.of), len(tests), bounds.discovery_rate)
            few = test.change is Change.VALUES and seen > bounds.min_detectable
            status = Status.FEW if few else Status.STEADY
        findings.append(
            Finding(
                column=name,
                part=part,
                change=test.change,
                status=status,
                against=against,
                effect=_short(test.tested.corrected),
                bound=bound,
                q_value=_short(q_value),
                before=None if test.before is None else _short(test.before),
                after=None if test.after is None else _short(test.after),
                importance=None if weight is None else _short(weight),
                measures={measure: _short(value) for measure, value in test.measures.items()},
            )
        )
    return _ranked(findings)


def least_drift(by_reference: Sequence[Sequence[Finding]]) -> tuple[Finding, ...]:
    """What is left of several references' findings: a column drifts only if it differs from every one.

    Of each test the finding that is nearest to steady is kept.
    """
    nearest = [Status.STEADY, Status.FEW, Status.NOTE, Status.DRIFT]
    tests: dict[tuple[Part, str, Change], list[Finding]] = {}
    for finding in chain.from_iterable(by_reference):
        tests.setdefault((finding.part, finding.column, finding.change), []).append(finding)
    # A test that one of the references had no reason to make, as for new categories, found nothing there.
    return _ranked(
        [
            min(found, key=lambda finding: (nearest.index(finding.status), finding.effect))
            for found in tests.values()
            if len(found) == len(by_reference)
        ]
    )


def _ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    order = [Status.DRIFT, Status.NOTE, Status.FEW, Status.STEADY]
    # A change weighs by its size and by how much the model listens to the column.
    return tuple(
        sorted(findings, key=lambda f: (order.index(f.status), -(f.importance or 0.0) * f.effect, -f.effect, f.column))
    )


def _rows(column: Compared) -> tuple[int, int]:
    counts = column.counts
    seen = int(counts.cells.sum()) if isinstance(counts, NumberCounts) else sum(counts.named.values()) + counts.other
    return column.profile.rows, seen


def _tests(column: Compared) -> Iterator[_Test]:
    profile, counts, (before, now) = column.profile, column.counts, _rows(column)
    if isinstance(profile, NumberProfile) and isinstance(counts, NumberCounts):
        # What is not a finite number is missing for the model, whichever of the two the engine writes.
        gone_before, gone_now = profile.missing + profile.infinite, counts.missing + counts.infinite
        if before and now:
            yield _numbers(column, profile, counts)
    elif isinstance(profile, CategoryProfile) and isinstance(counts, CategoryCounts):
        gone_before, gone_now = profile.missing, counts.missing
        if before and now:
            yield from _categories(column, profile, counts)
    else:
        raise TypeError(f"{profile.name}: the profile and the counts are of different kinds")
    if before + gone_before and now + gone_now:
        yield _share(column, Change.MISSING, (gone_before, before + gone_before), (gone_now, now + gone_now))


def _numbers(column: Compared, profile: NumberProfile, counts: NumberCounts) -> _Test:
    reference = np.array(profile.counts, dtype=np.int64)
    current = merged(counts.cells, profile.ends)
    spans = _spans(profile)
    values = _middles(spans)
    scale = max(1.0, float(np.abs(values).max()))  # squares of the greatest numbers would be infinite
    measures = {
        "psi": stability_index(reference, current),
        "jensen_shannon": jensen_shannon(*grouped(reference, current, JS_BINS)),
        "wasserstein": wasserstein(reference, current, values / scale),
        **(patterns(profile, counts) if column.part is Part.INPUT else {}),
    }
    after = _median_after(reference, current, counts, profile.grid, spans)
    tested = kolmogorov_smirnov(reference, current)
    return _Test(column, Change.VALUES, tested, _median(reference, spans), after, measures)


def _categories(column: Compared, profile: CategoryProfile, counts: CategoryCounts) -> Iterator[_Test]:
    reference = np.array([*profile.counts.values(), profile.rare], dtype=np.int64)
    current = np.array([*(counts.named.get(name, 0) for name in profile.counts), counts.other], dtype=np.int64)
    measures = {"jensen_shannon": jensen_shannon(reference, current)}
    yield _Test(column, Change.VALUES, chi_squared(reference, current), measures=measures)
    before, now = (profile.rare, int(reference.sum())), (counts.other, int(current.sum()))
    if now[0] / now[1] > before[0] / before[1]:
        yield _share(column, Change.NEW, before, now)


def _share(column: Compared, change: Change, before: tuple[int, int], now: tuple[int, int]) -> _Test:
    """Whether one share of the rows, as a number of them and of all, differs from another."""
    return _Test(column, change, shares_differ(*before, *now), before[0] / before[1], now[0] / now[1])


def _middles(spans: _Spans) -> NDArray[np.float64]:
    """A value for each bin: the middle of what it spans; the tails stand at their border."""
    lows, highs = spans
    middles: NDArray[np.float64] = lows / 2 + highs / 2  # the sum of both may be infinite
    return middles


def _spans(profile: NumberProfile) -> _Spans:
    """The borders of each bin."""
    lows, highs = _cells(profile.grid)
    last = np.asarray(profile.ends)
    return lows[np.concatenate([[0], last[:-1] + 1])], highs[last]


def _cells(grid: Grid) -> _Spans:
    """The borders of each cell; a tail has one."""
    edges = grid.edges()
    return np.concatenate([edges[:1], edges]), np.concatenate([edges, edges[-1:]])


def _median_after(
    reference: NDArray[np.int64], current: NDArray[np.int64], counts: NumberCounts, grid: Grid, spans: _Spans
) -> float:
    """The window's median; where training had no value near it, the bins are wide and the cells say more."""
    return _median(current, spans) if reference[_middle(current)] else _median(counts.cells, _cells(grid))


def _median(counts: NDArray[np.int64], spans: _Spans) -> float:
    """The middle of the span that holds the median, to the digit that the span's width leaves known."""
    place = _middle(counts)
    low, high = float(spans[0][place]), float(spans[1][place])
    return near(low / 2 + high / 2, high - low)


def _middle(counts: NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))


def near(value: float, width: float) -> float:
    """The value to about `width`: the middle of a narrow cell is then the round number that fell into it."""
    return round(value, -round(math.log10(width))) if width > 0 else value


def _short(value: float) -> float:
    return float(f"{value:.4g}")
