"""Proves that a compiled pipeline gives scikit-learn's scores, or says where it does not."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.dataset.kinds import Kind
from mergeline.scorer.compiling import Compiled, Refusal
from mergeline.scorer.edge_cases import mixed_rows, rows_of, single_cases
from mergeline.scorer.runtime import Scorer
from mergeline.scorer.stored import Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mergeline.scorer.program import Floats
    from mergeline.scorer.runtime import Row
    from mergeline.scorer.signature import Column, Signature

TOLERANCE = 1e-9
NOISE = 1e-12
"""Differences below this depend on the processor and the number of threads: the proof does not tell them apart, so
that a model has the same bytes everywhere."""

TRAINING_ROWS = 20_000
SINGLE_ROWS = 200
CHUNK = 1000
PART = 20_000
TYPICAL = 7
REFUSED_PARTS = 8


def prove(compiled: Compiled, pipeline: Any, signature: Signature, frames: Sequence[pd.DataFrame]) -> Proof | Refusal:
    """Compare both on real rows and on hard cases.

    Args:
        compiled: what was made of `pipeline`.
        pipeline: the fitted pipeline.
        signature: what it takes and gives.
        frames: prepared features, as `to_features` gives them, whose rows are all compared.

    Returns:
        The proof; or a refusal that names the first row with a difference beyond 1e-9. A row that
        scikit-learn refuses must have no finite score here, and the other way round.
    """
    scorer = Scorer(compiled.program, compiled.graph)
    compared = _Comparison(scorer, pipeline, signature)
    for frame in frames:
        compared.real(frame)
    typical = _typical(frames, signature)
    if typical:
        cases = single_cases(compiled, signature)
        refused = compared.made(rows_of(cases, typical))
        compared.made(mixed_rows([case for case, lost in zip(cases, refused, strict=True) if not lost], typical))
    return compared.result()


def largest_difference(scorer: Scorer, pipeline: Any, signature: Signature, frame: pd.DataFrame) -> float:
    """The largest difference between a scorer and its pipeline on prepared features; infinite where one refuses."""
    compared = _Comparison(scorer, pipeline, signature)
    compared.real(frame)
    return compared.largest


def to_rows(frame: pd.DataFrame, columns: Sequence[Column]) -> list[Row]:
    """Prepared features as the rows of a request: None for a missing category, NaN for a missing number."""
    values = [
        [None if value != value else str(value) for value in frame[column.name]]  # noqa: PLR0124 - NaN alone differs
        if column.kind is Kind.CATEGORY
        else frame[column.name].tolist()
        for column in columns
    ]
    return list(zip(*values, strict=True))


class _Comparison:
    """Rows compared so far, and what was found."""

    def __init__(self, scorer: Scorer, pipeline: Any, signature: Signature) -> None:
        self._scorer, self._pipeline, self._signature = scorer, pipeline, signature
        self._rows = self._made = self._refused = 0
        self.largest, self._worst = 0.0, ""

    def real(self, frame: pd.DataFrame) -> None:
        """Compare rows of the data, in requests of 1,000, and some one by one."""
        for first in range(0, len(frame), PART):
            part = frame.iloc[first : first + PART]
            rows = to_rows(part, self._signature.columns)
            chunks = [self._scores(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
            found = np.concatenate(chunks)
            expected = _expected(self._pipeline, part, self._signature, found)
            self._compare(expected, found, rows)
            self._compare_singly(expected, rows)
            self._rows += len(rows)

    def made(self, rows: Sequence[Row]) -> list[bool]:
        """Compare made rows, together and some one by one; says which of them scikit-learn refused."""
        import pandas as pd

        from mergeline.scorer.pipeline import to_features

        columns = self._signature.columns
        given = pd.DataFrame(
            {
                column.name: pd.Series([row[place] for row in rows], dtype=_dtype(column))
                for place, column in enumerate(columns)
            }
        )
        found = self._scores(rows)
        expected = _expected(self._pipeline, to_features(given, columns), self._signature, found)
        self._compare(expected, found, rows)
        self._compare_singly(expected, rows)
        refused = ~np.asarray(np.isfinite(expected.reshape(len(rows), -1)).all(axis=1))
        self._made += len(rows)
        self._refused += int(refused.sum())
        return [bool(value) for value in refused]

    def _compare_singly(self, expected: Floats, rows: Sequence[Row]) -> None:
        """Compare some rows as requests of their own, which take another way through the scorer."""
        chosen = np.unique(np.linspace(0, len(rows) - 1, SINGLE_ROWS).astype(int))
        alone = [rows[place] for place in chosen]
        self._compare(expected[chosen], np.concatenate([self._scores([row]) for row in alone]), alone)

    def result(self) -> Proof | Refusal:
        """The proof, or where it failed."""
        if not self.largest <= TOLERANCE:
            return Refusal(f"the compiled scorer differs from scikit-learn: {self._worst}")
        bound = max(NOISE, 10.0 ** math.ceil(math.log10(self.largest))) if self.largest else NOISE
        return Proof(
            rows=self._rows,
            hard_cases=self._made,
            refused=self._refused,
            tolerance=TOLERANCE,
            largest_difference=float(f"{bound:.0e}"),
        )

    def _scores(self, rows: Sequence[Row]) -> Floats:
        return self._scorer.score(self._scorer.encode(rows))

    def _compare(self, expected: Floats, found: Floats, rows: Sequence[Row]) -> None:
        if expected.shape != found.shape:
            self.largest, self._worst = math.inf, f"scores of shape {found.shape}, not {expected.shape}"
            return
        wanted, given = expected.reshape(len(rows), -1), found.reshape(len(rows), -1)
        lost, refused = ~np.isfinite(wanted).all(axis=1), ~np.isfinite(given).all(axis=1)
        with np.errstate(all="ignore"):
            off = (np.abs(wanted - given) / np.maximum(1, np.abs(wanted))).max(axis=1)
        off = np.where(lost & refused, 0.0, np.where(lost | refused, np.inf, off))
        worst = int(off.argmax())
        if off[worst] > self.largest:
            self.largest = float(off[worst])
            values = dict(zip(self._signature.names, rows[worst], strict=True))
            shown = ", ".join(f"{name}={value!r}" for name, value in values.items())[:300]
            self._worst = f"{wanted[worst].tolist()[:3]} is right, it gives {given[worst].tolist()[:3]} for {shown}"


def _typical(frames: Sequence[pd.DataFrame], signature: Signature) -> list[Row]:
    """A few real rows to put hard values into, complete ones first."""
    for frame in frames:
        if len(frame):
            whole = frame.dropna()
            chosen = whole if len(whole) else frame
            return to_rows(chosen.iloc[:: max(1, len(chosen) // TYPICAL)][:TYPICAL], signature.columns)
    return []


def _dtype(column: Column) -> Any:
    return object if column.kind is Kind.CATEGORY else "float64"


def _expected(pipeline: Any, features: pd.DataFrame, signature: Signature, found: Floats) -> Floats:
    """scikit-learn's scores, NaN for rows that it refuses.

    It refuses a whole table for one row. Those without a score in `found` are likely such rows, and asked for apart.
    """
    lost = ~np.isfinite(found.reshape(len(features), -1)).all(axis=1)
    order = np.argsort(lost, kind="stable")
    groups = np.split(order, [len(features) - int(lost.sum())])
    parts = [_asked(pipeline, features.iloc[group], signature) for group in groups if len(group)]
    return np.concatenate(parts)[np.argsort(order)]


def _asked(pipeline: Any, features: pd.DataFrame, signature: Signature) -> Floats:
    """The same for some rows, in ever smaller parts where they are refused.

    Eight parts and not two: where all rows are refused, which only questions for single rows show, the questions above
    those are few.
    """
    from mergeline.scorer.pipeline import scores

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return scores(pipeline, features, signature)
    except Exception:  # noqa: BLE001 - a pipeline refuses a row in any way it likes
        if len(features) == 1:
            width = len(signature.output.classes)
            return np.full((1, width) if signature.output.task == "multiclass" else (1,), np.nan)
        marks = np.linspace(0, len(features), min(REFUSED_PARTS, len(features)) + 1).astype(int).tolist()
        parts = [features.iloc[first:last] for first, last in pairwise(marks)]
        return np.concatenate([_asked(pipeline, part, signature) for part in parts])
