"""Turns rows into the model's input, alike in training and in serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergeline.errors import ModelError
from mergeline.model.signature import Column, Kind

if TYPE_CHECKING:
    import pandas as pd


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
