"""Counts a window's columns in the engine that holds the journal, by one Ibis expression; DuckDB has SQL of its own."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from mergeline.errors import WatchError
from mergeline.model.bin_counts import CategoryCounts, Counts, NumberCounts
from mergeline.model.binning import CELLS, Grid, Scale

if TYPE_CHECKING:
    from mergeline.journal.window import Source

TABLE = "predictions"
"""What the journal is called in an engine of tables; Spark reads the journal's files themselves."""

SLOTS = CELLS + 4
"""Of a column of numbers: the lower tail, the cells, the upper tail, missing, not finite."""

_WHOLE = 1.5 * 2**52
"""A double as large as this holds no fraction: added and taken off again, it rounds, and halves to even."""


@dataclass(frozen=True)
class Engine:
    """An engine that is connected: `backend` is Ibis' own, `session` Spark's where it is Spark."""

    address: str
    backend: Any
    session: Any = None

    def count(
        self,
        source: Source,
        columns: Mapping[str, tuple[str, int | None]],
        grids: Mapping[str, Grid],
        categories: Mapping[str, Sequence[str]],
        *,
        expected: int,
        digest: str | None = None,
    ) -> Counts:
        """Count columns of a window, as `bin_counts.count` does.

        Args:
            source: the window, and its files.
            columns: for each name below, the journal's column, and the place in it where that is a list.
            grids: of the numbers.
            categories: the values to name, of the texts.
            expected: rows that the journal holds of this.
            digest: of the model whose answers are meant; None for every row.

        Raises:
            WatchError: the engine fails, holds other rows than the journal does, or text where numbers are.
        """
        if not columns:
            return Counts({}, {})
        try:
            table = in_window(self._table(source), source, digest)
            rows = count_expression(table, columns, grids, categories).to_pyarrow().to_pylist()
        except WatchError:
            raise
        except Exception as cause:  # each engine has errors of its own
            raise WatchError(
                f"the window cannot be counted there: {type(cause).__name__}: {str(cause).strip().splitlines()[0]}",
                where=f"params.yaml: watch.engine: {self.address}",
                hint=f"the engine needs the journal's columns in a table {TABLE!r}; `engine: duckdb` needs nothing",
            ) from cause
        held = sum(row["n"] for row in rows) // len(columns)
        if held != expected:
            raise WatchError(
                f"the engine holds {held:,} rows of the window, and the journal {expected:,}",
                where=f"params.yaml: watch.engine: {self.address}",
                hint=f"load the journal's new files into {TABLE!r}, each once, and watch again",
            )
        return fold(rows, grids, categories)

    def _table(self, source: Source) -> Any:
        if self.session is None:
            return self.backend.table(TABLE)
        paths = [file.path.replace("s3://", "s3a://") for file in source.files]
        name = "mergeline_window"
        self.session.read.option("mergeSchema", "true").parquet(*paths).createOrReplaceTempView(name)
        return self.backend.table(name)


def open_engine(address: str) -> Engine | None:
    """Connect to the engine that `watch.engine` names; None for DuckDB, which is here.

    Raises:
        WatchError: Ibis, or its part for that engine, is not installed, or the engine does not answer.
    """
    if address == "duckdb":
        return None
    scheme, _, rest = address.partition("://")
    where, package = f"params.yaml: watch.engine: {address}", "pyspark" if scheme == "spark" else scheme
    try:
        import ibis

        if scheme != "spark":
            return Engine(address, ibis.connect(address, **({"connect_timeout": 10} if scheme == "postgres" else {})))
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.appName("mergeline watch").config("spark.sql.session.timeZone", "UTC")
        builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
        session = (builder.master(rest if rest.startswith("local") else address) if rest else builder).getOrCreate()
        return Engine(address, ibis.pyspark.connect(session), session)
    except ImportError as cause:
        raise WatchError(
            f"{cause.name or scheme} is not installed",
            where=where,
            hint=f"uv add 'ibis-framework[{package}]', or watch with `engine: duckdb`",
        ) from cause
    except Exception as cause:  # each engine has errors of its own
        raise WatchError(
            f"the engine does not answer: {str(cause).strip().splitlines()[0]}",
            where=where,
            hint="check the address and what signs you in (PGPASSWORD and the like); `engine: duckdb` needs neither",
        ) from cause


def in_window(table: Any, source: Source, digest: str | None) -> Any:
    """The rows of a window, and of one model's answers if asked for."""
    import ibis

    time = table[source.window.clock.column]
    start, end = (ibis.timestamp(each.astimezone(UTC)) for each in (source.window.start, source.window.end))
    rows = table.filter((time >= start) & (time < end))
    return rows if digest is None else rows.filter(rows["_digest"] == digest)


