"""The curves of an evaluation, each as a chart paired with a table."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from mergeline.evaluate.results import Curve, Series
from mergeline.report import document
from mergeline.report.document import Block, Chart, Details, Heading, Paragraph, Table, line, muted, table, visible
from mergeline.report.words import decimals, figure

GRID_POINTS = 41
TABLE_ROWS = 11
LINES_DRAWN = 8
DIAGONALS = {"roc": "chance", "calibration": "perfect", "predicted_actual": "perfect"}
"""Curves that are read against the diagonal, and what the diagonal stands for."""
_SHOWS = {
    "roc": ("roc_auc",),
    "precision_recall": ("average_precision", "f1"),
    "calibration": ("log_loss", "brier", "calibration_error"),
    "scores": ("accuracy", "balanced_accuracy"),
    "residuals": ("mae",),
    "predicted_actual": ("rmse", "r2"),
    "residual_quantiles": ("median_absolute_error", "p90_absolute_error"),
}
SHOWN_BY = {metric: curve for curve, metrics in _SHOWS.items() for metric in metrics}
"""The curve that shows a metric of the gate."""


def evaluation_curves(
    own: Sequence[Curve], champion: Sequence[Curve] = (), version: int | None = None, metric: str = ""
) -> list[Block]:
    """The curves of a judged model, each with the champion's lines in the same chart where it has room for both.

    Args:
        own: the model's.
        champion: the champion's on the same rows; none where there is no champion.
        version: the champion's.
        metric: the gate's; the chart that shows it is the open one.
    """
    others = {curve.name: curve for curve in champion}
    found = [_both(curve, others[curve.name], version) if curve.name in others else curve for curve in own]
    return curves(found, SHOWN_BY.get(metric, ""))


def _both(own: Curve, other: Curve, version: int | None) -> Curve:
    alone = len(own.series) == len(other.series) == 1
    both = own.model_copy(
        update={
            "series": tuple(
                series.model_copy(update={"name": who if alone else f"{series.name}, {who}"})
                for who, curve in (("this proposal", own), (f"version {version}", other))
                for series in curve.series
            )
        }
    )
    lines = len(both.series) + (own.name in DIAGONALS)
    return both if lines <= LINES_DRAWN and as_chart(both) is not None else own


def curves(found: Sequence[Curve], first: str = "") -> list[Block]:
    """One part a curve, with one chart open: that of the curve named `first`, or else the first that there is."""
    parts: list[Details] = []
    charts = {curve.name: as_chart(curve) for curve in found}
    drawable = [name for name, chart in charts.items() if chart is not None]
    opened = first if first in drawable else next(iter(drawable), None)
    for curve in found:
        chart = charts[curve.name]
        if chart is None:
            blocks: tuple[Block, ...] = tuple(_points(series) for series in curve.series[:LINES_DRAWN])
        elif len(chart.series) > LINES_DRAWN:
            said = f"The chart draws {LINES_DRAWN} of {len(chart.series)} lines; the table holds them all."
            drawn = (*chart.series[: LINES_DRAWN - 1], chart.series[-1])
            blocks = (replace(chart, series=drawn), Paragraph(line(muted(said))), _values(chart))
        else:
            blocks = (chart, _values(chart))
        opens = curve.name == opened
        parts.append(Details(line(f"📈 {curve.title}"), blocks, rank=45 if opens else 40, open=opens))
    return [Heading(line("Curves")), *parts] if parts else []


def as_chart(curve: Curve) -> Chart | None:
    """The curve with every line also at evenly spaced places; None where the lines share no stretch of x.

    A curve that is read against the diagonal gets it as its last line.
    """
    lines = [_sorted_points(series) for series in curve.series]
    # A curve of one class is the model's: beside "chance" nobody asks for the name of the class.
    names = ["model"] if len(curve.series) == 1 else [series.name for series in curve.series]
    named = [(name, points) for name, points in zip(names, lines, strict=True) if points]
    if not named:
        return None
    if curve.name in DIAGONALS:
        ends = [x for _, points in named for x in (points[0][0], points[-1][0])]
        named.append((DIAGONALS[curve.name], [(min(ends), min(ends)), (max(ends), max(ends))]))
    low = max(points[0][0] for _, points in named)
    high = min(points[-1][0] for _, points in named)
    shared = [x for x, _ in named[0][1]]
    if all([x for x, _ in points] == shared for _, points in named) and _evenly_spaced(shared):
        grid = tuple(shared)
    elif low < high:
        grid = tuple(low + (high - low) * step / (GRID_POINTS - 1) for step in range(GRID_POINTS))
    else:
        return None
    series = tuple(
        document.ChartSeries(
            visible(name, document.NAME_LIMIT),
            tuple(x for x, _ in points),
            tuple(y for _, y in points),
            tuple(_interpolated(points, x) for x in grid),
        )
        for name, points in named
    )
    title, x_label, y_label = (
        visible(label, document.NAME_LIMIT) for label in (curve.title, curve.x_label, curve.y_label)
    )
    return Chart(title, x_label, y_label, grid, series)


def _sorted_points(series: Series) -> list[tuple[float, float]]:
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return sorted(points, key=lambda point: point[0])


def _evenly_spaced(places: Sequence[float]) -> bool:
    if len(places) < 2 or places[0] >= places[-1]:
        return False
    step = (places[-1] - places[0]) / (len(places) - 1)
    return all(math.isclose(after - before, step, rel_tol=1e-6) for before, after in pairwise(places))


def _interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """The straight line between the neighbours of `x`; the upper end where the curve rises at one place."""
    right = bisect_right(points, x, key=lambda point: point[0])
    if points[right - 1][0] == x or right == len(points):
        return points[right - 1][1]
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _values(chart: Chart) -> Table:
    last, rows_shown = len(chart.grid) - 1, min(TABLE_ROWS, len(chart.grid))
    picked = [round(row * last / (rows_shown - 1)) for row in range(rows_shown)]
    columns = [
        (chart.grid, decimals(*chart.grid)),
        *((found.sampled, decimals(*found.sampled)) for found in chart.series),
    ]
    rows = [[line(figure(values[at], places)) for values, places in columns] for at in picked]
    heads = (f"{chart.x_label}>", *(f"{found.name}>" for found in chart.series))
    return table(f"{chart.title}: {chart.y_label} by {chart.x_label}", heads, rows)


def _points(series: Series) -> Table:
    rows = [(line(figure(x)), line(figure(y))) for x, y in zip(series.x, series.y, strict=True)]
    return table(series.name, ("x>", f"{series.name}>"), rows)
