"""The gate on real models and real rows."""

import dataclasses

import numpy as np
import pytest
from gate_samples import check, measured
from judged_models import HOLDOUT, fitted, params, rows, wrap

from mergeline.errors import DataError, ModelError
from mergeline.evaluate.checks import single_row_ms
from mergeline.evaluate.evaluate import evaluate
from mergeline.evaluate.gate import Champion, judge
from mergeline.evaluate.results import (
    GateOutcome,
    Status,
)
from mergeline.report.words import headline


class TestJudge:
    def judged(self, challenger, champion, task="binary", frame=None, **sections):
        frame = rows(task) if frame is None else frame
        settings = params(task, **sections)
        return judge(challenger, champion, evaluate(challenger, frame, HOLDOUT, settings), frame, HOLDOUT, settings)

    @pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
    def test_a_model_of_each_task_beats_one_that_reads_too_little(self, tmp_path, task):
        champion = fitted(task, tmp_path / "old", letter="c", used=["items", "noise"])
        verdict = self.judged(fitted(task, tmp_path / "new"), Champion(champion, 3, champion.digest), task)
        assert verdict.outcome is GateOutcome.BETTER
        assert verdict.accepted, headline(verdict)
        assert verdict.comparison.champion_version == 3

    def test_the_champions_curves_are_for_the_report_and_stay_out_of_every_file(self, tmp_path):
        champion = fitted("binary", tmp_path / "old", letter="c", used=["items", "noise"])
        found = self.judged(fitted("binary", tmp_path / "new"), Champion(champion, 3, champion.digest)).comparison
        assert {"roc", "calibration"} < {curve.name for curve in found.curves}
        assert "curves" not in found.model_dump(mode="json")

    @pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
    def test_a_model_of_each_task_that_reads_too_little_is_refused(self, tmp_path, task):
        champion = fitted(task, tmp_path / "old", letter="c")
        challenger = fitted(task, tmp_path / "new", used=["items", "noise"])
        verdict = self.judged(challenger, Champion(champion, 3, champion.digest), task)
        assert verdict.outcome is GateOutcome.WORSE
        assert not verdict.accepted

    def test_a_model_trained_on_other_rows_of_the_same_kind_is_equivalent(self, tmp_path):
        champion = fitted("binary", tmp_path / "old", letter="c", train=rows("binary", 1500, seed=98))
        verdict = self.judged(fitted("binary", tmp_path / "new"), Champion(champion, 3, champion.digest))
        assert verdict.outcome is GateOutcome.EQUIVALENT
        assert check(verdict, "delong").status is Status.PASS

    def test_the_first_model_is_judged_without_a_champion(self, tmp_path):
        verdict = self.judged(fitted("binary", tmp_path), None)
        assert verdict.accepted
        assert verdict.outcome is GateOutcome.NO_CHAMPION

    def test_the_same_digest_is_equivalent_without_a_comparison(self, tmp_path):
        model = fitted("binary", tmp_path)
        verdict = self.judged(model, Champion(None, 7, model.digest, unreadable="never looked at"))
        assert (verdict.accepted, verdict.outcome, verdict.comparison) == (True, GateOutcome.EQUIVALENT, None)
        assert "same bytes as version 7" in headline(verdict)

    def test_a_champion_that_cannot_be_loaded_is_inconclusive(self, tmp_path):
        champion = Champion(None, 7, "sha256:" + "c" * 64, unreadable="made by scikit-learn 1.2")
        verdict = self.judged(fitted("binary", tmp_path), champion)
        assert (verdict.accepted, verdict.outcome) == (False, GateOutcome.INCONCLUSIVE)
        assert "made by scikit-learn 1.2" in headline(verdict)

    def test_a_champion_whose_columns_are_gone_is_inconclusive(self, tmp_path):
        challenger = fitted("binary", tmp_path / "new", used=["amount", "items"])
        kept = tuple(column for column in challenger.signature.columns if column.name in ("amount", "items"))
        signature = challenger.signature.model_copy(update={"columns": kept})
        challenger = dataclasses.replace(challenger, signature=signature)
        champion = fitted("binary", tmp_path / "old", letter="c")
        verdict = self.judged(
            challenger, Champion(champion, 7, champion.digest), frame=rows("binary").drop(columns="noise")
        )
        assert verdict.outcome is GateOutcome.INCONCLUSIVE
        assert "lack column noise" in headline(verdict)

    def test_a_champion_that_raises_is_inconclusive(self, tmp_path):
        class Broken:
            def predict_proba(self, features):
                raise AttributeError("no such attribute: _bins")

        model = fitted("binary", tmp_path / "new")
        champion = wrap(Broken(), model.signature, tmp_path / "old", "c")
        verdict = self.judged(model, Champion(champion, 7, champion.digest))
        assert verdict.outcome is GateOutcome.INCONCLUSIVE
        assert "AttributeError: no such attribute: _bins" in headline(verdict)

    def test_a_champion_of_other_classes_is_inconclusive(self, tmp_path):
        champion = fitted("multiclass", tmp_path / "old", letter="c")
        output = champion.signature.output.model_copy(update={"classes": ("low", "middle", "top")})
        champion = dataclasses.replace(champion, signature=champion.signature.model_copy(update={"output": output}))
        verdict = self.judged(fitted("multiclass", tmp_path), Champion(champion, 7, champion.digest), "multiclass")
        assert verdict.outcome is GateOutcome.INCONCLUSIVE
        assert not verdict.accepted

    def test_a_holdout_of_one_class_is_inconclusive(self, tmp_path):
        frame = rows("binary")
        champion = fitted("binary", tmp_path / "old", letter="c", used=["items"])
        champion = Champion(champion, 3, champion.digest)
        verdict = self.judged(fitted("binary", tmp_path / "new"), champion, frame=frame[~frame["target"]])
        assert (verdict.accepted, verdict.outcome) == (False, GateOutcome.INCONCLUSIVE)
        assert "roc_auc is undefined" in headline(verdict)

    def test_an_evaluation_of_another_model_is_an_error(self, tmp_path):
        model = fitted("binary", tmp_path)
        with pytest.raises(ModelError, match="the evaluation is of"):
            judge(model, None, measured(digest="sha256:" + "b" * 64), rows("binary"), HOLDOUT, params("binary"))

    def test_an_evaluation_of_other_rows_is_an_error(self, tmp_path):
        other = HOLDOUT.model_copy(update={"digest": "sha256:" + "1" * 64})
        with pytest.raises(DataError, match="other rows"):
            judge(fitted("binary", tmp_path), None, measured(), rows("binary"), other, params("binary"))

    def test_a_slice_column_that_does_not_exist_is_an_error_and_not_the_champions_fault(self, tmp_path):
        champion = fitted("binary", tmp_path / "old", letter="c", used=["items"])
        settings = params("binary", evaluation={"slices": ["regions"]})
        model = fitted("binary", tmp_path / "new")
        with pytest.raises(DataError, match="did you mean 'region'"):
            judge(model, Champion(champion, 3, champion.digest), measured(), rows("binary"), HOLDOUT, settings)

    def test_scoring_one_row_is_timed(self, tmp_path):
        assert 0 < single_row_ms(fitted("binary", tmp_path), rows("binary", 3)) < 1000

    def test_a_model_that_cannot_score_one_row_fails_the_latency_check(self, tmp_path):
        class Batches:
            def predict_proba(self, features):
                if len(features) == 1:
                    raise ValueError("one row is too few")
                positive = 1 / (1 + np.exp(-features["amount"].to_numpy()))
                return np.column_stack([1 - positive, positive])

        model = wrap(Batches(), fitted("binary", tmp_path).signature, tmp_path / "batches")
        verdict = self.judged(model, None)
        assert check(verdict, "latency").status is Status.FAIL
        assert not verdict.accepted
