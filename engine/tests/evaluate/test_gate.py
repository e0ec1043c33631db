import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_models import HOLDOUT, fitted, params, rows, wrap

from mergeline.errors import DataError, ModelError
from mergeline.evaluate.checks import GateFinding, single_row_ms
from mergeline.evaluate.evaluate import evaluate
from mergeline.evaluate.gate import Champion, decide, judge
from mergeline.evaluate.results import (
    Comparison,
    DeLong,
    Estimate,
    Evaluation,
    Fairness,
    GateOutcome,
    GroupRates,
    Metric,
    PairedMetric,
    SliceChange,
    Status,
    StressResult,
)
from mergeline.params import METRICS, Task
from mergeline.report.words import as_checks, headline, meaning

DIGEST = "sha256:" + "a" * 64
NO_CHAMPION = GateFinding(GateOutcome.NO_CHAMPION)


def measured(task="binary", *, metrics=None, **parts):
    """An evaluation that passes every check, with parts replaced."""
    usual = {"roc_auc": 0.75, "log_loss": 0.5, "calibration_error": 0.02, "mae": 10.0, "r2": 0.5}
    values = {name: usual[name] for name in METRICS[Task(task)] if name in usual} if metrics is None else metrics
    groups = tuple(GroupRates(group=name, rows=100, rates={}) for name in "ab")
    whole = {
        "name": "orders",
        "task": task,
        "digest": DIGEST,
        "holdout": HOLDOUT,
        "metrics": tuple(
            Metric(name=name, estimate=Estimate(value=value), higher_is_better=METRICS[Task(task)][name])
            for name, value in values.items()
        ),
        "slices": (),
        "slice_edges": {},
        "fairness": (
            Fairness(
                column="channel",
                groups=groups,
                gaps={"demographic_parity_difference": 0.1, "equalized_odds_difference": 0.2},
            ),
        ),
        "importance": (),
        "stress": (StressResult(name="noisy inputs", description="", value=0.7, loss=0.05),),
        "curves": (),
        "confusion": None,
        "model_bytes": 1_000_000,
    }
    return Evaluation(**{**whole, **parts})


def change(value="north", *, worse=False):
    return SliceChange(
        column="region",
        value=value,
        rows=500,
        metric="log_loss",
        champion=0.5,
        challenger=0.7 if worse else 0.5,
        gain=Estimate(value=-0.2 if worse else 0.0, low=-0.3, high=-0.15),
        p_value=0.001 if worse else 0.9,
        q_value=0.002 if worse else 0.9,
        worse=worse,
    )


def compared(outcome=GateOutcome.EQUIVALENT, *, slices=None, agrees=True):
    gain = Estimate(value=0.001, low=-0.002, high=0.004)
    comparison = Comparison(
        champion_digest="sha256:" + "c" * 64,
        champion_version=3,
        outcome=outcome,
        metrics=(
            PairedMetric(
                name="roc_auc",
                higher_is_better=True,
                champion=Estimate(value=0.749),
                challenger=Estimate(value=0.75),
                gain=gain,
            ),
        ),
        slices=(change(),) if slices is None else slices,
        delong=DeLong(gain=gain, p_value=0.5, agrees=agrees),
    )
    return GateFinding(outcome, comparison, 3)


def decided(evaluation=None, finding=NO_CHAMPION, latency_ms=5.0, settings=None):
    return decide(evaluation or measured(), finding, latency_ms, settings or params("binary"))


def check(verdict, name):
    return next(found for found in verdict.checks if found.name == name)


@pytest.mark.parametrize("outcome", [GateOutcome.BETTER, GateOutcome.EQUIVALENT])
def test_a_better_or_equivalent_model_without_failures_is_accepted(outcome):
    verdict = decided(finding=compared(outcome))
    assert verdict.accepted
    assert headline(verdict).startswith(f"{outcome.capitalize()}:")
    assert verdict.failures == ()


@pytest.mark.parametrize("outcome", [GateOutcome.WORSE, GateOutcome.INCONCLUSIVE])
def test_a_worse_or_inconclusive_model_is_refused(outcome):
    verdict = decided(finding=compared(outcome))
    assert not verdict.accepted
    assert check(verdict, "champion").status is Status.FAIL
    assert headline(verdict).startswith("Champion:")


def test_the_first_model_is_accepted_on_the_absolute_checks_alone():
    verdict = decided()
    assert verdict.accepted
    assert verdict.outcome is GateOutcome.NO_CHAMPION
    assert check(verdict, "champion").status is Status.SKIP
    assert check(verdict, "slices").status is Status.SKIP


