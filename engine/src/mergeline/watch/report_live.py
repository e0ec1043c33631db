"""Composes what labels say: live quality, slices, the meaning of scores, and rivals of the stable model."""

from __future__ import annotations

from mergeline.report.document import Block, Cell, Details, Heading, Line, Paragraph, bold, code, line, muted, table
from mergeline.report.words import (
    count,
    decimals,
    estimate,
    figure,
    gain,
    metric_name,
    percent,
    probability,
    ranges,
    short,
)
from mergeline.watch.performance import Level, LiveMetric
from mergeline.watch.results import Live, Rival, Stretch, Watched

LEVEL_WORDS = {Level.HELD: "✅ holds", Level.WORSE: "❌ worse", Level.UNCLEAR: "⚠️ unclear"}


def live_quality(watched: Watched) -> list[Block]:
    """The metrics by labels, beside the holdout's and what the inputs explain."""
    live = watched.live
    if live is None:
        return []
    share = 100 * live.labelled / live.answered
    told = line(
        f"{'About ' if live.sampled else ''}{live.labelled:,} of {live.answered:,} rows answered from ",
        *moments(live.stretch),
        f" have a label ({share:.1f} %).",
    )
    blocks: list[Block] = [Heading(line("Live quality")), Paragraph(told)]
    if live.sampled:
        blocks.append(Paragraph(line(f"Judged on a sample of {live.rows:,} of them, chosen by a hash of their ids.")))
    if live.unknown:
        blocks.append(
            Paragraph(line(f"{count(live.unknown, 'label')} name no class that the model knows, or no number."))
        )
    if not live.metrics:
        return [*blocks, Paragraph(line("Those are too few to judge by."))]
    blocks.append(_metrics("Metrics by labels", live.metrics, "Live", "Holdout"))
    said = "From the holdout to what the scores lead one to expect, the inputs explain the change; from there on, not."
    if any(metric.expected is not None for metric in live.metrics):
        blocks.append(Paragraph(line(muted(said))))
    blocks += _outcomes(live)
    blocks += _meaning(live)
    blocks += _slices(live)
    return blocks


def moments(stretch: Stretch) -> Line:
    """When a window began and ended; as code, which nothing turns into something else."""
    return line(code(f"{stretch.start:%Y-%m-%d %H:%M}"), " to ", code(f"{stretch.end:%Y-%m-%d %H:%M}"))


def rivals(watched: Watched) -> list[Block]:
    """Shadow and canary beside the stable model."""
    if not watched.rivals:
        return []
    return [Heading(line("Beside the stable model")), *(part for rival in watched.rivals for part in _rival(rival))]


def _metrics(caption: str, metrics: tuple[LiveMetric, ...], live: str, other: str) -> Block:
    drawn = ranges([metric.change for metric in metrics if metric.change is not None], (0.0,))
    pictures = iter(drawn)
    expects = any(metric.expected is not None for metric in metrics)
    rows: list[list[Cell]] = []
    for metric in metrics:
        places = decimals(metric.live.value)
        row: list[Cell] = [
            metric_name(metric.name, metric.higher_is_better),
            estimate(metric.live),
            "–" if metric.holdout is None else estimate(metric.holdout),
            "–" if metric.change is None else gain(metric.change, places),
            () if metric.change is None else next(pictures),
            LEVEL_WORDS[metric.level],
        ]
        if expects:
            row.insert(3, "–" if metric.expected is None else figure(metric.expected, places))
        rows.append(row)
    heads = ["Metric", f"{live}>", f"{other}>", "Change>", "Interval", "Reading"]
    if expects:
        heads.insert(3, "Expected of these scores>")
    return table(caption, heads, rows)


def _outcomes(live: Live) -> list[Block]:
    rows = [
        (code(each.label), "–" if each.before is None else percent(each.before), percent(each.now))
        for each in live.outcomes
    ]
    outcomes = table("Outcomes", ("Class", "Holdout>", "Live>"), rows)
    return [Details(line("🎯 How often each class came"), (outcomes,), rank=45)] if rows else []


def _meaning(live: Live) -> list[Block]:
    rows: list[list[Cell]] = []
    for each in live.meaning:
        numbers = figure(each.before), figure(each.after), figure(each.gap), probability(each.p_value)
        rows.append([code(each.name), *numbers, "❌ changed" if each.changed else "✅ as before"])
    heads = ("Scores of", "Expected outcome>", "Outcome>", "Mean gap by score>", "p>", "Reading")
    meaning = table("Meaning of scores", heads, rows)
    return [Details(line("🧭 What scores mean"), (meaning,), rank=55)] if rows else []


def _slices(live: Live) -> list[Block]:
    rows: list[list[Cell]] = []
    for each in live.slices:
        metric, named = each.metric, line(code(each.column), " = ", code(each.value))
        holdout = "–" if metric.holdout is None else estimate(metric.holdout)
        rows.append([named, f"{each.rows:,}", estimate(metric.live), holdout, LEVEL_WORDS[metric.level]])
    worse = sum(each.metric.level is Level.WORSE for each in live.slices)
    said = "One interval a slice, not corrected for their number: a hint where to look, and no alarm."
    slices = table("Slices", ("Slice", "Rows>", "Live>", "Holdout>", "Reading"), rows)
    summary = line(f"🔪 {count(len(rows), 'slice')}, {worse} worse")
    return [Details(summary, (slices, Paragraph(line(muted(said)))), rank=25)] if rows else []


def _rival(rival: Rival) -> list[Block]:
    told = f" answered {rival.requests:,} requests, {rival.labelled:,} of them labelled: {rival.reading}."
    blocks: list[Block] = [Paragraph(line(bold(rival.role.capitalize()), " ", short(rival.digest), told))]
    found = rival.agreement
    if found is not None:
        same = "" if found.same_label is None else f"the same label in {100 * found.same_label:.1f} %, "
        alike = "" if found.correlation is None else f", correlation {figure(found.correlation)}"
        blocks.append(
            Paragraph(line(f"On the same requests: {same}a mean difference of {figure(found.mean_difference)}{alike}."))
        )
    if rival.comparison is not None:
        rows = [
            (
                metric_name(metric.name, metric.higher_is_better),
                estimate(metric.challenger),
                estimate(metric.champion),
                gain(metric.gain, decimals(metric.champion.value)),
            )
            for metric in rival.comparison.metrics
        ]
        blocks.append(table("On the same requests", ("Metric", "Shadow>", "Stable>", "Gain>"), rows))
    elif rival.metrics:
        blocks.append(_metrics("On different requests", rival.metrics, "Candidate", "Stable"))
    elif rival.gain is not None:
        blocks.append(Paragraph(line("Gain: ", *gain(rival.gain, 4))))
    return blocks
