"""Curves become charts that can be drawn at evenly spaced places."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.evaluate.results import Curve, Series
from mergeline.params import METRICS
from mergeline.report.charts import axis, mermaid, number
from mergeline.report.curves import SHOWN_BY, as_chart, curves, evaluation_curves
from mergeline.report.document import Details, Table
from mergeline.report.html import chart_html

numbers = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def curve(*series: tuple[list[float], list[float]], name: str = "shape") -> Curve:
    lines = tuple(Series(name=f"line {n}", x=tuple(x), y=tuple(y)) for n, (x, y) in enumerate(series))
    return Curve(name=name, title="Shape", x_label="x", y_label="y", series=lines)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40, unique_by=lambda point: point[0]))
def test_samples_agree_with_numpys_interpolation(points):
    chart = as_chart(curve(([x for x, _ in points], [y for _, y in points])))
    ordered = sorted(points)
    if chart is None:
        assert ordered[0][0] == ordered[-1][0]
        return
    expected = np.interp(chart.grid, [x for x, _ in ordered], [y for _, y in ordered])
    assert chart.series[0].sampled == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_lines_are_sampled_where_they_all_exist():
    chart = as_chart(curve(([0, 10], [0, 10]), ([4, 8], [1, 2])))
    assert chart is not None
    assert (chart.grid[0], chart.grid[-1]) == (4, 8)
    assert chart.series[0].x == (0, 10)


def test_lines_that_share_no_stretch_become_tables():
    blocks = curves([curve(([0, 1], [0, 1]), ([2, 3], [0, 1]))])
    part = blocks[1]
    assert isinstance(part, Details)
    assert [type(block) for block in part.blocks] == [Table, Table]


def test_evenly_spaced_points_are_kept_as_they_are():
    chart = as_chart(curve(([0.1, 0.3, 0.5], [3, 1, 2]), ([0.1, 0.3, 0.5], [4, 5, 6])))
    assert chart is not None
    assert chart.grid == (0.1, 0.3, 0.5)
    assert chart.series[1].sampled == (4, 5, 6)


def test_where_a_curve_rises_at_one_place_the_upper_end_counts():
    chart = as_chart(curve(([0, 0, 0.5, 1, 1], [0, 0.3, 0.8, 0.9, 1.0]), name="roc"))
    assert chart is not None
    assert (chart.series[0].sampled[0], chart.series[0].sampled[-1]) == (0.3, 1.0)


def test_a_calibration_curve_gets_the_diagonal_over_its_own_range():
    chart = as_chart(curve(([0.2, 0.35, 0.8], [0.1, 0.4, 0.7]), name="calibration"))
    assert chart is not None
    assert chart.series[-1].name == "perfect"
    assert chart.series[-1].sampled == pytest.approx(chart.grid)


def test_points_that_are_no_numbers_are_left_out():
    chart = as_chart(curve(([0, 1, 2, 3], [0, math.nan, 2, math.inf])))
    assert chart is not None
    assert chart.series[0].x == (0, 2)
    assert as_chart(curve(([0, 1], [math.nan, math.nan]))) is None
    assert as_chart(curve()) is None


def test_the_table_beside_a_chart_begins_and_ends_where_the_chart_does():
    part = curves([curve(([0, 1, 3], [0, 1, 9]))])[1]
    assert isinstance(part, Details)
    shown = part.blocks[1]
    assert isinstance(shown, Table)
    first, last = shown.rows[0], shown.rows[-1]
    assert [cell[0].text for cell in (*first, *last)] == ["0.000", "0.000", "3.000", "9.000"]
    assert len(shown.rows) == 11


def test_a_chart_of_many_lines_draws_eight_and_says_so():
    part = curves([curve(*[([0, 1], [0, n]) for n in range(12)])])[1]
    assert isinstance(part, Details)
    chart, note, values = part.blocks
    assert len(chart.series) == 8
    assert note.line[0].text == "The chart draws 8 of 12 lines; the table holds them all."
    assert len(values.columns) == 13


def legend_of(blocks, name):
    return next([line.name for line in block.blocks[0].series] for block in blocks[1:] if name in block.summary[0].text)


def test_champion_and_proposal_share_a_chart_whose_legend_is_in_words():
    own, champion = curve(([0, 0.5, 1], [0, 0.8, 1]), name="roc"), curve(([0, 0.4, 1], [0, 0.6, 1]), name="roc")
    assert legend_of(evaluation_curves([own], [champion], 2), "Shape") == ["this proposal", "version 2", "chance"]
    assert legend_of(evaluation_curves([own]), "Shape") == ["model", "chance"]


def test_lines_that_have_names_keep_them_beside_the_champions():
    own, champion = (curve(([0, 1], [0, 1]), ([0, 1], [1, 0])) for _ in range(2))
    assert legend_of(evaluation_curves([own], [champion], 2), "Shape") == [
        "line 0, this proposal", "line 1, this proposal", "line 0, version 2", "line 1, version 2",
    ]  # fmt: skip


def test_a_chart_without_room_for_both_or_without_a_shared_stretch_stays_the_proposals_own():
    many = curve(*[([0, 1], [0, n]) for n in range(5)])
    assert len(legend_of(evaluation_curves([many], [many], 2), "Shape")) == 5
    own, elsewhere = curve(([0, 0.4], [0, 1]), name="calibration"), curve(([0.6, 0.9], [0, 1]), name="calibration")
    assert legend_of(evaluation_curves([own], [elsewhere], 2), "Shape") == ["model", "perfect"]


def test_the_open_chart_is_the_one_that_shows_the_gates_metric():
    found = [curve(([0, 1], [0, 1]), name=name) for name in ("roc", "precision_recall", "calibration")]

    def opened(metric):
        return [part.open for part in evaluation_curves(found, metric=metric)[1:]]

    assert opened("log_loss") == [False, False, True]
    assert opened("roc_auc") == opened("accuracy") == [True, False, False]  # no chart of scores: the first one
    assert set(SHOWN_BY) == {metric for metrics in METRICS.values() for metric in metrics}


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=10))
def test_an_axis_holds_every_value_between_round_ends(values):
    finite = [value for value in values if math.isfinite(value) and abs(value) < 1e12]
    found = axis(finite)
    step = found.ticks[1] - found.ticks[0]
    assert found.low < found.high
    assert all(found.low - 1e-6 * step <= value <= found.high + 1e-6 * step for value in finite)
    assert 2 <= len(found.ticks) <= 13


def test_an_axis_takes_steps_of_one_two_or_five():
    assert axis([0, 1]).ticks == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert axis([3, 97]).ticks == pytest.approx((0, 20, 40, 60, 80, 100))
    assert axis([-0.02, 0.03]).ticks == pytest.approx((-0.02, -0.01, 0, 0.01, 0.02, 0.03))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (-0.0, "0"), (1e-9, "0.000000001"), (1e-20, "0"), (12.0, "12"), (1e7, "10000000"), (-0.25, "-0.25")],
)
def test_mermaid_gets_plain_decimals(value, text):
    assert number(value) == text


def test_a_flat_line_still_has_a_chart():
    chart = as_chart(curve(([0, 1, 5], [2, 2, 2])))
    assert chart is not None
    assert "--> 2.2" in mermaid(chart)
    assert "nan" not in chart_html(chart, "flat")


def test_an_axis_that_counts_has_no_ticks_between_the_numbers():
    assert axis([1, 3], whole=True).ticks == (1, 2, 3)
    assert axis([7], whole=True).ticks == (6, 7, 8)
    assert axis([1, 40], whole=True).ticks == axis([1, 40]).ticks
