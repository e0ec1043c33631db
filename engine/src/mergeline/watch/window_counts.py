"""Counts the journal's window as the profile was counted, column by column, in one pass."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from mergeline.errors import WatchError
from mergeline.journal.listing import read_at_address
from mergeline.journal.window import Source
from mergeline.model.bin_counts import Counts, count, literal, quoted
from mergeline.watch.drift import Compared, Part

if TYPE_CHECKING:
    import duckdb

    from mergeline.journal.window import Journal
    from mergeline.model.binning import Grid
    from mergeline.scorer.signature import Signature
    from mergeline.watch.engine_counts import Engine
    from mergeline.watch.released_model import Served

Found = TypeVar("Found")

_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN",
    "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
)  # fmt: skip
_OWN = "_"
"""The journal's own columns begin so; a column of the model that does is stored as `column_…`."""


@dataclass(frozen=True)
class Observation:
    """What a window holds of a model.

    `inputs` and `answers` are the columns that can be compared. `absent`, `partly`, `retyped` and `new` are as in
    `Quality`; of a retyped column what cannot be read as a number counts as missing. `answered` counts the rows that
    the model itself answered, `rows` those of every model.
    """

    rows: int = 0
    answered: int = 0
    inputs: tuple[Compared, ...] = ()
    answers: tuple[Compared, ...] = ()
    absent: tuple[str, ...] = ()
    partly: Mapping[str, float] = field(default_factory=dict)
    retyped: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()


def observe(
    connection: duckdb.DuckDBPyConnection, source: Source, served: Served, engine: Engine | None = None
) -> Observation:
    """Count every input of all requests, and the scores and labels of the model's own answers.

    Args:
        connection: see `counting.connect`.
        source: the window's files, all of which can be read: see `damaged_files`.
        served: the model that is watched.
        engine: counts the columns in DuckDB's place.
    """
    profile, signature = served.profile, served.signature
    everything = relations_of(source, signature)
    rows = count_rows(connection, *everything)
    if not rows:
        return Observation()
    types = column_types(connection, *everything)
    named = [*(each.name for each in profile.numbers), *(each.name for each in profile.categories)]
    numbers = {each.name: each for each in profile.numbers if each.name in types}
    texts = {each.name: each for each in profile.categories if each.name in types}
    retyped = retyped_numbers(list(numbers), types)
    grids = {name: each.grid for name, each in numbers.items()}
    categories = {name: tuple(each.counts) for name, each in texts.items()}
    if engine is None:
        wanted = {name: types[name] for name in (*grids, *categories)}
        parts = [as_numbers(_typed(connection, each, wanted), retyped) for each in everything]
        inputs = _count_parts(connection, parts, grids, categories)
    else:
        stored = {name: (stored_name(name), None) for name in (*grids, *categories)}
        inputs = engine.count(source, stored, grids, categories, expected=rows)
    columns = [Compared(Part.INPUT, each, inputs.numbers[name]) for name, each in numbers.items()]
    columns += [Compared(Part.INPUT, each, inputs.categories[name]) for name, each in texts.items()]
    answered, answers = observe_answers(connection, source, served, engine)
    expected = {*named, *signature.metadata, signature.id, signature.time}
    return Observation(
        rows=rows,
        answered=answered,
        inputs=tuple(columns),
        answers=answers,
        absent=tuple(name for name in named if name not in types),
        partly=_partly(connection, source, [name for name in named if name in types]),
        retyped=retyped,
        new=tuple(sorted(name for name in types if name not in expected and not name.startswith(_OWN))),
    )


def observe_answers(
    connection: duckdb.DuckDBPyConnection, source: Source, served: Served, engine: Engine | None = None
) -> tuple[int, tuple[Compared, ...]]:
    """How many rows a model answered in a window, and the counts of its scores and labels."""
    own, profile = source.of_digest(served.digest), served.profile
    relations = own.relations()
    answered = count_rows(connection, *relations)
    if not answered:
        return 0, ()
    many = len(profile.scores) > 1
    # By their places: classes may be called alike but for case, or `label`, which SQL would take for one name.
    grids = {f"score{place}": each.grid for place, each in enumerate(profile.scores, start=1)}
    labels = {"label": tuple(profile.labels.counts)} if profile.labels is not None else {}
    if engine is None:
        scores = [
            f"{f'_scores[{place}]' if many else '_score'} as score{place}" for place, _ in enumerate(grids, start=1)
        ]
        named = [f"(select {', '.join([*scores, '_label as label'])} from {each})" for each in relations]
        counts = _count_parts(connection, named, grids, labels)
    else:
        places = {name: ("_scores", place) if many else ("_score", None) for place, name in enumerate(grids)}
        stored = {**places, **dict.fromkeys(labels, ("_label", None))}
        counts = engine.count(own, stored, grids, labels, expected=answered, digest=served.digest)
    found = [Compared(Part.SCORE, each, counts.numbers[name]) for name, each in zip(grids, profile.scores, strict=True)]
    if profile.labels is not None:
        found.append(Compared(Part.LABEL, profile.labels, counts.categories["label"]))
    return answered, tuple(found)


def _count_parts(
    connection: duckdb.DuckDBPyConnection,
    relations: Sequence[str],
    grids: Mapping[str, Grid],
    categories: Mapping[str, Sequence[str]],
) -> Counts:
    first, *others = (count(connection, each, grids, categories) for each in relations)
    return sum(others, first)


def _typed(connection: duckdb.DuckDBPyConnection, relation: str, types: Mapping[str, str]) -> str:
    """A part of the files with the columns that all of them have, and with their types."""
    if types.items() <= column_types(connection, relation).items():
        return relation
    empty = ", ".join(f"null::{kind} as {quoted(name)}" for name, kind in types.items())
    return f"(select {empty} where false union all by name select * from {relation})"


