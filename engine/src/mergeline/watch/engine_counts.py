"""Counts a window's columns in the engine that holds the journal, by one Ibis expression; DuckDB has SQL of its own."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
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

_INFINITE = -2
"""Stands for NaN and the infinities; the cells go from −1, the lower tail, to `CELLS`, the upper one."""


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
        held = sum(row["n"] for row in rows if row["k"] == 0)
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

        ibis.options.sql.fuse_selects = False  # see `_cell`
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
    """One expression for every column: `k` its place, `b` the cell or 1 for a named text, `s` that text, `n` rows."""
    import ibis

    def column(name: str) -> Any:
        stored, place = columns[name]
        return table[stored] if place is None else table[stored][place]

    parts = []
    for key, (name, grid) in enumerate(grids.items()):
        counted = _cells(table, name, column(name), grid)
        parts.append(_grouped(counted, key))
    for key, (name, named) in enumerate(categories.items(), start=len(grids)):
        text = column(name).cast("string")
        known = text.isin(list(named))
        mark = ibis.cases((text.isnull(), ibis.null("int64")), (known, 1), else_=0).cast("int64")
        parts.append(_grouped(table.select(b=mark, s=ibis.ifelse(known, text, ibis.null("string"))), key))
    return ibis.union(*parts, distinct=False) if len(parts) > 1 else parts[0]


def _grouped(counted: Any, key: int) -> Any:
    import ibis

    grouped = counted.group_by("b", "s").aggregate(n=counted.count())
    return grouped.select(k=ibis.literal(key, "int64"), b=grouped.b, s=grouped.s, n=grouped.n.cast("int64"))


def _cells(table: Any, name: str, column: Any, grid: Grid) -> Any:
    """The cell of each row's number, `b`, as `Grid.expression` has it; null where it is missing.

    Every step is one that all engines compute alike: halves are rounded to even by hand, and values are first held
    within the tails, since some engines refuse what is too large where others say infinity. Each select stays one: in
    a single expression the place would be computed 27 times.
    """
    import ibis

    if not (column.type().is_numeric() or column.type().is_boolean()):
        raise WatchError(
            f"the column {name!r} is {column.type()} there, and a number in the model",
            where="params.yaml: watch.engine",
            hint="convert it in the engine, or watch with `engine: duckdb`, which reads what it can as numbers",
        )
    value = (column.cast("int32") if column.type().is_boolean() else column).cast("float64")
    low, high = _ends(grid)
    held = ibis.cases((value < low, low), (value > high, high), else_=value)
    line = held if grid.scale is Scale.LINEAR else _asinh((held - grid.centre) * (1 / grid.spread))
    placed = table.select(value=value, place=(line - grid.low) * grid.steps)
    whole = placed.place.floor().cast("float64")
    split = placed.select("value", whole=whole, rest=placed.place - whole)
    odd = split.whole - (split.whole / 2).floor().cast("float64") * 2
    rounded = split.select(
        "value",
        near=ibis.cases((split.rest < 0.5, split.whole), (split.rest > 0.5, split.whole + 1), else_=split.whole + odd),
    )
    near, value = rounded.near, rounded.value
    inside = ibis.cases((near < -1, -1.0), (near > CELLS, float(CELLS)), else_=near)
    # Asked before null, since for Spark Ibis takes NaN as null; and not by `isinf`, which it writes there as FALSE.
    infinite = value.isnan() | (value.abs() > sys.float_info.max)
    cell = ibis.cases((infinite, _INFINITE), (value.isnull(), ibis.null("int64")), else_=inside.cast("int64"))
    return rounded.select(b=cell.cast("int64"), s=ibis.null("string"))


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

    found: list[list[tuple[int | None, str | None, int]]] = [[] for _ in (*grids, *categories)]
    for row in rows:
        found[row["k"]].append((row["b"], row["s"], row["n"]))
    numbers = {}
    for key, name in enumerate(grids):
        cells = np.zeros(CELLS + 2, dtype=np.int64)
        for cell, _, number in found[key]:
            if cell is not None and cell != _INFINITE:
                cells[cell + 1] += number
        missing, infinite = (sum(n for cell, _, n in found[key] if cell == what) for what in (None, _INFINITE))
        numbers[name] = NumberCounts(cells, missing, infinite)
    texts = {}
    for key, name in enumerate(categories, start=len(grids)):
        named = {text: number for mark, text, number in found[key] if mark and text is not None}
        other, missing = (sum(n for mark, _, n in found[key] if mark == what) for what in (0, None))
        texts[name] = CategoryCounts(named, other, missing)
    return Counts(numbers, texts)
