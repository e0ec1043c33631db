"""Rollouts that the tests of the step machine and of the guard are built from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from serve_samples import make_signature

from mergeline.model.artifact import LoadedModel
from mergeline.model.lineage import ModelLineage
from mergeline.params import GuardParams, Task
from mergeline.release_params import Rollout
from mergeline.requests.records import Batch
from mergeline.serve.rollout import step
from mergeline.serve.rollout.controller import RolloutController
from mergeline.serve.rollout.measure import Reading
from mergeline.serve.rollout.state import Phase, RolloutState, weight
from mergeline.serve.state import CurrentState, ServedModel, Serving, State

START = datetime(2026, 1, 1, tzinfo=UTC)
CANDIDATE = "sha256:" + "c" * 64
STEPS = [{"weight": 5, "hold": "10m"}, {"weight": 25, "hold": "20m"}, {"weight": 50, "hold": "30m"}]
ERRORS = {
    "name": "errors",
    "metric": "error_rate",
    "interval": "1m",
    "success": "<= 0.01",
    "failure": "> 0.05",
    "minSamples": 100,
}
GOOD, BETWEEN, BAD = Reading(0.0, 500), Reading(0.03, 500), Reading(0.2, 500)
FAILING = {"failed": True, "scores": ()}
FEW, ERROR = Reading(0.0, 7), Reading(None, 0, "the counts cannot be read")


def make_rollout(*, analysis: list[dict] | None = None, **section) -> Rollout:
    given = {"strategy": "canary", "steps": STEPS, "analysis": [ERRORS] if analysis is None else analysis}
    return Rollout.model_validate({**given, **section})


class Worker:
    """A controller whose clock a test moves by hand, and the requests that it routes."""

    def __init__(self, folder, serving, *, run="run-1", now=START) -> None:
        self.now, self.current = now, CurrentState(State(serving))
        self.controller = RolloutController(
            self.current, folder / "state", folder / run, GuardParams(), clock=lambda: self.now
        )
        self.served = 0
        self.controller.update()

    def go(self, seconds: float, *, requests: int = 4, every: float = 0.25, candidate=None) -> Worker:
        """Look every quarter of a second, with so many requests before each look."""
        for _ in range(round(seconds / every)):
            self.now += timedelta(seconds=every)
            for _ in range(requests):
                self.request(candidate or {})
            self.controller.update()
        return self

    def request(self, candidate: dict) -> None:
        self.served += 1
        plan, score = self.controller.plan, (self.served * 37 % 100) / 100
        if plan.role(f"key-{self.served}") == "stable":
            self.controller.counters.add("stable", 1, 0.002, scores=(score,))
        else:
            given = {"seconds": 0.002, "scores": (score,), **candidate}
            self.controller.counters.add("candidate", 1, given.pop("seconds"), **given)

    @property
    def weight(self) -> int:
        return self.controller.plan.weight

    @property
    def phase(self) -> Phase:
        return self.controller.state.phase

    def told(self) -> dict:
        return json.loads(json.dumps(self.controller.describe()))


class Run:
    """A rollout whose clock a test moves by hand; every analysis that is due gets the same reading."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.now = rollout, START
        self.state: RolloutState = step.start(rollout, CANDIDATE, START)

    def go(self, minutes: float, reading: Reading | dict[str, Reading] = GOOD, *, every: float = 0.25) -> Run:
        """Look every quarter of a minute."""
        for _ in range(round(minutes / every)):
            self.now += timedelta(minutes=every)
            due = {analysis.name for analysis in step.due(self.rollout, self.state, self.now)}
            readings = reading if isinstance(reading, dict) else dict.fromkeys(due, reading)
            self.state = step.advance(
                self.rollout, self.state, {name: readings[name] for name in due if name in readings}, self.now
            )
        return self

    @property
    def weight(self) -> int:
        return weight(self.rollout, self.state)

    @property
    def kinds(self) -> list[str]:
        return [decision.kind.value for decision in self.state.decisions]


class Pipeline:
    """What a team's pipeline is to the server: something with `predict_proba`; this one does as it is told."""

    def __init__(self, score: Callable[[int], float], before: Callable[[], None] = lambda: None) -> None:
        self._score, self._before = score, before

    def predict_proba(self, frame):
        self._before()
        scores = np.array([self._score(hour) for hour in frame["hour"]])
        return np.column_stack([1 - scores, scores])

    def predict(self, frame):
        self._before()
        return np.array([self._score(hour) for hour in frame["hour"]])


def make_served(
    folder: Path,
    score: Callable[[int], float] = lambda hour: hour / 24,
    *,
    version: int = 1,
    before: Callable[[], None] = lambda: None,
    task: Task = Task.BINARY,
) -> ServedModel:
    """A model whose score follows from the record's hour."""
    lineage = ModelLineage(
        code="a" * 40,
        data="md5:" + "0" * 32 + ".dir",
        params="sha256:" + "b" * 64,
        environment="sha256:" + "c" * 64,
        training={},
        partitions=(),
        rows=1,
        seed=0,
        processor="x86_64",
        libraries={},
    )
    digest = f"sha256:{version:064x}"
    model = LoadedModel(folder, digest, make_signature(task), lineage, lambda: Pipeline(score, before))
    return ServedModel(version, model, START)


def make_serving(stable: ServedModel, candidate: ServedModel | None, **section) -> Serving:
    return Serving(
        "flights",
        "sha256:" + "e" * 64,
        stable,
        candidate=candidate,
        rollout=make_rollout(**section),
        rolling_out=candidate.model.digest if candidate else None,
    )


def make_batch(*hours: int, tails: list[str] | None = None, first: int = 0) -> Batch:
    """Records with the given hours; their ids count from `first`."""
    return Batch(
        tuple(f"id-{first + place}" for place in range(len(hours))),
        tuple((12.5, hour, False, "JFK", "UA") for hour in hours),
        many=True,
        unread=tuple((None, tail) for tail in tails) if tails else tuple((None, None) for _ in hours),
    )
