"""Scores a table of rows with the fitted pipeline: what a compiled scorer must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mergeline.errors import ModelError
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


def to_features(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """The model's input columns in order: text as `str`, everything else as float64, NaN where missing.

    Raises:
        ModelError: a column is missing.
    """
    import pandas as pd

    absent = [column.name for column in columns if column.name not in frame.columns]
    if absent:
        raise ModelError(
            f"the rows lack column{'s' if len(absent) > 1 else ''} {', '.join(absent)}",
            where="input",
            hint="give every column that signature.json names",
        )
    return pd.DataFrame(
        {
            column.name: frame[column.name].astype("str" if column.kind is Kind.CATEGORY else "float64")
            for column in columns
        },
        index=frame.index,
    )


def scores(pipeline: Any, features: pd.DataFrame, signature: Signature) -> NDArray[np.float64]:
    """Score prepared `features` with a fitted pipeline; shapes as in `LoadedModel.predict`."""
    import numpy as np

    output = signature.output
    if output.task is Task.REGRESSION:
        return _floats(pipeline.predict(features)).reshape(len(features))
    probabilities = _floats(pipeline.predict_proba(features))
    if output.task is Task.MULTICLASS:
        return probabilities
    return np.ascontiguousarray(probabilities[:, output.classes.index(output.positive)])


def _floats(found: Any) -> NDArray[np.float64]:
    """What a pipeline gave, as numbers; NumPy would take the half of a complex one, and what a mask hides.

    Raises:
        TypeError: it is of another kind.
    """
    import numpy as np

    array = np.asanyarray(found)
    if array.dtype.kind not in "biufO":
        raise TypeError(f"the pipeline gave values of type {array.dtype}, expected numbers")
    return np.asarray(np.ma.filled(array.astype(np.float64, copy=False), np.nan))


def chosen(found: NDArray[np.float64], output: Output) -> NDArray[np.intp]:
    """The classes that scores of these shapes mean, as places in `output.classes`, shape (n,)."""
    import numpy as np

    if output.task is Task.MULTICLASS:
        return np.asarray(found.argmax(axis=1))
    positive = 0 if output.positive is None else output.classes.index(output.positive)
    return np.where(found >= (output.threshold or 0.0), positive, 1 - positive)


def labels(found: NDArray[np.float64], output: Output) -> NDArray[Any]:
    """The labels that scores of these shapes mean, shape (n,); for a regression the values themselves."""
    import numpy as np

    if output.task is Task.REGRESSION:
        return found
    return np.array([output.classes[place] for place in chosen(found, output).tolist()], dtype=object)
