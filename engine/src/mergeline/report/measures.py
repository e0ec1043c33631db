"""The sections behind the verdict: slices, fairness, stress, importance and the confusion matrix."""

from __future__ import annotations

import math

from mergeline.evaluate.results import Comparison, Fairness, Metric, SliceChange, SliceResult
from mergeline.report import words
from mergeline.report.document import (
    Bar,
    Block,
    Details,
    Heading,
    Line,
    Paragraph,
    Table,
    bold,
    code,
    joined,
    line,
    muted,
    table,
)
from mergeline.report.inputs import ReportInput

FEATURES_SHOWN = 30


def fairness(subject: ReportInput) -> list[Details]:
    """What each group gets, and the largest gaps."""
    return [
        Details(line("⚖️ Fairness over ", code(result.column)), tuple(_fairness(result)), rank=50)
        for result in subject.evaluation.fairness
    ]


def _fairness(result: Fairness) -> list[Block]:
    gaps = [(line(as_words(name)), line(words.figure(gap))) for name, gap in result.gaps.items()]
    names = list(dict.fromkeys(name for group in result.groups for name in group.rates))
    groups = [
        (
            line(code(group.group)),
            line(f"{group.rows:,}"),
            *(line(words.figure(group.rates[name]) if name in group.rates else "–") for name in names),
        )
        for group in result.groups
    ]
    heads = ("Group", "Rows>", *(f"{as_words(name)}>" for name in names))
    by_group = table(f"Groups of {result.column}", heads, groups)
    if not gaps:
        return [by_group, Paragraph(line("There are too few groups to compare."))]
    heads = ("Gap between the groups furthest apart", "Value>")
    return [table(f"Largest gaps between groups of {result.column}", heads, gaps), by_group]


def stress(subject: ReportInput) -> list[Block]:
    """What each disturbance costs."""
    results = subject.evaluation.stress
    if not results:
        return []
    metric = subject.gate.metric
    largest = max((result.loss for result in results if result.loss is not None), default=0.0)
    rows = []
    for result in results:
        failed = result.error is not None
        rows.append((
            line(bold(result.name)),
            line(result.description),
            line("–" if result.value is None else words.figure(result.value)),
            line("–" if result.loss is None else words.figure(result.loss)),
            line(f"❌ the model raised: {result.error}") if failed else _bar(result.loss, largest),
        ))  # fmt: skip
    raised = sum(result.error is not None for result in results)
    said = f", {raised} raised an error" if raised else ""
    heads = ("Disturbance", "What was done", f"{metric}>", "Loss>", "Beside the largest")
    content = (table("Stress tests", heads, rows),)
    return [Details(line(f"🧪 {words.count(len(results), 'stress test')}{said}"), content, rank=55)]


def importance(subject: ReportInput) -> list[Block]:
    """What the model leans on, the heaviest feature first."""
    found = sorted(subject.evaluation.importance, key=lambda feature: -feature.loss)
    if not found:
        return []
    largest = max(abs(feature.loss) for feature in found)
    rows = [
        (
            line(code(feature.feature)),
            line(words.signed(feature.loss)),
            line(
                f"± {words.figure(feature.deviation)}"
                if feature.low is None or feature.high is None
                else f"{words.signed(feature.low)} to {words.signed(feature.high)}"
            ),
            _bar(feature.loss, largest),
        )
        for feature in found
    ]
    heads = ("Feature", f"Loss of {subject.gate.metric} when shuffled>", "Interval>", "Beside the heaviest")
    blocks: tuple[Block, ...] = (table("Permutation importance", heads, rows[:FEATURES_SHOWN]),)
    if len(rows) > FEATURES_SHOWN:
        left = words.count(len(rows) - FEATURES_SHOWN, "feature")
        blocks += (Paragraph(line(f"{left} with less weight are not shown.")),)
    return [Details(line("🔍 What the model leans on: ", *_heaviest(subject)), blocks, rank=30)]


