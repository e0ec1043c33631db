"""The sections behind the verdict: fairness, stress, importance and the confusion matrix."""

from __future__ import annotations

import math

from mergeline.evaluate.results import Fairness
from mergeline.report.document import Bar, Block, Details, Line, Paragraph, bold, code, line, muted, table
from mergeline.report.inputs import ReportInput
from mergeline.report.words import count, figure, percent, signed

FEATURES_SHOWN = 30


def fairness(subject: ReportInput) -> list[Details]:
    """What each group gets, and the largest gaps."""
    return [
        Details(line("⚖️ Fairness over ", code(result.column)), tuple(_fairness(result)), rank=50)
        for result in subject.evaluation.fairness
    ]


def _fairness(result: Fairness) -> list[Block]:
    gaps = [(line(words(name)), line(figure(gap))) for name, gap in result.gaps.items()]
    names = list(dict.fromkeys(name for group in result.groups for name in group.rates))
    groups = [
        (
            line(code(group.group)),
            line(f"{group.rows:,}"),
            *(line(figure(group.rates[name]) if name in group.rates else "–") for name in names),
        )
        for group in result.groups
    ]
    heads = ("Group", "Rows>", *(f"{words(name)}>" for name in names))
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
            line("–" if result.value is None else figure(result.value)),
            line("–" if result.loss is None else figure(result.loss)),
            line(f"❌ the model raised: {result.error}") if failed else _bar(result.loss, largest),
        ))  # fmt: skip
    raised = sum(result.error is not None for result in results)
    said = f", {raised} raised an error" if raised else ""
    heads = ("Disturbance", "What was done", f"{metric}>", "Loss>", "Beside the largest")
    content = (table("Stress tests", heads, rows),)
    return [Details(line(f"🧪 {count(len(results), 'stress test')}{said}"), content, rank=55)]


def importance(subject: ReportInput) -> list[Block]:
    """What the model leans on, the heaviest feature first."""
    found = sorted(subject.evaluation.importance, key=lambda feature: -feature.loss)
    if not found:
        return []
    largest = max(abs(feature.loss) for feature in found)
    rows = [
        (
            line(code(feature.feature)),
            line(signed(feature.loss)),
            line(
                f"± {figure(feature.deviation)}"
                if feature.low is None or feature.high is None
                else f"{signed(feature.low)} to {signed(feature.high)}"
            ),
            _bar(feature.loss, largest),
        )
        for feature in found
    ]
    heads = ("Feature", f"Loss of {subject.gate.metric} when shuffled>", "Interval>", "Beside the heaviest")
    blocks: tuple[Block, ...] = (table("Permutation importance", heads, rows[:FEATURES_SHOWN]),)
    if len(rows) > FEATURES_SHOWN:
        left = count(len(rows) - FEATURES_SHOWN, "feature")
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
            + (line(" ", muted(percent(found / total))) if total else ())
            for other, found in zip(matrix.labels, counts, strict=True)
        ]
        rows.append((line("is ", code(label)), *cells))
    heads = ("Rows", *(f"labelled {label}>" for label in matrix.labels))
    at = "" if matrix.threshold is None else f" at the threshold {figure(matrix.threshold)}"
    return [Details(line(f"🧮 Confusion matrix{at}"), (table("Confusion matrix", heads, rows),), rank=45)]


def _bar(part: float | None, whole: float) -> Line:
    if part is None or not math.isfinite(part) or whole <= 0:
        return ()
    return (Bar(min(1.0, max(0.0, part / whole))),)


def words(name: str) -> str:
    """A measure's name as words; what follows ` of ` is a class of the team's and stays as it is."""
    measure, of, label = name.partition(" of ")
    return measure.replace("_", " ") + of + label
