"""Finds the slices on which the challenger is worse than the champion beyond the margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.metrics import LOSS, row_losses
from mergeline.evaluate.results import Estimate, SliceChange
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.evaluate.slices import Slice, slice_column
from mergeline.params import Params
from mergeline.stats.paired import PairedTest, benjamini_hochberg, paired_test

if TYPE_CHECKING:
    import pandas as pd


def compare_slices(
    champion: Scored, challenger: Scored, frame: pd.DataFrame, params: Params
) -> tuple[SliceChange, ...]:
    """Every slice of every configured column that has at least `min_slice_rows` rows.

    Slices are compared by a loss that every row has a share of: log loss for classes, absolute error for a number.
    (The AUC of a slice is not such a mean, and undefined on a slice with one class.) `slice_margin` is in nats for
    classes; for a number, or with `slice_margin_relative`, it is a share of the champion's mean loss on the slice.
    Benjamini and Hochberg's procedure over all slices of all columns keeps the expected share of false alarms among
    the slices called worse below `slice_discovery_rate`.

    Raises:
        DataError: a configured column does not exist.
    """
    settings = params.evaluation
    parts = [
        part
        for column in settings.slices
        for part in slice_column(frame, column, settings.min_slice_rows)
        if len(part.rows) >= max(2, settings.min_slice_rows)
    ]
    old, new = row_losses(champion), row_losses(challenger)
    tests = [_test(old[part.rows], new[part.rows], params) for part in parts]
    adjusted = benjamini_hochberg(np.array([test.p_value for test in tests]))
    return tuple(
        _change(part, test, q, (old, new), params)
        for part, test, q in zip(parts, tests, adjusted.tolist(), strict=True)
    )


def _test(old: Floats, new: Floats, params: Params) -> PairedTest:
    relative = params.gate.slice_margin_relative or not params.task.classifies
    margin = params.gate.slice_margin * old if relative else params.gate.slice_margin
    return paired_test(new - old, margin, params.gate.confidence)


def _change(
    part: Slice, test: PairedTest, q_value: float, losses: tuple[Floats, Floats], params: Params
) -> SliceChange:
    old, new = losses
    return SliceChange(
        column=part.column,
        value=part.value,
        rows=len(part.rows),
        metric=LOSS[params.task],
        champion=float(old[part.rows].mean()),
        challenger=float(new[part.rows].mean()),
        gain=Estimate(value=-test.added, low=-test.high, high=-test.low),
        p_value=test.p_value,
        q_value=q_value,
        worse=q_value < params.gate.slice_discovery_rate,
    )
