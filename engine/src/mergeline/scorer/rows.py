"""Writes the rows of a request, or whole columns of a file, into a matrix of numbers, with nothing but lookups."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.scorer.expressions import MISSING, UNSEEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.scorer.operations import Floats
    from mergeline.scorer.program import Program

Value = float | int | bool | str | None
Row = tuple[Value, ...]
RowEncoder = Callable[[Any], bytes]


def make_encoder(program: Program) -> Callable[[Sequence[Row]], Floats]:
    """A function from rows, one value for each of the record's columns, to a matrix of shape (n, width).

    A row becomes the bytes of its numbers at once: each text is looked up as the bytes of its columns, the
    numbers are packed together. No Python code runs for a single value unless numbers are looked up.
    """
    encode_row, width = _row_encoder(program), program.width

    def encode(rows: Sequence[Row]) -> Floats:
        content = encode_row(rows[0]) if len(rows) == 1 else b"".join([encode_row(row) for row in rows])
        return np.frombuffer(content, dtype=np.float64).reshape(len(rows), width)

    return encode


def _row_encoder(program: Program) -> RowEncoder:
    texts = [lookup for lookup in program.lookups if not lookup.numeric]
    tables = [
        {None: lookup.values[MISSING].tobytes()}
        | {key: row.tobytes() for key, row in zip(lookup.keys, lookup.values, strict=False)}
        for lookup in texts
    ]
    unseen = [lookup.values[UNSEEN].tobytes() for lookup in texts]
    text_values = _taker([lookup.source for lookup in texts])
    number_values = _taker(program.numbers)
    pack = struct.Struct(f"={len(program.numbers)}d").pack
    numeric = [
        (
            lookup.source,
            {key: row.tobytes() for key, row in zip(lookup.keys, lookup.values, strict=False)},
            lookup.values[UNSEEN].tobytes(),
            lookup.values[MISSING].tobytes(),
        )
        for lookup in program.lookups
        if lookup.numeric
    ]
    get, join = dict.get, b"".join

    def numbers_only(row: Row) -> bytes:
        return pack(*number_values(row))

    def texts_and_numbers(row: Row) -> bytes:
        return join(map(get, tables, text_values(row), unseen)) + pack(*number_values(row))

    def everything(row: Row) -> bytes:
        looked_up = [
            table.get(row[source], other) if row[source] == row[source] else missing
            for source, table, other, missing in numeric
        ]
        return join(map(get, tables, text_values(row), unseen)) + join(looked_up) + pack(*number_values(row))

    if numeric:
        return everything
    return texts_and_numbers if texts else numbers_only


def _taker(places: Sequence[int]) -> Callable[[Row], tuple[Any, ...]]:
    """A function that takes these places of a row, as a tuple whatever their number."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)


class TextColumn(NamedTuple):
    """A column of text as places in a list of its values; -1 where it is missing."""

    codes: NDArray[np.int32]
    texts: Sequence[str]


def encode_columns(program: Program, columns: Sequence[Floats | TextColumn]) -> Floats:
    """The matrix that `make_encoder` makes, of whole columns: numbers with NaN where missing, or texts."""
    rows = len(columns[0].codes if isinstance(columns[0], TextColumn) else columns[0])
    matrix, place = np.empty((rows, program.width)), 0
    for lookup in program.lookups:
        column, width = columns[lookup.source], int(lookup.values.shape[1])
        if isinstance(column, TextColumn):
            known: dict[Any, int] = {key: row for row, key in enumerate(lookup.keys)}
            found = np.array([*(known.get(text, UNSEEN) for text in column.texts), MISSING])[column.codes]
        else:
            found = _find_numbers(column, np.array(lookup.keys, dtype=np.float64))
        matrix[:, place : place + width] = lookup.values[found]
        place += width
    for source in program.numbers:
        matrix[:, place] = columns[source]
        place += 1
    return matrix


def _find_numbers(values: Floats, keys: Floats) -> NDArray[np.intp]:
    order = np.argsort(keys)
    if not len(keys):
        return np.where(np.isnan(values), MISSING, UNSEEN)
    near = order[np.searchsorted(keys, values, sorter=order).clip(max=len(keys) - 1)]
    return np.where(np.isnan(values), MISSING, np.where(keys[near] == values, near, UNSEEN))
