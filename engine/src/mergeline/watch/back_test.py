"""Estimates what labels have not come for, beside what such estimates were worth in earlier windows."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.metrics import measure
from mergeline.model.bin_counts import NumberCounts
from mergeline.model.profile import NumberProfile
from mergeline.params import Task
from mergeline.watch.drift import Part
from mergeline.watch.estimate import counted_scores, estimate_scores, estimate_weighted
from mergeline.watch.labelled import read_labelled
from mergeline.watch.live import stretch_of
from mergeline.watch.performance import MIN_LABELLED
from mergeline.watch.results import BackTest, Estimated

if TYPE_CHECKING:
    from mergeline.watch.context import Context
    from mergeline.watch.drift import Compared
    from mergeline.watch.released_model import Served
    from mergeline.watch.window import Window

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
    served, relation = context.served, context.own(window).relation()
    feedback = context.journal.feedback_since(window)
    if relation is None or not feedback:
        return None
    output = served.signature.output
    found = read_labelled(context.connection, relation, feedback, output, max_rows=BACK_TEST_ROWS)
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
