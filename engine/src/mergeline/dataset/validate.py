"""The data gate: every partition keeps the team's schema and the rules that a model's data must keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.dataset.findings import Finding, PartitionSummary, ValidationReport
from mergeline.dataset.history import check_history
from mergeline.dataset.leakage import lone_score
from mergeline.dataset.partitions import convert, list_partitions, read_raw
from mergeline.dataset.rules import (
    check_columns,
    check_identity,
    check_order,
    check_rows,
    check_schema,
    check_target,
    check_time,
    usual_rows,
)
from mergeline.dataset.schema import TeamSchema, load_schema
from mergeline.errors import DataError
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd

VALIDATION_FILE = Path("build/validation.json")
MAX_SHOWN = 20


def validate(root: Path, params: Params) -> ValidationReport:
    """Check all partitions.

    Raises:
        DataError: a file cannot be read; broken rules are findings in the report instead.
    """
    schema = load_schema(params.data)
    summaries: list[PartitionSummary] = []
    findings: list[Finding] = []
    frames: list[pd.DataFrame] = []
    seen: set[object] = set()
    for partition in list_partitions(root / params.data.path):
        raw = read_raw(partition)
        frame, mistyped = convert(raw, schema, partition.name)
        findings += check_columns(partition.name, raw, schema, params)
        findings += mistyped
        findings += _check_rules(partition.name, frame, schema, params, {finding.column for finding in mistyped})
        findings += check_identity(partition.name, frame, params, seen)
        if frames:
            findings += check_order(partition.name, frame, frames[-1], params)
            usual = usual_rows(partition.name, {one.name: one.rows for one in summaries})
            features = schema.features(params.data)
            findings += check_history(partition.name, frame, frames, features, params.validation, usual)
        frames.append(frame)
        summaries.append(PartitionSummary(name=partition.name, rows=len(frame)))
    findings += _check_leaks(frames, schema, params)
    return ValidationReport(partitions=tuple(summaries), columns=len(schema.columns), findings=tuple(findings))


def require_valid(report: ValidationReport) -> None:
    """Refuse data that break a rule.

    Raises:
        DataError: names each column, rule, number of rows and the first offending rows.
    """
    if not report.findings:
        return
    shown = [str(finding) for finding in report.findings[:MAX_SHOWN]]
    hidden = len(report.findings) - len(shown)
    if hidden:
        shown.append(f"… and {hidden} more")
    raise DataError(
        "the data break {} rule{}:\n  {}".format(
            len(report.findings), "" if len(report.findings) == 1 else "s", "\n  ".join(shown)
        ),
        hint="hint the rows at their source, or, if they are right, the schema or params.yaml: validation",
    )


def _check_rules(
    name: str, frame: pd.DataFrame, schema: TeamSchema, params: Params, mistyped: set[str]
) -> Iterator[Finding]:
    # A cell of the wrong type is missing by now: it was told of once, the null rule need not tell again.
    for finding in check_schema(name, frame, schema):
        told_by_identity = finding.column in (params.data.id, params.data.time, params.data.target)
        if finding.column in mistyped or (told_by_identity and finding.rule in ("null", "duplicate")):
            continue
        yield finding
    for finding in (*check_time(name, frame, params), *check_target(name, frame, params)):
        if finding.column not in mistyped:
            yield finding
    yield from check_rows(name, frame, params)


def _check_leaks(frames: list[pd.DataFrame], schema: TeamSchema, params: Params) -> Iterator[Finding]:
    import pandas as pd

    rows = pd.concat(frames, ignore_index=True)
    if params.data.target not in rows or rows[params.data.target].nunique() < 2:
        return
    if not params.task.classifies and not pd.api.types.is_numeric_dtype(rows[params.data.target]):
        return
    rows = rows.loc[rows[params.data.target].notna()]
    for column in schema.features(params.data):
        if column.name not in rows:
            continue
        score = lone_score(rows[column.name], rows[params.data.target], classifies=params.task.classifies)
        if score > params.validation.leak_score:
            measure = "AUC" if params.task.classifies else "rank correlation"
            yield Finding(
                partition="all partitions",
                column=column.name,
                rule="leak",
                rows=0,
                examples=(),
                meaning=f"it predicts {params.data.target} alone ({measure} {score:.3f}, "
                f"at most {params.validation.leak_score:g}); drop it, or raise validation.leak_score",
            )