def count_expression(
    table: Any,
    columns: Mapping[str, tuple[str, int | None]],
    grids: Mapping[str, Grid],
    categories: Mapping[str, Sequence[str]],
) -> Any:
    """The rows `n` of each `slot`, in one pass over all numbers and one over all texts; `fold` knows the slots.

    The values of a row become one list, which is taken apart again: so every column is counted by the same expression,
    and it stays small. One expression for each column is a stage for each in Spark, or, in one select, more code than
    Java compiles.
    """
    import ibis

    def each_value(names: Iterable[str], kind: str) -> Any:
        values = [_value(table, name, *columns[name], kind) for name in names]
        return table.select(value=ibis.array(values)).unnest("value", offset="key")

    parts = []
    if grids:
        each = each_value(grids, "float64")
        parts.append(_counted(each.select(slot=each.key * SLOTS + _slot_of_number(each, list(grids.values())))))
    if categories:
        each = each_value(categories, "string")
        prefix = each.key.cast("string")
        named = [f"{key}={text}" for key, texts in enumerate(categories.values()) for text in texts]
        slot = prefix + "=" + each.value
        parts.append(
            _counted(
                each.select(
                    slot=ibis.cases((each.value.isnull(), prefix + "-"), (slot.isin(named), slot), else_=prefix + "+")
                )
            )
        )
    return ibis.union(*parts, distinct=False) if len(parts) > 1 else parts[0]


def _counted(slots: Any) -> Any:
    counted = slots.group_by("slot").aggregate(n=slots.count())
    return counted.select(slot=counted.slot.cast("string"), n=counted.n.cast("int64"))


def _value(table: Any, name: str, stored: str, place: int | None, kind: str) -> Any:
    column = table[stored] if place is None else table[stored][place]
    if kind == "string":
        return column.cast(kind)
    if not (column.type().is_numeric() or column.type().is_boolean()):
        raise WatchError(
            f"the column {name!r} is {column.type()} there, and a number in the model",
            where="params.yaml: watch.engine",
            hint="convert it in the engine, or watch with `engine: duckdb`, which reads what it can as numbers",
        )
    return (column.cast("int32") if column.type().is_boolean() else column).cast(kind)


def _slot_of_number(each: Any, grids: Sequence[Grid]) -> Any:
    """The slot of each number within those of its column, by the cell that `Grid.expression` has for it.

    Every step is one that all engines compute alike: values are first held within the tails, since some engines refuse
    what is too large where others say infinity, and halves are rounded to even by what a double can hold.
    """
    import ibis

    def of_column(numbers: Iterable[float]) -> Any:
        # From text, since a number with a point is a decimal in some engines, which is slow there.
        return ibis.array([ibis.literal(repr(number)).cast("float64") for number in numbers])[each.key]

    value, ends = each.value, [_ends(grid) for grid in grids]
    line = ibis.least(ibis.greatest(value, of_column(low for low, _ in ends)), of_column(high for _, high in ends))
    stretched = [key for key, grid in enumerate(grids) if grid.scale is Scale.ASINH]
    if stretched:
        moved = (line - of_column(grid.centre for grid in grids)) * of_column(1 / grid.spread for grid in grids)
        line = ibis.ifelse(each.key.isin(stretched), _asinh(moved), line)
    place = (line - of_column(grid.low for grid in grids)) * of_column(grid.steps for grid in grids)
    cell = ibis.least(ibis.greatest(place + _WHOLE - _WHOLE, -1.0), float(CELLS)).cast("int64")
    # Asked before null, since for Spark Ibis takes NaN as null; and not by `isinf`, which it writes there as FALSE.
    infinite = value.isnan() | (value.abs() > sys.float_info.max)
    return ibis.cases((infinite, SLOTS - 1), (value.isnull(), SLOTS - 2), else_=cell + 1)


def _asinh(value: Any) -> Any:
    import ibis

    size = value.abs()
    far = size.ln() + math.log(2)  # the square would be too large
    return value.sign().cast("float64") * ibis.cases((size > 1e8, far), else_=(size + (size * size + 1).sqrt()).ln())


def _ends(grid: Grid) -> tuple[float, float]:
    """Values that are surely in the lower tail, and in the upper one."""
    ends = []
    for place in (grid.low - 3 / grid.steps, grid.high + 3 / grid.steps):
        try:
            value = place if grid.scale is Scale.LINEAR else grid.centre + grid.spread * math.sinh(place)
        except OverflowError:
            value = math.copysign(math.inf, place)
        ends.append(min(max(value, -sys.float_info.max), sys.float_info.max))
    return ends[0], ends[1]


def fold(
    rows: Sequence[Mapping[str, Any]], grids: Mapping[str, Grid], categories: Mapping[str, Sequence[str]]
) -> Counts:
    """The counts of each column, from the rows of `count_expression`."""
    import numpy as np

    held = Counter({row["slot"]: row["n"] for row in rows})
    numbers = {}
    for key, name in enumerate(grids):
        *cells, missing, infinite = (held[str(slot)] for slot in range(key * SLOTS, (key + 1) * SLOTS))
        numbers[name] = NumberCounts(np.array(cells, dtype=np.int64), missing, infinite)
    texts = {}
    for key, (name, named) in enumerate(categories.items()):
        found = {text: held[f"{key}={text}"] for text in named if f"{key}={text}" in held}
        texts[name] = CategoryCounts(found, other=held[f"{key}+"], missing=held[f"{key}-"])
    return Counts(numbers, texts)
