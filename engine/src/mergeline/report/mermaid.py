"""Draws a chart as mermaid's `xychart-beta`, which GitHub renders in comments."""

from __future__ import annotations

import re
from typing import Final

from mergeline.report.document import Chart, Span
from mergeline.report.scale import axis

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
