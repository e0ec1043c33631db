"""The sections behind the verdict: slices, fairness, stress, importance and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergeline.evaluate.results import Comparison, Fairness, Metric, SliceChange, SliceResult, named
from mergeline.report import document, words
from mergeline.report.document import Block, Cell, Details, Heading, Line, bold, code, joined, line, muted, table
from mergeline.report.inputs import ReportInput

FEATURES_SHOWN = 30


def fairness(subject: ReportInput) -> list[Details]:
    """What each group gets, and the largest gaps."""
    return [
        Details(line("⚖️ Fairness over ", code(result.column)), tuple(_fairness(result)), rank=50)
        for result in subject.evaluation.fairness
    ]


def _fairness(result: Fairness) -> list[Block]:
    names = list(dict.fromkeys(name for group in result.groups for name in group.rates))
    groups: list[list[Cell]] = [
        [code(group.group), f"{group.rows:,}", *(_figure(group.rates.get(name)) for name in names)]
        for group in result.groups
    ]
    heads = ("Group", "Rows>", *(f"{as_words(name)}>" for name in names))
    by_group = table(f"Groups of {result.column}", heads, groups)
    gaps = [(as_words(name), words.figure(gap)) for name, gap in result.gaps.items()]
    if not gaps:
        return [by_group, document.Paragraph(line("There are too few groups to compare."))]
    heads = ("Gap between the groups furthest apart", "Value>")
    return [table(f"Largest gaps between groups of {result.column}", heads, gaps), by_group]


def _figure(value: float | None) -> str:
    return "–" if value is None else words.figure(value)


def stress(subject: ReportInput) -> list[Block]:
    """What each disturbance costs."""
    results = subject.evaluation.stress
    if not results:
        return []
    metric = subject.gate.metric
    largest = max((result.loss for result in results if result.loss is not None), default=0.0)
    rows: list[list[Cell]] = []
    for result in results:
        failed = f"❌ the model raised: {result.error}" if result.error is not None else _bar(result.loss, largest)
        rows.append([bold(result.name), result.description, _figure(result.value), _figure(result.loss), failed])
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
    rows: list[list[Cell]] = []
    for feature in found:
        reach = f"± {words.figure(feature.deviation)}"
        if feature.low is not None and feature.high is not None:
            reach = f"{words.signed(feature.low)} to {words.signed(feature.high)}"
        rows.append([code(feature.feature), words.signed(feature.loss), reach, _bar(feature.loss, largest)])
    heads = ("Feature", f"Loss of {subject.gate.metric} when shuffled>", "Interval>", "Beside the heaviest")
    blocks: tuple[Block, ...] = (table("Permutation importance", heads, rows[:FEATURES_SHOWN]),)
    if len(rows) > FEATURES_SHOWN:
        left = words.count(len(rows) - FEATURES_SHOWN, "feature")
        blocks += (document.Paragraph(line(f"{left} with less weight are not shown.")),)
    heaviest = listed([feature.feature for feature in found[:3]])
    return [Details(line("🔍 What the model leans on: ", *heaviest), blocks, rank=30)]


def listed(names: Sequence[str]) -> Line:
    """Names, with commas between them."""
    return tuple(piece for name in names for piece in (*line(", "), code(name)))[1:]


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
    return (document.Bar(min(1.0, max(0.0, part / whole))),)


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
    which = f"{worse or 'None'} of {words.count(len(order), 'slice')} {'is' if worse <= 1 else 'are'}"
    said = line(f"{which} clearly worse. Slices are compared by ", code(order[0].metric), ".")
    top, *rest = document.first_open(
        order, SLICES_SHOWN, lambda found: _slice_table(subject, comparison, found), _the_others, rank=60
    )
    how = document.Paragraph(line(muted(_how_to_read(subject))))
    return [Heading(line("Slices that moved most")), document.Paragraph(said), top, how, *rest]


def _the_others(number: int) -> str:
    return f"The other {words.count(number, 'slice')}"


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


def _slice_table(subject: ReportInput, comparison: Comparison, found: Sequence[SliceChange]) -> document.Table:
    # A relative margin is a share of each slice's own loss, so no one mark stands for it.
    relative = subject.gate.slice_margin_relative or not subject.evaluation.task.classifies
    marks = (0.0,) if relative else (0.0, -subject.gate.slice_margin)
    drawn = words.ranges([change.gain for change in comparison.slices], marks)
    drawings = dict(zip(map(id, comparison.slices), drawn, strict=True))
    rows: list[list[Cell]] = []
    for change in found:
        places = words.decimals(change.champion, change.challenger)
        champion, challenger = (words.figure(value, places) for value in (change.champion, change.challenger))
        called = _called_worse(change) if change.worse else words.reading(change.gain)
        moved = words.gain(change.gain, places), drawings[id(change)], called
        rows.append([slice_name(change.column, change.value), f"{change.rows:,}", champion, challenger, *moved])
    metric = found[0].metric
    heads = ("Slice", "Rows>", "Champion>", "This model>", "Gain>", "Interval", "Reading")
    return table(f"{metric} of both models by slice", heads, rows)


def _called_worse(change: SliceChange) -> Line:
    return line("❌", joined(" worse"), f", q {words.probability(change.q_value)}")


def _weakest_slices(subject: ReportInput) -> list[Block]:
    found = sorted(own_slices(subject), key=lambda pair: _strength(pair[1]))
    if not found:
        return []
    name = found[0][1].name
    overall = [metric.estimate.value for metric in subject.evaluation.metrics if metric.name == name]
    said = line(f"Sorted by {name}, the weakest first.", " The mark shows the value over all rows." if overall else "")
    rows = slice_rows(found, overall)
    heads = ("Slice", "Rows>", f"{name}>", "Interval")
    tables = document.first_open(
        rows, SLICES_SHOWN, lambda shown: table(f"{name} by slice", heads, shown), _the_others, rank=60
    )
    return [Heading(line("Slices where the model is weakest")), document.Paragraph(said), *tables]


def own_slices(subject: ReportInput) -> list[tuple[SliceResult, Metric]]:
    """The model's slices, each with the gate's metric, or its first where it has not got that."""
    wanted = subject.gate.metric
    return [(one, named(one.metrics, wanted) or one.metrics[0]) for one in subject.evaluation.slices if one.metrics]


def slice_rows(found: Sequence[tuple[SliceResult, Metric]], marks: Sequence[float]) -> list[list[Cell]]:
    """Name, rows, value and drawing of each slice."""
    drawn = words.ranges([metric.estimate for _, metric in found], marks)
    return [
        [slice_name(result.column, result.value), f"{result.rows:,}", words.estimate(metric.estimate), drawing]
        for (result, metric), drawing in zip(found, drawn, strict=True)
    ]


def _strength(metric: Metric) -> float:
    value = metric.estimate.value
    if math.isnan(value):
        return math.inf
    return value if metric.higher_is_better else -value


def slice_name(column: str, value: str) -> Line:
    """A slice by its column and value."""
    return line(code(column), joined(" = "), code(value))
