"""Judges a window by its labels."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.metrics import measure
from mergeline.evaluate.results import named
from mergeline.evaluate.scoring import Scored
from mergeline.model.bin_counts import NumberCounts
from mergeline.model.profile import Calibration, NumberProfile
from mergeline.params import Task
from mergeline.watch.drift import Part
from mergeline.watch.estimate import counted_scores, estimate_scores, estimate_weighted
from mergeline.watch.labelled import Labelled, read_labelled
from mergeline.watch.performance import MIN_LABELLED, live_metrics, meaning_changes
from mergeline.watch.results import BackTest, Estimated, Live, OutcomeShare, Slice, Stretch
from mergeline.watch.window_counts import column_types

if TYPE_CHECKING:
    from mergeline.journal.window import Window
    from mergeline.params import Params
    from mergeline.watch.drift import Compared
    from mergeline.watch.released_model import Context, Served


def read_live(context: Context, window: Window) -> Live | None:
    """What the labels of the window say of the served model; None where it answered nothing in it.

    Args:
        context: what to read from.
        window: the newest one whose labels have had time to come.
    """
    types = column_types(context.connection, *context.own(window).relations())
    hashed = context.params.serve.journal.hash  # a hash is no value of the holdout's
    slices = [name for name in context.params.evaluation.slices if name in types and name not in hashed]
    found = read_labelled(context, window, context.served.digest, context.served.signature.output, slices)
    if not found.answered:
        return None
    return judge_live(found, stretch_of(window), context.served, context.params)


def judge_live(found: Labelled, stretch: Stretch, served: Served, params: Params) -> Live:
    """What labelled rows say: metrics, slices, the meaning of scores, and how often each class came."""
    scored, profile = found.scored, served.profile
    enough = len(scored.truth) >= MIN_LABELLED
    expected = estimate_scores(scored.scores, profile, served.signature.output) if enough else {}
    rows = served.evaluation.holdout.rows if served.evaluation is not None else profile.holdout_rows
    return Live(
        stretch=stretch,
        answered=found.answered,
        labelled=found.labelled,
        rows=len(scored.truth),
        sampled=found.sampled,
        unknown=found.unknown,
        metrics=live_metrics(scored, served.metrics, rows, params, expected),
        slices=_slices(found, served, params) if enough and found.columns else (),
        meaning=meaning_changes(scored, profile.calibration, params.watch.drift.min_meaning_change),
        outcomes=_outcomes(scored, profile.calibration),
    )


def stretch_of(window: Window) -> Stretch:
    """The window as a result."""
    return Stretch(start=window.start, end=window.end, clock=window.clock.value)


def _slices(found: Labelled, served: Served, params: Params) -> tuple[Slice, ...]:
    """The gate's metric on every slice, beside the holdout's of the same value."""
    from mergeline.evaluate.slices import slice_column

    evaluation = served.evaluation
    known = {} if evaluation is None else {(each.column, each.value): each for each in evaluation.slices}
    edges = None if evaluation is None else evaluation.slice_edges
    frame, results = found.frame, []
    for column in found.columns:
        for part in slice_column(
            frame, column, params.evaluation.min_slice_rows, edges=None if edges is None else edges.get(column, ())
        ):
            # What is rare differs: two pools hold other values.
            before = None if part.pooled else known.get((column, part.value))
            promised, size = ((), 0) if before is None else (before.metrics, before.rows)
            metric = named(live_metrics(found.scored.take(part.rows), promised, size, params), params.gate.metric)
            if metric is not None:
                results.append(Slice(column=column, value=part.value, rows=len(part.rows), metric=metric))
    return tuple(results)


def _outcomes(scored: Scored, calibration: tuple[Calibration, ...]) -> tuple[OutcomeShare, ...]:
    """How often each class came, on the holdout and now; for a binary task the positive one."""
    if scored.task is Task.REGRESSION or not len(scored.truth):
        return ()
    places = [(1, calibration[0])] if scored.task is Task.BINARY else list(enumerate(calibration))
    return tuple(
        OutcomeShare(
            label=scored.classes[place],
            before=float(np.average(known.outcomes, weights=known.rows)),
            now=float((scored.truth == place).mean()),
        )
        for place, known in places
    )


BACK_TEST_ROWS = 50_000
ESTIMATE_ROWS = 20_000
"""Rows that the estimate of a model with several classes is made from."""


def estimate_window(
    context: Context, window: Window, answers: Sequence[Compared], back_tests: Sequence[Window]
) -> Estimated | None:
    """What the window's metrics should be, beside what such estimates were worth in earlier windows.

    Args:
        context: what to read from.
        window: the one without labels.
        answers: the counts of its scores.
        back_tests: earlier windows whose labels may have come.
    """
    served = context.served
    output = served.signature.output
    if output.task is Task.MULTICLASS:
        scores = _sampled_scores(context, window)
        rows, metrics = len(scores), estimate_scores(scores, served.profile, output)
    else:
        rows, metrics = _estimate_counted(answers, served)
    if not metrics:
        return None
    tests = [_back_test(context, earlier) for earlier in back_tests]
    return Estimated(rows=rows, metrics=metrics, back_tests=tuple(test for test in tests if test is not None))


def _back_test(context: Context, window: Window) -> BackTest | None:
    """The estimate of an earlier window's labelled rows, beside the metrics that their labels give."""
    if not context.journal.feedback_since(window):
        return None
    served, output = context.served, context.served.signature.output
    found = read_labelled(context, window, served.digest, output, max_rows=BACK_TEST_ROWS)
    if len(found.scored.truth) < MIN_LABELLED:
        return None
    estimated = estimate_scores(found.scored.scores, served.profile, output)
    realised = measure(found.scored)
    return BackTest(
        stretch=stretch_of(window),
        rows=len(found.scored.truth),
        estimated=estimated,
        realised={name: realised[name] for name in estimated if name in realised},
    )


def _estimate_counted(answers: Sequence[Compared], served: Served) -> tuple[int, dict[str, float]]:
    for each in answers:
        if (
            each.part is Part.SCORE
            and isinstance(each.profile, NumberProfile)
            and isinstance(each.counts, NumberCounts)
        ):
            values, weights = counted_scores(each.profile, each.counts)
            return int(weights.sum()), estimate_weighted(values, weights, served.profile, served.signature.output)
    return 0, {}


def _sampled_scores(context: Context, window: Window) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    relation = context.own(window).relation()
    width = len(context.served.signature.output.classes)
    if relation is None:
        return np.empty((0, width))
    rows = context.connection.execute(
        f"select _scores from {relation} where len(_scores) = {width} order by hash(_id) limit {ESTIMATE_ROWS}"
    ).fetchall()
    return np.array([scores for (scores,) in rows], dtype=np.float64).reshape(-1, width)
