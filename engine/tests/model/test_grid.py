"""Cells: every value in exactly one, and SQL that finds the same ones as numpy."""
# ruff: noqa: S608 - names and values are our own

import duckdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergeline.model.bin_counts import connect, count
from mergeline.model.binning import CELLS, FULL_CELL, Grid, Scale, blunted, choose_grid

numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)


def count_with_numpy(grid: Grid, values: np.ndarray) -> tuple[np.ndarray, int]:
    """The cells by numpy: tails at both ends; and how many values are not finite."""
    finite = values[np.isfinite(values)]
    line = finite if grid.scale is Scale.LINEAR else np.arcsinh((finite - grid.centre) * (1 / grid.spread))
    with np.errstate(over="ignore"):
        places = np.clip(np.rint((line - grid.low) * grid.steps), -1, CELLS).astype(int) + 1
    return np.bincount(places, minlength=CELLS + 2), len(values) - len(finite)


def count_with_sql(grid: Grid, values: list[float | None]):
    with connect(threads=1) as connection:
        connection.execute("create table rows (x double)")
        connection.executemany("insert into rows values (?)", [[value] for value in values])
        return count(connection, "rows", {"x": grid}, {}).numbers["x"]


@given(
    values=st.lists(st.one_of(numbers, st.none(), st.floats(-10, 10)), min_size=1, max_size=40),
    low=st.floats(-100, 100),
    width=st.floats(0.01, 1000),
)
@example(values=[float("nan"), float("inf"), float("-inf"), None, 1e308, -1e308, 0.0, -0.0], low=0.0, width=1.0)
def test_sql_finds_the_cells_that_numpy_finds(values, low, width):
    grid = Grid(scale=Scale.LINEAR, low=low, high=low + width)
    found = count_with_sql(grid, values)
    cells, infinite = count_with_numpy(grid, np.array([value for value in values if value is not None]))
    assert found.cells.tolist() == cells.tolist()
    assert (found.infinite, found.missing) == (infinite, values.count(None))


@settings(max_examples=settings().max_examples // 5)
@given(values=st.lists(numbers, min_size=1, max_size=40))
def test_every_value_of_a_stretched_grid_is_in_exactly_one_cell(values):
    grid = Grid(scale=Scale.ASINH, low=-5.0, high=8.0, centre=20.0, spread=3.0)
    found = count_with_sql(grid, values)
    assert found.cells.sum() + found.infinite + found.missing == len(values)
    assert found.infinite == sum(not np.isfinite(value) for value in values)


def test_values_that_are_far_away_are_in_the_tail_on_their_side():
    grid = Grid(scale=Scale.LINEAR, low=0.0, high=1.0)
    found = count_with_sql(grid, [1e300, 1e300, -1e300, 0.5])
    assert (found.cells[0], found.cells[-1], found.infinite) == (1, 2, 0)


def test_a_value_at_a_border_of_the_line_is_not_in_a_tail():
    grid = Grid(scale=Scale.LINEAR, low=3.0, high=5.0)
    found = count_with_sql(grid, [3.0, 5.0])
    assert (found.cells[1], found.cells[CELLS]) == (1, 1)


def test_edges_part_the_cells():
    grid = Grid(scale=Scale.LINEAR, low=0.0, high=CELLS - 1.0)
    edges = grid.edges()
    assert len(edges) == CELLS + 1
    assert edges[:3].tolist() == [-0.5, 0.5, 1.5]


def test_truth_values_and_whole_numbers_are_counted_as_numbers():
    grid = Grid(scale=Scale.LINEAR, low=0.0, high=1.0)
    with connect() as connection:
        rows = "(select * from (values (true, 1::bigint), (false, 0), (true, 1)) as t(flag, whole))"
        found = count(connection, rows, {"flag": grid, "whole": grid}, {}).numbers
    for name in ("flag", "whole"):
        assert (found[name].cells[1], found[name].cells[CELLS]) == (1, 2)


class TestChoosing:
    def test_leaves_at_least_twenty_values_beyond_each_border(self):
        values = np.random.default_rng(0).normal(size=1000)
        grid = choose_grid(values)
        assert (values < grid.low).sum() >= 20
        assert (values > grid.high).sum() >= 20

    def test_stretches_a_column_whose_body_would_fill_few_cells(self):
        values = np.random.default_rng(0).lognormal(0, 3, 20_000)
        grid = choose_grid(values)
        assert grid.scale is Scale.ASINH
        cells, _ = count_with_numpy(grid, values)
        assert cells[1:-1].max() / len(values) < 2 * FULL_CELL

    def test_leaves_a_column_of_few_values_as_it_is(self):
        assert choose_grid(np.repeat([0.0, 1.0], 5000)).scale is Scale.LINEAR

    @pytest.mark.parametrize("value", [0.0, -7.5, 1e15, 1e-12])
    def test_a_constant_has_a_width(self, value):
        grid = choose_grid(np.full(100, value))
        assert grid.high > grid.low
        assert count_with_sql(grid, [value] * 3).cells[1:-1].sum() == 3

    def test_nothing_has_a_grid_too(self):
        assert choose_grid(np.array([])).steps > 0

    def test_no_border_is_a_rows_own_value(self):
        values = np.random.default_rng(3).uniform(20_000, 90_000, 5000).round(2)
        grid = choose_grid(values)
        assert not {grid.low, grid.high} & set(values.tolist())


@given(value=st.floats(-1e9, 1e9), width=st.floats(1e-3, 1e9))
def test_a_blunted_value_is_near(value, width):
    assert abs(blunted(value, width) - value) <= width / 100 + abs(value) * 1e-5


def test_the_expression_is_one_that_the_engine_can_push_down():
    grid = Grid(scale=Scale.LINEAR, low=-3.1, high=2.0)
    plan = duckdb.sql(f"explain select {grid.expression('x')} from (select 1.0::double as x)").fetchall()
    assert plan  # a minus before a minus would begin a comment
