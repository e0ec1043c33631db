"""The data gate: every partition keeps the team's schema and the rules that a model's data must keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from mergeline.dataset import Kind
from mergeline.dataset.findings import Finding, PartitionSummary, ValidationReport
from mergeline.dataset.leakage import MEASURES, lone_score
from mergeline.dataset.partitions import convert, list_partitions, read_raw
from mergeline.dataset.rules import (
    broken,
    check_columns,
    check_identity,
    check_order,
    check_rows,
    check_schema,
    check_target,
    check_time,
    usual_rows,
)
from mergeline.dataset.schema import SchemaColumn, TeamSchema, load_schema, require_column
from mergeline.errors import DataError
from mergeline.params import ColumnRule, Params, ValidationParams

VALIDATION_FILE = Path("build/validation.json")
MAX_SHOWN = 20


def validate(root: Path, params: Params) -> ValidationReport:
    """Check all partitions.

    Raises:
        DataError: a file cannot be read, or `validation.allow` names no column; broken rules are findings in the
            report instead.
    """
    schema = load_schema(params.data)
    for name in params.validation.allow:
        require_column(name, [column.name for column in schema.columns], "validation.allow")
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
    findings += _check_empty(frames, schema, params, {one.column for one in findings if one.rule == "type"})
    findings += _check_leaks(frames, schema, params)
    findings = [_with_exception(finding) for finding in findings if not _allowed(finding, params)]
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
        hint="correct the rows at their source, or, if they are right, the schema or params.yaml: validation",
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


def _allowed(finding: Finding, params: Params) -> bool:
    return finding.rule in params.validation.allow.get(finding.column, ()) and finding.column != ""


def _with_exception(finding: Finding) -> Finding:
    """The finding, with the exception that lets its column pass, where there is one."""
    if finding.rule not in get_args(ColumnRule) or finding.rows or not finding.column:
        return finding
    advice = f"if that is right: validation.allow: {{{finding.column}: [{finding.rule}]}}"
    return finding.model_copy(update={"meaning": f"{finding.meaning}; {advice}"})


def _check_empty(
    frames: list[pd.DataFrame], schema: TeamSchema, params: Params, mistyped: set[str]
) -> Iterator[Finding]:
    """A column without a value in all training rows teaches a model nothing, and some estimators raise on it."""
    settings = params.split
    trained = frames
    if settings.kind == "time" and len(frames) > settings.holdout:
        trained = frames[: -settings.holdout][-(settings.train or 0) :]
    for column in schema.features(params.data):
        told = column.name in mistyped
        if not told and all(column.name in frame and frame[column.name].isna().all() for frame in trained):
            meaning = "no training row has a value; drop it from schema and data, or train on rows that have it"
            yield broken("all training rows", column.name, "empty column", meaning)


def _check_leaks(frames: list[pd.DataFrame], schema: TeamSchema, params: Params) -> Iterator[Finding]:
    rows = pd.concat(frames, ignore_index=True)
    if params.data.target not in rows or rows[params.data.target].nunique() < 2:
        return
    if not params.task.classifies and not pd.api.types.is_numeric_dtype(rows[params.data.target]):
        return
    rows = rows.loc[rows[params.data.target].notna()]
    for column in schema.features(params.data):
        if column.name not in rows:
            continue
        score = lone_score(rows[column.name], rows[params.data.target], params.task)
        if score > params.validation.leak_score:
            told = f"{MEASURES[params.task]} {score:.3f}, at most {params.validation.leak_score:g}"
            meaning = (
                f"it predicts {params.data.target} alone ({told}); drop it if it is known only after the prediction"
            )
            yield broken("all partitions", column.name, "leak", meaning)


MAX_NEW_CATEGORIES = 0.5
OUTER_QUANTILES = (0.01, 0.99)


def check_history(  # noqa: PLR0917 - a partition, what was before it, and the bounds: the order reads itself
    name: str,
    frame: pd.DataFrame,
    earlier: Sequence[pd.DataFrame],
    columns: Sequence[SchemaColumn],
    bounds: ValidationParams,
    usual_rows: Sequence[float],
) -> Iterator[Finding]:
    """What is odd about a partition beside the ones before it.

    Args:
        name: the partition's.
        frame: its rows.
        earlier: the rows of each partition before it.
        columns: the columns to look at.
        bounds: what may change.
        usual_rows: of each partition that can be compared with, for a period as long; may be empty.
    """
    usual = float(np.median(usual_rows)) if usual_rows else float(len(frame))
    change = len(frame) / max(usual, 1) - 1
    if abs(change) > bounds.max_row_change:
        meaning = f"{len(frame):,} rows, {change:+.0%} against the median {usual:,.0f} of the partitions before"
        yield broken(name, "", "row count", meaning)
    for column in columns:
        if column.name not in frame.columns or not len(frame):
            continue
        past = pd.concat(
            [before[column.name] for before in earlier if column.name in before.columns] or [frame[column.name]]
        )
        now = frame[column.name]
        rise = float(now.isna().mean() - past.isna().mean())
        if rise > bounds.max_missing_rise:
            meaning = f"{now.isna().mean():.0%} missing, {past.isna().mean():.0%} in the partitions before"
            yield broken(name, column.name, "missing share", meaning)
        elif column.kind in (Kind.NUMBER, Kind.INTEGER):
            yield from _check_numbers(name, column.name, now, past)
        elif column.kind is Kind.CATEGORY and not column.allowed:
            yield from _check_categories(name, column.name, now, past)


def _check_numbers(name: str, column: str, now: pd.Series, past: pd.Series) -> Iterator[Finding]:
    now, past = now.dropna().astype("float64"), past.dropna().astype("float64")
    if now.empty or past.empty:
        return
    low, high = (float(past.quantile(q)) for q in OUTER_QUANTILES)
    middle = float(now.median())
    if not low <= middle <= high:
        meaning = f"its median is {middle:g}; 98 % of the values before lie in {low:g} to {high:g}"
        yield broken(name, column, "distribution", meaning)


def _check_categories(name: str, column: str, now: pd.Series, past: pd.Series) -> Iterator[Finding]:
    now, known = now.dropna(), set(past.dropna().unique())
    if now.empty or not known:
        return
    new = float((~now.isin(known)).mean())
    if new > MAX_NEW_CATEGORIES:
        yield broken(name, column, "distribution", f"{new:.0%} of the rows hold values never seen before")
