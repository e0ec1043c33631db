"""Proves that a compiled pipeline gives scikit-learn's scores, or says where it does not."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mergeline.dataset import Kind
from mergeline.scorer.compiling import Compiled, Refusal
from mergeline.scorer.runtime import Scorer
from mergeline.scorer.stored import Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mergeline.scorer.compiling import Compiled
    from mergeline.scorer.program import Floats
    from mergeline.scorer.runtime import Row, Value
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


MIXED_ROWS = 600
MAX_SPLITS = 300
FEW_NUMBERS = 8
MAX_TEXTS = 300

TEXTS = (
    "", " ", "nan", "NaN", "None", "null", "0", "1", "1.0", "True", "a value never seen", "é", "日本",
)  # fmt: skip
GREATEST, SMALLEST = 1.7976931348623157e308, 5e-324
EXTREMES = (
    GREATEST, -GREATEST, 1e308, -1e308, 1e200, -1e200, 3.4028234663852886e38, 3.4028235677973362e38,
    3.402823567797337e38, -3.402823567797337e38, 1e39, 1e16, -1e16, 9007199254740993.0, 2.0**63, 1e-300, -1e-300,
    2.2250738585072014e-308, SMALLEST, -SMALLEST, 1e-46, 1e-45,
)  # fmt: skip
"""The largest and smallest numbers of double and of single precision, and those where one becomes infinite or 0."""

Item = TypeVar("Item")

SMALL = (0.0, 1.0, -1.0, 0.5, -2.0, 255.0, 256.0, 1e3)


class Case(NamedTuple):
    """One value of one column that may be hard."""

    column: int
    value: Value
    moderate: bool
    """Whether it may stand beside others: sums of extremes depend on their order, in scikit-learn too."""


def single_cases(compiled: Compiled, signature: Signature) -> list[Case]:
    """Each hard value of each column: missing, unseen, extreme, on a threshold and one step beside it."""
    numbers = sum(column.kind is not Kind.CATEGORY for column in signature.columns)
    return [
        case
        for place, column in enumerate(signature.columns)
        for case in (
            _texts(place, column, compiled)
            if column.kind is Kind.CATEGORY
            else _numbers(place, compiled, EXTREMES if numbers <= FEW_NUMBERS else _some_extremes(place))
        )
    ]


def rows_of(cases: Sequence[Case], typical: Sequence[Row]) -> list[Row]:
    """Rows with one hard value each, otherwise like a real one."""
    return [
        (*row[: case.column], case.value, *row[case.column + 1 :])
        for number, case in enumerate(cases)
        for row in [typical[number % len(typical)]]
    ]


def mixed_rows(cases: Sequence[Case], typical: Sequence[Row], seed: int = 0) -> list[Row]:
    """Rows in which several columns hold hard but moderate values at once."""
    rng = np.random.default_rng(seed)
    by_column: dict[int, list[Value]] = {}
    for case in cases:
        if case.moderate:
            by_column.setdefault(case.column, []).append(case.value)
    rows = []
    for number in range(MIXED_ROWS):
        row = list(typical[number % len(typical)])
        share = (0.1, 0.5, 1.0)[number % 3]
        for column, values in by_column.items():
            if rng.random() < share:
                row[column] = values[int(rng.integers(len(values)))]
        rows.append(tuple(row))
    return rows


def _texts(place: int, column: Column, compiled: Compiled) -> list[Case]:
    known = dict.fromkeys([*column.categories, *compiled.vocabulary])
    spread = _spread(list(known), MAX_TEXTS)
    changed = [text.swapcase() for text in spread[:5]] + [f"{text} " for text in spread[:5]]
    return [Case(place, value, True) for value in (None, *spread, *changed, *TEXTS)]


def _some_extremes(place: int) -> tuple[float, ...]:
    """The two greatest numbers and a few more in turn: scikit-learn is asked row by row what it refuses, slowly."""
    turn = (EXTREMES[2 + (4 * place + step) % (len(EXTREMES) - 2)] for step in range(4))
    return (*EXTREMES[:2], *turn)


def _numbers(place: int, compiled: Compiled, extremes: tuple[float, ...]) -> list[Case]:
    marks: list[float] = [float(split) for split in _spread(list(compiled.splits.get(place, ())), MAX_SPLITS)]
    for lookup in compiled.program.lookups:
        if lookup.numeric and lookup.source == place:
            marks += [float(key) for key in _spread([*lookup.keys], MAX_SPLITS)]
    beside = [float(np.nextafter(mark, side)) for mark in marks for side in (-np.inf, np.inf)]
    moderate = [*(value for value in dict.fromkeys([*marks, *beside, *SMALL]) if abs(value) < 1e15), -0.0]
    extreme = [value for value in (*extremes, *marks, *beside) if np.isfinite(value)]
    return [
        Case(place, float("nan"), True),
        *(Case(place, value, True) for value in moderate),
        *(Case(place, value, False) for value in dict.fromkeys(extreme) if value not in set(moderate)),
    ]


def _spread(values: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the values, evenly over all of them."""
    if len(values) <= most:
        return list(values)
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, most)]
