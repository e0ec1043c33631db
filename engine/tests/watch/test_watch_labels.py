"""Labels that come late, twice, or for nobody; and what is judged by them."""

import time
from datetime import timedelta

import numpy as np
import pytest
from production_journal import END, START, Production, draw, outcome, reason, score

from mergeline.evaluate.metrics import measure
from mergeline.evaluate.results import Status
from mergeline.evaluate.scoring import Scored
from mergeline.journal.window import Clock, Window, find_journal
from mergeline.model.bin_counts import connect
from mergeline.params import Task
from mergeline.watch.labelled import read_labelled
from mergeline.watch.performance import Level, live_metrics
from mergeline.watch.released_model import Context, read_served

WEEK = timedelta(days=7)


def read(production, max_rows=200_000, start=START, end=END):
    window = Window(start, end, Clock.ARRIVAL)
    with connect() as connection:
        journal = find_journal(connection, str(production.journal), start, end, Clock.ARRIVAL)
        served = read_served(production.root, production.params, production.manifest.spec.stable)
        context = Context(connection, journal, served, production.params)
        output = production.signature.output
        return read_labelled(context, window, production.digest, output, ["region"], max_rows=max_rows)


def test_rows_are_joined_with_their_labels(production):
    rows = production.answer(START, END, 400)
    truth = production.rng.random(400) < 0.3
    production.label(rows.iloc[::2], truth[::2])
    found = read(production)
    assert (found.answered, found.labelled, len(found.scored.truth)) == (400, 200, 200)
    assert found.scored.truth.sum() == truth[::2].sum()
    assert sorted(found.scored.scores) == pytest.approx(sorted(rows["_score"].iloc[::2]))
    assert len(found.frame) == 200
    assert set(found.frame["region"]) == {"north", "south", "east"}


def test_the_newest_label_counts(production):
    rows = production.answer(START, END, 300)
    production.label(rows, np.zeros(300, dtype=bool))
    production.label(rows, np.ones(300, dtype=bool), delay=timedelta(days=3))
    production.label(rows, np.zeros(300, dtype=bool), delay=timedelta(days=2))
    found = read(production)
    assert (found.labelled, found.scored.truth.sum()) == (300, 300)


def test_an_id_that_came_ten_thousands_of_times_is_one_row(production):
    rows = production.answer(START, END, 40_000, ids=["same"] * 40_000)
    production.label(rows, np.ones(40_000, dtype=bool))
    start = time.monotonic()
    assert len(read(production).scored.truth) == 1
    assert time.monotonic() - start < 5


def test_a_row_that_was_answered_twice_counts_once_as_it_was_answered_last(production):
    first = production.answer(START, START + timedelta(days=1), 200)
    again = production.answer(
        START + timedelta(days=2), END, 0, frame=first[list(production.signature.names)].assign(amount=90.0),
        ids=first["_id"].tolist(),
    )  # fmt: skip
    production.label(again)
    found = read(production)
    assert (found.answered, found.labelled) == (400, 400)
    assert sorted(found.scored.scores) == pytest.approx(sorted(again["_score"]))


def test_labels_for_unknown_ids_are_left_aside(production):
    rows = production.answer(START, END, 300)
    production.label(rows.assign(_id=[f"unknown {place}" for place in range(300)]))
    assert read(production).labelled == 0


def test_labels_of_classes_that_the_model_does_not_know_are_counted(production):
    rows = production.answer(START, END, 300)
    production.label(rows, np.array([True, False, "maybe"] * 100, dtype=object))
    found = read(production)
    assert (found.labelled, found.unknown, len(found.scored.truth)) == (300, 100, 200)


def test_a_sample_is_the_same_each_time_and_says_so(production):
    production.label(production.answer(START, END, 3000))
    first, second = read(production, max_rows=500), read(production, max_rows=500)
    assert first.sampled
    assert 350 < len(first.scored.truth) < 650
    assert first.labelled == pytest.approx(3000, rel=0.25)
    assert np.array_equal(first.scored.scores, second.scored.scores)


