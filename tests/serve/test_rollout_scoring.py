"""What a request gets when its candidate fails, hangs or is asked for by too many: stable's answer."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from rollout_samples import START, make_batch, make_served, make_serving

from mergeline.errors import ModelError
from mergeline.serve.lanes import Lanes
from mergeline.serve.rollout import step
from mergeline.serve.rollout.counters import Counters
from mergeline.serve.rollout.counts import FAILED, FALLBACKS, INVALID, REQUESTS, read_counts
from mergeline.serve.rollout.plan import Plan, make_plan
from mergeline.serve.scoring import Scoring, count
from mergeline.serve.waiting import WaitingRoom

SECONDS = 0.3


class Server:
    """The part of the server between reading a request and writing its answer."""

    def __init__(self, folder, places: int = 24) -> None:
        self._folder = folder / "counts"
        self._counters, self._lanes = Counters(self._folder), Lanes(WaitingRoom(places))
        self._scoring = Scoring(self._lanes, self._counters, candidate_seconds=SECONDS)

    def answer(self, plan: Plan, *batches):
        return self.answer_all(*((plan, batch) for batch in batches))

    def answer_all(self, *requests):
        async def one(plan, batch):
            scored = await self._scoring.in_time(plan, batch, asyncio.get_running_loop().time() + 20)
            count(self._counters, scored)
            return scored

        async def every():
            return await asyncio.gather(*(one(*request) for request in requests))

        return asyncio.run(every())

    def stop(self) -> None:
        self._lanes.stop()

    @property
    def counts(self):
        return read_counts(self._folder)


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    yield made
    made.stop()


def plan_of(folder, candidate, *, weight=100, **more) -> Plan:
    stable, other = make_served(folder), make_served(folder, candidate, version=2, **more)
    serving = make_serving(stable, other, steps=[{"weight": weight, "hold": "1h"}], sticky="tailnum")
    return make_plan(serving, step.start(serving.rollout, other.model.digest, START))


@pytest.mark.parametrize(("score", "invalid"), [(lambda hour: 1 / 0, 0), (lambda hour: float("nan"), 2)])
def test_what_the_candidate_fails_stable_answers_in_the_same_request(server, tmp_path, score, invalid):
    (scored,) = server.answer(plan_of(tmp_path, score), make_batch(3, 20))
    assert [(answer.id, answer.score, answer.version) for answer in scored.answers] == [
        ("id-0", 3 / 24, 1),
        ("id-1", 20 / 24, 1),
    ]
    assert list(scored.roles) == ["stable", "stable"]
    counts = server.counts
    assert (counts.of("candidate", FAILED), counts.of("candidate", INVALID)) == (1, invalid)
    assert (counts.of("stable", REQUESTS), counts.common[FALLBACKS]) == (1, 2)


def test_a_mixed_request_keeps_its_order(server, tmp_path):
    plan = plan_of(tmp_path, lambda hour: 1 - hour / 24, weight=50)
    batch = make_batch(*range(24), tails=[f"N{number}" for number in range(24)])
    (scored,) = server.answer(plan, batch)
    assert set(scored.roles) == {"stable", "candidate"}
    for hour, (role, answer) in enumerate(zip(scored.roles, scored.answers, strict=True)):
        assert answer.id == f"id-{hour}"
        assert (answer.version, answer.score) == ((1, hour / 24) if role == "stable" else (2, 1 - hour / 24))


def test_those_who_wait_for_a_candidate_that_hangs_crowd_nobody_out(server, tmp_path):
    hanging = threading.Event()
    plan = plan_of(tmp_path, lambda hour: 0.5, before=lambda: hanging.wait(30) and None)
    hung = [(plan, make_batch(3, first=number)) for number in range(20)]
    well = [(replace(plan, candidate=None), make_batch(3, first=number)) for number in range(10)]
    start = time.monotonic()
    try:
        found = server.answer_all(*hung, *well)  # more than the 24 places of the server
    finally:
        hanging.set()
    assert time.monotonic() - start < 10 * SECONDS
    assert {scored.answers[0].version for scored in found} == {1}
    assert server.counts.of("candidate", FAILED) == 20


def test_where_stable_fails_too_the_request_fails(server, tmp_path):
    stable = make_served(tmp_path, lambda hour: 1 / 0)
    other = make_served(tmp_path, lambda hour: 1 / 0, version=2)
    serving = make_serving(stable, other, steps=[{"weight": 100, "hold": "1h"}])
    plan = make_plan(serving, step.start(serving.rollout, other.model.digest, START))
    with pytest.raises(ModelError):
        server.answer(plan, make_batch(3))
    assert server.counts.of("stable", FAILED) == 1