def _heaviest(subject: ReportInput) -> Line:
    found = sorted(subject.evaluation.importance, key=lambda feature: -feature.loss)[:3]
    pieces: list[Line] = [line(code(feature.feature)) for feature in found]
    joined: Line = pieces[0]
    for piece in pieces[1:]:
        joined = (*joined, *line(", "), *piece)
    return joined


def confusion(subject: ReportInput) -> list[Block]:
    """How rows of each class were labelled."""
    matrix = subject.evaluation.confusion
    if matrix is None:
        return []
    rows = []
    for label, counts in zip(matrix.labels, matrix.counts, strict=True):
        total = sum(counts)
        cells = [
            line(bold(f"{found:,}") if other == label else f"{found:,}")
            + (line(" ", muted(words.percent(found / total))) if total else ())
            for other, found in zip(matrix.labels, counts, strict=True)
        ]
        rows.append((line("is ", code(label)), *cells))
    heads = ("Rows", *(f"labelled {label}>" for label in matrix.labels))
    at = "" if matrix.threshold is None else f" at the threshold {words.figure(matrix.threshold)}"
    return [Details(line(f"🧮 Confusion matrix{at}"), (table("Confusion matrix", heads, rows),), rank=45)]


def _bar(part: float | None, whole: float) -> Line:
    if part is None or not math.isfinite(part) or whole <= 0:
        return ()
    return (Bar(min(1.0, max(0.0, part / whole))),)


def as_words(name: str) -> str:
    """A measure's name as words; what follows ` of ` is a class of the team's and stays as it is."""
    measure, of, label = name.partition(" of ")
    return measure.replace("_", " ") + of + label


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
    which = f"{worse} of {words.count(len(order), 'slice')}" if worse else f"None of {words.count(len(order), 'slice')}"
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
        blocks.append(Details(line(f"The other {words.count(len(rest), 'slice')}"), (full,), rank=60))
    return blocks


def _how_to_read(subject: ReportInput) -> str:
    marks = "the mark zero"
    if subject.evaluation.task.classifies:
        marks = "the left mark the slice margin, the right one zero"
    rate = words.percent(subject.gate.slice_discovery_rate)
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
    drawn = words.ranges([change.gain for change in comparison.slices], marks)
    drawings = dict(zip(map(id, comparison.slices), drawn, strict=True))
    rows = []
    for change in found:
        places = words.decimals(change.champion, change.challenger)
        rows.append((
            slice_name(change.column, change.value),
            line(f"{change.rows:,}"),
            line(words.figure(change.champion, places)),
            line(words.figure(change.challenger, places)),
            words.gain(change.gain, places),
            drawings[id(change)],
            _called_worse(change) if change.worse else words.reading(change.gain),
        ))  # fmt: skip
    metric = found[0].metric
    heads = ("Slice", "Rows>", "Champion>", "This model>", "Gain>", "Interval", "Reading")
    return table(f"{metric} of both models by slice", heads, rows)


def _called_worse(change: SliceChange) -> Line:
    return line("❌", joined(" worse"), f", q {words.probability(change.q_value)}")


def _weakest_slices(subject: ReportInput) -> list[Block]:
    measured = [(result, gate_metric(subject, result)) for result in subject.evaluation.slices]
    found = [(result, metric) for result, metric in measured if metric is not None]
    if not found:
        return []
    found.sort(key=lambda pair: _strength(pair[1]))
    overall = next((m for m in subject.evaluation.metrics if m.name == found[0][1].name), None)
    marks = (overall.estimate.value,) if overall else ()
    drawn = words.ranges([metric.estimate for _, metric in found], marks)
    rows = [
        (slice_name(result.column, result.value), line(f"{result.rows:,}"), words.estimate(metric.estimate), drawing)
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
        blocks.append(Details(line(f"The other {words.count(len(rows) - SLICES_SHOWN, 'slice')}"), (rest,), rank=60))
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
