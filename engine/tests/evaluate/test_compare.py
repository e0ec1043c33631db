import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_models import params
from scipy import stats
from scored_examples import EXAMPLES, binary, multiclass, regression

from mergeline.errors import ModelError
from mergeline.evaluate.compare import align, compare, conclude, margin_in, margin_of
from mergeline.evaluate.metrics import measure
from mergeline.evaluate.results import Estimate, GateOutcome
from mergeline.params import METRICS, Task
from mergeline.report.words import comparison_words


def regions(count):
    return pd.DataFrame({"region": np.random.default_rng(0).choice(["north", "south"], count)})


def compared(champion, challenger, **sections):
    return compare(
        champion,
        challenger,
        regions(len(champion.truth)),
        params(champion.task.value, **sections),
        digest="sha256:" + "c" * 64,
        version=3,
    )


def noisier(scored, amount, seed=1):
    """The same model with noise on its scores."""
    noise = np.random.default_rng(seed).normal(size=len(scored.truth))
    if scored.task is Task.REGRESSION:
        return dataclasses.replace(scored, scores=scored.scores + amount * noise)
    logit = np.log(scored.scores / (1 - scored.scores)) + amount * noise
    return dataclasses.replace(scored, scores=1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.001, 0.01, GateOutcome.BETTER),
        (-0.004, 0.01, GateOutcome.EQUIVALENT),
        (-0.004, -0.001, GateOutcome.EQUIVALENT),
        (0.0, 0.0, GateOutcome.EQUIVALENT),
        (-0.02, -0.006, GateOutcome.WORSE),
        (-0.02, -0.001, GateOutcome.WORSE),
        (-0.02, 0.01, GateOutcome.INCONCLUSIVE),
        (-0.005, 0.01, GateOutcome.INCONCLUSIVE),
        (None, None, GateOutcome.INCONCLUSIVE),
    ],
)
def test_the_interval_decides(low, high, outcome):
    assert conclude(Estimate(value=0.0, low=low, high=high), 0.005) is outcome


@given(low=st.floats(-1, 1), width=st.floats(0, 1), margin=st.floats(0.001, 0.5), more=st.floats(0, 0.5))
def test_a_wider_margin_never_makes_a_verdict_harsher(low, width, margin, more):
    gain = Estimate(value=low, low=low, high=low + width)
    if conclude(gain, margin).passes:
        assert conclude(gain, margin + more).passes


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_the_same_scores_are_equivalent_and_gain_nothing(task):
    scored = EXAMPLES[task](300)
    found = compared(scored, scored)
    assert found.outcome is GateOutcome.EQUIVALENT
    assert all(metric.gain == Estimate(value=0, low=0, high=0) for metric in found.metrics)
    assert not any(change.worse for change in found.slices)


def test_a_clearly_better_challenger_is_better_and_the_sentence_has_the_figures():
    challenger = binary(3000, skill=1.5)
    found = compared(noisier(challenger, 1.5), challenger)
    assert found.outcome is GateOutcome.BETTER
    assert f"{measure(challenger)['roc_auc']:.4g}" in comparison_words(found, params("binary"))
    assert "so the challenger is better" in comparison_words(found, params("binary"))


def test_a_clearly_worse_challenger_is_worse():
    champion = binary(3000, skill=1.5)
    found = compared(champion, noisier(champion, 1.5))
    assert found.outcome is GateOutcome.WORSE


def test_few_rows_cannot_tell():
    champion = binary(40)
    assert compared(champion, noisier(champion, 2.0)).outcome is GateOutcome.INCONCLUSIVE


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_a_positive_gain_means_better_for_every_metric(task):
    good = EXAMPLES[task](2000)
    if task == "multiclass":
        bad = dataclasses.replace(good, scores=(good.scores + 2 * np.roll(good.scores, 1, axis=1)) / 3)
    else:
        bad = noisier(good, 3.0)
    found = compared(bad, good)
    assert [metric.name for metric in found.metrics] == list(METRICS[Task(task)])
    assert all(metric.gain.value > 0 for metric in found.metrics)


