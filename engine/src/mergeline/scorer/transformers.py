"""Follows the columns of a record through scikit-learn's fitted transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mergeline.scorer.encoders import UNSEEN_TEXT, encode, impute_text
from mergeline.scorer.expressions import (
    Chain,
    Column,
    Context,
    NotCompilableError,
    Op,
    Product,
    Raw,
    Text,
    apply,
)
from mergeline.scorer.program import UFUNCS

Handler = Callable[[Any, list[Column], Context], list[Column]]


def transform(part: Any, columns: list[Column], context: Context) -> list[Column]:
    """The columns after a fitted transformer.

    Raises:
        NotCompilableError: the transformer, or a setting of it, has no exact form here.
    """
    if part is None or (isinstance(part, str) and part == "passthrough"):
        return columns
    handler = HANDLERS.get(kind_of(part))
    if handler is None:
        raise NotCompilableError(f"{type(part).__name__} cannot be compiled", where="pipeline")
    expected = getattr(part, "n_features_in_", len(columns))
    if expected != len(columns):
        raise NotCompilableError(
            f"{type(part).__name__} reads {expected} columns, {len(columns)} reach it", where="pipeline"
        )
    return handler(part, columns, context)


def kind_of(part: Any) -> str:
    """The class of one of scikit-learn's own estimators; a team's own class is empty, since it may do anything."""
    kind = type(part)
    return str(kind.__name__) if kind.__module__.split(".")[0] == "sklearn" else ""


def _pipeline(part: Any, columns: list[Column], context: Context) -> list[Column]:
    for _, step in part.steps:
        columns = transform(step, columns, context)
    return columns


def _column_transformer(part: Any, columns: list[Column], context: Context) -> list[Column]:
    made: list[Column] = []
    weights = part.transformer_weights or {}
    for name, step, _ in part.transformers_:
        chosen = part._transformer_to_input_indices.get(name, [])
        if isinstance(step, str) and step == "drop":
            continue
        found = transform(step, [columns[place] for place in chosen], context) if len(chosen) else []
        span = part.output_indices_[name]
        if len(found) != span.stop - span.start or len(made) != span.start:
            if not found and span.start == span.stop:
                continue
            raise NotCompilableError(
                f"the columns of {name!r} are not in the order expected", where="ColumnTransformer"
            )
        made += _weighted(found, weights.get(name))
    return made


def _feature_union(part: Any, columns: list[Column], context: Context) -> list[Column]:
    weights = part.transformer_weights or {}
    return [
        column
        for name, step in part.transformer_list
        if not (isinstance(step, str) and step == "drop")
        for column in _weighted(transform(step, columns, context), weights.get(name))
    ]


def _weighted(columns: list[Column], weight: float | None) -> list[Column]:
    return columns if weight is None else [apply(column, Op("multiply", weight)) for column in columns]


def _simple_imputer(part: Any, columns: list[Column], context: Context) -> list[Column]:
    if not (isinstance(part.missing_values, float) and math.isnan(part.missing_values)):
        raise NotCompilableError(f"an imputer looks for {part.missing_values!r}, not for NaN", where="SimpleImputer")
    texts = [column for column in columns if isinstance(column, Text)]
    if texts:
        if len(texts) < len(columns):
            raise NotCompilableError("one imputer reads text and numbers", where="SimpleImputer")
        return impute_text(part, texts)
    context.guard(columns, nan_ok=True)
    made: list[Column] = []
    for column, statistic in zip(columns, part.statistics_.astype(np.float64), strict=True):
        if not math.isnan(statistic):
            made.append(apply(column, Op("fill", float(statistic))))
        elif part.keep_empty_features:
            made.append(column)
    if part.add_indicator:
        made += [apply(columns[place], Op("isnan")) for place in part.indicator_.features_]
    return made


def _missing_indicator(part: Any, columns: list[Column], context: Context) -> list[Column]:
    if not (isinstance(part.missing_values, float) and math.isnan(part.missing_values)):
        raise NotCompilableError("it looks for another value than NaN", where="MissingIndicator")
    if part.features == "missing-only" and part.error_on_new:
        raise NotCompilableError("it refuses what was never missing in training", where="MissingIndicator")
    context.guard(columns, nan_ok=True)
    return [apply(columns[place], Op("isnan")) for place in part.features_]


def _scaler(part: Any, columns: list[Column], context: Context) -> list[Column]:
    """StandardScaler, RobustScaler and MaxAbsScaler: subtract, divide, clip."""
    context.guard(columns, nan_ok=True)
    kind = kind_of(part)
    centre = {"StandardScaler": "mean_", "RobustScaler": "center_"}.get(kind)
    centred = {"StandardScaler": "with_mean", "RobustScaler": "with_centering"}.get(kind)
    scaled = {"StandardScaler": "with_std", "RobustScaler": "with_scaling"}.get(kind)
    steps: list[tuple[str, Any]] = []
    if centre and centred and getattr(part, centred):
        steps.append(("subtract", getattr(part, centre)))
    if scaled is None or getattr(part, scaled):
        steps.append(("divide", part.scale_))
    clip = [Op("clip", -1.0, 1.0)] if getattr(part, "clip", False) else []
    return [
        apply(column, *(Op(operation, float(values[place])) for operation, values in steps), *clip)
        for place, column in enumerate(columns)
    ]


def _min_max_scaler(part: Any, columns: list[Column], context: Context) -> list[Column]:
    context.guard(columns, nan_ok=True)
    low, high = (float(bound) for bound in part.feature_range)
    clip = [Op("clip", low, high)] if part.clip else []
    return [
        apply(column, Op("multiply", float(scale)), Op("add", float(shift)), *clip)
        for column, scale, shift in zip(columns, part.scale_, part.min_, strict=True)
    ]


def _encoder(part: Any, columns: list[Column], context: Context) -> list[Column]:
    return list(encode(part, columns, context))


def _polynomial(part: Any, columns: list[Column], context: Context) -> list[Column]:
    context.guard(columns, nan_ok=False)
    made: list[Column] = []
    for powers in part.powers_:
        factors = [apply(columns[place]) for place, power in enumerate(powers) for _ in range(int(power))]
        made.append(factors[0] if len(factors) == 1 else Chain(Product(tuple(factors))))
    return made


def _function(part: Any, columns: list[Column], context: Context) -> list[Column]:
    if part.validate:
        context.guard(columns, nan_ok=False)
    if part.func is None:
        return columns
    name = ufunc_name(part.func)
    if name is None or part.kw_args:
        raise NotCompilableError("a function that is not one of NumPy's plain ones", where="FunctionTransformer")
    return [apply(column, Op(name)) for column in columns]


def ufunc_name(function: Any) -> str | None:
    """The name of a NumPy function that an expression may hold, or None."""
    name = getattr(function, "__name__", "")
    return name if name in UFUNCS and getattr(np, name) is function else None


def _selector(part: Any, columns: list[Column], context: Context) -> list[Column]:
    from sklearn.utils import get_tags

    if not get_tags(part).input_tags.allow_nan:  # where missing numbers may pass, a selection looks at none at all
        context.guard(columns, nan_ok=False)
    return [column for column, kept in zip(columns, part.get_support(), strict=True) if kept]


HANDLERS: dict[str, Handler] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _feature_union,
    "SimpleImputer": _simple_imputer,
    "MissingIndicator": _missing_indicator,
    "StandardScaler": _scaler,
    "RobustScaler": _scaler,
    "MaxAbsScaler": _scaler,
    "MinMaxScaler": _min_max_scaler,
    "OneHotEncoder": _encoder,
    "OrdinalEncoder": _encoder,
    "TargetEncoder": _encoder,
    "PolynomialFeatures": _polynomial,
    "FunctionTransformer": _function,
    **dict.fromkeys(
        (
            "VarianceThreshold", "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe",
            "GenericUnivariateSelect", "SelectFromModel", "RFE", "RFECV", "SequentialFeatureSelector",
        ),
        _selector,
    ),
}  # fmt: skip
"""How each transformer is followed, by the name of its class."""


def start(signature_kinds: Sequence[bool], context: Context) -> list[Column]:
    """The columns of a record; `signature_kinds` says of each whether it is text."""
    return [
        Text(source, (*context.vocabulary, None, UNSEEN_TEXT)) if text else Chain(Raw(source))
        for source, text in enumerate(signature_kinds)
    ]
