"""Draws production's history as a timeline: a line for each version, a column for each change."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mergeline.manifest.schema import Release
from mergeline.release.history import Moment

WIDTH, LABEL, ROW, TOP = 720, 84, 26, 6
NEWEST = 24
"""So many changes are drawn; the table below the timeline holds all."""


def timeline_svg(moments: Sequence[Moment]) -> str:
    """The newest changes from left to right: what was stable after each, and what rolled out beside it.

    Args:
        moments: newest first, as `history` gives them; two or more.
    """
    shown = list(reversed(moments[:NEWEST]))
    versions = sorted({release.version for moment in shown for release in _releases(moment)}, reverse=True)
    step = (WIDTH - LABEL) / len(shown)
    height = TOP + ROW * len(versions) + 22
    lines = [_line(version, TOP + place * ROW, shown, step) for place, version in enumerate(versions)]
    first, last = (f"{moment.when:%-d %b %Y}" for moment in (shown[0], shown[-1]))
    dates = (
        f'<text class="tick" x="{LABEL}" y="{height - 4}">{first}</text>'
        f'<text class="tick" x="{WIDTH}" y="{height - 4}" text-anchor="end">{last}</text>'
    )
    told = "Which version was stable after each change, and which rolled out beside it. The table below tells the same."
    return (
        f'<svg class="chart timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="timeline-desc">'
        f'<desc id="timeline-desc">{told}</desc>{"".join(lines)}{dates}</svg>'
    )


def _line(version: int, y: int, moments: Sequence[Moment], step: float) -> str:
    cells = [
        _cell(moment, version, LABEL + place * step, y, step)
        for place, moment in enumerate(moments)
        if any(release.version == version for release in _releases(moment))
    ]
    label = f'<text class="tick" x="0" y="{y + ROW / 2 + 4}">version {version}</text>'
    rule = f'<line class="grid" x1="{LABEL}" x2="{WIDTH}" y1="{y + ROW / 2}" y2="{y + ROW / 2}"/>'
    return label + rule + "".join(cells)


def _cell(moment: Moment, version: int, x: float, y: int, step: float) -> str:
    kind = "served" if moment.serving.version == version else "tried"
    word = "stable" if kind == "served" else f"{moment.strategy}, beside version {moment.serving.version}"
    title = escape(f"version {version}: {word}, since {moment.when:%-d %b %Y, %H:%M} UTC ({moment.event.value})")
    box = f'x="{x + 1:.1f}" y="{y + 5}" width="{step - 2:.1f}" height="{ROW - 10}" rx="3"'
    return f'<rect class="{kind}" {box}><title>{title}</title></rect>'


def _releases(moment: Moment) -> tuple[Release, ...]:
    return tuple(release for release in (moment.serving, moment.candidate) if release is not None)
