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
    return Counts(_count_numbers(connection, relation, grids), _count_categories(connection, relation, categories))


def _count_numbers(
    connection: duckdb.DuckDBPyConnection, relation: str, grids: Mapping[str, Grid]
) -> dict[str, NumberCounts]:
    import numpy as np

    cells = np.zeros((len(grids), CELLS + 2), np.int64)
    missing, elsewhere = np.zeros((2, len(grids)), np.int64)
    parts = [
        f"select {index} as k, {grid.expression(quoted(name))} as b, count(*) as n, count({quoted(name)}) as m"
        f" from {relation} group by 2"
        for index, (name, grid) in enumerate(grids.items())
    ]
    for query in _in_turn(parts):
        found: dict[str, Any] = connection.execute(query).fetchnumpy()
        k, n, away = found["k"], found["n"], np.ma.getmaskarray(found["b"])
        places = np.clip(found["b"][~away].astype(np.int64) + 1, 0, CELLS + 1)
        np.add.at(cells, (k[~away], places), n[~away])
        missing[k[away]], elsewhere[k[away]] = (n - found["m"])[away], found["m"][away]
    numbers = {}
    for (name, grid), own, absent, far in zip(grids.items(), cells, missing, elsewhere, strict=True):
        below, above, infinite = _count_far(connection, relation, name, grid) if far else (0, 0, 0)
        own[[0, -1]] += below, above
        numbers[name] = NumberCounts(own, int(absent), infinite)
    return numbers


def _count_categories(
    connection: duckdb.DuckDBPyConnection, relation: str, categories: Mapping[str, Sequence[str] | None]
) -> dict[str, CategoryCounts]:
    parts = [_categories_sql(index, name, named, relation) for index, (name, named) in enumerate(categories.items())]
    found: list[list[tuple[int | None, str | None, int]]] = [[] for _ in parts]
    for query in _in_turn(parts):
        for index, *row in connection.execute(query).fetchall():
            found[index].append(tuple(row))
    return {
        name: CategoryCounts(
            named={text: number for _, text, number in rows if text is not None},
            other=sum(number for known, _, number in rows if known == 0),
            missing=sum(number for known, _, number in rows if known is None),
        )
        for name, rows in zip(categories, found, strict=True)
    }


def _in_turn(parts: Sequence[str]) -> list[str]:
    """Queries that give the rows of all `parts`."""
    starts = range(0, len(parts), COLUMNS_AT_ONCE)
    return [" union all ".join(parts[start : start + COLUMNS_AT_ONCE]) for start in starts]


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


def _categories_sql(index: int, name: str, named: Sequence[str] | None, relation: str) -> str:
    """SQL for a column's grouped values: named ones are marked by 1, the rest by 0, and what is missing by null."""
    grouped = f"select {quoted(name)}::varchar as s, count(*) as n from {relation} group by 1"
    if named is None:
        return f"select {index} as k, case when s is not null then 1 end as b, s, n from ({grouped})"
    # Looked up once for each distinct value, not once a row; the rest comes back as one number, however many there are.
    known = f"coalesce(s in ({', '.join(map(literal, named)) or 'null'}), false)"
    return (
        f"select {index} as k, case when s is null then null when {known} then 1 else 0 end as b,"
        f" case when {known} then s end as s, sum(n)::bigint as n from ({grouped}) group by 2, 3"
    )
