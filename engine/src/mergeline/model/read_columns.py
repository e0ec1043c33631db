"""Reads a column of a file's batch as a model takes it, and says which of its values break the signature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mergeline.dataset import Kind
from mergeline.dataset.findings import shorten
from mergeline.dataset.partitions import FALSE_WORDS, MEANINGS, MISSING_WORDS, TRUE_WORDS
from mergeline.errors import DataError
from mergeline.scorer.runtime import TextColumn

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mergeline.scorer.program import Floats
    from mergeline.scorer.signature import Column


class ReadColumn:
    """One column of a batch as the scorer takes it, and which of its values break the signature."""

    values: Floats | TextColumn

    def __init__(self, column: Column, given: pa.Array) -> None:
        import pyarrow as pa

        self._column, self._given = column, given
        missing = np.asarray(given.is_null())
        if column.kind is Kind.CATEGORY:
            self.values, unfit = _texts(column, given)
            missing = missing | (self.values.codes < 0)
        else:
            self.values, absent = _numbers(column, given)
            missing = missing | absent
            unfit = np.isnan(self.values) & ~missing
            if pa.types.is_floating(given.type):
                missing, unfit = missing | unfit, np.zeros(len(given), dtype=bool)
            low = -math.inf if column.minimum is None else column.minimum
            high = math.inf if column.maximum is None else column.maximum
            with np.errstate(invalid="ignore"):
                unfit |= (self.values < low) | (self.values > high) | np.isinf(self.values)
                if column.kind is Kind.INTEGER:
                    unfit |= (self.values != np.floor(self.values)) & ~np.isnan(self.values)
                if column.kind is Kind.BOOLEAN:
                    unfit |= (self.values != 0) & (self.values != 1) & ~np.isnan(self.values)
        self._missing = missing
        self.bad: NDArray[np.bool_] = unfit if column.nullable else unfit | missing

    def reason(self, place: int) -> str:
        """What is wrong with the value at `place`."""
        column, value = self._column, shorten(self._given[place].as_py())
        if self._missing[place]:
            return f"{column.name} is missing"
        if column.closed:
            return f"{column.name} is {value}, not one of {', '.join(column.categories[:10])}"
        number = self.values[place] if not isinstance(self.values, TextColumn) else math.nan
        if column.minimum is not None and number < column.minimum:
            return f"{column.name} is {value}, at least {column.minimum:g} is right"
        if column.maximum is not None and number > column.maximum:
            return f"{column.name} is {value}, at most {column.maximum:g} is right"
        return f"{column.name} is {value}, {MEANINGS[column.kind]}"


def _texts(column: Column, given: pa.Array) -> tuple[TextColumn, NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = given.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"it holds {kind}, not text", where=f"column {column.name}", hint="write it as text")
    encoded = given if pa.types.is_dictionary(given.type) else pc.dictionary_encode(given.cast(pa.string()))
    texts: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    unknown = [column.closed and text not in column.categories for text in texts]
    return TextColumn(codes, texts), np.array([*unknown, False])[codes]


def _numbers(column: Column, given: pa.Array) -> tuple[Floats, NDArray[np.bool_]]:
    """Numbers with NaN for what is none, and which of those are a word for a missing value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, nothing = given.type, np.zeros(len(given), dtype=bool)
    if pa.types.is_boolean(kind):
        given = given.cast(pa.int8())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _written_numbers(column, given)
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise DataError(f"it holds {kind}, not numbers", where=f"column {column.name}", hint="write it as a number")
    numbers = pc.cast(given, pa.float64(), safe=False)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64), nothing


def _written_numbers(column: Column, given: pa.Array) -> tuple[Floats, NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.utf8_lower(pc.utf8_trim_whitespace(given))
    absent = pc.is_in(words, value_set=pa.array(sorted(MISSING_WORDS)))
    if column.kind is Kind.BOOLEAN:
        true, false = (pc.is_in(words, value_set=pa.array(sorted(kind))) for kind in (TRUE_WORDS, FALSE_WORDS))
        made = np.where(np.asarray(true), 1.0, np.where(np.asarray(false), 0.0, np.nan))
        return made, np.asarray(absent)
    written = pc.match_substring_regex(words, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$")
    plain = pc.if_else(written, pc.utf8_ltrim(words, "+"), pa.scalar(None, pa.string()))
    return np.asarray(plain.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64), np.asarray(absent)
