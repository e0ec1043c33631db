"""What production is compared with beside the profile: earlier data and earlier windows, counted alike."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mergeline.dataset import Kind
from mergeline.dataset.partitions import FALSE_WORDS, TRUE_WORDS, Partition, list_partitions
from mergeline.errors import DataError, WatchError
from mergeline.model.bin_counts import CategoryCounts, NumberCounts, connect, count, literal, quoted
from mergeline.model.profile import CategoryProfile, NumberProfile, merged
from mergeline.scorer.signature import Signature
from mergeline.watch.drift import Compared
from mergeline.watch.window_counts import count_rows, relation_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from mergeline.journal.window import Source, Window
    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.scorer.signature import Signature
    from mergeline.watch.multivariate_drift import Table
    from mergeline.watch.released_model import Context
    from mergeline.watch.watch import Request

TRAINING, SAME_MONTHS = "training", "same_months"
DATA_TIME = "time of the row"
"""No column of a model is called so."""


def chosen_partitions(root: Path, params: Params, names: Sequence[str], window: Window) -> dict[str, list[Partition]]:
    """The partitions of the data behind each named reference that is not the training rows.

    `same_months` stands for each other year that has a partition of the window's months, `2024-03` for itself.

    Raises:
        WatchError: a partition does not exist, or there is no other year.
        DataError: there are no data.
    """
    if all(name == TRAINING for name in names):
        return {}
    partitions = {found.name: found for found in list_partitions(root / params.data.path)}
    chosen: dict[str, list[Partition]] = {}
    for name in names:
        if name == SAME_MONTHS:
            chosen |= _same_months(partitions, window)
        elif name != TRAINING:
            if name not in partitions:
                raise WatchError(
                    f"there is no partition {name!r}",
                    where="params.yaml: watch.references",
                    hint=f"name one of {TRAINING}, {SAME_MONTHS}, {', '.join(partitions)}",
                )
            chosen[name] = [partitions[name]]
    return chosen


def recount(
    connection: duckdb.DuckDBPyConnection,
    partitions: Sequence[Partition],
    inputs: Sequence[Compared],
    signature: Signature,
) -> list[Compared]:
    """The window's columns beside other data than the training rows: the profile's bins, filled with these.

    Args:
        connection: see `counting.connect`.
        partitions: the files of the data.
        inputs: the window's columns beside the profile.
        signature: says how a column of the data is to be read.

    Raises:
        DataError: a file cannot be read.
    """
    import duckdb

    numbers = {each.profile.name: each.profile for each in inputs if isinstance(each.profile, NumberProfile)}
    texts = {each.profile.name: each.profile for each in inputs if isinstance(each.profile, CategoryProfile)}
    try:
        relation = data_relation(connection, partitions, signature)
        found = count(
            connection,
            relation,
            {name: profile.grid for name, profile in numbers.items()},
            {name: tuple(profile.counts) for name, profile in texts.items()},
        )
    except duckdb.Error as cause:
        raise DataError(
            f"the data cannot be counted: {str(cause).splitlines()[0]}",
            where=", ".join(str(partition.path) for partition in partitions),
            hint="check it: mergeline validate",
        ) from cause
    counts = found.numbers | found.categories
    return [_beside(each, counts[each.profile.name]) for each in inputs]


def as_reference(now: Sequence[Compared], before: Sequence[Compared]) -> list[Compared]:
    """Columns of a window beside those of an earlier one, as if that were the profile."""
    earlier = {(each.part, each.profile.name): each.counts for each in before}
    known = ((each, earlier.get((each.part, each.profile.name))) for each in now)
    return [_beside(each, counts) for each, counts in known if counts is not None]


def earlier_rows(context: Context, root: Path, signature: Signature, before: Source, rows_before: int) -> list[Table]:
    """What whole rows of the window are compared with: training rows, where they are at hand, and the window before.

    Args:
        context: what to read from.
        root: the repository, with its data.
        signature: the columns to compare.
        before: the window before.
        rows_before: its rows.
    """
    from mergeline.watch.multivariate_drift import Table

    tables, (relation, rows), data = [], training_relation(context, root), context.params.data
    if rows:
        tables.append(Table(relation, rows, TRAINING, time=DATA_TIME if data.time is not None else ""))
    if rows_before and (earlier := relation_of(before, signature)) is not None:
        tables.append(Table(earlier, rows_before, "the window before", "_id", before.window.clock.column))
    return tables


def training_relation(context: Context, root: Path) -> tuple[str, int]:
    """SQL of the rows that the model was trained on, and their number; 0 where they are not at hand."""
    data, served = context.params.data, context.served
    folder = root / data.path
    if not folder.is_dir() or not any(folder.iterdir()):
        return "", 0
    found = {partition.name: partition for partition in list_partitions(folder)}
    if not served.partitions or any(name not in found for name in served.partitions):
        return "", 0
    chosen = [found[name] for name in served.partitions]
    relation = data_relation(context.connection, chosen, served.signature, data.time)
    return relation, count_rows(context.connection, relation)


def data_relation(
    connection: duckdb.DuckDBPyConnection,
    partitions: Sequence[Partition],
    signature: Signature,
    time: str | None = None,
) -> str:
    """SQL that can stand after FROM and gives the model's columns of some partitions, read as training reads them.

    With `time`, that column comes along as `DATA_TIME`.
    """
    parts = []
    for partition in partitions:
        file = literal(str(partition.path))
        csv = partition.path.suffix == ".csv"
        source = f"read_csv({file}, all_varchar = true, header = true)" if csv else f"read_parquet({file})"
        have = {name for name, *_ in connection.execute(f"describe select * from {source}").fetchall()}
        columns = [
            f"{_read(column.name, column.kind) if column.name in have else 'null'} as {quoted(column.name)}"
            for column in signature.columns
        ]
        if time is not None:
            at = f"try_cast({quoted(time)} as timestamp)" if time in have else "null"
            columns.append(f"{at} as {quoted(DATA_TIME)}")
        parts.append(f"select {', '.join(columns)} from {source}")
    return f"({' union all '.join(parts)})"


def _read(name: str, kind: Kind) -> str:
    column = quoted(name)
    if kind is Kind.CATEGORY:
        return f"{column}::varchar"
    if kind is not Kind.BOOLEAN:
        return f"try_cast({column} as double)"
    yes, no = (", ".join(map(literal, sorted(words))) for words in (TRUE_WORDS, FALSE_WORDS))
    word = f"lower(trim({column}::varchar))"
    return f"case when {word} in ({yes}) then true when {word} in ({no}) then false end"


def _same_months(partitions: Mapping[str, Partition], window: Window) -> dict[str, list[Partition]]:
    """The partitions of the window's months in each other year."""
    months: set[tuple[int, int]] = set()
    day = window.start.date().replace(day=1)
    while day < window.end.date() or not months:
        months.add((day.year, day.month))
        day = day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)
    years: dict[str, list[Partition]] = {}
    for name, partition in partitions.items():
        year, month = name[:4], name[5:7]
        if (
            year.isdigit()
            and month.isdigit()
            and any(int(month) == one and int(year) != other for other, one in months)
        ):
            years.setdefault(f"{year}, same months", []).append(partition)
    if not years:
        raise WatchError(
            "the data hold no other year's months of this window",
            where="params.yaml: watch.references",
            hint=f"name partitions instead, or leave {SAME_MONTHS} out until there is a year of data",
        )
    return years


