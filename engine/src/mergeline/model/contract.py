"""Makes the signature: what the schema says and what training saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mergeline.dataset.kinds import Kind
from mergeline.dataset.schema import SchemaColumn, TeamSchema
from mergeline.errors import DataError
from mergeline.params import Params, Task
from mergeline.scorer.signature import Column, Label, Output, Signature

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000


def make_signature(rows: pd.DataFrame, schema: TeamSchema, params: Params) -> Signature:
    """The contract of a model that is trained on `rows`; its threshold is not yet set."""
    return Signature(
        name=params.name,
        columns=tuple(_column(rows[column.name], column) for column in schema.features(params.data)),
        output=_output(rows[params.data.target], params),
        id=params.data.id,
        time=params.data.time,
        metadata=params.data.metadata,
    )


def _column(values: pd.Series, column: SchemaColumn) -> Column:
    known = values.dropna()
    example = None if known.empty else _plain(known.mode().iloc[0])
    categories: tuple[str, ...] = ()
    if column.kind is Kind.CATEGORY:
        counts = known.value_counts()
        seen = sorted(counts.index, key=lambda value: (-counts[value], value))
        categories = tuple(str(value) for value in (column.allowed or seen[:MAX_CATEGORIES]))
    return Column(
        name=column.name,
        kind=column.kind,
        nullable=column.nullable,
        minimum=column.minimum,
        maximum=column.maximum,
        categories=categories,
        closed=bool(column.allowed) and column.kind is Kind.CATEGORY,
        example=example,
    )


def _output(target: pd.Series, params: Params) -> Output:
    name = params.data.target
    if params.task is Task.REGRESSION:
        if target.dtype.kind not in "iuf":
            raise DataError(
                f"target {name!r} holds {target.dtype}, not numbers",
                where="params.yaml: task",
                hint="choose binary or multiclass, or a number as the target",
            )
        return Output(task=params.task, target=name)
    classes: list[Label] = sorted(_plain(value) for value in target.unique())
    if len(classes) < 2:
        raise DataError(
            f"target {name!r} has {len(classes)} class in the training rows",
            where="params.yaml: data.target",
            hint="train on partitions that hold every class",
        )
    if params.task is Task.MULTICLASS:
        return Output(task=params.task, target=name, classes=tuple(classes))
    if params.data.positive not in classes or len(classes) > 2:
        raise DataError(
            f"target {name!r} holds {classes[:5]}; data.positive is {params.data.positive!r}",
            where="params.yaml: data.positive",
            hint="name one of two classes, or choose task: multiclass",
        )
    positive = next(label for label in classes if label == params.data.positive)
    return Output(task=params.task, target=name, classes=tuple(classes), positive=positive)


def _plain(value: Any) -> Label:
    """A NumPy scalar as the Python value that JSON can write."""
    plain: Label = value.item() if hasattr(value, "item") else value
    return plain