def damaged_files(connection: duckdb.DuckDBPyConnection, journal: Journal) -> list[str]:
    """The files whose pages cannot be read.

    A file's end may be whole where its middle is not, which shows only when it is read: so this reads every file
    whole, and is for when a query has failed.

    Raises:
        WatchError: the store that holds them does not answer.
    """
    import duckdb

    def is_whole(path: str) -> bool:
        try:
            connection.execute(f"select bit_xor(hash(columns(*))) from read_parquet({literal(path)})").fetchall()
        except duckdb.Error:
            return False
        return True

    paths = (*(file.path for file in journal.files), *journal.feedback)
    # One in a store that answers is read again: the store may have been away a moment ago.
    return [path for path in paths if not is_whole(path) and not (read_at_address(path) and is_whole(path))]


def around_damage(
    connection: duckdb.DuckDBPyConnection,
    journal: Journal,
    place: str,
    look: Callable[[Journal], Found],
    tell: Callable[[str], None] = lambda line: None,  # noqa: ARG005 - nobody listens
) -> Found:
    """Look at a journal; where a file's pages turn out damaged, leave that file out and look again.

    Args:
        connection: see `counting.connect`.
        journal: the files that were found.
        place: the journal's folder or address, for the error.
        look: reads the files that it is given.
        tell: takes a line of progress.

    Raises:
        WatchError: it is not for a damaged file that they cannot be read; or their store does not answer.
    """
    import duckdb

    try:
        return look(journal)
    except duckdb.Error as error:
        tell("a file cannot be read; looking for it")
        damaged = damaged_files(connection, journal)
        if not damaged:
            raise WatchError(
                f"the journal cannot be read: {str(error).splitlines()[0]}",
                where=place,
                hint="compare the columns of its files; the message says which one does not fit",
            ) from error
        return look(journal.without(damaged))


def relation_of(source: Source, signature: Signature) -> str | None:
    """SQL of the window's rows, with the model's columns under their own names; None where there are no files."""
    relation = source.relation()
    renamed = [column.name for column in signature.columns if column.name.startswith(_OWN)]
    if relation is None or not renamed:
        return relation
    pairs = ", ".join(f"{quoted(stored_name(name))} as {quoted(name)}" for name in renamed)
    return f"(select * rename ({pairs}) from {relation})"


def relations_of(source: Source, signature: Signature) -> list[str]:
    """As `relation_of`, in parts as of `Source.relations`."""
    if any(column.name.startswith(_OWN) for column in signature.columns):  # a part may lack what is to be renamed
        whole = relation_of(source, signature)
        return [] if whole is None else [whole]
    return source.relations()


def stored_name(name: str) -> str:
    """A column's name in the journal: one that looks like the journal's own is told apart."""
    return f"column{name}" if name.startswith(_OWN) else name


def column_types(connection: duckdb.DuckDBPyConnection, *relations: str) -> dict[str, str]:
    """The columns of all relations together, and their types."""

    def described(query: str) -> dict[str, str]:
        return {name: kind for name, kind, *_ in connection.execute(f"describe {query}").fetchall()}

    parts = [described(f"select * from {each}") for each in relations]
    if len(parts) < 2:
        return parts[0] if parts else {}
    empty = [", ".join(f"null::{kind} as {quoted(name)}" for name, kind in part.items()) for part in parts]
    return described(" union all by name ".join(f"select {columns}" for columns in dict.fromkeys(empty)))


def retyped_numbers(names: Sequence[str], types: Mapping[str, str]) -> dict[str, str]:
    """Of columns that should hold numbers, those that hold something else, and what."""
    return {name: types[name] for name in names if name in types and not types[name].startswith(_NUMBERS)}


def as_numbers(relation: str, retyped: Mapping[str, str]) -> str:
    """The relation with the retyped columns read as numbers, as far as they can be."""
    if not retyped:
        return relation
    replaced = ", ".join(f"try_cast({quoted(name)} as double) as {quoted(name)}" for name in retyped)
    return f"(select * replace ({replaced}) from {relation})"


def count_rows(connection: duckdb.DuckDBPyConnection, *relations: str) -> int:
    """How many rows the relations have together."""
    found = (connection.execute(f"select count(*) from {each}").fetchone() for each in relations)
    return sum(int(row[0]) for row in found if row)


def _partly(connection: duckdb.DuckDBPyConnection, source: Source, names: Sequence[str]) -> dict[str, float]:
    """The share of rows in files that lack a column, for each column that some files lack."""
    if not names:
        return {}
    rows = {file.path: file.rows for file in source.files}
    total = sum(rows.values())
    files = ", ".join(map(literal, rows))
    listed = connection.execute(
        f"select file_name, name, num_children from parquet_schema([{files}]) order by file_name, column_id"
    ).fetchall()
    holding: Counter[str] = Counter()
    for path, columns in groupby(listed, itemgetter(0)):
        for name in _outermost([(name, inner or 0) for _, name, inner in columns]):
            holding[name] += rows[path]
    shares = {name: holding[stored_name(name)] / total for name in names if total}
    return {name: round(1 - share, 6) for name, share in shares.items() if share < 1}


def _outermost(tree: Sequence[tuple[str, int]]) -> set[str]:
    """The columns of a file, without what is inside of lists and the like, which may be called as an input is.

    Args:
        tree: name and number of children of each element, every parent before its own, as Parquet stores them.
    """
    found, waiting = set(), 0
    for name, inner in tree[1:]:  # the first is the file itself
        if not waiting:
            found.add(name)
        waiting += inner - (waiting > 0)
    return found
