"""Makes the records on which a compiled pipeline is likeliest to go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from mergeline.dataset.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mergeline.scorer.compiling import Compiled
    from mergeline.scorer.runtime import Row, Value
    from mergeline.scorer.signature import Column, Signature

MIXED_ROWS = 600
MAX_SPLITS = 300
FEW_NUMBERS = 8
MAX_TEXTS = 300

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "nan",
    "NaN",
    "None",
    "null",
    "0",
    "1",
    "1.0",
    "True",
    "a value never seen",
    "é",
    "日本",
)
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
