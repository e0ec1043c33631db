"""The sections on where the model comes from: what changed, its lineage, and how to make it again."""

from __future__ import annotations

from mergeline.evaluate.results import GateOutcome, Holdout
from mergeline.model.lineage import Change
from mergeline.report.document import (
    COMMAND_LIMIT,
    Block,
    CodeBlock,
    Details,
    Heading,
    Line,
    Paragraph,
    code,
    line,
    table,
    visible,
)
from mergeline.report.inputs import ReportInput
from mergeline.report.words import count, short, size

CHANGES_SHOWN = 10
KINDS = {"params": "⚙️ params", "data": "🗂️ data", "code": "✏️ code", "libraries": "📦 libraries"}


def changed(subject: ReportInput) -> list[Block]:
    """What differs from the champion's origin."""
    heading = Heading(line("What changed"))
    if subject.verdict.outcome is GateOutcome.NO_CHAMPION:
        return [heading, Paragraph(line("This is the first model, so there is nothing to compare its origin with."))]
    if not subject.changes:
        said = "Nothing: the champion was made from the same params, data, code and libraries."
        return [heading, Paragraph(line(said))]
    blocks: list[Block] = [heading, _change_block(subject.changes[:CHANGES_SHOWN])]
    rest = subject.changes[CHANGES_SHOWN:]
    if rest:
        blocks.append(Details(line(count(len(rest), "more change")), (_change_block(rest),), rank=80))
    return blocks


def _change_block(found: tuple[Change, ...]) -> Block:
    rows = [
        (line(KINDS[change.kind]), line(code(change.what)), _side(change, change.before), _side(change, change.after))
        for change in found
    ]
    return table("What changed since the champion", ("Kind", "What", "Champion", "This model"), rows)


def _side(change: Change, value: str) -> Line:
    is_digest = change.kind == "code" or value.startswith(("md5:", "sha256:"))
    return line(short(value) if is_digest else code(value))


def lineage(subject: ReportInput) -> list[Block]:
    """Every digest that names what the model was made from."""
    made = subject.lineage
    rows: list[tuple[Line, Line]] = [
        (line("Model"), line(code(subject.digest))),
        (line("Size"), line(size(subject.evaluation.model_bytes))),
        (line("Code (git tree)"), line(code(made.code))),
        (line("Data"), line(code(made.data))),
        (line("Params"), line(code(made.params))),
        (line("Environment"), line(code(made.environment))),
        (line("Trained on"), line(rows_words(made.rows, made.partitions))),
        (line("Judged on"), line(holdout_words(subject.evaluation.holdout))),
        (line("Holdout"), line(code(subject.evaluation.holdout.digest))),
        (line("Seed"), line(str(made.seed))),
        (line("Processor"), line(code(made.processor))),
        (line("Libraries"), line(", ".join(f"{name} {version}" for name, version in made.libraries.items()))),
    ]
    if subject.base_commit is not None:
        rows.append((line("Base commit"), line(code(subject.base_commit))))
    if subject.branch is not None:
        rows.append((line("Branch"), line(code(subject.branch))))
    return [Details(line("🧬 Lineage"), (table("Lineage", ("Part", "Identity"), rows),), rank=70)]


def reproduce(subject: ReportInput) -> list[Block]:
    """The commands that make the same bytes again."""
    if not subject.commands:
        return []
    said = line("These commands make the model again; its digest must come out as ", short(subject.digest), ".")
    blocks = (
        Paragraph(said),
        CodeBlock("bash", tuple(visible(command, COMMAND_LIMIT) for command in subject.commands)),
    )
    return [Details(line("💻 Reproduce it on your machine"), blocks, rank=75)]


def partition_words(partitions: tuple[str, ...]) -> str:
    """A run of partitions by its ends."""
    if not partitions:
        return "no partition"
    if len(partitions) == 1:
        return partitions[0]
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"


def rows_words(rows: int, partitions: tuple[str, ...]) -> str:
    """So many rows, and where from."""
    return f"{count(rows, 'row')} of {partition_words(partitions)}"


def holdout_words(holdout: Holdout) -> str:
    """How many rows judged the model, and from when."""
    said = rows_words(holdout.rows, holdout.partitions)
    if holdout.first is None or holdout.last is None:
        return said
    return f"{said}, {holdout.first} to {holdout.last}"
