"""Reads fitted encoders by asking them: every known value, a missing and an unseen one, and what comes out."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.scorer.expressions import (
    Chain,
    Column,
    Context,
    Feature,
    Guard,
    NotCompilableError,
    Raw,
    Table,
    Text,
    after,
    make_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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


def impute_text(imputer: Any, columns: Sequence[Text]) -> list[Column]:
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


def encode(encoder: Any, columns: Sequence[Column], context: Context) -> list[Feature]:
    """The features that a one-hot, ordinal or target encoder makes, in its order.

    A value that it refuses becomes NaN, with a guard.

    Raises:
        NotCompilableError: a column holds computed numbers, for which there is no list of values.
    """
    questions = [_question(column, known, context) for column, known in zip(columns, encoder.categories_, strict=True)]
    features: list[Feature] = []
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
