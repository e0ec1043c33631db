from __future__ import annotations

import random

import pytest

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.manifest.schema import Manifest
from mergeline.release_params import ROLLOUT_METRICS
from mergeline.serve.rollout.counts import Counters, read_counts
from mergeline.serve.rollout.measure import MEASURES, measure


@pytest.fixture
def counters(tmp_path):
    return Counters(tmp_path)


@pytest.fixture
def read(tmp_path):
    return lambda metric, role="candidate": measure(metric, read_counts(tmp_path), role)


def serve(counters, role, requests, *, failed=0, seconds=0.001, scores=lambda: 0.5):
    for number in range(requests):
        fails = number < failed
        counters.add(role, 1, seconds, failed=fails, scores=() if fails else (scores(),))


def test_everything_that_a_manifest_may_name_is_measured_and_nothing_else():
    assert set(MEASURES) == set(ROLLOUT_METRICS)


@pytest.mark.parametrize("metric", ROLLOUT_METRICS)
@pytest.mark.parametrize("role", ["candidate", "shadow"])
def test_without_traffic_there_is_no_value_and_no_sample(read, counters, metric, role):
    assert read(metric, role)[:2] == (None, 0)


class TestRates:
    def test_errors_are_a_share_of_the_candidates_requests(self, read, counters):
        serve(counters, "candidate", 40, failed=10)
        assert read("error_rate") == (0.25, 40, "")

    def test_their_difference_to_stable_rests_on_the_rarer_of_the_two(self, read, counters):
        serve(counters, "candidate", 40, failed=10)
        serve(counters, "stable", 1000, failed=50)
        assert read("error_rate_difference") == (pytest.approx(0.2), 40, "")

    def test_what_only_one_of_the_two_has_cannot_be_compared(self, read, counters):
        serve(counters, "candidate", 40, failed=10)
        assert read("error_rate_difference") == (None, 0, "")

    def test_unusable_scores_are_a_share_of_the_records(self, read, counters):
        counters.add("candidate", 8, 0.001, failed=True, invalid=8)
        counters.add("candidate", 24, 0.001, scores=[0.5] * 24)
        assert read("invalid_rate") == (0.25, 32, "")

    def test_a_shadows_are_its_own(self, read, counters):
        serve(counters, "shadow", 4, failed=1)
        serve(counters, "candidate", 4, failed=4)
        assert read("error_rate", "shadow").value == 0.25


class TestLatency:
    def test_percentiles_are_in_milliseconds(self, read, counters):
        serve(counters, "candidate", 95, seconds=0.002)
        serve(counters, "candidate", 5, seconds=0.08)
        assert read("p50_ms").value == pytest.approx(2, rel=0.06)
        assert read("p99_ms").value == pytest.approx(80, rel=0.06)

    def test_ratios_are_to_stable(self, read, counters):
        serve(counters, "candidate", 50, seconds=0.006)
        serve(counters, "stable", 80, seconds=0.002)
        assert read("p99_ratio") == (pytest.approx(3, rel=0.1), 50, "")
        assert read("p50_ratio").value == pytest.approx(3, rel=0.1)


class TestAnswers:
    def test_disagreement_is_the_share_of_other_labels(self, read, counters):
        counters.pair(3, 12)
        assert read("disagreement") == (0.25, 12, "")

    def test_of_a_regression_it_is_a_distance_in_stables_deviations(self, read, counters):
        for value in (0.0, 10.0) * 50:
            counters.add("stable", 1, 0.001, scores=(value,))
        counters.pair(0, 4, 4 * 2.5)
        assert read("disagreement") == (pytest.approx(0.5), 4, "")

    def test_the_mean_shift_is_in_stables_deviations(self, read, counters):
        for value in (0.2, 0.4) * 50:
            serve(counters, "stable", 1, scores=lambda value=value: value)
            serve(counters, "candidate", 1, scores=lambda value=value: value + 0.05)
        assert read("mean_shift") == (pytest.approx(0.5), 100, "")

    def test_the_score_shift_is_small_without_and_large_with_a_shift(self, read, counters):
        generator = random.Random(5)
        serve(counters, "stable", 3000, scores=lambda: generator.betavariate(2, 5))
        serve(counters, "shadow", 3000, scores=lambda: generator.betavariate(2, 5))
        serve(counters, "candidate", 3000, scores=lambda: generator.betavariate(3, 4))
        assert read("score_shift", "shadow").value < 0.02
        assert read("score_shift").value > 0.25


def manifest(**analysis) -> str:
    section = {
        "name": "x",
        "metric": "error_rate",
        "interval": "1m",
        "success": "'<= 1'",
        "failure": "'> 2'",
        **analysis,
    }
    keys = ", ".join(f"{key}: {value}" for key, value in section.items())
    return (
        "apiVersion: mergeline/v1\nkind: ModelDeployment\nmetadata: {name: flights}\nspec:\n  rollout:\n"
        f"    strategy: shadow\n    analysis:\n      - {{{keys}}}\n"
    )


class TestManifest:
    def test_a_metric_that_the_server_cannot_measure_is_refused_with_the_nearest(self):
        with pytest.raises(ManifestError, match="did you mean `error_rate`") as caught:
            parse(manifest(metric="eror_rate"), Manifest, "manifest.yaml", ManifestError)
        assert "manifest.yaml:8: `spec.rollout.analysis.0.metric`" in str(caught.value)

    def test_one_that_is_like_no_other_is_refused_with_the_list(self):
        with pytest.raises(ManifestError, match="there are error_rate, error_rate_difference"):
            parse(manifest(metric="roc_auc"), Manifest, "manifest.yaml", ManifestError)

    def test_two_analyses_of_one_name_are_refused(self):
        text = manifest() + manifest().splitlines()[-1] + "\n"
        with pytest.raises(ManifestError, match="a name of its own"):
            parse(text, Manifest, "manifest.yaml", ManifestError)

    def test_a_shadow_that_scores_nothing_is_refused(self):
        text = manifest() + "    steps: [{weight: 0, hold: 1h}]\n"
        with pytest.raises(ManifestError, match="nothing could be measured"):
            parse(text, Manifest, "manifest.yaml", ManifestError)
