from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.serve.rollout.counts import (
    DIFFERENT,
    DROPPED,
    FAILED,
    FALLBACKS,
    INVALID,
    LATENCIES,
    RECORDS,
    REPEATS,
    REQUESTS,
    SCORE_SQUARES,
    SCORE_SUM,
    SCORES,
    SECONDS,
    Counters,
    latency_bucket,
    latency_edge,
    latency_quantile,
    read_counts,
    score_bucket,
    score_buckets,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


class TestCounting:
    def test_a_request_is_counted_under_its_role(self, tmp_path):
        counters = Counters(tmp_path)
        counters.add("candidate", 2, 0.01, scores=(0.25, 0.75))
        counters.add("candidate", 1, 0.02, failed=True, invalid=1)
        counts = read_counts(tmp_path)
        assert [counts.of("candidate", what) for what in (REQUESTS, FAILED, RECORDS, INVALID)] == [2, 1, 3, 1]
        assert counts.sum_of("candidate", SECONDS) == pytest.approx(0.03)
        assert counts.sum_of("candidate", SCORE_SUM) == 1.0
        assert counts.sum_of("candidate", SCORE_SQUARES) == 0.625
        assert counts.of("stable", REQUESTS) == 0

    def test_its_file_has_its_place_on_the_disk_from_the_start(self, tmp_path):
        Counters(tmp_path)
        (file,) = tmp_path.iterdir()
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0

    @pytest.mark.parametrize("records", [3, 40])
    def test_a_score_that_is_no_finite_number_is_invalid(self, tmp_path, records):
        Counters(tmp_path).add("stable", records, 0.01, scores=[0.5] * (records - 2) + [math.nan, math.inf])
        counts = read_counts(tmp_path)
        assert counts.of("stable", INVALID) == 2
        assert counts.scores("stable").sum() == records - 2
        assert counts.sum_of("stable", SCORE_SUM) == 0.5 * (records - 2)

    @given(st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.9, 1.0, -3.5, 7e9]), max_size=80))
    def test_many_scores_at_once_count_as_the_same_ones_by_one(self, tmp_path_factory, scores):
        folders = [tmp_path_factory.mktemp("counts") for _ in range(2)]
        one, all_at_once = (Counters(folder) for folder in folders)
        for score in scores:
            one.add("stable", 1, 0.0, scores=(score,))
        all_at_once.add("stable", len(scores), 0.0, scores=scores)
        single, whole = (read_counts(folder) for folder in folders)
        assert single.of("stable", REPEATS) == whole.of("stable", REPEATS)
        assert (single.scores("stable") == whole.scores("stable")).all()
        assert single.sum_of("stable", SCORE_SUM) == pytest.approx(whole.sum_of("stable", SCORE_SUM))

    def test_a_score_that_comes_again_is_a_repeat_within_its_role(self, tmp_path):
        counters = Counters(tmp_path)
        for role, score in (("stable", 0.5), ("candidate", 0.5), ("stable", 0.5), ("stable", 0.4), ("stable", 0.5)):
            counters.add(role, 1, 0.0, scores=(score,))
        counts = read_counts(tmp_path)
        assert (counts.of("stable", REPEATS), counts.of("candidate", REPEATS)) == (1, 0)

    def test_what_belongs_to_no_role_is_counted_too(self, tmp_path):
        counters = Counters(tmp_path)
        counters.pair(2, 5, 0.75)
        counters.fallback(3)
        counters.drop(4)
        counts = read_counts(tmp_path)
        assert (counts.pairs, counts.common[DIFFERENT], counts.distance) == (5, 2, 0.75)
        assert (counts.common[FALLBACKS], counts.common[DROPPED]) == (3, 4)

    def test_the_difference_of_two_looks_is_what_came_between(self, tmp_path):
        counters = Counters(tmp_path)
        counters.add("stable", 1, 0.001, scores=(0.5,))
        before = read_counts(tmp_path)
        counters.add("stable", 1, 0.004, scores=(0.9,))
        between = read_counts(tmp_path).since(before)
        assert between.of("stable", REQUESTS) == 1
        assert between.sum_of("stable", SCORE_SUM) == pytest.approx(0.9)
        assert latency_quantile(between.latencies("stable"), 0.5) == pytest.approx(0.004, rel=0.06)

    def test_one_call_takes_microseconds_on_a_busy_machine_too(self, tmp_path):
        counters = Counters(tmp_path)
        call = lambda: counters.add("stable", 1, 0.000123, scores=(0.25,))  # noqa: E731
        assert min(timeit.repeat(call, number=1000, repeat=20)) / 1000 < 5e-5


