"""What a window shows: the four outcomes and their reasons, end to end."""

from datetime import timedelta

import numpy as np
import pytest
from production_journal import END, START, Production, draw, finding, outcome, reason, score

from mergeline.errors import ModelError, WatchError
from mergeline.params import Task
from mergeline.watch.drift import Change, Finding, Part, Status
from mergeline.watch.performance import Level
from mergeline.watch.results import Outcome
from mergeline.watch.verdict import decide
from toy_data import toy_params

WEEK = timedelta(days=7)


class TestSteady:
    def test_rows_like_the_training_rows_are_steady(self, production):
        production.answer(START, END, 4000)
        found = production.look()
        assert found.outcome is Outcome.STEADY, found.headline
        assert (found.rows, found.answered) == (4000, 4000)
        assert "without labels" in found.headline

    @pytest.mark.parametrize("task", list(Task))
    def test_labels_that_keep_what_the_holdout_promised_are_steady(self, tmp_path, task):
        production = Production(tmp_path, task)
        production.label(production.answer(START, END, 5000))
        found = production.look()
        assert found.outcome is Outcome.STEADY, found.headline
        assert found.live.labelled == found.live.rows == 5000
        assert all(metric.level is not Level.WORSE for metric in found.live.metrics)
        assert not any(change.changed for change in found.live.meaning)

    def test_a_change_in_a_column_that_the_model_ignores_is_a_note(self, production):
        frame = draw(production.rng, 4000)
        production.answer(START, END, 0, frame=frame.assign(age=frame["age"] + 30))
        found = production.look()
        assert found.outcome is Outcome.STEADY
        assert finding(found, "age").status is Status.NOTE
        assert "hardly used: age" in reason(found, "inputs").meaning


class TestDrift:
    @pytest.mark.parametrize("task", list(Task))
    def test_a_moved_input_is_drift(self, tmp_path, task):
        production = Production(tmp_path, task)
        production.answer(START, END, 0, frame=draw(production.rng, 4000, shift=0.5))
        found = production.look()
        assert found.outcome is Outcome.DRIFT
        assert found.findings[0].column in {"amount", "score", "label", "red", "blue"}
        assert finding(found, "amount").status is Status.DRIFT
        assert 0.1 < finding(found, "amount").effect < 0.25  # D of half a standard deviation is 0.197
        assert found.distributions

    def test_nulls_are_drift(self, production):
        frame = draw(production.rng, 4000)
        frame.loc[:500, "amount"] = np.nan
        production.answer(START, END, 0, frame=frame)
        changed = finding(production.look(), "amount", "missing")
        assert changed.status is Status.DRIFT
        assert (changed.before, changed.after) == (0.0, pytest.approx(501 / 4000, abs=1e-4))

    def test_values_that_are_not_finite_count_as_missing(self, production):
        frame = draw(production.rng, 4000)
        frame.loc[:250, "amount"] = np.inf
        frame.loc[250:500, "amount"] = -np.inf
        production.answer(START, END, 0, frame=frame)
        assert finding(production.look(), "amount", "missing").after == pytest.approx(501 / 4000, abs=1e-4)

    def test_a_new_category_is_drift(self, production):
        frame = draw(production.rng, 4000)
        frame.loc[:400, "region"] = 'it\'s "new"'
        production.answer(START, END, 0, frame=frame)
        assert finding(production.look(), "region", "new categories").status is Status.DRIFT

    def test_swapped_categories_are_drift(self, production):
        frame = draw(production.rng, 4000)
        swapped = frame["region"].map({"north": "south", "south": "north", "east": "east"})
        production.answer(START, END, 0, frame=frame.assign(region=swapped))
        assert finding(production.look(), "region").status is Status.DRIFT

    def test_an_absent_input_is_drift_whatever_the_rest(self, production):
        production.answer(START, END, 4000, without=("amount",))
        found = production.look()
        assert found.outcome is Outcome.DRIFT
        assert found.quality.absent == ("amount",)
        assert "amount is absent" in found.headline

    def test_scores_that_mean_something_else_are_concept_drift(self, production):
        rows = production.answer(START, END, 5000)
        scores = np.array(rows["_score"].to_list())
        production.label(rows, outcome(Task.BINARY, 0.6 * scores, production.rng))
        found = production.look(gate={"margin": 0.2})
        assert found.outcome is Outcome.DRIFT
        assert found.live.meaning[0].changed
        assert found.live.meaning[0].gap == pytest.approx(0.4 * scores.mean(), abs=0.03)