def test_a_first_model_below_a_floor_is_refused():
    verdict = decided(settings=params("binary", gate={"floors": {"roc_auc": 0.8}}))
    assert not verdict.accepted
    assert check(verdict, "floor roc_auc").status is Status.FAIL
    assert "0.75" in headline(verdict)
    assert "0.8" in headline(verdict)


@pytest.mark.parametrize(("floor", "status"), [(0.5, Status.PASS), (0.49, Status.FAIL)])
def test_a_floor_of_a_loss_is_a_ceiling(floor, status):
    verdict = decided(settings=params("binary", gate={"floors": {"log_loss": floor}}))
    assert check(verdict, "floor log_loss").status is status


def test_a_floor_of_a_metric_that_is_undefined_fails():
    verdict = decided(
        measured(metrics={"calibration_error": 0.01}), settings=params("binary", gate={"floors": {"f1": 0}})
    )
    assert check(verdict, "floor f1").status is Status.FAIL
    assert not verdict.accepted


def test_one_worse_slice_refuses_a_better_model_and_is_named():
    verdict = decided(finding=compared(GateOutcome.BETTER, slices=(change(), change("south", worse=True))))
    assert not verdict.accepted
    assert check(verdict, "slices").value == "1 of 2"
    assert "region is south" in headline(verdict)


def test_slices_that_were_asked_for_and_not_compared_fail():
    assert check(decided(finding=compared(slices=())), "slices").status is Status.FAIL


def test_slices_that_were_not_asked_for_are_skipped():
    settings = params("binary", evaluation={"slices": []})
    assert check(decided(finding=compared(slices=()), settings=settings), "slices").status is Status.SKIP


def test_a_disagreeing_delong_warns_and_does_not_refuse():
    verdict = decided(finding=compared(agrees=False))
    assert check(verdict, "delong").status is Status.WARN
    assert verdict.accepted
    assert "1 warning" in headline(verdict)


def fairness(gaps, groups=2):
    made = tuple(GroupRates(group=str(number), rows=100, rates={}) for number in range(groups))
    return check(decided(measured(fairness=(Fairness(column="channel", groups=made, gaps=gaps),))), "fairness channel")


def test_the_largest_gap_is_judged():
    gaps = {"demographic_parity_difference": 0.1, "equalized_odds_difference": 0.7}
    assert fairness(gaps).status is Status.FAIL
    assert "equalized odds" in meaning(fairness(gaps))


def test_gaps_that_could_not_be_measured_fail():
    assert fairness({}).status is Status.FAIL
    assert check(decided(measured(fairness=())), "fairness channel").status is Status.FAIL


def test_undefined_equalised_odds_warn():
    assert fairness({"demographic_parity_difference": 0.1}).status is Status.WARN


def test_a_single_group_is_skipped():
    assert fairness({}, groups=1).status is Status.SKIP


def test_no_fairness_columns_are_skipped():
    assert check(decided(settings=params("binary", evaluation={"fairness": []})), "fairness").status is Status.SKIP


@pytest.mark.parametrize(
    ("metrics", "status"),
    [({"calibration_error": 0.1}, Status.PASS), ({"calibration_error": 0.11}, Status.FAIL), ({}, Status.FAIL)],
)
def test_calibration_is_judged_and_must_be_known(metrics, status):
    assert check(decided(measured(metrics=metrics)), "calibration").status is status


def test_a_regression_has_no_calibration():
    verdict = decided(measured("regression"), settings=params("regression"))
    assert check(verdict, "calibration").status is Status.SKIP


def stress(task="binary", **result):
    found = StressResult(**{"name": "noisy inputs", "description": "", "value": None, "loss": None, **result})
    return check(decided(measured(task, stress=(found,)), settings=params(task)), "stress")


def test_the_worst_stress_test_is_judged():
    assert stress(value=0.5, loss=0.3).status is Status.PASS
    assert stress(value=0.4, loss=0.31).status is Status.FAIL


def beside_champion(old, old_loss, new, new_loss, **gate):
    """The check of a regression whose error is `new`, and under stress so many times more."""
    gate = {"metric": "rmse", "max_stress_loss": 0.3} | gate
    results = [
        (StressResult(name="shifted inputs", description="", value=error * (1 + loss), loss=error * loss),)
        for error, loss in ((old, old_loss), (new, new_loss))
    ]
    finding = compared()._replace(stress=results[0])
    evaluation = measured("regression", stress=results[1])
    return check(decided(evaluation, finding, settings=params("regression", gate=gate)), "stress")


