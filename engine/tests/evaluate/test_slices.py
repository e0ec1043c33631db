import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_models import fitted, params, rows

from mergeline.errors import DataError
from mergeline.evaluate.metrics import measure
from mergeline.evaluate.scoring import score
from mergeline.evaluate.slices import evaluate_slices, slice_column


def sizes(values, min_rows=2):
    return {part.value: len(part.rows) for part in slice_column(pd.DataFrame({"column": values}), "column", min_rows)}


def test_each_value_is_a_slice():
    assert sizes(["b", "a", "b", "a", "b"]) == {"a": 2, "b": 3}


def test_small_slices_are_pooled_as_other():
    assert sizes(["a", "a", "b", "c", "d"]) == {"a": 2, "other": 3}


def test_a_value_that_is_written_other_keeps_its_own_slice():
    assert sizes(["other", "other", "b", "c"]) == {"other": 2, "(other)": 2}


def test_missing_values_are_a_slice_of_their_own():
    assert sizes(["a", "a", None, None, None]) == {"a": 2, "missing": 3}


def test_few_numbers_are_taken_one_by_one():
    assert sizes([3, 1, 3, 1, 10, 10]) == {"1": 2, "3": 2, "10": 2}


def test_many_numbers_are_cut_into_five_bins_of_about_equal_size():
    found = sizes(np.arange(100.0))
    assert list(found.values()) == [20] * 5
    assert next(iter(found)).startswith("≤ 19.8")
    assert list(found)[-1].startswith("> 79.2")


def test_missing_numbers_stay_out_of_the_bins():
    found = sizes([*np.arange(100.0), np.nan, np.nan])
    assert found["missing"] == 2
    assert sum(found.values()) == 102


def test_many_times_are_cut_into_bins_by_date():
    found = sizes(pd.date_range("2024-01-01", periods=100))
    assert len(found) == 5
    assert next(iter(found)).startswith("≤ 2024-01-20")


def test_categories_that_do_not_occur_make_no_slice():
    assert sizes(pd.Categorical(["a", "a", "b", "b"], categories=["a", "b", "c"])) == {"a": 2, "b": 2}


def test_booleans_are_two_slices():
    assert sizes([True, False, True, False]) == {"False": 2, "True": 2}


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "other", "missing", ""])), min_size=1, max_size=40),
    min_rows=st.integers(1, 10),
)
def test_every_row_is_in_exactly_one_slice(values, min_rows):
    parts = slice_column(pd.DataFrame({"column": pd.Series(values, dtype="str")}), "column", min_rows)
    together = np.concatenate([part.rows for part in parts])
    assert sorted(together.tolist()) == list(range(len(values)))
    assert len({part.value for part in parts}) == len(parts)
    assert all(part.pooled or len(part.rows) >= min_rows for part in parts)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=80))
def test_every_row_of_a_numeric_column_is_in_exactly_one_slice(values):
    parts = slice_column(pd.DataFrame({"column": values}), "column", 1)
    assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == list(range(len(values)))


def test_a_column_that_does_not_exist_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'region'"):
        slice_column(pd.DataFrame({"region": [1], "target": [0]}), "regoin", 1)


def test_each_slice_has_the_gates_metric_and_the_loss_that_slices_are_compared_by(tmp_path):
    frame = rows("binary", 600)
    scored = score(fitted("binary", tmp_path), frame)
    found = {entry.value: entry for entry in evaluate_slices(scored, frame, params("binary"))}
    assert set(found) == {"north", "south", "west"}
    here = scored.take(np.flatnonzero(frame["region"] == "south"))
    values = {metric.name: metric.estimate.value for metric in found["south"].metrics}
    assert values == pytest.approx({name: measure(here)[name] for name in ("roc_auc", "log_loss")})


def test_a_slice_with_one_class_has_no_auc_but_a_loss(tmp_path):
    frame = rows("binary", 600)
    frame["region"] = np.where(frame["target"], "late", "on time")
    found = evaluate_slices(score(fitted("binary", tmp_path), frame), frame, params("binary"))
    assert [[metric.name for metric in entry.metrics] for entry in found] == [["log_loss"], ["log_loss"]]