def test_several_classes_are_read_in_the_signatures_order(tmp_path):
    production = Production(tmp_path, Task.MULTICLASS)
    rows = production.answer(START, END, 300)
    production.label(rows, np.array(["green"] * 300, dtype=object))
    found = read(production).scored
    assert found.scores.shape == (300, 3)
    assert found.classes == ("red", "green", "blue")
    assert set(found.truth.tolist()) == {1}


def test_labels_of_a_regression_that_are_not_finite_are_left_out(tmp_path):
    production = Production(tmp_path, Task.REGRESSION)
    rows = production.answer(START, END, 300)
    production.label(rows, np.where(np.arange(300) % 3 == 0, np.nan, 1.0))
    assert len(read(production).scored.truth) == 200


@pytest.mark.parametrize("wrong", [1e200, -1.7e308])
def test_a_label_too_large_to_count_with_costs_itself_alone(tmp_path, wrong):
    production = Production(tmp_path, Task.REGRESSION)
    rows = production.answer(START, END, 300)
    truth = outcome(Task.REGRESSION, np.array(rows["_score"].tolist()), production.rng)
    truth[7] = wrong
    production.label(rows, truth)
    found = read(production)
    assert (found.labelled, found.unknown, len(found.scored.truth)) == (300, 1, 299)
    live = production.look().live
    assert live is not None
    assert {metric.name for metric in live.metrics} >= {"mae", "rmse"}


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_scores_that_are_no_numbers_are_not_judged(tmp_path, task):
    production = Production(tmp_path, task)
    scores = score(task, draw(production.rng, 300))
    scores[3] = np.nan
    production.label(
        production.answer(START, END, 300, scores=scores), outcome(task, np.nan_to_num(scores, nan=0.3), production.rng)
    )
    assert len(read(production).scored.truth) == 299


def test_a_sample_never_has_more_labels_than_rows(production):
    rows = production.answer(START, END, 3000)
    production.label(rows)
    assert all(read(production, max_rows=limit).labelled <= 3000 for limit in (50, 100, 333, 700, 1100))


def test_labels_of_one_class_are_not_called_none(production):
    rows = production.answer(START, END, 3000)
    production.label(rows.iloc[:150], np.ones(150, dtype=bool))
    found = production.look()
    assert "roc_auc cannot be had from these labels" in reason(found, "live quality").meaning
    assert "without labels" not in found.headline


def test_labels_of_unknown_classes_are_a_warning(tmp_path):
    production = Production(tmp_path, Task.MULTICLASS)
    rows = production.answer(START, END, 3000)
    production.label(rows, np.array(["nobody knows"] * 3000, dtype=object))
    found = reason(production.look(), "live quality")
    assert found.status is Status.WARN
    assert "3,000 more are of no class that the model knows" in found.meaning


class TestDelay:
    def test_rows_whose_labels_have_not_had_time_are_not_judged(self, production):
        before = production.answer(START - WEEK, START, 2000)
        now = production.answer(START, END, 2000)
        production.label(before)
        production.label(now.head(500))  # the quick ones, which may be of another kind
        found = production.look(watch={"label_delay": "7d"})
        assert found.live.stretch.end == START
        assert (found.live.answered, found.live.labelled) == (2000, 2000)
        assert found.rows == 2000

    def test_labels_that_come_long_after_are_found(self, production):
        rows = production.answer(START - 4 * WEEK, START - 3 * WEEK, 2000)
        production.label(rows, delay=timedelta(days=25))
        production.answer(START, END, 2000)
        found = production.look(watch={"label_delay": "28d"})
        assert found.live.labelled == 2000

    def test_the_labelled_share_is_told(self, production):
        rows = production.answer(START, END, 2000)
        production.label(rows.head(500))
        assert "500 of 2,000 rows have a label (25.0%)" in reason(production.look(), "live roc_auc").value


