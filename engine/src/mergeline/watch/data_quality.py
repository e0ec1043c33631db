"""Says what is wrong with a window's data beside their distributions."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from mergeline.documents import Frozen
from mergeline.journal.window import name_within, read_time
from mergeline.model.bin_counts import NumberCounts, literal, quoted
from mergeline.model.profile import NumberProfile
from mergeline.stats.two_samples import shares_differ

if TYPE_CHECKING:
    import duckdb

    from mergeline.journal.window import Journal, Source
    from mergeline.watch.drift import Compared
    from mergeline.watch.window_counts import Observation

ID_SAMPLE = 100_000
"""Rows that repeated ids are counted on."""

MIN_BEYOND = 0.005
"""Values beyond the training rows' 0.1 % borders are told from this share more on."""


class Beyond(Frozen):
    """A number with more values than before beyond the borders that 0.1 % of the training rows lie beyond.

    `lowest` and `highest` are of the window's files, None where they do not say; `minimum` and `maximum` of training.
    """

    column: str
    share: float
    before: float
    lowest: float | None
    highest: float | None
    minimum: float | None
    maximum: float | None


class Quality(Frozen):
    """What was found of a window's data.

    `unreadable` are paths within the journal, of files and folders. `rows_before` is of the window before, None where
    the journal does not reach back so far; `answered` those that the watched model answered; `newest` the newest time
    in the window, `newest_of_all` that in any file looked at; `repeated` the share of rows whose id came before in it;
    `future` counts rows of a time to come, `timeless` those without a time of their own, `implausible` those of a time
    before 1900 or after 2199. `absent` inputs are in no file, `partly` those that some files lack, with the share of
    rows in such files; `retyped` numbers came as another type; `new` columns are not the model's.
    """

    files: int
    unreadable: tuple[str, ...]
    rows: int
    answered: int
    rows_before: int | None
    newest: datetime | None
    newest_of_all: datetime | None
    repeated: float
    future: int
    implausible: int = 0
    timeless: int
    absent: tuple[str, ...]
    partly: dict[str, float]
    retyped: dict[str, str]
    new: tuple[str, ...]
    beyond: tuple[Beyond, ...]


def measure_quality(
    connection: duckdb.DuckDBPyConnection,
    journal: Journal,
    source: Source,
    observed: Observation,
    rows_before: int | None,
) -> Quality:
    """Gather what the counts and the files' statistics say, and count repeated ids on a sample.

    Args:
        connection: see `counting.connect`.
        journal: where the window's files are.
        source: the window's files.
        observed: what they hold.
        rows_before: rows of the window before; None where the journal does not reach back so far.
    """
    beyond = [found for column in observed.inputs if (found := _beyond(column)) is not None]
    extremes = _extremes(connection, source, [each.column for each in beyond])
    return Quality(
        files=len(source.files),
        unreadable=tuple(sorted(map(name_within, journal.unreadable))),
        rows=observed.rows,
        answered=observed.answered,
        rows_before=rows_before,
        newest=_newest(connection, source) if observed.rows else None,
        newest_of_all=journal.newest,
        repeated=_repeated(connection, source, observed.rows),
        future=journal.future,
        implausible=journal.implausible,
        timeless=sum(file.timeless for file in journal.files),
        absent=observed.absent,
        partly=dict(observed.partly),
        retyped=dict(observed.retyped),
        new=observed.new,
        beyond=tuple(
            each.model_copy(
                update=dict(zip(("lowest", "highest"), extremes.get(each.column, (None, None)), strict=True))
            )
            for each in beyond
        ),
    )


def _newest(connection: duckdb.DuckDBPyConnection, source: Source) -> datetime | None:
    """The newest time in the window: what reaches past its end says nothing of the rows before it."""
    times = [file.last for file in source.files if file.last is not None and file.last < source.window.end]
    over = tuple(file for file in source.files if file.last is None or file.last >= source.window.end)
    relation = replace(source, files=over).relation()
    if relation is not None:
        time = quoted(source.window.clock.column)
        found = connection.execute(f"select epoch_us(max({time})) from {relation}").fetchone()
        times += [moment] if found and (moment := read_time(found[0])) is not None else []
    return max(times, default=None)


def _beyond(column: Compared) -> Beyond | None:
    """What the tails of a number hold more than in training; None where that is nothing to speak of."""
    profile, counts = column.profile, column.counts
    if not isinstance(profile, NumberProfile) or not isinstance(counts, NumberCounts):
        return None
    n, m = profile.rows, int(counts.cells.sum())
    # A tail that is part of a wider bin is not known by itself.
    low = profile.ends[0] == 0
    high = len(profile.ends) > 1 and profile.ends[-2] == counts.cells.size - 2
    if not n or not m or not (low or high):
        return None
    old = profile.counts[0] * low + profile.counts[-1] * high
    new = int(counts.cells[0]) * low + int(counts.cells[-1]) * high
    if new / m - old / n < MIN_BEYOND or shares_differ(old, n, new, m).p_value > 0.001:
        return None
    return Beyond(
        column=profile.name,
        share=round(new / m, 6),
        before=round(old / n, 6),
        lowest=None,
        highest=None,
        minimum=profile.minimum,
        maximum=profile.maximum,
    )


def _extremes(
    connection: duckdb.DuckDBPyConnection, source: Source, columns: Sequence[str]
) -> Mapping[str, tuple[float | None, float | None]]:
    """The lowest and the highest value of some columns, by the files' own statistics."""
    if not columns or not source.files:
        return {}
    names, files = ", ".join(map(literal, columns)), ", ".join(literal(file.path) for file in source.files)
    rows = connection.execute(
        "select path_in_schema, min(try_cast(stats_min_value as double)), max(try_cast(stats_max_value as double))"
        f" from parquet_metadata([{files}]) where path_in_schema in ({names}) group by 1"
    ).fetchall()
    return {name: (low, high) for name, low, high in rows}


def _repeated(connection: duckdb.DuckDBPyConnection, source: Source, rows: int) -> float:
    """The share of rows whose id came before, on a sample by the ids' hashes: it holds all rows of an id, or none."""
    relation = source.relation()
    if relation is None or not rows:
        return 0.0
    parts = max(1, rows // ID_SAMPLE)
    sampled = f" where hash({quoted('_id')}) % {parts} = 0" if parts > 1 else ""
    found = connection.execute(f"select count(_id), count(distinct _id) from {relation}{sampled}").fetchone()
    number, distinct = found or (0, 0)
    return float(round(1 - distinct / number, 6)) if number else 0.0
