"""Composes a model card from the same numbers as the report.

The sections are those of Mitchell et al. (2019), "Model cards for model reporting". What no measurement can
say is marked as the team's to write.
"""

from __future__ import annotations

from mergeline.model.lineage import flat
from mergeline.params import Task
from mergeline.report import measures, words
from mergeline.report.compose import candidate_name, verdict_state
from mergeline.report.document import Alert, Block, Cell, Document, Heading, Items, Paragraph, bold, code, line, table
from mergeline.report.inputs import ReportInput

TASKS = {
    Task.BINARY: "answers the probability of one of two classes",
    Task.MULTICLASS: "answers a probability for each of several classes",
    Task.REGRESSION: "answers a number",
}


def compose_card(subject: ReportInput) -> Document:
    """The model card."""
    state = verdict_state(subject.verdict)
    blocks: list[Block] = [
        *_details(subject),
        Heading(line("Intended use")),
        _for_the_team("who may use this model, for which decisions, and what it must not be used for"),
        *_factors(subject),
        *_metrics(subject),
        Heading(line("Evaluation data")),
        Paragraph(line(f"{words.holdout_words(subject.evaluation.holdout)}, kept out of training.")),
        Heading(line("Training data")),
        Paragraph(line(f"{words.rows_words(subject.lineage.rows, subject.lineage.partitions)}.")),
        _for_the_team("where the data come from, who is in them and who is not, and under which licence"),
        *_analyses(subject),
        Heading(line("Ethical considerations")),
        *(block for part in measures.fairness(subject) for block in part.blocks),
        _for_the_team("who could be harmed by a wrong answer, and what is done about it"),
        *_caveats(subject),
    ]
    why = line(f"The gate's verdict is “{state}”: {words.headline(subject.verdict)}")
    return Document(line("Model card: ", *candidate_name(subject)), why, state, tuple(blocks))


def front_matter(subject: ReportInput) -> str:
    """What the Hugging Face Hub reads at the head of a model card, as YAML; the digest says which bytes it is about."""
    import yaml

    task = "tabular-classification" if subject.evaluation.task.classifies else "tabular-regression"
    holdout = subject.evaluation.holdout
    result = {
        "task": {"type": task},
        "dataset": {"name": f"holdout of {subject.name}", "type": subject.name, "split": ", ".join(holdout.partitions)},
        "metrics": [
            {"type": metric.name, "value": round(metric.estimate.value, 6)} for metric in subject.evaluation.metrics
        ],
    }
    head = {
        "library_name": "sklearn",
        "pipeline_tag": task,
        "tags": ["sklearn", "skops", "mergeline"],
        "model_format": "skops",
        "model_file": "model.skops",
        "digest": subject.digest,
        "model-index": [{"name": subject.name, "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n"


def _for_the_team(wish: str) -> Block:
    return Alert("NOTE", (line("✍️ ", bold("For the team to write:"), f" {wish}."),))


def _details(subject: ReportInput) -> list[Block]:
    made, settings = subject.lineage, flat(subject.lineage.training.get("model", {}))
    rows: list[tuple[Cell, Cell]] = [
        ("Name", code(subject.name)),
        ("Version", "none, it is not proposed" if subject.version is None else str(subject.version)),
        ("Digest", code(subject.digest)),
        ("Task", f"{subject.evaluation.task.value}: it {TASKS[subject.evaluation.task]}"),
        ("Size", words.size(subject.evaluation.model_bytes)),
        ("Made with", ", ".join(f"{name} {version}" for name, version in made.libraries.items())),
        ("Code (git tree)", code(made.code)),
        ("Data", code(made.data)),
        *((code(f"model.{name}"), code(value)) for name, value in list(settings.items())[:40]),
    ]
    made_by = _for_the_team("who made the model, under which licence, and whom to ask")
    return [Heading(line("Model details")), table("Model details", ("Part", "Value"), rows), made_by]


def _factors(subject: ReportInput) -> list[Block]:
    columns = list(dict.fromkeys(result.column for result in subject.evaluation.slices))[:20]
    groups = [result.column for result in subject.evaluation.fairness][:20]
    lines = [line("Judged slice by slice over: ", *measures.listed(columns))] if columns else []
    lines += [line("Groups compared for fairness: ", *measures.listed(groups))] if groups else []
    return [Heading(line("Factors")), Items(tuple(lines or [line("No slices and no groups were measured.")]))]


def _metrics(subject: ReportInput) -> list[Block]:
    level = words.percent(subject.gate.confidence)
    said = f"The gate compares models by {subject.gate.metric}. Brackets hold {level} bootstrap intervals."
    rows = [
        (words.metric_name(metric.name, metric.higher_is_better), words.estimate(metric.estimate))
        for metric in subject.evaluation.metrics
    ]
    return [
        Heading(line("Metrics")),
        Paragraph(line(said)),
        table("Metrics on the holdout", ("Metric", f"Value, {level} interval>"), rows),
    ]


def _analyses(subject: ReportInput) -> list[Block]:
    blocks: list[Block] = [Heading(line("Quantitative analyses"))]
    found = measures.own_slices(subject)
    if found:
        rows = measures.slice_rows(found[: measures.CARD_SLICES], ())
        blocks.append(table("Slices", ("Slice", "Rows>", f"{found[0][1].name}>", "Interval"), rows))
        left = len(found) - len(rows)
        if left:
            blocks.append(Paragraph(line(f"{words.count(left, 'more slice')} in the HTML report.")))
    else:
        blocks.append(Paragraph(line("No slices were measured.")))
    return [*blocks, *measures.importance(subject), *measures.confusion(subject)]


def _caveats(subject: ReportInput) -> list[Block]:
    concerns = [check for check in subject.verdict.checks if words.STATUS_WORDS[check.status] in {"failed", "warning"}]
    lines = [
        line(bold(f"{check.name} ({words.STATUS_WORDS[check.status]})"), f": {words.meaning(check)}")
        for check in concerns[:20]
    ]
    lines += [line(notice) for notice in subject.notices[:10]]
    lines = lines or [line("No check failed or warned.")]
    return [
        Heading(line("Caveats and recommendations")),
        Items(tuple(lines)),
        *measures.stress(subject),
        _for_the_team("what else a user must know before relying on the model"),
    ]