class TestEstimates:
    def test_come_with_their_own_back_test(self, production):
        production.label(production.answer(START - 2 * WEEK, START, 4000))
        production.answer(START, END, 2000)
        found = production.look().estimated
        assert found.rows == 2000
        assert len(found.back_tests) == 2
        for test in found.back_tests:
            assert test.realised.keys() == found.metrics.keys()
            assert test.estimated["roc_auc"] == pytest.approx(test.realised["roc_auc"], abs=0.04)

    @pytest.mark.parametrize(
        ("task", "name"), [(Task.BINARY, "log_loss"), (Task.MULTICLASS, "accuracy"), (Task.REGRESSION, "mae")]
    )
    def test_are_near_the_truth_where_scores_mean_what_they_meant(self, tmp_path, task, name):
        production = Production(tmp_path, task)
        rows = production.answer(START, END, 6000)
        estimated = production.look().estimated.metrics[name]
        production.label(rows)
        realised = next(metric for metric in production.look().live.metrics if metric.name == name)
        assert estimated == pytest.approx(realised.live.value, rel=0.06)

    def test_never_make_a_window_degraded(self, production):
        frame = production.answer(START, END, 4000)[list(production.signature.names)].assign(amount=50.0)
        for file in production.journal.glob("predictions/*/*/*.parquet"):
            file.unlink()
        production.answer(START, END, 0, frame=frame)
        found = production.look()
        assert found.estimated.metrics["roc_auc"] < 0.7
        assert found.outcome == "drift"

    def test_without_a_back_test_say_so(self, production):
        production.answer(START, END, 2000)
        assert production.look().estimated.back_tests == ()


def test_the_holdouts_own_uncertainty_is_part_of_the_change(production):
    rng = np.random.default_rng(0)
    scores = rng.random(2000)
    scored = Scored(Task.BINARY, outcome(Task.BINARY, scores, rng).astype(int), scores, ("false", "true"), 0.5)
    value = measure(scored)["roc_auc"]
    from mergeline.evaluate.results import Estimate, Metric

    def change(low, high, rows):
        promised = Metric(name="roc_auc", estimate=Estimate(value=value, low=low, high=high), higher_is_better=True)
        found = live_metrics(scored, (promised,), rows, production.params)
        return next(metric for metric in found if metric.name == "roc_auc").change

    sure, unsure = change(value - 1e-6, value + 1e-6, 1), change(value - 0.1, value + 0.1, 1)
    assert unsure.high - unsure.low > sure.high - sure.low + 0.1
    # A promise without an interval is taken to be as uncertain as its rows make it.
    few, many = change(None, None, 200), change(None, None, 200_000)
    assert few.high - few.low > 2 * (many.high - many.low)


@pytest.mark.parametrize("rows", [150, 400, 3000])
def test_the_calibration_error_of_few_rows_is_not_called_worse(production, rows):
    production.label(production.answer(START, END, rows))
    live = production.look().live
    assert live is not None
    (found,) = [metric for metric in live.metrics if metric.name == "calibration_error"]
    assert (found.level, found.change) == (Level.UNCLEAR, None)


class TestSlices:
    def test_of_a_number_are_cut_as_the_holdout_was(self, tmp_path):
        production = Production(tmp_path, sections={"evaluation": {"slices": ["amount"]}})
        production.label(production.answer(START, END, 4000))
        live = production.look().live
        assert live is not None
        assert len(live.slices) == 5
        assert all(part.metric.holdout is not None for part in live.slices)

    def test_what_is_rare_here_and_what_was_rare_there_are_not_compared(self, tmp_path):
        production = Production(tmp_path, sections={"evaluation": {"slices": ["region"], "min_slice_rows": 2100}})
        production.label(production.answer(START, END, 4000))
        live = production.look().live
        assert live is not None
        (pool,) = [part for part in live.slices if part.value == "other"]
        assert (pool.metric.holdout, pool.metric.change) == (None, None)