class TestDegraded:
    @pytest.mark.parametrize("task", list(Task))
    def test_worse_labels_than_promised_are_degraded(self, tmp_path, task):
        production = Production(tmp_path, task)
        rows = production.answer(START, END, 5000)
        worse = score(task, draw(production.rng, 5000))  # what comes has nothing to do with what was asked
        production.label(rows, outcome(task, worse, production.rng))
        found = production.look()
        assert found.outcome is Outcome.DEGRADED, found.headline
        judged = next(metric for metric in found.live.metrics if metric.name == production.params.gate.metric)
        assert judged.level is Level.WORSE
        assert judged.holdout is not None
        assert judged.change.low <= judged.change.value <= judged.change.high

    def test_what_the_inputs_explain_stands_apart(self, production):
        # Rows whose scores are all near the middle: harder, but scores mean what they meant.
        frame = draw(production.rng, 5000)
        frame["amount"] = 50 + (frame["amount"] - 50) * 0.2
        production.label(production.answer(START, END, 0, frame=frame))
        metric = next(each for each in production.look().live.metrics if each.name == "roc_auc")
        assert metric.live.value < metric.holdout.value - 0.1
        assert metric.expected == pytest.approx(metric.live.value, abs=0.03)

    def test_without_an_evaluation_the_manifests_metrics_count(self, tmp_path):
        production = Production(tmp_path, evaluated=False)
        rows = production.answer(START, END, 3000)
        production.label(rows, production.rng.random(3000) < 0.5)
        found = production.look()
        assert found.outcome is Outcome.DEGRADED
        assert found.live.metrics[0].holdout.value == 0.75
        assert "dvc pull evaluation" in found.notices[0]

    def test_too_few_labels_say_nothing(self, production):
        rows = production.answer(START, END, 4000)
        production.label(rows.head(50), production.rng.random(50) < 0.5)
        found = production.look()
        assert found.outcome is Outcome.STEADY
        assert "too few labels" in reason(found, "live quality").meaning


class TestInconclusive:
    def test_an_empty_window_is_inconclusive_and_says_so(self, production):
        production.answer(START - 2 * WEEK, START - WEEK, 3000)
        found = production.look()
        assert found.outcome is Outcome.INCONCLUSIVE
        assert "no rows" in found.headline

    def test_a_journal_without_files_is_inconclusive(self, production):
        production.journal.mkdir()
        assert production.look().outcome is Outcome.INCONCLUSIVE

    @pytest.mark.parametrize("rows", [1, 2, 60])
    def test_few_rows_are_too_few_to_tell(self, production, rows):
        production.answer(START, END, rows)
        found = production.look()
        assert found.outcome is Outcome.INCONCLUSIVE
        assert "too few to tell" in found.headline

    def test_few_rows_are_enough_for_a_large_change(self, production):
        production.answer(START, END, 0, frame=draw(production.rng, 60, shift=5))
        assert production.look().outcome is Outcome.DRIFT

    def test_a_column_without_a_value_does_not_end_the_look(self, production):
        frame = draw(production.rng, 3000).assign(amount=np.nan, region=None)
        production.answer(START, END, 0, frame=frame.astype({"region": "str"}))
        found = production.look()
        assert found.outcome is Outcome.DRIFT
        assert finding(found, "amount", "missing").after == finding(found, "region", "missing").after == 1.0


class TestErrors:
    def test_a_missing_journal_is_an_error(self, production):
        with pytest.raises(WatchError, match="there is no journal"):
            production.look()

    def test_a_profile_of_an_earlier_version_is_an_error(self, production):
        production.answer(START, END, 100)
        (production.root / "model" / "profile.json").write_text('{"rows": 1}')
        from mergeline.model.artifact import folder_digest

        production.digest = folder_digest(production.root / "model")
        with pytest.raises(ModelError, match="propose a new model"):
            production.look()


def test_a_steady_window_says_how_many_columns_have_too_few_rows():
    def value(column, status):
        return Finding(
            column=column,
            part=Part.INPUT,
            change=Change.VALUES,
            status=status,
            against="training",
            effect=0.0,
            bound=0.1,
            q_value=1.0,
            before=None,
            after=None,
            importance=None,
            measures={},
        )

    found = [value("amount", Status.STEADY), value("age", Status.STEADY), value("note", Status.FEW)]
    said = decide(40, toy_params(), quality=(), findings=found, whole_rows=(), live=None)
    assert said.outcome is Outcome.STEADY
    assert "1 of 3 columns have too few rows" in said.headline
