"""Draws charts, bars and intervals as inline SVG."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from mergeline.report.document import Bar, Chart, ChartSeries, Range, Span
from mergeline.report.words import figure

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 48
RANGE_WIDTH, RANGE_HEIGHT = 120, 18


def chart_svg(chart: Chart, name: str) -> str:
    """The chart; `name` makes its ids unique on the page. Points are drawn as measured, not as sampled."""
    x_axis = axis([x for series in chart.series for x in series.x], whole=chart.whole)
    y_axis = axis([y for series in chart.series for y in series.y])
    drawn = [_line(series, number, x_axis, y_axis) for number, series in enumerate(chart.series, 1)]
    description = f"{chart.y_label} by {chart.x_label}: {', '.join(series.name for series in chart.series)}."
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(chart.title)}</title>'
        f'<desc id="{name}-desc">{escape(description)} The table below holds the values.</desc>'
        f"{_grid(chart, x_axis, y_axis)}{''.join(drawn)}</svg>"
    )


def legend_html(chart: Chart) -> str:
    """Which line is which, by colour and by dashes."""
    keys = [
        f'<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true"><line class="line s{number}" x1="0" x2="28" '
        f'y1="4" y2="4"/></svg>{escape(series.name)}</li>'
        for number, series in enumerate(chart.series, 1)
    ]
    return f'<ul class="legend">{"".join(keys)}</ul>' if len(keys) > 1 else ""


def bar_svg(bar: Bar) -> str:
    """A bar in a table's cell; the number beside it says the same."""
    return (
        '<svg class="bar" viewBox="0 0 100 10" aria-hidden="true"><rect class="rest" width="100" height="10" rx="3"/>'
        f'<rect class="part" width="{_short(100 * bar.share)}" height="10" rx="3"/></svg>'
    )


def range_svg(found: Range) -> str:
    """An interval in a table's cell; the numbers beside it say the same."""
    middle = RANGE_HEIGHT / 2

    def place(share: float) -> str:
        return _short(6 + share * (RANGE_WIDTH - 12))

    marks = "".join(
        f'<line class="{"zero" if number == 0 else "margin"}" x1="{place(mark)}" x2="{place(mark)}" y1="0" '
        f'y2="{RANGE_HEIGHT}"/>'
        for number, mark in enumerate(found.marks)
    )
    return (
        f'<svg class="range" viewBox="0 0 {RANGE_WIDTH} {RANGE_HEIGHT}" aria-hidden="true">{marks}'
        f'<line class="reach" x1="{place(found.low)}" x2="{place(found.high)}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle class="value" cx="{place(found.value)}" cy="{middle:g}" r="4"/></svg>'
    )


def _grid(chart: Chart, x_axis: Axis, y_axis: Axis) -> str:
    x_places, y_places = _tick_places(x_axis), _tick_places(y_axis)
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(tick, y_axis)}" y2="{_y(tick, y_axis)}"/>'
        f'<text class="tick end" x="{LEFT - 8}" y="{_y(tick, y_axis)}" dy="4">{escape(figure(tick, y_places))}</text>'
        for tick in y_axis.ticks
    ]
    parts += [
        f'<line class="grid" x1="{_x(tick, x_axis)}" x2="{_x(tick, x_axis)}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="tick mid" x="{_x(tick, x_axis)}" y="{bottom + 18}">{escape(figure(tick, x_places))}</text>'
        for tick in x_axis.ticks
    ]
    parts.append(
        f'<text class="label mid" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 8}">{escape(chart.x_label)}</text>'
    )
    parts.append(
        f'<text class="label mid" transform="translate(14 {middle:g}) rotate(-90)">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _line(series: ChartSeries, number: int, x_axis: Axis, y_axis: Axis) -> str:
    points = " ".join(f"{_x(x, x_axis)},{_y(y, y_axis)}" for x, y in zip(series.x, series.y, strict=True))
    dots = ""
    if 3 <= len(series.x) <= 20:
        dots = "".join(
            f'<circle class="dot s{number}" cx="{_x(x, x_axis)}" cy="{_y(y, y_axis)}" r="3"/>'
            for x, y in zip(series.x, series.y, strict=True)
        )
    return f'<polyline class="line s{number}" points="{points}"/>{dots}'


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


def axis(values: Sequence[float], *, wanted: int = 5, whole: bool = False) -> Axis:
    """An axis with round ticks that holds every finite value, the ticks whole numbers where `whole`.

    Steps are 1, 2 or 5 times a power of ten (Heckbert 1990, "Nice numbers for graph labels").
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        spread = abs(high) * 0.1 or 1.0
        low, high = low - spread, high + spread
    step = max(_round_step((high - low) / wanted), 1.0 if whole else 0.0)
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
