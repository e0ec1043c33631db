"""Follows the columns of a record through scikit-learn's fitted transformers.

Encoders are read by asking them: every known value, a missing and an unseen one, and what comes out.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.scorer.expressions import (
    Chain,
    Column,
    Context,
    Guard,
    NotCompilableError,
    Op,
    Product,
    Raw,
    Table,
    Text,
    after,
    apply,
    make_table,
)
from mergeline.scorer.program import UFUNCS

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        return _impute_text(part, texts)
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


_SCALERS = {
    "StandardScaler": ("with_mean", "mean_", "with_std"),
    "RobustScaler": ("with_centering", "center_", "with_scaling"),
    "MaxAbsScaler": ("", "", ""),
}
"""Whether it subtracts, what, and whether it divides: the names of its attributes."""


def _scaler(part: Any, columns: list[Column], context: Context) -> list[Column]:
    """StandardScaler, RobustScaler and MaxAbsScaler: subtract, divide, clip."""
    context.guard(columns, nan_ok=True)
    centred, centre, scaled = _SCALERS[kind_of(part)]
    steps: list[tuple[str, Any]] = []
    if centred and getattr(part, centred):
        steps.append(("subtract", getattr(part, centre)))
    if not scaled or getattr(part, scaled):
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


UNSEEN_TEXT = "\x00 a value that no training row held"


class Question(NamedTuple):
    """What an encoder is asked about one column: `values` are what reaches it for each key, if missing, if unseen."""

    source: int
    keys: tuple[str, ...] | tuple[float, ...]
    numeric: bool
    text: bool
    values: list[Any]


class Answer(NamedTuple):
    """What an encoder makes of a column's values, a row each, and which of them it refuses."""

    made: NDArray[np.float64]
    refused: NDArray[np.bool_]


def _impute_text(imputer: Any, columns: Sequence[Text]) -> list[Column]:
    """What an imputer makes of text columns.

    Raises:
        NotCompilableError: it marks what was missing, or drops a column.
    """
    if imputer.add_indicator:
        raise NotCompilableError("an imputer of text marks what was missing", where="SimpleImputer")
    given = [[math.nan if value is None else value for value in column.values] for column in columns]
    made = _ask(imputer, _container(imputer, given, [True] * len(columns)))
    if made.shape[1] != len(columns):
        raise NotCompilableError("an imputer drops an empty column of text", where="SimpleImputer")
    return [
        Text(column.source, tuple(value if isinstance(value, str) else None for value in made[:, place]))
        for place, column in enumerate(columns)
    ]


def _encoder(encoder: Any, columns: list[Column], context: Context) -> list[Column]:
    """The features that a one-hot, ordinal or target encoder makes, in its order.

    A value that it refuses becomes NaN, with a guard.

    Raises:
        NotCompilableError: a column holds computed numbers, for which there is no list of values.
    """
    questions = [_question(column, known, context) for column, known in zip(columns, encoder.categories_, strict=True)]
    features: list[Column] = []
    first = 0
    for question, answer, width in zip(questions, _answers(encoder, questions), _widths(encoder), strict=True):
        size = len(question.values)
        source, numeric, keys = question.source, question.numeric, question.keys
        for values in answer.made[:size, first : first + width].T:
            features.append(make_table(source, numeric=numeric, keys=keys, values=values))  # noqa: PERF401 - reads easier
        refused = answer.refused[:size]
        if refused.any():
            poison = make_table(source, numeric=numeric, keys=keys, values=np.where(refused, np.nan, 0.0))
            context.guards.append(Guard(poison, nan_ok=False))
        first += width
    return features


def _question(column: Column, known: Any, context: Context) -> Question:
    match column:
        case Text(source=source, values=texts):
            values = [math.nan if value is None else value for value in texts]
            return Question(source, context.vocabulary, numeric=False, text=True, values=values)
        case Table(source=source, keys=keys, numeric=numeric, values=numbers):
            return Question(source, keys, numeric, text=False, values=list(numbers))
        case Chain(base=Raw(source=source), ops=ops) if all(op.kind == "fill" for op in ops):
            numbered = tuple(sorted(float(value) for value in known if not _is_nan(value)))
            unseen = next(value for value in itertools.count(0.5) if value not in numbered)
            asked = after(ops, [*numbered, math.nan, unseen]).tolist()
            return Question(source, numbered, numeric=True, text=False, values=asked)
    raise NotCompilableError("an encoder reads numbers that an earlier step computed", where="encoder")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _widths(encoder: Any) -> list[int]:
    """How many features the encoder makes of each column."""
    match type(encoder).__name__:
        case "OneHotEncoder":
            return [int(width) for width in encoder._n_features_outs]
        case "TargetEncoder" if encoder.target_type_ == "multiclass":
            return [len(encoder.classes_)] * len(encoder.categories_)
        case _:
            return [1] * len(encoder.categories_)


def _answers(encoder: Any, questions: Sequence[Question]) -> list[Answer]:
    """What comes out for each column: of all values at once where nothing is refused, else value by value."""
    texts = [question.text for question in questions]
    known = [next((value for value in values if not _is_nan(value)), math.nan) for values in encoder.categories_]
    longest = max(len(question.values) for question in questions)
    padded = [
        [*question.values, *([category] * (longest - len(question.values)))]
        for question, category in zip(questions, known, strict=True)
    ]
    try:
        made = _ask(encoder, _container(encoder, padded, texts))
        return [Answer(made, np.zeros(longest, dtype=bool))] * len(questions)
    except ValueError:
        pass
    width = _ask(encoder, _container(encoder, [[category] for category in known], texts)).shape[1]
    answers = []
    for place, question in enumerate(questions):
        answer = Answer(np.full((longest, width), np.nan), np.zeros(longest, dtype=bool))
        for row, value in enumerate(question.values):
            asked = [[value if other == place else category] for other, category in enumerate(known)]
            try:
                answer.made[row] = _ask(encoder, _container(encoder, asked, texts))[0]
            except ValueError:
                answer.refused[row] = True
        answers.append(answer)
    return answers


def _ask(part: Any, asked: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = part.transform(asked)
    if hasattr(made, "toarray"):
        made = made.toarray()
    made = np.asarray(made)
    return made.astype(object if made.dtype.kind in "OUT" else np.float64)


def _container(part: Any, columns: Sequence[Sequence[Any]], texts: Sequence[bool]) -> Any:
    """The columns as the part saw them when it was fitted: a frame with names, or an array."""
    import pandas as pd

    typed = [
        pd.Series(list(values), dtype=object).astype("str" if text else "float64")
        for values, text in zip(columns, texts, strict=True)
    ]
    if hasattr(part, "feature_names_in_"):
        return pd.DataFrame(dict(zip(part.feature_names_in_, typed, strict=True)))
    if not any(texts):
        return np.column_stack([values.to_numpy() for values in typed])
    objects = np.empty((len(typed[0]), len(typed)), dtype=object)
    for place, values in enumerate(typed):
        objects[:, place] = values.to_list()
    return objects


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
