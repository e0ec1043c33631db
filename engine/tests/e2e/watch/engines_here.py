"""Watches one window by DuckDB and by another engine; run where Ibis is installed, which it is not beside the engine.

python engines_here.py FOLDER postgres://… | spark://…    prints what differs, as JSON
python engines_here.py FOLDER compile                     the expression in SQL that cannot be run here, parsed
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
from production_journal import END, START, Production, draw, score

from mergeline.errors import WatchError
from mergeline.journal.window import Clock, Window, find_journal
from mergeline.model.artifact import PROFILE_FILE
from mergeline.model.bin_counts import connect
from mergeline.model.profile import Profile
from mergeline.params import Task
from mergeline.watch.engine_counts import count_expression, in_window, open_engine
from mergeline.watch.released_model import read_served
from mergeline.watch.window_counts import observe

ODD = [np.nan, np.inf, -np.inf, 1e308, -1e308, 1e-300, 0.0, -0.0, 2.5, -32768.5, 32767.5, 1e18]
TYPES = {"string": "text", "double": "float8", "bool": "bool", "int32": "int4", "list<element: double>": "float8[]"}


def make_journal(root: Path) -> Production:
    """A week and more of answers, with every odd value there is, and a file that lacks a column."""
    made = Production(root, Task.MULTICLASS)
    made.answer(START - timedelta(hours=30), END + timedelta(hours=30), 6000)
    odd = draw(made.rng, 480)
    scores = score(made.task, odd)
    odd["age"] = np.resize(ODD, len(odd))
    # On the borders between cells, where rounding shows.
    grid = next(each.grid for each in _profile(made).numbers if each.name == "amount")
    odd["amount"] = grid.edges()[: len(odd)]
    odd.loc[::7, "region"] = None
    odd.loc[::5, "gift"] = np.nan
    made.answer(START, END, len(odd), frame=odd, scores=scores)
    made.answer(START, END, 300, frame=draw(made.rng, 300), without=("region",))
    return made


def differences(made: Production, address: str) -> list[str]:
    engine = open_engine(address)
    with connect() as connection:
        journal = find_journal(connection, str(made.journal), START, END, Clock.ARRIVAL)
        source = journal.source(Window(START, END, Clock.ARRIVAL))
        served = read_served(made.root, made.params, made.manifest.spec.stable)
        by_duckdb, by_engine = (_plain(observe(connection, source, served, each)) for each in (None, engine))
    assert int(by_duckdb["rows"]) > 5000
    found = [f"{one} is not {other}" for one, other in zip(_leaves(by_duckdb), _leaves(by_engine), strict=True)
             if one != other]  # fmt: skip
    one, other = (made.look(watch={"engine": each}) for each in ("duckdb", address))
    return found if repr(one) == repr(other) else [*found, "the verdicts differ"]


def _profile(made: Production) -> Profile:
    (path,) = (made.root).rglob(PROFILE_FILE)
    return Profile.model_validate_json(path.read_text())


def _plain(value):
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else repr(value)


def _leaves(value, path=""):
    if isinstance(value, dict):
        return [leaf for key, each in sorted(value.items()) for leaf in _leaves(each, f"{path}.{key}")]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for key, each in enumerate(value) for leaf in _leaves(each, f"{path}.{key}")]
    return [(path, value)]


def load(made: Production, address: str) -> None:
    """Put the journal into Postgres, as a team's own pipeline does."""
    import psycopg
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((made.journal / "predictions").rglob("*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(each).read() for each in files], promote_options="default")
    columns = ", ".join(f'"{each.name}" {TYPES.get(str(each.type), "timestamptz")}' for each in table.schema)
    with psycopg.connect(address.replace("postgres://", "postgresql://")) as connection, connection.cursor() as cursor:
        cursor.execute("drop table if exists predictions")
        cursor.execute(f"create table predictions ({columns})")
        with cursor.copy("copy predictions from stdin") as copy:
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                copy.write_row(row)


def lacking(made: Production, address: str) -> list[str]:
    """What is wrong with the error of a table that lacks a row."""
    import psycopg

    with psycopg.connect(address.replace("postgres://", "postgresql://")) as connection:
        connection.execute("delete from predictions where _id in (select min(_id) from predictions"
                           " where _time >= %s and _time < %s)", (START, END))  # fmt: skip
    try:
        made.look(watch={"engine": address})
    except WatchError as error:
        return [] if "the engine holds" in error.what and "the journal" in error.what else [str(error)]
    return ["a table that lacks a row was watched"]


def compiled(made: Production) -> list[str]:
    """The engines whose SQL of the expression a parser of theirs takes."""
    import ibis
    import sqlglot

    profile = _profile(made)
    grids = {each.name: each.grid for each in profile.numbers}
    texts = {each.name: tuple(each.counts) for each in profile.categories}
    kinds = {"_time": "timestamp('UTC')", "_digest": "string", "gift": "boolean"}
    schema = {**kinds, **dict.fromkeys(grids.keys() - {"gift"}, "float64"), **dict.fromkeys(texts, "string")}
    window = in_window(ibis.table(schema, name="predictions"), _Source(), made.digest)
    expression = count_expression(window, {name: (name, None) for name in (*grids, *texts)}, grids, texts)
    parsed = []
    for dialect in ("bigquery", "trino", "snowflake"):
        (statement,) = sqlglot.parse(str(ibis.to_sql(expression, dialect=dialect)), read=dialect)
        assert len(list(statement.find_all(sqlglot.exp.Group))) == 2  # one for numbers, one for texts
        parsed.append(dialect)
    return parsed


class _Source:
    window = Window(START, END, Clock.ARRIVAL)


if __name__ == "__main__":
    production = make_journal(Path(sys.argv[1]))
    if sys.argv[2] == "compile":
        sys.stdout.write(json.dumps(compiled(production)))
    else:
        if sys.argv[2].startswith("postgres"):
            load(production, sys.argv[2])
        found = differences(production, sys.argv[2])
        if sys.argv[2].startswith("postgres"):
            found += lacking(production, sys.argv[2])
        sys.stdout.write(json.dumps(found))
