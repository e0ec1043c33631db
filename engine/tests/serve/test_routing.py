from __future__ import annotations

import subprocess
import sys
import timeit
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergeline.serve.rollout.routing import BUCKETS, is_chosen, make_router

DIGEST = "sha256:" + "4f" * 32
KEYS = st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


@given(st.sampled_from([1, 5, 10, 25, 50, 75, 90, 99]), st.integers(min_value=0, max_value=2**32))
@settings(max_examples=settings().max_examples // 5)
def test_over_100_000_keys_the_share_is_the_weight_within_half_a_point(weight, salt):
    bucket = make_router(f"sha256:{salt:064x}")
    chosen = sum(is_chosen(bucket(f"tail-{number}"), weight) for number in range(100_000))
    assert chosen / 1000 == pytest.approx(weight, abs=0.5)


@given(KEYS, st.integers(min_value=0, max_value=100), st.integers(min_value=0, max_value=100))
def test_no_key_leaves_the_candidate_when_its_weight_grows(key, one, other):
    bucket = make_router(DIGEST)(key)
    smaller, larger = sorted((one, other))
    assert is_chosen(bucket, smaller) <= is_chosen(bucket, larger)


@given(KEYS)
def test_weight_0_chooses_nobody_and_weight_100_everybody(key):
    bucket = make_router(DIGEST)(key)
    assert not is_chosen(bucket, 0)
    assert is_chosen(bucket, 100)


def test_buckets_are_as_the_documentation_defines_them():
    for key in ("N725MQ", "", "Ünï", "4711"):
        hashed = blake2b(DIGEST.encode() + b"\0" + key.encode(), digest_size=8).digest()
        assert make_router(DIGEST)(key) == int.from_bytes(hashed, "little") % BUCKETS


def test_another_process_finds_the_same_bucket():
    code = f"from mergeline.serve.rollout.routing import make_router; print(make_router({DIGEST!r})('N725MQ'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == make_router(DIGEST)("N725MQ")


@pytest.mark.parametrize(("one", "other"), [(5, 5.0), (5, "5"), (True, "true"), (False, "false"), (None, "")])
def test_json_has_one_way_to_say_it_so_it_is_one_key(one, other):
    bucket = make_router(DIGEST)
    assert bucket(one) == bucket(other)


def test_half_a_surrogate_pair_is_a_key_like_any_other():
    assert 0 <= make_router(DIGEST)("\ud800") < BUCKETS


def test_two_rollouts_in_a_row_try_their_luck_on_different_users():
    first, second = make_router(DIGEST), make_router("sha256:" + "5e" * 32)
    keys = [f"user-{number}" for number in range(20_000)]
    twice = sum(is_chosen(first(key), 10) and is_chosen(second(key), 10) for key in keys)
    assert twice / len(keys) == pytest.approx(0.01, abs=0.003)


def test_a_key_is_routed_in_microseconds_on_a_busy_machine_too():
    bucket = make_router(DIGEST)
    seconds = min(timeit.repeat(lambda: is_chosen(bucket("N725MQ"), 25), number=2000, repeat=20)) / 2000
    assert seconds < 2e-5
