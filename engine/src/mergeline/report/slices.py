"""The section on slices: where the model moved most, or where it is weakest."""

from __future__ import annotations

import math

from mergeline.evaluate.results import Comparison, Metric, SliceChange, SliceResult
from mergeline.report.document import Block, Details, Heading, Line, Paragraph, Table, code, joined, line, muted, table
from mergeline.report.inputs import ReportInput
from mergeline.report.words import count, decimals, estimate, figure, gain, percent, probability, ranges, reading

SLICES_SHOWN = 6
CARD_SLICES = 40


def slices(subject: ReportInput) -> list[Block]:
    """The slices that moved most, or without a champion those where the model is weakest."""
    comparison = subject.verdict.comparison
    if comparison is None:
        return _weakest_slices(subject)
    if not comparison.slices:
        return []
    order = sorted(comparison.slices, key=_movement)
    worse = sum(change.worse for change in order)
    which = f"{worse} of {count(len(order), 'slice')}" if worse else f"None of {count(len(order), 'slice')}"
    are = "is" if worse <= 1 else "are"
    said = line(f"{which} {are} clearly worse. Slices are compared by ", code(order[0].metric), ".")
    top, rest = order[:SLICES_SHOWN], order[SLICES_SHOWN:]
    blocks: list[Block] = [
        Heading(line("Slices that moved most")),
        Paragraph(said),
        _slice_table(subject, comparison, top),
        Paragraph(line(muted(_how_to_read(subject)))),
    ]
    if rest:
        full = _slice_table(subject, comparison, rest)
        blocks.append(Details(line(f"The other {count(len(rest), 'slice')}"), (full,), rank=60))
    return blocks


def _how_to_read(subject: ReportInput) -> str:
    marks = "the mark zero"
    if subject.evaluation.task.classifies:
        marks = "the left mark the slice margin, the right one zero"
    rate = percent(subject.gate.slice_discovery_rate)
    return (
        f"In each drawing the dot is the gain, the line its interval, {marks}. A slice is called worse by its q-value, "
        f"so that at most {rate} of such calls are false alarms (Benjamini and Hochberg)."
    )


def _movement(change: SliceChange) -> tuple[bool, float]:
    moved = abs(change.gain.value)
    return not change.worse, -moved if math.isfinite(moved) else 0.0


def _slice_table(subject: ReportInput, comparison: Comparison, found: list[SliceChange]) -> Table:
    # A relative margin is a share of each slice's own loss, so no one mark stands for it.
    relative = subject.gate.slice_margin_relative or not subject.evaluation.task.classifies
    marks = (0.0,) if relative else (0.0, -subject.gate.slice_margin)
    drawn = ranges([change.gain for change in comparison.slices], marks)
    drawings = dict(zip(map(id, comparison.slices), drawn, strict=True))
    rows = []
    for change in found:
        places = decimals(change.champion, change.challenger)
        rows.append((
            slice_name(change.column, change.value),
            line(f"{change.rows:,}"),
            line(figure(change.champion, places)),
            line(figure(change.challenger, places)),
            gain(change.gain, places),
            drawings[id(change)],
            _called_worse(change) if change.worse else reading(change.gain),
        ))  # fmt: skip
    metric = found[0].metric
    heads = ("Slice", "Rows>", "Champion>", "This model>", "Gain>", "Interval", "Reading")
    return table(f"{metric} of both models by slice", heads, rows)


def _called_worse(change: SliceChange) -> Line:
    return line("❌", joined(" worse"), f", q {probability(change.q_value)}")


def _weakest_slices(subject: ReportInput) -> list[Block]:
    measured = [(result, gate_metric(subject, result)) for result in subject.evaluation.slices]
    found = [(result, metric) for result, metric in measured if metric is not None]
    if not found:
        return []
    found.sort(key=lambda pair: _strength(pair[1]))
    overall = next((m for m in subject.evaluation.metrics if m.name == found[0][1].name), None)
    marks = (overall.estimate.value,) if overall else ()
    drawn = ranges([metric.estimate for _, metric in found], marks)
    rows = [
        (slice_name(result.column, result.value), line(f"{result.rows:,}"), estimate(metric.estimate), drawing)
        for (result, metric), drawing in zip(found, drawn, strict=True)
    ]
    name = found[0][1].name
    heads = ("Slice", "Rows>", f"{name}>", "Interval")
    said = Paragraph(
        line(f"Sorted by {name}, the weakest first.", " The mark shows the value over all rows." if marks else "")
    )
    top = table(f"{name} by slice", heads, rows[:SLICES_SHOWN])
    blocks: list[Block] = [Heading(line("Slices where the model is weakest")), said, top]
    if len(rows) > SLICES_SHOWN:
        rest = table(f"{name} by slice, continued", heads, rows[SLICES_SHOWN:])
        blocks.append(Details(line(f"The other {count(len(rows) - SLICES_SHOWN, 'slice')}"), (rest,), rank=60))
    return blocks


def _strength(metric: Metric) -> float:
    value = metric.estimate.value
    if math.isnan(value):
        return math.inf
    return value if metric.higher_is_better else -value


def slice_name(column: str, value: str) -> Line:
    """A slice by its column and value."""
    return line(code(column), joined(" = "), code(value))


def gate_metric(subject: ReportInput, result: SliceResult) -> Metric | None:
    """The gate's metric of a slice, or the first where the slice has not got it."""
    named = [metric for metric in result.metrics if metric.name == subject.gate.metric]
    return next(iter([*named, *result.metrics]), None)
