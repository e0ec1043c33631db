"""Lays charts out: as the points of an SVG for the page, and as mermaid for comments."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from mergeline.report.document import Chart, Span
from mergeline.report.words import figure

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 48


Point = tuple[str, str]


class Drawing(NamedTuple):
    """A chart in the units of its SVG: the labelled ticks of both axes, and the points of each line."""

    x_ticks: tuple[Point, ...]
    y_ticks: tuple[Point, ...]
    lines: tuple[tuple[Point, ...], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def draw(chart: Chart) -> Drawing:
    """Where everything in the chart stands. Points are drawn as measured, not as sampled."""
    x_axis = axis([x for series in chart.series for x in series.x], whole=chart.whole)
    y_axis = axis([y for series in chart.series for y in series.y])
    x_places, y_places = _tick_places(x_axis), _tick_places(y_axis)
    return Drawing(
        tuple((_x(tick, x_axis), figure(tick, x_places)) for tick in x_axis.ticks),
        tuple((_y(tick, y_axis), figure(tick, y_places)) for tick in y_axis.ticks),
        tuple(
            tuple((_x(x, x_axis), _y(y, y_axis)) for x, y in zip(series.x, series.y, strict=True))
            for series in chart.series
        ),
    )


def _tick_places(found: Axis) -> int:
    """Ticks are whole multiples of 1, 2 or 5 times a power of ten."""
    return max(0, -math.floor(math.log10(found.ticks[1] - found.ticks[0]) + 1e-9))


def _x(value: float, x_axis: Axis) -> str:
    return _short(LEFT + x_axis.place(value) * (WIDTH - LEFT - RIGHT))


def _y(value: float, y_axis: Axis) -> str:
    return _short(HEIGHT - BOTTOM - y_axis.place(value) * (HEIGHT - TOP - BOTTOM))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Axis(NamedTuple):
    """Where an axis begins and ends, and its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where `value` stands between the ends, as a share."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, whole: bool = False) -> Axis:
    """An axis with about five round ticks that holds every finite value, the ticks whole numbers where `whole`.

    Steps are 1, 2 or 5 times a power of ten (Heckbert 1990, "Nice numbers for graph labels").
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        spread = abs(high) * 0.1 or 1.0
        low, high = low - spread, high + spread
    step = max(_round_step((high - low) / 5), 1.0 if whole else 0.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(tick * step for tick in range(first, last + 1)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(times for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9)) * power)


LABEL_LIMIT = 60
COLOURS: Final = ("#2f81f7", "#e8590c", "#2f9e44", "#9c36b5", "#e03131", "#f2c200", "#7f5539", "#868e96")
SQUARES: Final = ("🟦", "🟧", "🟩", "🟪", "🟥", "🟨", "🟫", "⬜")


def mermaid(chart: Chart) -> str:
    """The chart's source. It holds numbers and quoted labels, and in a label no character that means something."""
    y_axis = axis([y for series in chart.series for y in series.sampled])
    palette = ", ".join(COLOURS)
    return "\n".join([
        f"%%{{init: {{'themeVariables': {{'xyChart': {{'plotColorPalette': '{palette}'}}}}}}}}%%",
        "xychart-beta",
        f'  title "{label(chart.title)}"',
        f'  x-axis "{label(chart.x_label)}" {number(chart.grid[0])} --> {number(chart.grid[-1])}',
        f'  y-axis "{label(chart.y_label)}" {number(y_axis.low)} --> {number(y_axis.high)}',
        *(f"  line [{', '.join(number(y) for y in series.sampled)}]" for series in chart.series),
    ])  # fmt: skip


def legend(chart: Chart) -> tuple[Span, ...]:
    """Which colour is which; xychart has no legend of its own."""
    spans: list[Span] = []
    for square, series in zip(SQUARES, chart.series, strict=False):
        spans.append(Span(f"{'  ·  ' if spans else ''}{square} {series.name}"))
    return tuple(spans)


def label(text: str) -> str:
    """Letters, digits and harmless punctuation; everything else becomes a space."""
    harmless = re.sub(r"[^\w .,()+=/°’%-]", " ", text.replace("'", "’"))
    spaced = re.sub(r"%+(?=\s|\)|$)", " percent", harmless).replace("%", " ")
    return re.sub(r"\s+", " ", re.sub(r"-{2,}", "-", spaced)).strip()[:LABEL_LIMIT] or "chart"


def number(value: float) -> str:
    """A plain decimal: mermaid reads no exponents."""
    text = f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) >= 0.001 or value == 0 else f"{value:.12f}".rstrip("0")
    return "0" if text in {"-0", "", "0."} else text.rstrip(".")