def _beside(column: Compared, counts: NumberCounts | CategoryCounts) -> Compared:
    """The column with its profile's bins filled with other counts."""
    profile = column.profile
    filled: dict[str, object] = {"missing": counts.missing}
    if isinstance(profile, NumberProfile) and isinstance(counts, NumberCounts):
        filled |= {"infinite": counts.infinite, "counts": tuple(merged(counts.cells, profile.ends).tolist())}
    elif isinstance(profile, CategoryProfile) and isinstance(counts, CategoryCounts):
        filled |= {"counts": {name: counts.named.get(name, 0) for name in profile.counts}, "rare": counts.other}
    return replace(column, profile=profile.model_copy(update=filled))


class Samples(NamedTuple):
    """Two Parquet files with the model's columns, numbers as doubles and categories as text.

    `against` says what the reference is: training rows, or the window before where there are no data at hand.
    """

    current: Path
    reference: Path
    against: str


def write_samples(root: Path, params: Params, manifest: Manifest, request: Request, folder: Path) -> Samples:
    """Write `current.parquet` and `reference.parquet`, each of about `watch.sample_rows` rows.

    Raises:
        WatchError: the window is empty, or there is nothing to compare it with.
    """
    from mergeline.journal.window import find_journal, held
    from mergeline.watch.multivariate_drift import Table, write_sample
    from mergeline.watch.released_model import Context, read_stable
    from mergeline.watch.window_counts import as_numbers, column_types, retyped_numbers

    served = read_stable(root, params, manifest)
    window, most, signature = request.window, params.watch.sample_rows, served.signature
    with connect() as connection, held(request.journal):
        journal = find_journal(connection, request.journal, window.before().start, request.now, window.clock)
        relation, before = relation_of(journal.source(window), signature), journal.source(window.before())
        rows = 0 if relation is None else count_rows(connection, relation)
        if relation is None or not rows:
            raise WatchError(
                "the window holds no rows", where=request.journal, hint="take a longer window: --window 4w"
            )
        types = column_types(connection, relation)
        shared = _present(signature, types)
        numbers = [column.name for column in shared.columns if column.kind is not Kind.CATEGORY]
        current = Table(as_numbers(relation, retyped_numbers(numbers, types)), rows, key="_id")
        context = Context(connection, journal, served, params)
        tables = earlier_rows(context, root, signature, before, count_rows(connection, *before.relations()))
        if not tables:
            raise WatchError(
                "there is nothing to compare the window with",
                where="mergeline watch --samples",
                hint="fetch the training rows (dvc pull data), or wait until the journal holds two windows",
            )
        reference = tables[0]
        against = "training rows" if reference.against == TRAINING else reference.against
        folder.mkdir(parents=True, exist_ok=True)
        written = Samples(folder / "current.parquet", folder / "reference.parquet", against)
        write_sample(connection, current, shared, most, written.current)
        write_sample(connection, reference, shared, most, written.reference)
    return written


def _present(signature: Signature, types: Sequence[str] | dict[str, str]) -> Signature:
    """The signature's columns that the journal has."""
    kept = tuple(column for column in signature.columns if column.name in types)
    return signature.model_copy(update={"columns": kept})
