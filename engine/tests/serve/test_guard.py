from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mergeline.params import GuardParams
from mergeline.serve.rollout.counts import Counters, read_counts
from mergeline.serve.rollout.guard import FEWEST_HITS, LEVEL, judge
from mergeline.stats.two_samples import binomial_tail, deviation, stability_index

BOUNDS = GuardParams()


class Seconds:
    """Requests of a few seconds, as workers count them."""

    def __init__(self, folder) -> None:
        self.folder, self.counters = folder, Counters(folder)
        self.random = random.Random(7)

    def serve(
        self, role, requests, *, failed=0, milliseconds=2.0, score=None, jitter=0.0, slow=0, invalid=0
    ) -> Seconds:
        for number in range(requests):
            fails = number < failed
            seconds = (2000 if number < slow else milliseconds) / 1e3
            value = self.random.random() if score is None else score + jitter * self.random.random()
            bad = number < invalid
            scores = () if fails else (math.nan if bad else value,)
            self.counters.add(role, 1, seconds, failed=fails, scores=scores)
        return self

    def breach(self, role="candidate", bounds=BOUNDS):
        return judge({3.0: read_counts(self.folder)}, bounds, role)


@pytest.fixture
def seconds(tmp_path):
    return Seconds(tmp_path).serve("stable", 200)


class TestErrors:
    def test_three_requests_that_all_fail_are_enough(self, seconds):
        breach = seconds.serve("candidate", 3, failed=3).breach()
        assert breach.rule == "errors"
        assert breach.reason == "3 of 3 requests failed; the bound is 5.00%, in the last 3 s"

    def test_one_or_two_unlucky_requests_are_not(self, seconds):
        assert seconds.serve("candidate", 2, failed=2).breach() is None

    def test_a_share_within_the_bound_is_borne(self, seconds):
        assert seconds.serve("candidate", 200, failed=10).breach() is None

    def test_a_share_surely_beyond_is_not(self, seconds):
        assert seconds.serve("candidate", 200, failed=30).breach().rule == "errors"

    def test_what_fails_on_stable_as_often_is_the_requests_fault(self, tmp_path):
        seconds = Seconds(tmp_path).serve("stable", 200, failed=60).serve("candidate", 200, failed=60)
        assert seconds.breach() is None

    def test_stable_is_never_judged(self, tmp_path):
        assert Seconds(tmp_path).serve("stable", 500, failed=500, slow=500).breach() is None

    def test_a_candidate_without_requests_is_left_alone(self, seconds):
        assert seconds.breach() is None

    def test_the_bound_is_the_teams(self, seconds):
        assert seconds.serve("candidate", 100, failed=30).breach(bounds=GuardParams(max_error_rate=0.5)) is None


class TestLatency:
    def test_a_slow_candidate_goes(self, seconds):
        breach = seconds.serve("candidate", 40, slow=10).breach()
        assert breach.rule == "latency"

    def test_next_to_a_compiled_stable_the_default_bound_is_what_the_params_promise(self, tmp_path):
        seconds = Seconds(tmp_path).serve("stable", 500, milliseconds=0.1)
        assert seconds.serve("candidate", 100, milliseconds=400).breach() is None
        assert (
            seconds.serve("candidate", 50, milliseconds=600).breach().reason.startswith("50 of 150 requests took over")
        )

    def test_a_stricter_ratio_counts_from_what_scikit_learn_takes(self, seconds):
        strict = GuardParams(max_latency_ratio=3)
        assert seconds.serve("candidate", 50, milliseconds=120).breach(bounds=strict) is None
        assert "took over 150 ms" in seconds.serve("candidate", 50, milliseconds=200).breach(bounds=strict).reason

    def test_what_no_caller_notices_is_borne_whatever_the_ratio(self, seconds):
        assert seconds.serve("candidate", 50, milliseconds=80).breach(bounds=GuardParams(max_latency_ratio=1)) is None

    def test_the_teams_own_milliseconds_are_the_bound(self, seconds):
        strict = GuardParams(max_latency_ms=20)
        assert "took over 20 ms" in seconds.serve("candidate", 50, milliseconds=60).breach(bounds=strict).reason

    def test_a_slower_kind_of_model_is_borne_while_nobody_waits_long(self, seconds):
        assert seconds.serve("candidate", 200, milliseconds=15).breach() is None

    def test_a_machine_that_stalls_for_both_is_not_the_candidates_fault(self, tmp_path):
        seconds = Seconds(tmp_path).serve("stable", 100, milliseconds=300).serve("candidate", 100, milliseconds=350)
        assert seconds.breach() is None

    def test_beside_stable_it_may_take_its_time(self, seconds):
        assert seconds.serve("shadow", 40, slow=40).breach("shadow") is None