def test_a_better_regression_that_loses_more_under_stress_is_judged_against_the_champion_under_it():
    assert beside_champion(932, 1.097, 553, 3.155).status is Status.FAIL
    found = beside_champion(932, 1.097, 553, 3.155, stress_margin=0.3)
    assert found.status is Status.PASS
    assert "against the champion under the same stress its loss is +18%" in meaning(found)
    assert beside_champion(932, 1.097, 553, 3.155, stress_margin=0.1).status is Status.FAIL


def test_a_small_loss_under_stress_passes_whatever_the_champion_does():
    assert beside_champion(900, 0.0, 900, 0.29, stress_margin=0.1).status is Status.PASS


def test_a_first_model_is_judged_by_its_own_loss_under_stress():
    evaluation = measured(stress=(StressResult(name="noisy inputs", description="", value=0.4, loss=0.31),))
    assert (
        check(decided(evaluation, settings=params("binary", gate={"stress_margin": 0.5})), "stress").status
        is Status.FAIL
    )


def test_the_champion_is_stressed_where_that_counts(tmp_path):
    frame = rows("binary")
    settings = params("binary", gate={"stress_margin": 0.5, "max_stress_loss": 0.0001})
    old, new = (
        fitted("binary", tmp_path / "old"),
        fitted("binary", tmp_path / "new", letter="b", used=["amount", "items"]),
    )
    verdict = judge(
        new, Champion(old, 1, old.digest), evaluate(new, frame, HOLDOUT, settings), frame, HOLDOUT, settings
    )
    assert "against the champion under the same stress" in meaning(check(verdict, "stress"))


def test_only_a_comparison_that_cannot_tell_is_inconclusive():
    assert decided(finding=compared(GateOutcome.INCONCLUSIVE)).inconclusive
    assert not decided(finding=compared(GateOutcome.WORSE)).inconclusive
    assert not decided(measured(stress=()), compared(GateOutcome.EQUIVALENT)).inconclusive
    both = decided(measured(metrics={"roc_auc": 0.75, "log_loss": 0.5}), compared(GateOutcome.INCONCLUSIVE))
    assert len(both.failures) == 2
    assert not both.inconclusive


def test_a_model_that_raises_under_stress_fails():
    assert stress(error="ValueError: no").status is Status.FAIL
    assert "ValueError: no" in meaning(stress(error="ValueError: no"))


def test_a_metric_that_is_undefined_under_stress_fails():
    assert stress().status is Status.FAIL


def test_the_stress_loss_of_an_error_is_a_share_of_it():
    assert stress("regression", value=29.0, loss=19.0).value == "1.9"
    assert stress("regression", value=31.0, loss=21.0).status is Status.FAIL


@pytest.mark.parametrize(("size", "status"), [(50_000_000, Status.PASS), (50_000_001, Status.FAIL)])
def test_the_size_of_the_folder_is_bounded(size, status):
    assert check(decided(measured(model_bytes=size)), "size").status is status


@pytest.mark.parametrize(("latency_ms", "status"), [(100.0, Status.PASS), (100.1, Status.FAIL), (None, Status.FAIL)])
def test_the_latency_is_bounded_and_must_be_known(latency_ms, status):
    assert check(decided(latency_ms=latency_ms), "latency").status is status


@given(
    outcome=st.sampled_from(GateOutcome),
    worse=st.booleans(),
    auc=st.floats(0.5, 1),
    error=st.floats(0, 0.3),
    latency_ms=st.none() | st.floats(1, 200),
)
def test_a_model_is_accepted_exactly_when_the_outcome_passes_and_nothing_fails(outcome, worse, auc, error, latency_ms):
    finding = NO_CHAMPION if outcome is GateOutcome.NO_CHAMPION else compared(outcome, slices=(change(worse=worse),))
    verdict = decided(
        measured(metrics={"roc_auc": auc, "calibration_error": error}),
        finding,
        latency_ms,
        params("binary", gate={"floors": {"roc_auc": 0.65}}),
    )
    assert verdict.accepted == (outcome.passes and not verdict.failures)
    assert all(found.meaning.endswith(".") for found in as_checks(verdict))


class TestJudge:
    """Real models on real rows."""

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