def test_the_paired_interval_is_narrower_than_those_of_the_models():
    champion = binary(2000)
    metric = compared(champion, noisier(champion, 0.1)).metrics[0]
    assert metric.gain.high - metric.gain.low < 0.5 * (metric.champion.high - metric.champion.low)


def test_the_gain_in_mae_has_the_interval_of_scipys_paired_bootstrap():
    champion = regression(500)
    challenger = noisier(champion, 0.5)
    errors = [np.abs(model.scores - model.truth) for model in (champion, challenger)]
    theirs = stats.bootstrap(
        errors,
        lambda old, new, axis=-1: old.mean(axis=axis) - new.mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=3000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    (gain,) = [
        metric.gain
        for metric in compared(champion, challenger, evaluation={"resamples": 3000}).metrics
        if metric.name == "mae"
    ]
    assert (gain.low, gain.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_delong_cross_checks_the_auc_of_a_binary_gate():
    champion = binary(2000)
    found = compared(champion, noisier(champion, 0.3))
    gain = found.metrics[0].gain
    assert found.delong.agrees
    assert found.delong.gain.value == pytest.approx(gain.value, abs=1e-6)
    assert (found.delong.gain.low, found.delong.gain.high) == pytest.approx((gain.low, gain.high), abs=0.004)


def test_delong_stays_out_of_other_metrics():
    champion = binary(500)
    assert compared(champion, noisier(champion, 0.3), gate={"metric": "log_loss"}).delong is None


def test_an_undefined_metric_is_inconclusive():
    champion = dataclasses.replace(binary(200), truth=np.zeros(200, dtype=np.int64))
    found = compared(champion, noisier(champion, 0.3))
    assert found.outcome is GateOutcome.INCONCLUSIVE
    assert "undefined" in comparison_words(found, params("binary"))
    assert found.delong is None


def test_a_metric_without_an_interval_is_inconclusive():
    truth = np.zeros(200, dtype=np.int64)
    truth[0] = 1
    champion = dataclasses.replace(binary(200), truth=truth)
    found = compared(champion, noisier(champion, 0.01))
    assert found.outcome is GateOutcome.INCONCLUSIVE
    assert "no interval" in comparison_words(found, params("binary"))


def test_the_margin_of_an_error_is_a_share_of_the_champions():
    assert margin_of(params("regression", gate={"metric": "mae", "margin": 0.05}), 40.0) == pytest.approx(2.0)
    assert margin_of(params("regression", gate={"metric": "r2", "margin": 0.05}), 0.4) == 0.05
    assert margin_of(params("binary", gate={"margin": 0.05}), 0.4) == 0.05


def test_the_outcome_of_a_regression_does_not_depend_on_the_targets_unit():
    champion = regression(1000)
    challenger = noisier(champion, 0.2)
    minutes = [
        dataclasses.replace(model, truth=60 * model.truth, scores=60 * model.scores) for model in (champion, challenger)
    ]
    assert compared(champion, challenger).outcome is compared(*minutes).outcome


def test_classes_in_another_order_are_brought_into_the_challengers():
    challenger = multiclass(300)
    order = [2, 0, 1]
    champion = dataclasses.replace(
        challenger,
        classes=tuple(challenger.classes[place] for place in order),
        scores=challenger.scores[:, order],
        truth=np.argsort(order)[challenger.truth],
    )
    aligned = align(champion, challenger)
    assert (aligned.scores == challenger.scores).all()
    assert (aligned.truth == challenger.truth).all()


def test_models_of_other_classes_cannot_be_compared():
    with pytest.raises(ModelError, match="answers the classes a, b, c"):
        align(multiclass(100, 3), multiclass(100, 4))


def test_models_of_other_tasks_cannot_be_compared():
    with pytest.raises(ModelError, match="a regression model, not a binary one"):
        align(regression(100), binary(100))


def test_binary_models_of_swapped_classes_cannot_be_compared():
    champion = dataclasses.replace(binary(100), classes=("yes", "no"))
    with pytest.raises(ModelError, match="answers the classes"):
        align(champion, binary(100))


@pytest.mark.slow
def test_equal_models_are_rarely_refused_and_models_at_the_margin_rarely_pass():
    refused = passed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = (rng.random(2000) < 0.4).astype(np.int64)
        shared = rng.normal(size=2000)

        def model(auc, truth=truth, shared=shared, rng=rng):
            skill = 2**0.5 * stats.norm.ppf(auc)
            latent = skill * truth + 0.985 * shared + (1 - 0.985**2) ** 0.5 * rng.normal(size=len(truth))
            return dataclasses.replace(binary(2000), truth=truth, scores=1 / (1 + np.exp(-latent)))

        champion = model(0.75)
        refused += not compared(champion, model(0.75)).outcome.passes
        passed += compared(champion, model(0.73)).outcome.passes
    assert stats.binomtest(refused, 40, 0.05, alternative="greater").pvalue > 0.001
    assert stats.binomtest(passed, 40, 0.05, alternative="greater").pvalue > 0.001


class TestMarginInAnotherMetric:
    """`gate.margin` is in the gate's metric; elsewhere it is the same share of what the champion loses."""

    def test_in_the_gates_metric_it_is_the_margin(self):
        found = params("multiclass", gate={"metric": "log_loss", "margin": 0.005})
        assert margin_in("log_loss", 0.5, found, gate_metric=0.5) == 0.005

    def test_nats_become_a_share_of_the_wrong_answers(self):
        found = params("multiclass", gate={"metric": "log_loss", "margin": 0.005})
        assert margin_in("accuracy", 0.8, found, gate_metric=0.5) == pytest.approx(0.01 * 0.2)

    def test_the_loss_of_a_ranking_is_what_it_lacks_of_1(self):
        found = params("binary", gate={"metric": "roc_auc", "margin": 0.005})
        assert margin_in("log_loss", 0.6, found, gate_metric=0.75) == pytest.approx(0.02 * 0.6)

    def test_errors_of_a_regression_have_the_share_that_the_gate_has(self):
        found = params("regression", gate={"metric": "mae", "margin": 0.05})
        assert margin_in("rmse", 4.0, found, gate_metric=3.0) == pytest.approx(margin_of(found, 4.0))

    @pytest.mark.parametrize("known", [None, 0.0])
    def test_where_the_share_is_unknown_nothing_may_be_lost(self, known):
        found = params("multiclass", gate={"metric": "log_loss", "margin": 0.005})
        assert margin_in("accuracy", 0.8, found, gate_metric=known) == 0


def test_on_the_rows_that_are_needed_a_gain_as_large_as_the_margin_shows_in_four_of_five_samples():
    champion = binary(40_000, skill=1.2)
    challenger = noisier(champion, 0.3)
    sample = np.arange(2000)
    power = compared(champion.take(sample), challenger.take(sample), evaluation={"resamples": 1000}).power
    assert (power.rows, power.target, power.difference) == (2000, 0.8, 0.02)
    rng = np.random.default_rng(3)

    def gain(rows):
        return measure(challenger.take(rows))["roc_auc"] - measure(champion.take(rows))["roc_auc"]

    gains = np.array([gain(rng.choice(40_000, power.rows_needed)) for _ in range(400)])
    # As if the true gain were the margin: the interval of each sample is as wide as the samples are scattered.
    shown = gains - gain(np.arange(40_000)) + power.difference > stats.norm.ppf(0.975) * gains.std()
    assert shown.mean() == pytest.approx(0.8, abs=0.06)


def test_models_that_answer_alike_need_no_rows():
    champion = binary(500)
    assert compared(champion, champion).power is None


def test_the_margin_of_an_error_is_a_share_in_the_power_too():
    champion = regression(500)
    found = compared(champion, noisier(champion, 0.5))
    mae = next(metric for metric in found.metrics if metric.name == "mae")
    assert found.power.difference == pytest.approx(0.05 * mae.champion.value, rel=1e-5)
