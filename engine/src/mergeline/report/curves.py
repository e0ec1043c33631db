"""The curves of an evaluation, each as a chart paired with a table."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from mergeline.evaluate.results import Curve, Series
from mergeline.report.document import (
    NAME_LIMIT,
    Block,
    Chart,
    ChartSeries,
    Details,
    Heading,
    Paragraph,
    Table,
    line,
    muted,
    table,
    visible,
)
from mergeline.report.words import decimals, figure

GRID_POINTS = 41
TABLE_ROWS = 11
LINES_DRAWN = 8
DIAGONALS = {"roc": "chance", "calibration": "perfect", "predicted_actual": "perfect"}
"""Curves that are read against the diagonal, and what the diagonal stands for."""


def curves(found: Sequence[Curve]) -> list[Block]:
    """One part a curve, the first that has a chart open."""
    parts: list[Details] = []
    for curve in found:
        chart = as_chart(curve)
        if chart is None:
            blocks: tuple[Block, ...] = tuple(_points(series) for series in curve.series[:LINES_DRAWN])
        elif len(chart.series) > LINES_DRAWN:
            said = f"The chart draws {LINES_DRAWN} of {len(chart.series)} lines; the table holds them all."
            drawn = (*chart.series[: LINES_DRAWN - 1], chart.series[-1])
            blocks = (replace(chart, series=drawn), Paragraph(line(muted(said))), _values(chart))
        else:
            blocks = (chart, _values(chart))
        parts.append(
            Details(
                line(f"📈 {curve.title}"),
                blocks,
                rank=40,
                open=chart is not None and not any(part.open for part in parts),
            )
        )
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
        ChartSeries(
            visible(name, NAME_LIMIT),
            tuple(x for x, _ in points),
            tuple(y for _, y in points),
            tuple(_interpolated(points, x) for x in grid),
        )
        for name, points in named
    )
    title, x_label, y_label = (visible(label, NAME_LIMIT) for label in (curve.title, curve.x_label, curve.y_label))
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
