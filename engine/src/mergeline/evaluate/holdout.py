"""Reads the rows that models are judged on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import Split, read_parts
from mergeline.evaluate.results import Holdout
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd


def read_holdout(root: Path, params: Params, split: Split) -> tuple[pd.DataFrame, Holdout]:
    """The holdout's rows, oldest first, and what they are.

    Raises:
        DataError: a partition is damaged or is not the one that was split.
    """
    rows = read_parts(split.holdout, root, load_schema(params.data), params.data)
    times = rows[params.data.time] if params.data.time is not None and len(rows) else None
    return rows, Holdout(
        digest=split.holdout_digest,
        partitions=tuple(part.partition for part in split.holdout),
        rows=len(rows),
        first=None if times is None else str(times.min()),
        last=None if times is None else str(times.max()),
    )
