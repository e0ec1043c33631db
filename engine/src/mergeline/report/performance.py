"""The sections that a decision rests on: metrics and checks."""

from __future__ import annotations

from mergeline.evaluate.results import Check, Outcome, Status
from mergeline.report.document import (
    Block,
    Details,
    Heading,
    Paragraph,
    Table,
    bold,
    joined,
    line,
    muted,
    table,
)
from mergeline.report.inputs import ReportInput
from mergeline.report.words import (
    MARKS,
    STATUS_WORDS,
    count,
    decimals,
    estimate,
    figure,
    gain,
    metric_name,
    percent,
    reading,
)

CHECKS_SHOWN = 12


def metrics(subject: ReportInput) -> list[Block]:
    """Every metric with its interval, beside the champion's on the same rows."""
    comparison, gate = subject.verdict.comparison, subject.gate
    level = percent(gate.confidence)
    if comparison is None:
        alone = [
            (metric_name(metric.name, metric.higher_is_better), estimate(metric.estimate))
            for metric in sorted(subject.evaluation.metrics, key=lambda metric: metric.name != gate.metric)
        ]
        return [
            Heading(line("Metrics")),
            Paragraph(line(_why_alone(subject.verdict.outcome))),
            table(f"Metrics with {level} intervals", ("Metric", f"This model, {level} interval>"), alone),
        ]
    paired = sorted(comparison.metrics, key=lambda metric: metric.name != gate.metric)
    champion = f"Champion (v{comparison.champion_version})>"
    rows = []
    for metric in paired:
        places = decimals(metric.champion.value, metric.challenger.value)
        rows.append((
            metric_name(metric.name, metric.higher_is_better),
            line(figure(metric.champion.value, places)),
            line(figure(metric.challenger.value, places)),
            gain(metric.gain, places),
            reading(metric.gain),
        ))  # fmt: skip
    return [
        Heading(line("Metrics")),
        table(
            f"Metrics of champion and challenger with {level} intervals of the gain",
            ("Metric", champion, "This model>", f"Gain, {level} interval>", "Reading"),
            rows,
        ),
        Paragraph(line(muted(
            f"Both models scored the same {count(subject.evaluation.holdout.rows, 'row')}; a gain above zero means "
            f"that this model is better. The gate compares by {gate.metric}."
        ))),
    ]  # fmt: skip


def _why_alone(outcome: Outcome) -> str:
    if outcome is Outcome.NO_CHAMPION:
        return "There is no champion yet, so the checks judge these numbers by themselves."
    if outcome is Outcome.EQUIVALENT:
        return "The champion is the same model, so its numbers are the same."
    return "There are no numbers of the champion to put beside these: it could not be compared with."


def checks(subject: ReportInput) -> list[Block]:
    """What failed and what warns in the open, what passed folded."""
    order = (Status.FAIL, Status.WARN)
    open_checks = [check for status in order for check in subject.verdict.checks if check.status is status]
    quiet = [check for check in subject.verdict.checks if check.status not in order]
    blocks: list[Block] = [Heading(line("Checks"))]
    if open_checks:
        blocks.append(_check_table("Checks that failed or warn", open_checks[:CHECKS_SHOWN]))
    if len(open_checks) > CHECKS_SHOWN:
        rest = open_checks[CHECKS_SHOWN:]
        summary = line(f"{count(len(rest), 'more check')} that failed or warn")
        blocks.append(Details(summary, (_check_table("More checks that failed or warn", rest),), rank=95))
    if quiet:
        passed = sum(check.status is Status.PASS for check in quiet)
        skipped = f", {len(quiet) - passed} skipped" if len(quiet) > passed else ""
        summary = line(f"✅ {count(passed, 'check')} passed{skipped}")
        blocks.append(Details(summary, (_check_table("Checks that passed", quiet),), rank=90))
    return blocks


def _check_table(caption: str, found: list[Check]) -> Table:
    rows = [
        (
            line(MARKS[check.status], joined(f" {STATUS_WORDS[check.status]}")),
            line(bold(check.name)),
            line(check.value),
            line(check.bound),
            line(check.meaning),
        )
        for check in found
    ]
    return table(caption, ("Result", "Check", "Found", "Asked for", "Meaning"), rows)
