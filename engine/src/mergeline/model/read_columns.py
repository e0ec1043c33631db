"""Reads a column of a file's batch as a model takes it, and says which of its values break the signature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
    bad: NDArray[np.bool_] | None
    """None where no value breaks the signature, as in nearly all batches."""

    def __init__(self, column: Column, given: pa.Array) -> None:
        self._column, self._given = column, given
        if column.kind is Kind.CATEGORY:
            self.values, self._unfit = _texts(column, given)
        else:
            self.values, self._unfit = _numbers(column, given)
        self.bad = self._unfit
        if isinstance(self.values, np.ndarray) and not _all_fit(column, given, self.values):
            self.bad = _beyond(column, self.values) | (False if self._unfit is None else self._unfit)
        if not column.nullable:
            missing = self._missing()
            if missing.any():
                self.bad = missing if self.bad is None else missing | self.bad

    def _missing(self, places: int | slice = slice(None)) -> Any:
        if isinstance(self.values, TextColumn):
            return self.values.codes[places] < 0
        missing = np.isnan(self.values[places])
        return missing if self._unfit is None else missing & ~self._unfit[places]

    def reason(self, place: int) -> str:
        """What is wrong with the value at `place`."""
        column, value = self._column, shorten(self._given[place].as_py())
        if self._missing(place):
            return f"{column.name} is missing"
        if column.closed:
            return f"{column.name} is {value}, not one of {', '.join(column.categories[:10])}"
        number = self.values[place] if not isinstance(self.values, TextColumn) else math.nan
        if column.minimum is not None and number < column.minimum:
            return f"{column.name} is {value}, at least {column.minimum:g} is right"
        if column.maximum is not None and number > column.maximum:
            return f"{column.name} is {value}, at most {column.maximum:g} is right"
        return f"{column.name} is {value}, {MEANINGS[column.kind]}"


def _all_fit(column: Column, given: pa.Array, values: Floats) -> bool:
    """Whether a look at the least and the most value tells that all that are there are right."""
    import pyarrow as pa

    whole = pa.types.is_integer(given.type) or pa.types.is_boolean(given.type)
    if not len(values) or (column.kind is not Kind.NUMBER and not whole):
        return False
    least, most = np.fmin.reduce(values), np.fmax.reduce(values)
    low, high = _range(column)
    if column.kind is Kind.BOOLEAN:
        low, high = max(low, 0), min(high, 1)
    return bool(np.isfinite(least) and low <= least and most <= high and np.isfinite(most))


def _beyond(column: Column, values: Floats) -> NDArray[np.bool_]:
    """Which numbers are infinite, out of range, or of another kind."""
    low, high = _range(column)
    with np.errstate(invalid="ignore"):
        beyond: NDArray[np.bool_] = (values < low) | (values > high) | np.isinf(values)
        if column.kind is Kind.INTEGER:
            beyond |= (values != np.floor(values)) & ~np.isnan(values)
        if column.kind is Kind.BOOLEAN:
            beyond |= (values != 0) & (values != 1) & ~np.isnan(values)
    return beyond


def _range(column: Column) -> tuple[float, float]:
    return (
        -math.inf if column.minimum is None else column.minimum,
        math.inf if column.maximum is None else column.maximum,
    )


def _texts(column: Column, given: pa.Array) -> tuple[TextColumn, NDArray[np.bool_] | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = given.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"it holds {kind}, not text", where=f"column {column.name}", hint="write it as text")
    encoded = given if pa.types.is_dictionary(given.type) else pc.dictionary_encode(given.cast(pa.string()))
    texts: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.cast(pa.int32()).fill_null(-1).to_numpy()
    unknown = [column.closed and text not in column.categories for text in texts]
    return TextColumn(codes, texts), np.array([*unknown, False])[codes] if any(unknown) else None


def _numbers(column: Column, given: pa.Array) -> tuple[Floats, NDArray[np.bool_] | None]:
    """Numbers with NaN for what is none, and which of those are no word for a missing value either."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = given.type
    if pa.types.is_boolean(kind):
        given = given.cast(pa.int8())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _written_numbers(column, given)
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise DataError(f"it holds {kind}, not numbers", where=f"column {column.name}", hint="write it as a number")
    return pc.cast(given, pa.float64(), safe=False).to_numpy(zero_copy_only=False), None


def _written_numbers(column: Column, given: pa.Array) -> tuple[Floats, NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.utf8_lower(pc.utf8_trim_whitespace(given))
    if column.kind is Kind.BOOLEAN:
        true, false = (
            np.asarray(pc.is_in(words, value_set=pa.array(sorted(kind)))) for kind in (TRUE_WORDS, FALSE_WORDS)
        )
        made = np.where(true, 1.0, np.where(false, 0.0, np.nan))
    else:
        written = pc.match_substring_regex(words, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$")
        plain = pc.if_else(written, pc.utf8_ltrim(words, "+"), pa.scalar(None, pa.string()))
        made = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
    absent = pc.or_(pc.is_in(words, value_set=pa.array(sorted(MISSING_WORDS))), given.is_null())
    return made, np.isnan(made) & ~np.asarray(absent)
