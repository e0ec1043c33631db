"""Composes the report of one look at production: the verdict, its reasons, then everything behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mergeline.evaluate.results import Curve, Status
from mergeline.files import write_json, write_text
from mergeline.report.curves import curves
from mergeline.report.document import (
    Alert,
    Bar,
    Block,
    Cell,
    Details,
    Document,
    Facts,
    Heading,
    Items,
    Paragraph,
    State,
    bold,
    code,
    line,
    muted,
    table,
)
from mergeline.report.words import MARKS, STATUS_WORDS, count, figure, percent, probability, short, signed
from mergeline.watch.drift import Change, Finding
from mergeline.watch.drift import Status as Found
from mergeline.watch.report_live import live_quality, moments, rivals
from mergeline.watch.results import Distribution, Estimated, Outcome, Watched

STATES: dict[Outcome, State] = {
    Outcome.STEADY: "accepted",
    Outcome.DRIFT: "inconclusive",
    Outcome.DEGRADED: "rejected",
    Outcome.INCONCLUSIVE: "inconclusive",
}
EMOJI = {Outcome.STEADY: "✅", Outcome.DRIFT: "🌊", Outcome.DEGRADED: "❌", Outcome.INCONCLUSIVE: "⚠️"}
FOUND_WORDS = {
    Found.DRIFT: "🌊\u00a0drift",
    Found.NOTE: "🔹\u00a0note",
    Found.FEW: "⚠️\u00a0too few rows",
    Found.STEADY: "✅\u00a0steady",
}
FINDINGS_SHOWN = 15


def compose(watched: Watched) -> Document:
    """The report, from its verdict down."""
    title = line(
        bold(f"{EMOJI[watched.outcome]} {watched.outcome.value.capitalize()}:"),
        " ",
        code(watched.name),
        f" version {watched.version} in production",
    )
    blocks: list[Block] = [*_notices(watched), _facts(watched), _reasons(watched)]
    blocks += _findings(watched)
    blocks += _distributions(watched.distributions)
    blocks += live_quality(watched)
    blocks += rivals(watched)
    blocks += _behind(watched)
    return Document(title, line(_sentence(watched.headline)), STATES[watched.outcome], tuple(blocks))


def _sentence(text: str) -> str:
    first = text.split(" ", 1)[0].rstrip(":,")
    return f"{text}." if "_" in first else f"{text[:1].upper()}{text[1:]}."  # a name stays as it is written


def _notices(watched: Watched) -> list[Block]:
    return [Alert("NOTE", tuple(line(notice) for notice in watched.notices))] if watched.notices else []


def _facts(watched: Watched) -> Facts:
    stretch = watched.stretch
    labelled = 0 if watched.live is None else watched.live.labelled
    return Facts(
        (
            ("Window", line(*moments(stretch), f" UTC, by {stretch.clock}")),
            ("Rows", line(f"{watched.rows:,}, {watched.answered:,} answered by this model")),
            ("Labels", line(f"{labelled:,}")),
            ("Compared with", line(", ".join(watched.references))),
            ("Model", line(short(watched.digest))),
        )
    )


def _reasons(watched: Watched) -> Block:
    rows: list[list[Cell]] = []
    for check in sorted(watched.reasons, key=lambda check: _ORDER[check.status]):
        found = f"{MARKS[check.status]} {STATUS_WORDS[check.status]}"
        rows.append([bold(check.name), found, check.value, _sentence(check.meaning) if check.meaning else "–"])
    return table("Reasons", ("Reason", "Result", "Found", "What it means"), rows)


_ORDER = {Status.FAIL: 0, Status.WARN: 1, Status.PASS: 2, Status.SKIP: 3}


def _findings(watched: Watched) -> list[Block]:
    """Every test, the worst first; what is steady is folded."""
    top = [finding for finding in watched.findings if finding.status in (Found.DRIFT, Found.NOTE)]
    rest = [finding for finding in watched.findings if finding not in top]
    blocks: list[Block] = [Heading(line("Drift"))]
    if top:
        blocks.append(_finding_table("What changed", top[:FINDINGS_SHOWN]))
        more = top[FINDINGS_SHOWN:]
        if more:
            blocks.append(
                Details(line(count(len(more), "more change")), (_finding_table("More changes", more),), rank=60)
            )
    else:
        blocks.append(Paragraph(line("No column changed beyond its bound.")))
    if rest:
        named = count(len(rest), "test") + " that found nothing"
        blocks.append(Details(line(named), (_finding_table("Tests that found nothing", rest),), rank=10))
    if watched.answers_before:
        summary = line("Scores and labels against the window before")
        blocks.append(Details(summary, (_finding_table("Against the window before", watched.answers_before),), rank=50))
    return blocks


def _finding_table(caption: str, findings: Sequence[Finding]) -> Block:
    largest = max((finding.effect for finding in findings), default=0.0) or 1.0
    weighed = any(finding.importance is not None for finding in findings)
    heads = ["Column", "Change", "Result", "Effect>", "Size", "q>", "Before>", "Now>", "Other measures"]
    rows: list[list[Cell]] = []
    for finding in findings:
        share = finding.change is not Change.VALUES
        others = ", ".join(f"{_MEASURES[name]} {figure(value)}" for name, value in finding.measures.items())
        cells: list[Cell] = [
            line(code(finding.column), muted("" if finding.part == "input" else f" ({finding.part.value})")),
            line(finding.change.value, muted(f" against {finding.against}") if finding.against != "training" else ""),
            FOUND_WORDS[finding.status],
            figure(finding.effect),
            Bar(min(1.0, finding.effect / largest)),
            probability(finding.q_value),
            *("–" if value is None else _place(value, share=share) for value in (finding.before, finding.after)),
            muted(others or "–"),
        ]
        if weighed:
            cells.insert(3, "–" if finding.importance is None else percent(finding.importance))
        rows.append(cells)
    if weighed:
        heads.insert(3, "Weight in the model>")
    return table(caption, heads, rows)


_MEASURES = {
    "psi": "PSI",
    "jensen_shannon": "JS",
    "wasserstein": "Wasserstein",
    "beyond": "beyond training's range",
    "offset": "all moved by",
    "piled": "more on one value",
    "turned": "turned on its cycle by",
}


def _place(value: float, *, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else figure(value)


def _distributions(found: Sequence[Distribution]) -> list[Block]:
    """Numbers as charts, categories as tables."""
    numbers = [each for each in found if not each.named]
    drawn = curves(
        [
            Curve(
                name=f"distribution {each.column}",
                title=f"{each.column}, before and now",
                x_label=each.column,
                y_label="share of the values",
                series=(each.before, each.now),
            )
            for each in numbers
        ]
    )[1:]  # its own heading says curves
    blocks: list[Block] = [part for part in drawn if isinstance(part, Details)]
    for each in found:
        if each.named:
            largest = max((*each.before.y, *each.now.y), default=0.0) or 1.0
            rows = [
                (code(name), f"{100 * before:.1f} %", Bar(before / largest), f"{100 * now:.1f} %", Bar(now / largest))
                for name, before, now in zip(each.named, each.before.y, each.now.y, strict=True)
            ]
            content = table(f"Shares of {each.column}", ("Value", "Before>", "Share before", "Now>", "Share now"), rows)
            blocks.append(Details(line(f"📊 {each.column}, before and now"), (content,), rank=40))
    said = (
        "Before is the profile of the training rows, of the holdout for the model's answers. What lies beyond the ends"
    )
    said += " of a chart stands at its ends."
    return [Heading(line("Distributions of what changed")), Paragraph(line(muted(said))), *blocks] if blocks else []


def _behind(watched: Watched) -> list[Block]:
    """The whole-row tests, what was estimated, and what the data look like."""
    blocks: list[Block] = []
    if watched.whole_rows:
        rows = []
        for found in watched.whole_rows:
            told = ", ".join(f"{name} {percent(share)}" for name, share in found.features.items()) or "–"
            rows.append((found.against, f"{found.rows:,}", figure(found.auc), probability(found.p_value), told))
        heads = ("Against", "Rows of each side>", "AUC>", "p>", "Columns that told them apart")
        said = line("A classifier learns to tell rows of the window from others: an AUC of 0.5 is by chance.")
        blocks.append(Details(line("🧩 Whole rows"), (table("Whole-row tests", heads, rows), Paragraph(said)), rank=30))
    if watched.estimated is not None:
        blocks.append(Details(line("🔮 Estimated without labels"), tuple(_estimated(watched.estimated)), rank=35))
    blocks.append(Details(line("🧾 Data quality"), (_quality(watched),), rank=20))
    return [Heading(line("Behind it")), *blocks]


def _estimated(found: Estimated) -> list[Block]:
    rows = [(code(name), figure(value)) for name, value in found.metrics.items()]
    said = (
        "What the scores promise if they mean what they meant on the holdout (CBPE; DLE for a number). It sees no"
        " change of that meaning, so it starts nothing by itself."
    )
    blocks: list[Block] = [Paragraph(line(said)), table("Estimates", ("Metric", "Estimated>"), rows)]
    if not found.back_tests:
        blocks.append(Paragraph(line("No earlier window has labels, so nobody knows what these estimates are worth.")))
        return blocks
    past: list[list[Cell]] = []
    for test in found.back_tests:
        window = f"{test.stretch.start:%Y-%m-%d} to {test.stretch.end:%Y-%m-%d}"
        for name, realised in test.realised.items():
            estimated = test.estimated[name]
            values = figure(estimated), figure(realised), signed(estimated - realised)
            past.append([window, code(name), f"{test.rows:,}", *values])
    heads = ("Earlier window", "Metric", "Rows>", "Estimated>", "By labels>", "Error>")
    return [*blocks, table("How such estimates fared", heads, past)]


def _quality(watched: Watched) -> Block:
    quality = watched.quality
    lines = [
        line(f"{count(quality.files, 'file')} read", f", {len(quality.unreadable)} left out, as they cannot be read"),
        *(line("left out: ", code(name)) for name in quality.unreadable[:20]),
        line(f"ids that came before: {100 * quality.repeated:.2f} % of the rows"),
        *(line("absent: ", code(name)) for name in quality.absent),
        *(line("retyped: ", code(name), f" came as {kind}") for name, kind in quality.retyped.items()),
        *(
            line("missing from some files: ", code(name), f" (files with {100 * share:.1f} % of the rows)")
            for name, share in quality.partly.items()
        ),
        *(line("new: ", code(name)) for name in quality.new[:20]),
        *(
            line(
                code(each.column),
                f" lies beyond the training rows in {100 * each.share:.1f} % of the values, {100 * each.before:.1f} %"
                f" before; now {_span(each.lowest, each.highest)}, in training {_span(each.minimum, each.maximum)}",
            )
            for each in quality.beyond
        ),
    ]
    return Items(tuple(lines))


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "of unknown reach"
    return f"{figure(low)} to {figure(high)}"


class Written(NamedTuple):
    """Where the files are."""

    verdict: Path
    markdown: Path
    page: Path
    metrics: Path


def write_watched(watched: Watched, folder: Path) -> Written:
    """Write `watch.json`, `watch.md`, `watch.html` and `mergeline_watch.prom`, each whole or not at all.

    Raises:
        OSError: the folder is not writable.
    """
    from mergeline.report import html, markdown
    from mergeline.watch import prometheus

    written = Written(*(folder / name for name in ("watch.json", "watch.md", "watch.html", "mergeline_watch.prom")))
    document = compose(watched)
    write_json(written.verdict, watched.model_dump(mode="json"))
    write_text(written.markdown, markdown.render(document))
    write_text(written.page, html.render(document))
    write_text(written.metrics, prometheus.render(watched))
    return written