class TestSeveralWriters:
    def test_threads_of_one_worker_lose_nothing(self, tmp_path):
        counters = Counters(tmp_path)

        def work():
            for _ in range(2000):
                counters.add("stable", 1, 0.001, scores=(0.5,))

        threads = [threading.Thread(target=work) for _ in range(4)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert read_counts(tmp_path).of("stable", REQUESTS) == 8000

    def test_workers_are_summed_and_a_killed_one_is_not_forgotten(self, tmp_path):
        code = (
            "import sys, os, signal; from pathlib import Path; from mergeline.serve.rollout.counts import Counters\n"
            "counters = Counters(Path(sys.argv[1]))\n"
            "for _ in range(500): counters.add('candidate', 2, 0.001, scores=(0.5, 0.6))\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
        assert [worker.wait(60) for worker in workers] == [-signal.SIGKILL] * 2
        Counters(tmp_path).add("candidate", 1, 0.001)
        counts = read_counts(tmp_path)
        assert (counts.of("candidate", REQUESTS), counts.of("candidate", RECORDS)) == (1001, 2001)

    def test_an_empty_folder_counts_nothing(self, tmp_path):
        assert read_counts(tmp_path).of("stable", REQUESTS) == 0

    def test_a_worker_that_has_just_begun_has_a_whole_file(self, tmp_path):
        Counters(tmp_path)
        (file,) = tmp_path.iterdir()
        assert file.stat().st_size > 8 * 4 * (LATENCIES + SCORES)
        assert str(os.getpid()) in file.name


class TestScales:
    @given(st.floats(min_value=1e-6, max_value=99))
    def test_a_latency_lies_below_the_edge_of_its_bucket_and_above_the_one_before(self, seconds):
        bucket = latency_bucket(seconds)
        assert seconds <= latency_edge(bucket) * (1 + 1e-9)
        assert bucket == 0 or seconds > latency_edge(bucket - 1) * (1 - 1e-9)

    def test_edges_belong_to_their_bucket_as_in_prometheus(self):
        for bucket in range(1, LATENCIES - 1):
            assert latency_bucket(latency_edge(bucket)) == bucket

    @given(
        st.lists(st.floats(min_value=1e-5, max_value=50), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99])
    )
    def test_a_quantile_is_at_most_five_percent_off(self, seconds, share):
        counts = [0] * LATENCIES
        for value in seconds:
            counts[latency_bucket(value)] += 1
        exact = float(np.quantile(seconds, share, method="inverted_cdf"))
        assert latency_quantile(counts, share) == pytest.approx(exact, rel=0.05)

    def test_nothing_counted_has_no_quantile(self):
        assert latency_quantile([0] * LATENCIES, 0.99) is None

    @given(FINITE, FINITE)
    def test_score_buckets_are_in_order_and_in_range(self, one, other):
        low, high = sorted((one, other))
        assert 0 <= score_bucket(low) <= score_bucket(high) < SCORES

    @given(st.lists(FINITE | st.floats(min_value=0, max_value=1), min_size=1, max_size=50))
    def test_many_scores_get_the_buckets_of_single_ones(self, scores):
        assert score_buckets(np.array(scores)).tolist() == [score_bucket(score) for score in scores]
