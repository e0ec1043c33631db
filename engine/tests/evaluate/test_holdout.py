"""The rows that models are judged on."""

import pytest

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import make_split
from mergeline.errors import DataError
from mergeline.evaluate.scoring import read_holdout
from toy_data import orders, toy_params


def held_out(root, frame):
    params = toy_params()
    (root / "data").mkdir()
    frame.to_parquet(root / "data" / "2024-01.parquet", index=False)
    return read_holdout(root, params, make_split(root, params.data, params.split, load_schema(params.data)))


def test_a_file_that_is_sorted_by_class_is_refused_with_a_word_how_to_split(tmp_path):
    frame = orders().sort_values("returned", kind="stable")
    frame["placed"] = sorted(frame["placed"])
    with pytest.raises(DataError, match="of one class: True") as refusal:
        held_out(tmp_path, frame)
    assert "split.kind: stratified" in refusal.value.hint


def test_the_newest_rows_of_one_file_are_held_out(tmp_path):
    rows, holdout = held_out(tmp_path, orders())
    assert holdout.rows == len(rows) == 80
    assert holdout.last == str(orders()["placed"].max())