class TestScores:
    def test_scores_that_are_no_numbers_are_not_borne(self, seconds):
        assert seconds.serve("candidate", 100, invalid=20).breach().rule == "invalid"

    @pytest.mark.parametrize("role", ["candidate", "shadow"])
    def test_one_score_for_everybody_is_not_borne(self, seconds, role):
        assert seconds.serve(role, 60, score=0.5).breach(role).rule == "constant"

    @pytest.mark.parametrize("role", ["candidate", "shadow"])
    def test_nearly_one_score_for_everybody_is_not_borne(self, seconds, role):
        breach = seconds.serve(role, 60, score=0.5, jitter=1e-6).breach(role)
        assert breach.rule == "constant"
        assert "60 scores are nearly the same" in breach.reason

    def test_scores_within_a_hundredth_are_borne(self, seconds):
        assert seconds.serve("candidate", 60, score=0.5, jitter=1e-2).breach() is None

    def test_too_few_scores_tell_nothing(self, seconds):
        assert seconds.serve("candidate", 25, score=0.5).breach() is None

    def test_if_stable_gives_one_score_too_the_requests_are_the_same(self, tmp_path):
        seconds = Seconds(tmp_path).serve("stable", 200, score=0.3).serve("candidate", 200, score=0.4)
        assert seconds.breach() is None

    def test_without_requests_of_stable_its_scores_beside_the_candidates_tell(self, tmp_path):
        seconds = Seconds(tmp_path).serve("candidate", 100, score=0.5).serve("mirror", 100)
        assert seconds.breach().rule == "constant"


class TestDisagreement:
    def test_more_labels_than_allowed_that_are_not_stables(self, seconds):
        seconds.counters.pair(80, 100)
        assert seconds.breach().rule == "disagreement"

    def test_as_many_as_allowed(self, seconds):
        seconds.counters.pair(50, 100)
        assert seconds.breach() is None

    def test_values_of_a_regression_far_from_stables(self, seconds):
        seconds.counters.pair(0, 100, 100 * 0.9)  # stable's values are spread by 0.29
        assert seconds.breach().rule == "disagreement"

    def test_values_of_a_regression_near_stables(self, seconds):
        seconds.counters.pair(0, 100, 100 * 0.03)
        assert seconds.breach() is None


def test_the_long_window_sees_what_the_short_one_cannot(seconds):
    empty = read_counts(seconds.folder)
    seconds.serve("candidate", 4, failed=4)
    whole = read_counts(seconds.folder).since(empty)
    assert judge({3.0: empty.since(empty), 60.0: whole}, BOUNDS, "candidate").reason.endswith("in the last 60 s")


@pytest.mark.parametrize("requests", [3, 5, 20, 100, 500, 5000])
def test_a_candidate_that_fails_half_as_often_as_it_may_is_hardly_ever_taken_off(requests):
    bound = BOUNDS.max_error_rate
    fewest = next(n for n in range(FEWEST_HITS, requests + 1) if binomial_tail(n, requests, bound) < LEVEL)
    assert binom.sf(fewest - 1, requests, bound / 2) < 2e-5


class TestStatistics:
    @given(st.integers(min_value=1, max_value=20_000), st.floats(min_value=0.001, max_value=0.999), st.data())
    def test_the_binomial_tail_is_scipys(self, trials, share, data):
        hits = data.draw(st.integers(min_value=0, max_value=trials))
        expected = binom.sf(hits - 1, trials, share) if hits > trials * share else 1.0
        assert binomial_tail(hits, trials, share) == pytest.approx(expected, rel=1e-6, abs=1e-200)

    @pytest.mark.parametrize(("share", "tail"), [(0.0, 0.0), (1.0, 1.0)])
    def test_the_binomial_tail_at_the_ends(self, share, tail):
        assert binomial_tail(3, 3, share) == tail

    @given(st.lists(st.floats(min_value=-1e3, max_value=1e3), min_size=1, max_size=50))
    def test_the_deviation_is_numpys(self, values):
        found = deviation(len(values), sum(values), sum(value * value for value in values))
        assert found == pytest.approx(float(np.std(values)), abs=1e-4)

    def test_the_stability_index_of_no_change_is_about_0(self):
        generator = np.random.default_rng(3)
        found = []
        for _ in range(200):
            one, other = (np.bincount(generator.binomial(100, 0.3, 300), minlength=101) for _ in range(2))
            found.append(stability_index(one, other))
        assert np.mean(found) < 0.03
        assert np.quantile(found, 0.95) < 0.1

    def test_the_stability_index_grows_with_the_shift(self):
        generator = np.random.default_rng(3)
        reference = np.bincount(generator.binomial(100, 0.3, 5000), minlength=101)
        shifted = [np.bincount(generator.binomial(100, share, 5000), minlength=101) for share in (0.3, 0.33, 0.36, 0.5)]
        indices = [stability_index(reference, current) for current in shifted]
        assert indices == sorted(indices)
        assert indices[0] < 0.01
        assert indices[1] > 0.1

    def test_the_stability_index_is_its_definition_on_two_groups(self):
        reference, current = np.array([5000, 5000]), np.array([4000, 6000])
        plain = (0.4 - 0.5) * math.log(0.4 / 0.5) + (0.6 - 0.5) * math.log(0.6 / 0.5)
        assert stability_index(reference, current) == pytest.approx(plain - 2 / 10_000, abs=1e-5)
