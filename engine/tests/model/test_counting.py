"""Counts of columns by DuckDB, whatever the columns and their values are called."""
# ruff: noqa: S608 - names and values are our own

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mergeline.model.bin_counts import connect, count, literal, quoted
from mergeline.model.binning import Grid, Scale

ODD_NAMES = ["with space", 'with "quotes"', "it's", "select", "ümläut", "a;b--c", "group by"]
ODD_VALUES = ["plain", "it's", 'say "yes"', "a;drop table rows", "", " ", "--", "日本", "null", "\\"]
UNIT = Grid(scale=Scale.LINEAR, low=0.0, high=1.0)


@pytest.fixture
def connection():
    with connect() as opened:
        yield opened


def rows(connection, **columns):
    connection.register("rows", pa.table(columns))
    return "rows"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_columns_with_odd_names_are_counted(connection, name):
    connection.register("rows", pa.table({name: [0.5, None, 0.5], "other": ["a", "b", None]}))
    found = count(connection, "rows", {name: UNIT}, {"other": None})
    assert found.numbers[name].cells.sum() == 2
    assert found.numbers[name].missing == 1


def test_categories_with_odd_names_are_counted(connection):
    relation = rows(connection, c=ODD_VALUES * 3 + [None])
    found = count(connection, relation, {}, {"c": tuple(ODD_VALUES[:4])}).categories["c"]
    assert found.named == dict.fromkeys(ODD_VALUES[:4], 3)
    assert found.other == 3 * (len(ODD_VALUES) - 4)
    assert found.missing == 1


def test_every_category_is_named_where_none_is_asked_for(connection):
    relation = rows(connection, c=["a", "b", "a", None, "null"])
    found = count(connection, relation, {}, {"c": None}).categories["c"]
    assert (found.named, found.other, found.missing) == ({"a": 2, "b": 1, "null": 1}, 0, 1)


def test_a_category_that_the_profile_does_not_name_is_another_and_no_null(connection):
    found = count(connection, rows(connection, c=["new", None]), {}, {"c": ()}).categories["c"]
    assert (found.named, found.other, found.missing) == ({}, 1, 1)


def test_a_column_without_a_value_counts_as_missing(connection):
    relation = rows(connection, n=pa.nulls(3, pa.float64()), c=pa.nulls(3, pa.string()), x=[0.5, 0.5, 0.5])
    found = count(connection, relation, {"n": UNIT, "x": UNIT}, {"c": ("a",)})
    assert (found.numbers["n"].missing, found.numbers["n"].cells.sum()) == (3, 0)
    assert (found.categories["c"].missing, found.categories["c"].other) == (3, 0)
    assert found.numbers["x"].cells.sum() == 3


def test_counts_of_parts_add_up_to_the_count_of_all(connection):
    values = np.random.default_rng(0).normal(0.5, 0.5, 999)
    connection.register("rows", pa.table({"x": values, "day": np.arange(999) % 7}))
    whole = count(connection, "rows", {"x": UNIT}, {}).numbers["x"].cells
    days = [
        count(connection, f"(select * from rows where day = {day})", {"x": UNIT}, {}).numbers["x"].cells
        for day in range(7)
    ]
    assert np.array_equal(whole, np.sum(days, axis=0))


def test_no_rows_are_counted_as_none(connection):
    relation = rows(connection, x=pa.array([], pa.float64()), c=pa.array([], pa.string()))
    found = count(connection, relation, {"x": UNIT}, {"c": ("a",)})
    assert found.numbers["x"].cells.sum() == found.numbers["x"].missing == found.categories["c"].other == 0


def test_files_are_counted_as_tables_are(connection, tmp_path):
    table = pa.table({"x": [0.1, 0.9, None, float("nan")], "c": ["a", "b", "b", None]})
    pq.write_table(table, tmp_path / "it's a file.parquet")
    connection.register("rows", table)
    relation = f"read_parquet({literal(str(tmp_path / 'it'))[:-1]}''s a file.parquet')"
    from_file, from_table = (count(connection, each, {"x": UNIT}, {"c": ("b",)}) for each in (relation, "rows"))
    assert np.array_equal(from_file.numbers["x"].cells, from_table.numbers["x"].cells)
    assert (from_file.numbers["x"].infinite, from_file.numbers["x"].missing) == (1, 1)
    assert from_file.categories == from_table.categories


def test_names_are_quoted_for_sql():
    assert quoted('a"b') == '"a""b"'
    assert literal("it's") == "'it''s'"
