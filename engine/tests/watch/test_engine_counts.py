"""Another engine in DuckDB's place, as far as none is needed; tests/e2e/watch counts in real ones."""

import importlib.util

import pytest
from production_journal import END, START
from pydantic import ValidationError

from mergeline.errors import WatchError
from mergeline.model.binning import CELLS, Grid, Scale
from mergeline.watch.engine_counts import SLOTS, fold


@pytest.mark.skipif(importlib.util.find_spec("ibis") is not None, reason="Ibis is installed")
def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(production):
    production.answer(START, END, 50)
    with pytest.raises(WatchError) as refused:
        production.look(watch={"engine": "postgres://watch@db/journal"})
    assert refused.value.what == "ibis is not installed"
    assert "postgres://watch@db/journal" in refused.value.where
    assert "uv add 'ibis-framework[postgres]'" in refused.value.hint


@pytest.mark.parametrize("engine", ["postgres://watch:secret@db/journal", "mysql://db", "sparks"])
def test_a_password_or_an_unknown_engine_is_refused_where_params_are_read(production, engine):
    with pytest.raises(ValidationError, match="engine"):
        production.make_params(watch={"engine": engine})


def test_the_rows_of_an_engine_become_the_counts_of_each_column():
    grid = Grid(scale=Scale.LINEAR, low=0, high=1)
    held = {0: 2, CELLS + 1: 3, CELLS + 2: 5, CELLS + 3: 7, SLOTS: 1, "0=north": 11, "0+": 13, "0-": 17}
    rows = [{"slot": str(slot), "n": number} for slot, number in held.items()]
    counts = fold(rows, {"age": grid, "amount": grid}, {"region": ("north", "south")})
    age, region = counts.numbers["age"], counts.categories["region"]
    assert (age.cells[0], age.cells[-1], age.cells.sum(), age.missing, age.infinite) == (2, 3, 5, 5, 7)
    assert (counts.numbers["amount"].cells[0], counts.numbers["amount"].cells.sum()) == (1, 1)
    assert (region.named, region.other, region.missing) == ({"north": 11}, 13, 17)
