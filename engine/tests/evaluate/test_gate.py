import pytest
from gate_samples import NO_CHAMPION, change, check, compared, decided, measured
from hypothesis import given
from hypothesis import strategies as st
from judged_models import HOLDOUT, fitted, params, rows

from mergeline.evaluate.evaluate import evaluate
from mergeline.evaluate.gate import Champion, judge
from mergeline.evaluate.results import (
    Fairness,
    GateOutcome,
    GroupRates,
    Status,
    StressResult,
)
from mergeline.report.words import as_checks, headline, meaning


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
