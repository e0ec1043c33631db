"""Counts columns with DuckDB: one pass over what is read, and the same counts in training and in watching."""
# ruff: noqa: S608 - names and values are quoted by `quoted` and `literal`; SQL has no other way to name a column

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergeline.model.binning import CELLS, Grid

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

MEMORY_LIMIT = "200MB"
COLUMNS_AT_ONCE = 4
"""In one query, of which each holds what it knows of every file while it runs."""


@dataclass(frozen=True)
class NumberCounts:
    """`cells` has shape (CELLS + 2,): the lower tail, the grid, the upper tail; `infinite` counts NaN as well."""

    cells: NDArray[np.int64]
    missing: int
    infinite: int


@dataclass(frozen=True)
class CategoryCounts:
    """Counts of the named categories, of all the others together, and of nulls."""

    named: dict[str, int]
    other: int
    missing: int


@dataclass(frozen=True)
class Counts:
    """What one pass found, by column."""

    numbers: dict[str, NumberCounts]
    categories: dict[str, CategoryCounts]

    def __add__(self, other: Counts) -> Counts:
        """The counts of the same columns in these rows and in others."""
        numbers = {
            name: NumberCounts(a.cells + b.cells, a.missing + b.missing, a.infinite + b.infinite)
            for name, a in self.numbers.items()
            for b in [other.numbers[name]]
        }
        texts = {
            name: CategoryCounts(
                {text: a.named.get(text, 0) + b.named.get(text, 0) for text in a.named | b.named},
                a.other + b.other,
                a.missing + b.missing,
            )
            for name, a in self.categories.items()
            for b in [other.categories[name]]
        }
        return Counts(numbers, texts)


def connect(memory_limit: str = MEMORY_LIMIT, threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A private DuckDB in memory that stays within `memory_limit`, touches no extension, and keeps no row order."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "parquet_metadata_cache": True,  # each column is a query of its own, and would read the files' ends again
        "temp_directory": tempfile.gettempdir(),
    }
    if threads is not None:
        settings["threads"] = threads
    return duckdb.connect(config=settings)


def count(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    grids: Mapping[str, Grid],
    categories: Mapping[str, Sequence[str] | None],
) -> Counts:
    """Count every column of `relation`.

    Each column is read once: a query for each, side by side, is as quick as one scan of them all.

    Args:
        connection: see `connect`.
        relation: SQL that can stand after FROM.
        grids: the number columns by name; booleans count as 0 and 1.
        categories: the text columns by name, and the values to name; None names every value.
    """
    parts = [
        f"select {index} as k, b, null::varchar as s, n, m from (select {grid.expression(quoted(name))} as b,"
        f" count(*) as n, count({quoted(name)}) as m from {relation} group by 1)"
        for index, (name, grid) in enumerate(grids.items())
    ]
    parts += [
        f"select {index} as k, {known} as b, s, n, 0 as m from ({inner})"
        for index, (name, named) in enumerate(categories.items(), start=len(grids))
        for known, inner in [_categories_sql(name, named, relation)]
    ]
    found: list[list[_Row]] = [[] for _ in parts]
    for start in range(0, len(parts), COLUMNS_AT_ONCE):
        query = " union all ".join(parts[start : start + COLUMNS_AT_ONCE])
        for key, *row in connection.execute(query).fetchall():
            found[key].append(row)
    far = [name for index, name in enumerate(grids) if any(row[0] is None and row[3] for row in found[index])]
    away = {name: _count_far(connection, relation, name, grids[name]) for name in far}
    numbers = {name: _number_counts(found[index], away.get(name)) for index, name in enumerate(grids)}
    texts = {name: _category_counts(found[index]) for index, name in enumerate(categories, start=len(grids))}
    return Counts(numbers, texts)


_Row = list[Any]
"""A group of one column: the cell of a number or 1 for a named text, that text, its rows, and those not null."""


def _count_far(connection: duckdb.DuckDBPyConnection, relation: str, name: str, grid: Grid) -> tuple[int, int, int]:
    """Of the values that are in no cell: how many lie below, above, and how many are not finite."""
    column = f"{quoted(name)}::double"
    row = connection.execute(
        f"select count(*) filter (isfinite({column}) and {column} < {grid.middle!r}::double),"
        f" count(*) filter (isfinite({column}) and {column} >= {grid.middle!r}::double),"
        f" count(*) filter (not isfinite({column}))"
        f" from {relation} where {quoted(name)} is not null and {grid.expression(quoted(name))} is null"
    ).fetchone()
    below, above, infinite = row or (0, 0, 0)
    return below, above, infinite


def quoted(name: str) -> str:
    """The name of a column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _categories_sql(name: str, named: Sequence[str] | None, relation: str) -> tuple[str, str]:
    """SQL that marks a named value by 1 and the rest by 0, and the grouped values that it reads."""
    grouped = f"select {quoted(name)}::varchar as s, count(*) as n from {relation} group by 1"
    if named is None:
        return "1", grouped
    # Looked up once for each distinct value, not once a row; the rest comes back as one number, however many there are.
    names = ", ".join(map(literal, named)) or "null"
    known = f"coalesce(s in ({names}), false)"
    kept = f"case when {known} then s end"
    return (
        "b",
        f"select {kept} as s, sum(n)::bigint as n, case when s is null then null when {known} then 1 else 0 end as b"
        f" from ({grouped}) group by 1, 3",
    )


def _number_counts(rows: list[_Row], far: tuple[int, int, int] | None) -> NumberCounts:
    import numpy as np

    inside = [row for row in rows if row[0] is not None]
    places = np.clip(np.array([row[0] for row in inside], dtype=np.int64) + 1, 0, CELLS + 1)
    numbers = np.array([row[2] for row in inside], dtype=np.float64)  # bincount adds floats, exact to 2^53
    cells = np.bincount(places, weights=numbers, minlength=CELLS + 2).astype(np.int64)
    below, above, infinite = far or (0, 0, 0)
    cells[0] += below
    cells[-1] += above
    return NumberCounts(cells, sum(row[2] - row[3] for row in rows if row[0] is None), infinite)


def _category_counts(rows: list[_Row]) -> CategoryCounts:
    named = {text: number for _, text, number, _ in rows if text is not None}
    missing = sum(number for known, text, number, _ in rows if text is None and known != 0)
    other = sum(number for known, text, number, _ in rows if text is None and known == 0)
    return CategoryCounts(named, other, missing)
