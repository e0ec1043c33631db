"""What a request gets when a model fails, hangs or is asked for by too many, and what is counted and written then."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from rollout_samples import START, make_batch, make_served, make_serving
from serve_samples import RECORD

from mergeline.errors import ModelError
from mergeline.serve.asgi import PredictApp
from mergeline.serve.engine import Engine
from mergeline.serve.executors import CANDIDATE_PLACES, Executors, QueueLimit
from mergeline.serve.metrics import Metrics
from mergeline.serve.rollout import step
from mergeline.serve.rollout.counts import FAILED, FALLBACKS, INVALID, REQUESTS, Counters, read_counts
from mergeline.serve.rollout.routing import Plan, make_plan
from mergeline.serve.scoring import Scoring, count
from mergeline.serve.settings import Settings
from mergeline.serve.state import State

SECONDS = 1.0


class Server:
    """The part of the server between reading a request and writing its answer."""

    def __init__(self, folder, places: int = 24) -> None:
        self._folder = folder / "counts"
        self._counters, self._executors = Counters(self._folder), Executors(QueueLimit(places))
        self._scoring = Scoring(self._executors, self._counters, candidate_seconds=SECONDS)

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
        self._executors.stop()

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


class UnspeakableError(BaseException):
    """A team's own exception, which even fails to say what it is."""

    def __str__(self):
        raise SystemExit(4)


def raises(error: BaseException):
    def score(_):
        raise error

    return score


ENDINGS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), UnspeakableError()]
"""What a model may raise beyond `Exception`: each is its failure, and nobody else's end."""


@pytest.mark.parametrize(
    ("score", "invalid"),
    [(lambda hour: 1 / 0, 0), (lambda hour: float("nan"), 2), *((raises(error), 0) for error in ENDINGS)],
)
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
    assert {role for scored in found for role in scored.roles} == {"stable"}
    assert server.counts.of("candidate", FAILED) == CANDIDATE_PLACES  # the others are no fault of the candidate's
    assert server.counts.common[FALLBACKS] == 20


@pytest.mark.parametrize("error", ENDINGS)
def test_a_stable_model_that_would_end_the_process_fails_its_request_alone(tmp_path, error):
    with pytest.raises(ModelError, match=f"the model failed: {type(error).__name__}"):
        make_served(tmp_path, raises(error)).answer(("a",), make_batch(3).rows)


def test_where_stable_fails_too_the_request_fails(server, tmp_path):
    stable = make_served(tmp_path, lambda hour: 1 / 0)
    other = make_served(tmp_path, lambda hour: 1 / 0, version=2)
    serving = make_serving(stable, other, steps=[{"weight": 100, "hold": "1h"}])
    plan = make_plan(serving, step.start(serving.rollout, other.model.digest, START))
    with pytest.raises(ModelError):
        server.answer(plan, make_batch(3))
    assert (server.counts.of("stable", FAILED), server.counts.of("candidate", FAILED)) == (1, 1)


class Compiled:
    """What a compiled model is to the server; this one scores as it is told."""

    def __init__(self, score) -> None:
        self._score = score

    def encode(self, rows):
        return rows

    def score(self, rows):
        return np.array([self._score(row[1]) for row in rows])


class Front:
    """An engine behind its application, asked as the protocol asks: the short way first, then the long one."""

    def __init__(self, folder, serving, **settings) -> None:
        places = {"root": str(folder), "manifest": "", "store": "", "cache": ""}
        self.engine = Engine(Settings(**places, **settings), Metrics(CollectorRegistry()), folder / "shared")
        self.engine._current.state = State(serving)
        self.engine.controller.update()
        self._door = PredictApp(self._nowhere)
        self._door.use(self.engine)

    async def _nowhere(self, *_):
        raise AssertionError("this is for `PredictApp`")

    def post(self, body: bytes) -> int:
        """The status."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "path": "/predict", "method": "POST", "headers": headers, "state": {}}
        found = self._door.predict_now(dict(headers), body, scope["state"])
        if found is not None:
            _, _, after = found
            after()
            return 200
        sent = []

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            sent.append(message)

        asyncio.run(self._door(scope, receive, send))
        return sent[0]["status"]

    @property
    def counts(self):
        return self.engine.controller.counts()


@pytest.fixture
def front(tmp_path):
    made = []

    def make(serving, **settings) -> Front:
        made.append(Front(tmp_path, serving, **settings))
        return made[-1]

    yield make
    for each in made:
        each.engine._executors.stop()
        each.engine.controller.stop()
        each.engine.journal.close()


BODY = json.dumps({**RECORD, "flight_id": "UA1"}).encode()


class TestOnce:
    def test_a_failure_of_stable_is_counted_once(self, front, tmp_path):
        stable = make_served(tmp_path)
        stable.model.__dict__["scorer"] = Compiled(lambda hour: 1 / 0)
        asked = front(make_serving(stable, None))
        assert asked.post(BODY) == 500
        assert asked.counts.of("stable", FAILED) == 1

    def test_where_both_fail_each_is_counted_once(self, front, tmp_path):
        stable, other = make_served(tmp_path), make_served(tmp_path, version=2)
        for each in (stable, other):
            each.model.__dict__["scorer"] = Compiled(lambda hour: 1 / 0)
        asked = front(make_serving(stable, other, steps=[{"weight": 100, "hold": "1h"}]))
        assert asked.post(BODY) == 500
        assert (asked.counts.of("stable", FAILED), asked.counts.of("candidate", FAILED)) == (1, 1)

    def test_an_answer_that_cannot_be_journalled_is_lost_once(self, front, tmp_path):
        stable = make_served(tmp_path)
        stable.model.__dict__["scorer"] = Compiled(lambda hour: hour / 24)
        obstacle = tmp_path / "obstacle"
        obstacle.write_text("a file where the folder should be")
        asked = front(make_serving(stable, None), journal_folder=str(obstacle), journal={"when_full": "stop_answering"})
        assert asked.post(BODY) == 503
        assert asked.engine.journal.status()["predictions"]["lost"] == 1


def test_an_answer_that_came_too_late_is_not_journalled(front, tmp_path):
    done = threading.Event()
    late = make_served(tmp_path, before=lambda: time.sleep(0.2))
    asked = front(make_serving(late, None), max_seconds=0.05)
    assert asked.post(BODY) == 503
    executors = asked.engine._executors
    asyncio.run(executors.run("stable", late.model.digest, math.inf, done.set))  # after what hangs there
    assert done.is_set()
    assert asked.engine.journal.status()["predictions"]["written"] == 0
